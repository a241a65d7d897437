"""Files of others: what is a plain file, what is JSON that means one thing."""

from __future__ import annotations

import os

import pytest

from frostline.plain_files import entries, is_plain_file, strict_json


def test_links_folders_and_pipes_are_no_plain_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    found = {path.name: is_plain_file(path) for path in tmp_path.iterdir()}
    assert found == {"file": True, "link": False, "pipe": False}
    assert not is_plain_file(tmp_path)
    assert not is_plain_file(tmp_path / "absent")


def test_what_systems_leave_in_folders_is_passed_over(tmp_path):
    for name in ("b.txt", "a.txt", ".DS_Store", "._a.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert [path.name for path in entries(tmp_path)] == ["a.txt", "b.txt"]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "NaN", "[Infinity]", "{", "[" * 100_000])
def test_json_that_is_none_or_means_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"twice|no number|Expecting|nested"):
        strict_json(text)
