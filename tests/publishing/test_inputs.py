"""What a run reads is hashed, however its path is written."""

from __future__ import annotations

import hashlib

import pytest

from frostline.publishing.inputs import changed_inputs, inputs_of


def data_of(parameters, root):
    return inputs_of(parameters, root)["data"]


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Folder of a project, and a file in the home folder beside it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("home", "project"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.h5ad").write_bytes(folder.encode())
    return tmp_path / "project"


def test_a_file_in_the_home_folder(cells):
    recorded = inputs_of({"DATASET": "~/mine.h5ad"}, cells)
    assert recorded["data"] == {"~/mine.h5ad": hashlib.sha256(b"home").hexdigest()}
    assert list(changed_inputs(recorded, cells)) == []
    (cells.parent / "home" / "mine.h5ad").write_bytes(b"other cells")
    assert list(changed_inputs(recorded, cells)) == ["~/mine.h5ad has changed since"]


def test_files_of_a_list(cells):
    assert data_of({"FILES": ["mine.h5ad", "none.h5ad"], "BUDGETS": [5, 10]}, cells) == {
        "mine.h5ad": hashlib.sha256(b"project").hexdigest()
    }


@pytest.mark.parametrize("text", ["word " * 100, "cells\0", ""])
def test_a_text_that_can_be_no_path_is_no_file(cells, text):
    assert data_of({"ABOUT": text}, cells) == {}


def test_what_a_run_writes_is_not_what_it_reads(cells):
    assert data_of({"OUTPUT_DIR": "mine.h5ad"}, cells) == {}
