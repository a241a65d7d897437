"""Runs of rows: the same values from memory and from every layout in a file, whatever the size of a run."""

from __future__ import annotations

from contextlib import ExitStack

import h5py
import numpy as np
import pytest
from anndata.io import write_elem
from scipy import sparse

from frostline.cells import streams
from frostline.errors import DatasetError

VALUES = np.random.default_rng(0).poisson(0.7, (11, 6)).astype(np.float64)
VALUES[4] = 0
LAYOUTS = {"dense": np.array, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def written(tmp_path, stack, matrix, shape=VALUES.shape):
    """Rows of a matrix that was written by anndata."""
    file = stack.enter_context(h5py.File(tmp_path / "x.h5", "w"))
    write_elem(file, "X", matrix)
    return lambda: streams.in_file(file["X"], shape, "X", stack), file["X"]


@pytest.mark.parametrize("entries", [3, 10**6])
@pytest.mark.parametrize("size", [1, 4, 11])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_rows_from_every_layout_in_runs_of_every_size(tmp_path, stack, monkeypatch, layout, size, entries):
    monkeypatch.setattr(streams, "ENTRIES", entries)
    rows = written(tmp_path, stack, LAYOUTS[layout](VALUES))[0]()
    parts = list(rows.chunks(size))
    assert [start for start, _ in parts] == list(range(0, 11, size))
    assert np.array_equal(np.vstack([part.toarray() for _, part in parts]), VALUES)
    assert all(part.dtype == np.float32 and part.has_sorted_indices for _, part in parts)
    assert np.array_equal(rows.take(np.array([0, 3, 4, 5, 10])).toarray(), VALUES[[0, 3, 4, 5, 10]])
    assert rows.take(np.array([], dtype=int)).shape == (0, 6)
    assert ("CSC" in rows.note) == (layout == "csc")


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_rows_without_a_value_are_not_sampled(tmp_path, stack, layout):
    rows = written(tmp_path, stack, LAYOUTS[layout](VALUES))[0]()
    assert rows.spread(100).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert rows.spread(3).tolist() == [0, 5, 10]


def test_a_sample_is_read_once(tmp_path, stack, monkeypatch):
    monkeypatch.setattr(streams, "SAMPLE", 3)
    rows = written(tmp_path, stack, sparse.csr_matrix(VALUES))[0]()
    there, values = rows.sample
    assert (there.tolist(), values.toarray().tolist()) == ([0, 5, 10], VALUES[[0, 5, 10]].tolist())
    assert rows.sample[1] is values
    rows.forget()
    assert rows.sample[1] is not values
    assert (rows.sample[1] != values).nnz == 0


def test_of_rows_with_many_values_fewer_are_sampled(monkeypatch):
    rows = streams.in_memory(sparse.csr_matrix(np.ones((3_000, 4), dtype=np.float32)))
    assert len(rows.spread(2_000)) == 2_000
    monkeypatch.setattr(streams, "SAMPLED", 4 * 250)
    assert len(rows.spread(2_000)) == 250
    assert rows.spread(2_000)[[0, -1]].tolist() == [0, 2_999]
    monkeypatch.setattr(streams, "SAMPLED", 4)
    assert len(rows.spread(2_000)) == streams.PROBED


def test_what_was_sorted_is_removed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(streams.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with ExitStack() as stack:
        written(tmp_path, stack, sparse.csc_matrix(VALUES))[0]()
        assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert not list((tmp_path / "temporary").iterdir())


def pointers_too_far(part):
    part["indptr"][-1] = 10_000


def pointers_fall(part):
    part["indptr"][1] = 10_000


def outside(part):
    part["indices"][0] = 100


def below(part):
    part["indices"][0] = -1


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("damage", [pointers_too_far, pointers_fall, outside, below])
def test_damaged_matrices_are_refused_by_name(tmp_path, stack, layout, damage):
    make, part = written(tmp_path, stack, LAYOUTS[layout](VALUES))
    damage(part)
    with pytest.raises(DatasetError, match=r"X is damaged: .*from its source again"):
        make().take(np.arange(11))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_shape_is_refused(tmp_path, stack, layout):
    make, _ = written(tmp_path, stack, LAYOUTS[layout](VALUES), shape=(12, 6))
    with pytest.raises(DatasetError, match=r"X has the shape \(11, 6\), but there are 12 cells and 6 genes"):
        make()


def test_other_kinds_of_data_are_refused(tmp_path, stack):
    make, _ = written(tmp_path, stack, {"a": np.ones(3)})
    with pytest.raises(DatasetError, match="/X holds dict data; a dense, CSR or CSC matrix is read"):
        make()
