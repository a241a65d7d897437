"""The folder of kept embeddings: bounded, switched off, cleared, refused where it cannot be written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import sparse

from frostline.encoder import caches
from frostline.encoder.caches import Kept
from frostline.errors import FrostlineError
from frostline.scratch import scratch_path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
    monkeypatch.setenv(caches.LIMIT, "1")
    return tmp_path / "embeddings"


def kept(n=100, seed=0) -> Kept:
    return Kept(np.random.default_rng(seed).random((n, 250), dtype="f4"), np.full(n, 0.5), 7, 9)


def test_what_is_written_is_read_to_the_last_bit():
    caches.write("a" * 40, kept())
    found = caches.read("a" * 40, (100, 250))
    np.testing.assert_array_equal(found.states, kept().states)
    np.testing.assert_array_equal(found.seconds, kept().seconds)
    assert (found.peak, found.device_peak, found.done.all()) == (7, 9, True)


def test_a_file_whose_time_cannot_be_set_is_read_and_added_to(monkeypatch):
    """Of another user, or of a file system that cannot be written."""
    first, second = kept(), kept()
    first.seconds[50:], second.seconds[:90] = np.nan, np.nan
    caches.write("a" * 40, first)

    def refuse(*_given, **_how):
        raise PermissionError("not the owner")

    monkeypatch.setattr(os, "utime", refuse)
    assert caches.read("a" * 40, (100, 250)).done.sum() == 50
    caches.write("a" * 40, second)
    assert caches.read("a" * 40, (100, 250)).done.sum() == 60


@pytest.mark.parametrize("shape", [(99, 250), (100, 128)])
def test_states_of_another_shape_are_not_taken(shape):
    caches.write("a" * 40, kept())
    assert caches.read("a" * 40, shape) is None


def test_the_least_recently_used_go_when_the_folder_is_full():
    for i, name in enumerate("abcd"):  # 101 kB each
        caches.write(name * 40, kept(seed=i))
        os.utime(caches.folder() / f"{name * 40}.npz", ns=(i, i))
    caches.read("a" * 40, (100, 250))  # used last now
    caches.write("e" * 40, kept(700))  # 705 kB: one of 101 has to go
    assert {path.name[0] for path, _ in caches.entries()} == {"e", "a", "d"}
    assert sum(size for _, size in caches.entries()) <= 1_000_000


def test_more_than_the_folder_may_take_is_not_written():
    caches.write("a" * 40, kept(1_100))
    assert caches.entries() == []


def test_the_size_is_that_of_the_cells_that_are_known():
    """Of a data set whose states would not all fit."""
    few = kept(5_000)
    few.seconds[np.setdiff1d(np.arange(5_000), [3, 4_000])] = np.nan
    caches.write("a" * 40, few)
    [(_, size)] = caches.entries()
    assert size < 5_000
    found = caches.read("a" * 40, (5_000, 250))
    assert np.flatnonzero(found.done).tolist() == [3, 4_000]
    np.testing.assert_array_equal(found.states[[3, 4_000]], few.states[[3, 4_000]])


def test_zero_keeps_and_reads_nothing(monkeypatch):
    caches.write("a" * 40, kept())
    monkeypatch.setenv(caches.LIMIT, "0")
    assert caches.read("a" * 40, (100, 250)) is None
    caches.write("b" * 40, kept())
    assert len(caches.entries()) == 1


def test_a_limit_that_is_no_number_is_refused_with_what_it_must_be(monkeypatch):
    monkeypatch.setenv(caches.LIMIT, "2 GB")
    with pytest.raises(FrostlineError, match="FROSTLINE_EMBEDDINGS_MB is '2 GB', and must be a number of megabytes"):
        caches.read("a" * 40, (100, 250))


def test_a_folder_that_cannot_be_written_is_said_and_harms_nothing(folder):
    folder.write_text("a file in its place")
    with pytest.warns(UserWarning, match="could not be kept in .*set FROSTLINE_CACHE to another folder"):
        caches.write("a" * 40, kept())


def test_clearing_leaves_what_is_not_an_embedding(folder):
    caches.write("a" * 40, kept())
    (folder / "notes.txt").write_text("mine")
    assert caches.clear() > 100_000
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.fixture
def left_behind(folder):
    """A file that a killed process was writing, and one that this process is at work on."""
    folder.mkdir(parents=True)
    own = scratch_path(folder, ".npz")
    dead = own.with_name(own.name.replace(f"-{os.getpid()}-", "-999999999-"))  # no process has such a number
    for path in (own, dead):
        path.write_bytes(b"half" * 1_000)
    return own, dead


def test_writing_clears_what_a_killed_process_left(left_behind):
    own, dead = left_behind
    caches.write("a" * 40, kept())
    assert (own.exists(), dead.exists(), len(caches.entries())) == (True, False, 1)


def test_so_does_clearing_and_counts_it(left_behind):
    own, dead = left_behind
    assert caches.clear() == 4_000
    assert (own.exists(), dead.exists()) == (True, False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError])
def test_a_write_that_is_stopped_leaves_nothing(folder, monkeypatch, stop):
    def save(path, **_arrays):
        path.write_bytes(b"half")
        raise stop

    monkeypatch.setattr(np, "savez", save)
    with pytest.warns(UserWarning, match="could not be kept") if stop is OSError else pytest.raises(stop):
        caches.write("a" * 40, kept())
    assert list(folder.iterdir()) == []


def test_a_file_with_any_byte_changed_is_none_or_has_its_shape():
    """Of the archive's headers, for which NumPy and zipfile have errors of many kinds."""
    small = Kept(np.ones((2, 3), np.float32), np.ones(2))
    caches.write("a" * 40, small)
    [(path, _)] = caches.entries()
    whole = path.read_bytes()
    found = []
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found.append(caches.read("a" * 40, (2, 3)))
    assert any(each is None for each in found)
    assert {each.states.shape for each in found if each is not None} <= {(2, 3)}


def test_values_and_names_decide_the_digest():
    matrix = sparse.csr_matrix(np.eye(3, dtype="f4"))
    same, other = matrix.copy(), matrix.copy()
    other.data[1] = 2
    found = [caches.digest(each, ["A", "B", "C"]) for each in (matrix, same, other)]
    assert found[0] == found[1] != found[2]
    assert caches.digest(matrix, ["A", "B", "D"]) != found[0]
