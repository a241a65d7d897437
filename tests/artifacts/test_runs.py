"""Runs: what one prints about itself is read again."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime

import nbformat
import pytest
from nbformat import v4

from frostline.artifacts import runs
from frostline.errors import ArtifactError

RUN = "0123456789abcdef" * 2
STARTED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def executed(*printed: str, kind: str = "stream", name: str = "stdout"):
    cells = [v4.new_markdown_cell("# Title")]
    for text in printed:
        output = v4.new_output(
            kind, **({"name": name, "text": text} if kind == "stream" else {"data": {"text/plain": text}})
        )
        cells.append(v4.new_code_cell("begin()", outputs=[output]))
    return v4.new_notebook(cells=cells)


def line(run: str = RUN, folder: str = "artifacts/first") -> str:
    return runs.line_of(run, "cell_type_annotation", STARTED, folder)


def test_the_line_says_run_tutorial_time_and_folder():
    assert line() == f"run {RUN} of cell_type_annotation, 2025-01-02 03:04:05 UTC; files go to artifacts/first"


def test_ids_differ_and_are_read_again():
    first, second = runs.new_run(), runs.new_run()
    assert first != second
    for run in (first, second):
        assert runs.run_of(executed("something\n" + line(run) + "\nmore\n")) == run


def test_a_notebook_is_read_as_node_and_as_json_with_its_lines_apart():
    notebook = executed(f"loaded\n{line()}\n")
    assert runs.run_of(notebook) == RUN
    assert runs.run_of(json.loads(nbformat.writes(notebook))) == RUN


def test_the_last_of_several_counts():
    assert runs.run_of(executed(line("f" * 32), line())) == RUN


@pytest.mark.parametrize(
    "notebook",
    [
        {},
        {"cells": [{"cell_type": "code"}]},
        executed("nothing of the kind"),
        executed(f"see {line()}"),
        executed(line("f" * 31)),
        executed(line(), name="stderr"),
        executed(line(), kind="display_data"),
    ],
)
def test_what_is_no_such_line_is_no_run(notebook):
    assert runs.run_of(notebook) is None


def test_a_folder_with_a_line_break_prints_one_line():
    assert "\n" not in line(folder="a\nrun " + "f" * 32 + " of x; files go to y")
    assert runs.run_of(executed(line(folder="a\nb"))) == RUN


def test_a_line_that_came_in_parts_is_read():
    output = [v4.new_output("stream", name="stdout", text=part) for part in (line()[:20], line()[20:], "\n")]
    assert runs.run_of(v4.new_notebook(cells=[v4.new_code_cell("begin()", outputs=output)])) == RUN


HOLD = (
    "import sys; from pathlib import Path; from frostline.artifacts import runs; runs.hold(Path(sys.argv[1]).resolve())"
)


def in_another_process(folder, code: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", f"{HOLD}\n{code}", str(folder)], text=True, **options)


class TestHolding:
    def test_a_second_process_is_refused_with_the_first_ones_number_and_start(self, tmp_path):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with in_another_process(tmp_path / "out", "print('held', flush=True); input()", **pipes) as other:
            other.stdout.readline()
            for _ in range(2):  # being refused takes nothing from what the file says
                with pytest.raises(ArtifactError) as refused:
                    runs.hold(tmp_path / "out")
                said = str(refused.value)
                assert f"process {other.pid} on {platform.node()}" in said
                assert re.search(r"begun \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said)
                assert "name another folder" in said
            assert runs.hold(tmp_path / "other")
            runs.let_go(tmp_path / "other")
            other.communicate("\n")
        assert list(tmp_path.iterdir()) == []  # a process that ends leaves no lock

    @pytest.mark.parametrize("end", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "1 / 0", "pass"])
    def test_a_process_that_has_ended_holds_nothing(self, tmp_path, end):
        in_another_process(tmp_path / "out", end, stderr=subprocess.DEVNULL).wait()
        assert runs.hold(tmp_path / "out")
        runs.let_go(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_the_same_process_may_begin_again_and_give_up_twice(self, tmp_path):
        assert runs.hold(tmp_path / "out")
        assert not runs.hold(tmp_path / "out")
        runs.let_go(tmp_path / "out")
        runs.let_go(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_lock_is_no_traceback(self, tmp_path):
        (tmp_path / ".out.lock").write_text('{"process": 1')
        assert runs.hold(tmp_path / "out")
        runs.let_go(tmp_path / "out")


class TestNotebooks:
    def write(self, folder, name, run, target, **papermill):
        notebook = executed(line(run, target))
        notebook["metadata"]["papermill"] = papermill
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(nbformat.writes(notebook))

    def test_one_beside_the_folder_that_wrote_it_must_be_of_its_run(self, tmp_path):
        self.write(tmp_path / "artifacts", "a.ipynb", "f" * 32, "artifacts/first")
        self.write(tmp_path / "artifacts", "b.ipynb", "e" * 32, "artifacts/second")
        self.write(tmp_path / "artifacts", "c.ipynb", "d" * 32, "artifacts/first", exception=True)
        (tmp_path / "artifacts" / "d.ipynb").write_text("no notebook")
        said = runs.notebook_problems(tmp_path / "artifacts" / "first", RUN)
        assert said == [f"a.ipynb: is of run {'f' * 32}, the artifacts are of run {RUN}; run it again"]
        self.write(tmp_path / "artifacts", "e.ipynb", RUN, str(tmp_path / "artifacts" / "first"))
        assert runs.notebook_problems(tmp_path / "artifacts" / "first", RUN) == []

    @pytest.mark.parametrize("target", ["../first", "../../somewhere/first", "x/../first"])
    def test_a_folder_that_was_named_from_elsewhere_is_the_one(self, tmp_path, target):
        place = tmp_path / "somewhere"
        self.write(place, "a.ipynb", "f" * 32, target)
        assert len(runs.notebook_problems(place / "first", RUN)) == 1
        assert runs.notebook_problems(place / "second", RUN) == []

    def test_artifacts_of_an_earlier_version_claim_nothing(self, tmp_path):
        self.write(tmp_path, "a.ipynb", RUN, "first")
        assert runs.notebook_problems(tmp_path / "first", None) == []

    def test_one_that_is_named_is_held_to_the_run_wherever_it_is(self, tmp_path):
        self.write(tmp_path, "a.ipynb", RUN, "elsewhere")
        assert runs.notebook_problems(tmp_path / "out" / "first", RUN, tmp_path / "a.ipynb") == []
        assert runs.notebook_problems(tmp_path / "first", "f" * 32, tmp_path / "a.ipynb") != []
        (said,) = runs.notebook_problems(tmp_path / "first", RUN, tmp_path / "none.ipynb")
        assert said == "none.ipynb: is no executed notebook of a run"
