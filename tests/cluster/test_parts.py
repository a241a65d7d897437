"""Parts of an output: whole or not there, whatever interrupts; a full disk is said."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import zarr

from frostline.cluster import parts
from frostline.cluster.loops import DiskFull, Pace, _reason
from frostline.cluster.parts import Array, OutputPlan, held
from frostline.errors import FrostlineError

ARRAYS = (Array("store/obsm/X", "float32", 2), Array("codes/label", "int8"))
PLAN = OutputPlan({"command": "embed", "seed": 0}, n_cells=10, rows=4, arrays=ARRAYS)


def values(n: int) -> dict[str, np.ndarray]:
    return {"store/obsm/X": np.arange(2 * n, dtype="f4").reshape(n, 2), "codes/label": np.zeros(n, dtype="i1")}


@pytest.fixture
def unfinished(tmp_path):
    with held(tmp_path / "out.zarr", PLAN) as unfinished:
        for array in PLAN.arrays:
            parts._made(array, PLAN, unfinished.folder / array.place)
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


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "out.zarr.unfinished").mkdir()
    (tmp_path / "out.zarr.unfinished" / "thesis.docx").touch()
    with (
        pytest.raises(FrostlineError, match=r"holds thesis.docx, which is not of frostline"),
        held(tmp_path / "out.zarr", PLAN),
    ):
        pytest.fail("it was taken")


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
