"""The folder of a sweep: one at a time, and nothing of somebody's is lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from frostline import scratch
from frostline.errors import FrostlineError
from frostline.sweeps.folders import held, put


def test_a_folder_of_something_else_is_refused_and_stays(here, bytes_of):
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("precious")
    before = bytes_of(here)
    with (
        pytest.raises(FrostlineError, match=r"thesis holds chapter\.txt and is not the folder of a sweep"),
        held(Path("thesis")),
    ):
        pass
    assert bytes_of(here) == before


def test_a_folder_is_held_by_one_sweep_at_a_time(here):
    with held(Path("s")), pytest.raises(FrostlineError, match="another sweep is at work on s"), held(Path("s")):
        pass
    with held(Path("s")):
        pass


def test_a_place_that_cannot_be_written_is_said(here):
    Path("file").write_text("")
    with pytest.raises(FrostlineError, match=r"file/s cannot be written"), held(Path("file/s")):
        pass


def test_results_replace_their_own_and_keep_what_was_edited(here):
    page, folder = Path("s/results/report.md"), Path("s")
    with held(folder):
        assert put(folder, {page: b"first"}) == []
        assert put(folder, {page: b"second"}) == []
        page.write_text("second, and my notes")
        (kept,) = put(folder, {page: b"third"})
        assert (page.read_text(), kept.read_text()) == ("third", "second, and my notes")
        page.write_text("again")
        assert put(folder, {page: b"fourth"}) == [Path("s/results/report-2.md")]
        assert kept.read_text() == "second, and my notes"
        Path("s/results/other.csv").write_text("mine")
        assert put(folder, {Path("s/results/other.csv"): b"x"}) == [Path("s/results/other-1.csv")]


@pytest.mark.parametrize("moves", range(5))
def test_wherever_it_is_killed_no_result_is_taken_for_an_edited_one(here, monkeypatch, moves):
    """The mark that says what comes, two files, and the mark of the end: it ends before one of these moves."""
    first, second = Path("s/a.csv"), Path("s/b.csv")
    done, replace = [], Path.replace

    def ending(path, target):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        return replace(path, target)

    with held(Path("s")):
        put(Path("s"), {first: b"1", second: b"1"})
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(Path, "replace", ending)
            put(Path("s"), {first: b"2", second: b"2"})
        assert len(done) == min(moves, 4)
        assert put(Path("s"), {first: b"3", second: b"3"}) == []
        assert (first.read_bytes(), second.read_bytes()) == (b"3", b"3")
        first.write_bytes(b"mine")
        assert len(put(Path("s"), {first: b"4"})) == 1


def test_what_one_that_was_killed_at_its_beginning_left_is_no_hindrance(here):
    Path("s").mkdir()
    Path("s/.lock").touch()
    scratch.scratch_path(Path("s"), ".json").write_text("{")
    with held(Path("s")):
        assert Path("s/sweep.json").is_file()


def test_what_a_workflow_left_becomes_a_sweep(here):
    Path("s/runs/one").mkdir(parents=True)
    with held(Path("s")):
        assert Path("s/sweep.json").is_file()
