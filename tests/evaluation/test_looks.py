"""Looks: how good a matrix is to take, and what it takes to be reported."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from frostline.cells.symbols import known_symbols
from frostline.cells.values import describe
from frostline.errors import DatasetError
from frostline.evaluation.looks import READ, SAVED, asked_of, look_at, tried, worth

COUNTS = np.random.default_rng(0).poisson(2.0, (20, 30)) + np.eye(20, 30)
SHARES = COUNTS / COUNTS.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (COUNTS, 0),
        (np.log2(COUNTS + 1), 1),
        (np.log1p(1e4 * SHARES), 2),
        (np.log1p(1e6 * SHARES), 3),
        (1e6 * SHARES, 3),
        (np.log1p(1e4 * SHARES)[:, ::2], 4),
        (np.log2(1e4 * SHARES + 1)[:, ::2], 5),
        (COUNTS > 2, 6),
    ],
    ids=["counts", "log2 of counts", "log", "log of CPM", "CPM", "log of some genes", "log2 of some genes", "presence"],
)
def test_order_of_what_to_take(values, place):
    assert worth(describe(sparse.csr_matrix(values.astype(np.float32)))) == place


def test_what_is_refused_goes_last():
    assert worth(None) > 6


def test_a_refusal_is_returned_and_other_errors_are_raised():
    error = DatasetError("no")

    def refuse():
        raise error

    assert tried(lambda: 3, 7) == (3, None)
    assert tried(refuse, 7) == (7, error)
    with pytest.raises(ZeroDivisionError):
        tried(lambda: 1 / 0, 7)


def test_errors_come_with_their_place_in_the_order_of_loading():
    names = [f"g{i}" for i in range(29)]
    adata = anndata.AnnData(COUNTS - 2, var=pd.DataFrame(index=["half \ud800", *names]))
    look = look_at(asked_of(adata), "X")
    assert [place for place, _ in look.errors] == [READ, SAVED]
    assert (look.can_be_taken, look.logged, look.matrix.kind) == (False, None, "scaled")
    adata.X = COUNTS
    look = look_at(asked_of(adata), "X")
    assert look.can_be_taken  # its names are mended by a line
    np.testing.assert_allclose(np.expm1(look.logged.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_of_two_genes_of_one_symbol_the_one_with_more_counts_bears_it():
    known = [name for name in sorted(known_symbols()) if name not in ("CD3D", "LYZ")][:27]
    names = [f"ENSG{i:011d}" for i in range(30)]
    var = pd.DataFrame({"feature_name": ["CD3D", "LYZ", "CD3D", *known]}, index=names)
    for heavier, lighter in ((0, 2), (2, 0)):
        counts = COUNTS.copy()
        counts[:, heavier] += 10
        found = look_at(asked_of(anndata.AnnData(sparse.csr_matrix(counts), var=var)), "X").symbols.names
        assert (found[heavier], found[lighter]) == ("CD3D", names[lighter])
