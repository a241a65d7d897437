"""The field for a path: what is typed, pasted or found in the list."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.panels.files import ABOVE, PathBox, is_h5ad, typed_path


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder in which JupyterLab was started, with a notebook's folder in it, which is the current one."""
    for name in (
        "data/cells.h5ad",
        "data/notes.txt",
        "notebooks/here.ipynb",
        "notebooks/deep/own.h5ad",
        "data/.hidden.h5ad",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1_500)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def box(project) -> PathBox:
    return PathBox("File", "folder/cells.h5ad", "Path of an .h5ad file", is_h5ad)


@pytest.mark.parametrize(
    "typed",
    [
        "deep/own.h5ad", "  deep/own.h5ad\n", "'deep/own.h5ad'", '"deep/own.h5ad" ', "\u201cdeep/own.h5ad\u201d",
        "` deep/own.h5ad `",
    ],
)  # fmt: skip
def test_blanks_and_quotes_are_dropped(project, typed):
    assert typed_path(typed) == "deep/own.h5ad"


@pytest.mark.parametrize(
    "typed",
    [
        "data/cells.h5ad",
        "RTC:data/cells.h5ad",
        "http://localhost:8888/lab/tree/data/cells.h5ad?reset&token=abc",
        "https://hub.example.org/user/ada/lab/tree/data/cells.h5ad",
        "http://127.0.0.1:8888/lab/workspaces/auto-x/tree/data/cells.h5ad",
        "http://127.0.0.1:8888/files/data%2Fcells.h5ad?_xsrf=2",
    ],
)
def test_paths_of_jupyterlab_are_found_from_the_folder_that_it_was_started_in(project, typed):
    assert typed_path(typed) == str(project / "data" / "cells.h5ad")


@pytest.mark.parametrize("typed", ["no/such.h5ad", "https://example.org/files.h5ad", "", "x" * 5_000, "a\0b"])
def test_what_is_nowhere_stays_as_it_was_typed(project, typed):
    assert typed_path(typed) == typed


def test_a_file_here_goes_before_one_above(project):
    (project / "notebooks" / "data").mkdir()
    (project / "notebooks" / "data" / "cells.h5ad").write_bytes(b"")
    assert typed_path("data/cells.h5ad") == "data/cells.h5ad"


def test_what_is_read_otherwise_than_typed_is_said(box, project):
    box.type("data/cells.h5ad")
    assert box.value == str(project / "data" / "cells.h5ad")
    assert f"Read as {box.value}" in box._read_as.value
    box.type("deep/own.h5ad")
    assert (box.value, box._read_as.value) == ("deep/own.h5ad", "")


def test_a_file_is_found_by_looking_through_the_folders(box, project):
    heard = []
    box.observe(lambda change: heard.append(change.new), "value")
    box._fold.value = True
    assert [text for text, _ in box._list.options] == ["Folder above", "deep/"]
    box._list.value = ABOVE
    box._open.click()
    assert [name for _, name in box._list.options] == [ABOVE, "data", "notebooks"]
    box._list.value = "data"
    box._open.click()
    assert [text for text, _ in box._list.options] == ["Folder above", "cells.h5ad (1.5 kB)"]
    assert box._list.value == "cells.h5ad"
    assert heard == []
    box._open.click()
    assert heard == [str(project / "data" / "cells.h5ad")]
    assert box._browser.layout.display == "none"


def test_a_file_below_is_named_from_here_and_its_folder_is_shown_again(box):
    box.type("deep/own.h5ad")
    box._fold.value = True
    assert box._folder.name == "deep"
    box._open.click()
    assert box.value == "deep/own.h5ad"


def test_a_folder_that_may_not_be_looked_at_is_said(box, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    box._fold.value = True
    assert "cannot be looked at: Permission denied" in box._where.value


def test_locked_nothing_can_be_typed_or_chosen(box):
    parts = (box._text, box._fold, box._list, box._open)
    box.lock(locked=True)
    assert all(part.disabled for part in parts)
    box.lock(locked=False)
    assert not any(part.disabled for part in parts)
