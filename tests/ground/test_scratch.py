"""What is under work is distinguished from what was left behind."""

from __future__ import annotations

import subprocess
import sys

from frostline.scratch import clear, is_abandoned, scratch_folder, scratch_path

LEAVE = "import sys; from pathlib import Path; from frostline.scratch import scratch_path as s\np = Path(sys.argv[1])"


def left_by_another(folder, what="s(p, '.npy').write_text('x'); d = s(p); d.mkdir(); (d / 'a').write_text('x')"):
    subprocess.run([sys.executable, "-c", f"{LEAVE}\n{what}", str(folder)], check=True)


def test_what_a_dead_process_left_is_cleared_and_nothing_else(tmp_path):
    own = ["notes.md", ".frostline-notes", ".frostline-0-1-2-3", ".frostline-00000000-1-2-00000000"]
    for name in own:
        (tmp_path / name).write_text("mine")
    left_by_another(tmp_path)
    mine = scratch_path(tmp_path)
    mine.mkdir()
    assert len(clear(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*own, mine.name])


def test_what_a_running_process_is_at_work_on_stays(tmp_path):
    path = scratch_path(tmp_path)
    path.write_text("x")
    assert not is_abandoned(path)
    code = f"{LEAVE}\nfrom frostline.scratch import clear; print(clear(p))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert path.exists()


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path):
    name = scratch_path(tmp_path).name.split("-")
    name[3] = str(int(name[3]) - 1_000_000)
    earlier = tmp_path / "-".join(name)
    earlier.write_text("x")
    assert clear(tmp_path) == [earlier]


def test_a_link_to_a_folder_is_left_alone(tmp_path):
    target = tmp_path / "data"
    target.mkdir()
    (target / "cells.h5ad").write_text("x")
    left_by_another(tmp_path, f"s(p).symlink_to({str(target)!r})")
    assert clear(tmp_path) == []
    assert (target / "cells.h5ad").exists()


def test_a_folder_under_work_is_gone_in_the_end_unless_it_was_moved(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "a").write_text("x")
        folder.rename(tmp_path / "whole")
    with scratch_folder(tmp_path) as other:
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert not other.exists()
