"""Parts of an output: whole or not there, whatever interrupts; a full disk is said."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from frostline.cluster import parts
from frostline.cluster.arrays import Array
from frostline.cluster.loops import DiskFull, Pace, _reason
from frostline.cluster.parts import OutputPlan, held
from frostline.errors import FrostlineError

ARRAYS = (Array("store/obsm/X", "float32", 2), Array("codes/label", "int8"))
PLAN = OutputPlan({"command": "embed", "seed": 0}, n_cells=10, rows=4, arrays=ARRAYS)


def values(n: int) -> dict[str, np.ndarray]:
    return {"store/obsm/X": np.arange(2 * n, dtype="f4").reshape(n, 2), "codes/label": np.zeros(n, dtype="i1")}


@pytest.fixture
def unfinished(tmp_path):
    with held(tmp_path / "out.zarr", PLAN) as unfinished:
        for array in PLAN.arrays:
            array.make(unfinished.folder / array.place, PLAN.rows, PLAN.n_cells)
        yield unfinished


def test_spans_cover_every_cell_once():
    assert [PLAN.span(part) for part in range(len(PLAN))] == [(0, 4), (4, 8), (8, 10)]


def test_a_part_is_a_chunk_of_zarr(unfinished):
    for part, n in enumerate((4, 4, 2)):
        unfinished.write(part, values(n), {"n": n})
    read = zarr.open_array(unfinished.folder / "store/obsm/X", mode="r")
    assert read.chunks == (4, 2)
    assert np.array_equal(read[:], np.concatenate([values(n)["store/obsm/X"] for n in (4, 4, 2)]))
    assert zarr.open_array(unfinished.folder / "codes/label", mode="r")[:].tolist() == [0] * 10
    assert parts.whole(unfinished, range(3)) == {0: {"n": 4}, 1: {"n": 4}, 2: {"n": 2}}


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_disk_that_fills_leaves_no_part_that_counts(unfinished, monkeypatch, writes):
    """After so many files that could still be written: those of the two arrays, then the record."""
    real, done = os.fsync, []

    def fsync(number: int) -> None:
        if len(done) == writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(number)
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        unfinished.write(0, values(4), {})
    assert unfinished.facts(0) is None
    assert list((unfinished.folder / "scratch").iterdir()) == []
    monkeypatch.undo()
    unfinished.write(0, values(4), {})
    assert unfinished.facts(0) == {}


def test_a_part_of_another_plan_does_not_count(unfinished):
    other = parts.Unfinished(unfinished.output, OutputPlan({"command": "embed", "seed": 1}, 10, 4, ARRAYS))
    other.write(0, values(4), {})
    assert unfinished.facts(0) is None


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "record"])
def test_a_part_that_is_not_as_it_was_written_does_not_count(unfinished, damage):
    unfinished.write(0, values(4), {})
    chunk, record = unfinished.folder / "store/obsm/X/0.0", unfinished.record(0)
    content = chunk.read_bytes()
    if damage == "record":
        record.write_bytes(record.read_bytes()[:40])
    elif damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(content[:-5] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    assert unfinished.facts(0) is None
    unfinished.write(0, values(4), {})
    assert unfinished.facts(0) == {}


KILLED = """
import os, pathlib, signal, sys
import numpy as np
from frostline.cluster import parts
from frostline.cluster.arrays import Array

arrays = (Array("store/obsm/X", "float32", 2), Array("codes/label", "int8"))
plan = parts.OutputPlan({"command": "embed"}, n_cells=10, rows=4, arrays=arrays)
values = {"store/obsm/X": np.ones((4, 2)), "codes/label": np.ones(4)}
with parts.held(pathlib.Path(sys.argv[1]), plan) as unfinished:
    for array in arrays:
        array.make(unfinished.folder / array.place, plan.rows, plan.n_cells)
    for call in ("fsync", "replace"):
        for moment in range(3):
            if not (child := os.fork()):
                done, real = [], getattr(os, call)
                def killed(*arguments):
                    if len(done) == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
                    done.append(real(*arguments))
                setattr(os, call, killed)
                unfinished.write(0, values, {})
                os._exit(0)
            print(call, moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), unfinished.facts(0))
    unfinished.write(0, values, {})
    print(unfinished.facts(0))
with parts.held(pathlib.Path(sys.argv[1]), plan) as unfinished:
    print(len(list((unfinished.folder / "scratch").iterdir())))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="moments within a write are reached by fork")
def test_a_process_killed_while_it_writes_leaves_no_part_that_counts(tmp_path):
    """Before each file is on disk, and before it is moved to its place: two arrays, then the record."""
    command = [sys.executable, "-c", KILLED, tmp_path / "out.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    killed = [f"{call} {moment} -9 None" for call in ("fsync", "replace") for moment in range(3)]
    assert done.stdout.splitlines() == [*killed, "{}", "0"], done.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "out.zarr.unfinished").mkdir()
    (tmp_path / "out.zarr.unfinished" / "thesis.docx").touch()
    with (
        pytest.raises(FrostlineError, match=r"holds thesis.docx, which is not of frostline"),
        held(tmp_path / "out.zarr", PLAN),
    ):
        pytest.fail("it was taken")


def test_a_system_file_in_the_folder_does_not_keep_it_from_going_on(tmp_path):
    with held(tmp_path / "out.zarr", PLAN) as unfinished:
        pass
    for name in (".nfs00000001", ".DS_Store"):
        (unfinished.folder / name).touch()
    with held(tmp_path / "out.zarr", PLAN) as again:
        assert again.folder == unfinished.folder


class Failed:
    """A future as the loop sees it."""

    status = "error"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def exception(self) -> Exception:
        return self._error


def test_a_full_disk_ends_the_run_and_other_errors_are_reasons():
    with pytest.raises(DiskFull, match="make room, and the same command goes on"):
        _reason(Failed(OSError(errno.ENOSPC, "No space left on device")))
    assert _reason(Failed(KeyError("x"))) == "KeyError: 'x'"
    assert _reason(Failed(FrostlineError("as said"))) == "as said"


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (Pace(100, 0, began=0.0), "0 of 100 cells, 0 cells/s, 0 parts failed, time left not known yet"),
        (Pace(100, 50, 1, 0.0, 5), "50 of 100 cells, 0.5 cells/s, 1 part failed, 2 min left"),
        (Pace(10**6, 500_000, 0, 0.0, 1_000), "500,000 of 1,000,000 cells, 100 cells/s, 0 parts failed, 83 min left"),
    ],
)
def test_the_pace_in_words(pace, said):
    assert pace.words(10.0) == said
