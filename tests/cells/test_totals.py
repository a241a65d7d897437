"""Totals of log-normalised cells: brought to one again, and the counts behind them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from frostline.cells.datasets import load_dataset
from frostline.cells.totals import as_counts, is_scaled, renormalise
from frostline.cells.values import describe, log_normalise


@pytest.fixture(scope="module")
def pancreas():
    return load_dataset("pancreas")


def test_genes_taken_away_are_seen_and_the_others_brought_to_ten_thousand(pancreas):
    some = pancreas.matrix[:, ::2].copy()
    assert is_scaled(pancreas.matrix)
    assert not is_scaled(some)
    renormalise(some)
    assert is_scaled(some)
    counts = np.asarray(pancreas.adata.X[:, ::2].todense(), dtype=np.float64)
    expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    assert np.allclose(some.toarray(), expected, rtol=1e-5)


def test_cells_without_a_value_neither_agree_nor_disagree():
    assert is_scaled(sparse.csr_matrix((3, 4), dtype=np.float32))
    nothing = sparse.csr_matrix((3, 4), dtype=np.float32)
    renormalise(nothing)
    assert nothing.nnz == 0


def test_counts_are_found_behind_logarithms_of_them(pancreas):
    counts = sparse.csr_matrix(pancreas.adata.X)
    found = as_counts(pancreas.matrix)
    assert (found != counts).nnz == 0


def test_a_cell_without_counts_stays_empty(pancreas):
    matrix = pancreas.matrix[:9].tolil()
    matrix[4] = 0
    matrix = sparse.csr_matrix(matrix)
    found = as_counts(matrix)
    assert found[4].nnz == 0
    assert (found[5] != sparse.csr_matrix(pancreas.adata.X)[5]).nnz == 0


def test_values_that_are_no_multiples_hide_no_counts():
    rng = np.random.default_rng(0)
    matrix = sparse.csr_matrix(rng.gamma(2.0, size=(40, 60)).astype(np.float32))
    log_normalise(matrix, describe(matrix, "linear"))
    assert as_counts(matrix) is None
    assert as_counts(sparse.csr_matrix((3, 4), dtype=np.float32)) is None
