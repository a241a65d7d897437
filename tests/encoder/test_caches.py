"""The folder of kept embeddings: bounded, switched off, cleared, refused where it cannot be written."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import sparse

from frostline.encoder import caches
from frostline.encoder.caches import Kept
from frostline.errors import FrostlineError


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


def test_values_and_names_decide_the_digest():
    matrix = sparse.csr_matrix(np.eye(3, dtype="f4"))
    same, other = matrix.copy(), matrix.copy()
    other.data[1] = 2
    found = [caches.digest(each, ["A", "B", "C"]) for each in (matrix, same, other)]
    assert found[0] == found[1] != found[2]
    assert caches.digest(matrix, ["A", "B", "D"]) != found[0]
