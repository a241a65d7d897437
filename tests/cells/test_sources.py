"""Sources: tables at once, matrices when they are asked for, whole or some rows, from memory and from a file."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from frostline.cells.matrices import values_of
from frostline.cells.sources import open_source
from frostline.errors import DatasetError

N = 30
ROWS = np.array([0, 7, 8, 29])


@pytest.fixture(scope="module")
def cells() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (N, 12)).astype(np.float32)
    obs = pd.DataFrame({"kind": ["B", "T"] * (N // 2)}, index=[f"c{i}" for i in range(N)])
    whole = anndata.AnnData(sparse.csr_matrix(counts), obs=obs)
    adata = whole[:, :8].copy()
    adata.raw = whole
    adata.layers["by gene"] = sparse.csc_matrix(adata.X)
    adata.layers["dense"] = np.log1p(adata.X.toarray())
    return adata


@pytest.fixture(params=["memory", "file", "packed file", "view"])
def source(request, cells, tmp_path):
    if request.param == "memory":
        return cells
    if request.param == "view":
        return cells[np.arange(N)]
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path, compression="gzip" if request.param == "packed file" else None)
    return path


@pytest.mark.parametrize("layer", ["X", "raw", "by gene", "dense"])
def test_matrices_are_those_of_loading_whole_and_in_part(source, cells, layer):
    found, expected = open_source(source), values_of(cells, layer)
    assert (found.n_obs, len(found.genes_of(layer))) == expected.shape
    whole, some = found.read(layer, None), found.read(layer, ROWS)
    np.testing.assert_array_equal(whole.toarray(), expected.toarray())
    np.testing.assert_array_equal(some.toarray(), expected.toarray()[ROWS])


def test_how_they_are_stored(source, cells):
    found = open_source(source)
    nnz = cells.X.nnz
    assert found.storage("X") == ("CSR float32", 8 * nnz)
    assert found.storage("by gene") == ("CSC float32", 8 * nnz)
    assert found.storage("dense") == ("dense float32", 4 * N * 8)
    assert found.storage("raw")[1] == 8 * cells.raw.X.nnz


def test_without_x_it_says_what_there_is(tmp_path):
    adata = anndata.AnnData(obs=pd.DataFrame(index=["a", "b"]), var=pd.DataFrame(index=["g"]))
    adata.layers["counts"] = np.ones((2, 1), dtype=np.float32)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        found = open_source(source)
        assert found.storage("X") is None
        with pytest.raises(DatasetError, match="has no X; name"):
            found.read("X", None)
        assert found.read("counts", None).toarray().tolist() == [[1], [1]]


def test_a_file_is_closed_between(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    found = open_source(tmp_path / "cells.h5ad")
    found.read("X", ROWS)
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:  # refused while it is open for reading
        assert "obs" in file


def test_something_else_is_no_data_set():
    with pytest.raises(DatasetError, match="a dict is no data set"):
        open_source({})
    with pytest.raises(DatasetError, match="unknown data set 'pancres'; known: pbmc68k-reduced"):
        open_source("pancres")
