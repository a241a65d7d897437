"""Values become log1p of counts per ten thousand, or say in a word what they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from frostline.cells.normalising import normalise
from frostline.errors import DatasetError


def of(values, **options):
    matrix = sparse.csr_matrix(np.asarray(values, dtype=np.float32))
    n_cells, n_genes = matrix.shape
    names = {"genes": [f"G{i}" for i in range(n_genes)], "cells": [f"c{i}" for i in range(n_cells)]}
    return normalise(matrix, "X", layers=("X", "raw"), **names, **options), matrix


def test_counts_are_normalised_in_place():
    found, matrix = of([[1, 3], [2, 2], [0, 0]])
    assert found.name == "counts"
    np.testing.assert_allclose(matrix.toarray(), np.log1p([[2500, 7500], [5000, 5000], [0, 0]]), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1, -1], [2, 2]], "partly missing, infinite or negative"),
        ([[1, np.nan], [2, 2]], "partly missing, infinite or negative"),
        ([[0, 0], [0, 0]], "zero"),
        ([[3, 1], [3, 1]], "the same in all cells"),
        ([[3, 1], [6, 2]], "the same in all cells"),  # once they are normalised
        (np.vstack([np.full((6, 1), 9), np.zeros((0, 1))]) * np.eye(6, 9) + np.eye(6, 9, 1), "binned"),
    ],
)
def test_what_values_are_where_they_are_refused(values, said):
    with pytest.raises(DatasetError) as caught:
        of(values)
    assert caught.value.values == said


def test_what_is_said_is_taken():
    rng = np.random.default_rng(0)
    values = rng.random((20, 6)) + 0.1
    with pytest.raises(DatasetError) as caught:
        of(values)
    assert caught.value.values == "unknown"
    found, matrix = of(values, said="log1p")
    assert found.transform.name == "log1p"
    np.testing.assert_allclose(matrix.toarray(), values, rtol=1e-6)
