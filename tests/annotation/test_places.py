"""Where a model may be kept: nothing that is no model is ever overwritten."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from frostline.annotation import places
from frostline.annotation.folders import load_model
from frostline.annotation.places import refuse_bad_target
from frostline.errors import ModelError


@pytest.fixture
def folder(kept, tmp_path):
    return kept.save(tmp_path / "parent" / "model")


def test_new_and_empty_folders_are_taken_and_nothing_is_left_there(tmp_path):
    assert refuse_bad_target(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    (tmp_path / "empty").mkdir()
    assert refuse_bad_target(tmp_path / "empty") == tmp_path / "empty"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "empty"]


def test_what_is_no_model_is_not_overwritten(kept, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"holds notes.txt and is not overwritten, since it is no model"):
        kept.save(tmp_path)
    with pytest.raises(ModelError, match=r"notes.txt is a file; name another folder"):
        kept.save(tmp_path / "notes.txt")
    with pytest.raises(ModelError, match=r"below.*cannot be written"):
        kept.save(tmp_path / "notes.txt" / "below")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("notes.txt", "mine")]


def test_a_model_with_something_beside_it_is_not_overwritten(kept, folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"holds notes.txt beside a model"):
        kept.save(folder)
    load_model(folder)


def test_the_current_folder_and_those_above_it_are_refused(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (".", "..", tmp_path / "here"):
        with pytest.raises(ModelError, match=r"the current folder or one above it"):
            refuse_bad_target(path)
    with pytest.raises(ModelError, match=r"name a folder"):
        refuse_bad_target(" ")


def test_a_folder_that_cannot_be_moved_stays_as_it_was(kept, folder, monkeypatch):
    rename, before = os.rename, {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(source, target):
        if Path(target) == folder and "before" not in Path(source).name:
            raise PermissionError(13, "denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(ModelError, match=r"cannot be written \(denied\)"):
        kept.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_that_stood_aside_when_a_process_was_killed_is_found_again(folder):
    aside = places._aside(folder)
    folder.rename(aside)
    assert load_model(folder).classes
    shutil.copytree(folder, aside)
    refuse_bad_target(folder)
    assert not aside.exists()
