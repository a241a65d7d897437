"""Cells without labels: the same values as with labels, from memory and from files, in runs of any size."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse
from small_cells import counts, make, scanpy_log_normalised

from frostline.cells import streams
from frostline.cells.datasets import load_dataset
from frostline.cells.queries import load_cells, open_cells, open_matrices
from frostline.errors import DatasetError


@pytest.fixture(scope="module")
def labelled():
    return load_dataset(make(), "cell_type")


def in_file(adata, tmp_path, layout=sparse.csr_matrix):
    adata = adata.copy()
    adata.X = layout(adata.X.toarray() if sparse.issparse(adata.X) else adata.X)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_values_genes_and_cells_are_those_of_a_labelled_data_set(labelled):
    cells = load_cells(make())
    assert np.array_equal(cells.matrix.toarray(), labelled.matrix.toarray())
    assert (cells.genes, cells.values_name, cells.evidence) == (labelled.genes, labelled.values_name, labelled.evidence)
    assert cells.cells.tolist() == labelled.cells.tolist()
    assert set(cells.labels.tolist()) == {""}


def test_no_column_of_labels_is_needed():
    adata = anndata.AnnData(counts())
    assert len(load_cells(adata)) == 24


def test_registered_names_and_data_sets_are_opened_too(pbmc):
    for source in ("pbmc68k-reduced", pbmc):
        with open_cells(source) as query:
            assert (query.name, query.values.name, len(query)) == (pbmc.name, pbmc.values_name, 700)
            found = next(query.chunks(5))[1]
        assert np.array_equal(found.matrix.toarray(), pbmc.matrix[:5].toarray())
        assert found.cells.tolist() == pbmc.cells[:5].tolist()


def test_a_data_set_is_not_read_otherwise_than_it_was_loaded(labelled):
    how = {"layer": "X", "values": "counts", "gene_column": "symbol"}
    with pytest.raises(DatasetError, match=r"loaded already, and layer, values, gene_column would have no effect"):
        load_cells(labelled, **how)
    for name, value in how.items():
        with pytest.raises(DatasetError, match=rf"and {name} would have no effect; leave it out, or pass what"):
            load_cells(labelled, **{name: value})


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("way", [open_cells, open_matrices])
def test_only_what_is_read_of_a_file_is_said_of_it(tmp_path, monkeypatch, kind, way):
    path = tmp_path / f"cells.{kind}"
    if kind == "h5ad":
        make().write_h5ad(path)
    else:
        write_elem(zarr.open_group(path, mode="w", zarr_format=2), "/", make())
    with pytest.raises(RuntimeError, match=r"^out of memory$"), way(path):
        raise RuntimeError("out of memory")

    def truncated(*_):
        raise OSError("truncated chunk")

    with way(path) as cells:
        monkeypatch.setattr(streams, "canonical", truncated)
        with pytest.raises(DatasetError, match=rf"cells\.{kind} cannot be read as .*truncated chunk"):
            cells.rows.span(0, 5)


@pytest.mark.parametrize("layout", [np.array, sparse.csr_matrix, sparse.csc_matrix])
def test_a_file_gives_what_memory_gives_in_runs_of_any_size(labelled, tmp_path, layout):
    with open_cells(in_file(make(), tmp_path, layout)) as query:
        for size in (1, 7, 100):
            parts = [dataset for _, dataset in query.chunks(size)]
            assert np.array_equal(np.vstack([part.matrix.toarray() for part in parts]), labelled.matrix.toarray())
            assert np.concatenate([part.cells for part in parts]).tolist() == labelled.cells.tolist()


@pytest.mark.parametrize("key", [None, "barcode"])
def test_names_of_a_file_are_read_in_blocks_and_without_the_other_columns(tmp_path, monkeypatch, key):
    monkeypatch.setattr("frostline.cells.stores.BLOCK", 7)
    adata = make()
    adata.obs_names = [f"cell {i} \u00e9" for i in range(adata.n_obs)]
    adata.obs.index.name = key
    path = in_file(adata, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["obs/cell_type"]  # as of a column that this machine cannot read
    with open_cells(path) as query:
        assert query.obs_names[:].equals(adata.obs_names)
        assert query.obs_names.name == key


def test_layers_and_raw_of_a_file_bring_their_own_genes(tmp_path, labelled):
    adata = make()
    adata.raw = adata.copy()
    adata = adata[:, :9].copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.full(adata.shape, -1.0, dtype=np.float32)
    path = in_file(adata, tmp_path)
    assert load_cells(path, layer="raw").genes == labelled.genes
    assert np.array_equal(load_cells(path, layer="raw").matrix.toarray(), labelled.matrix.toarray())
    assert load_cells(path, layer="counts").genes == labelled.genes[:9]
    assert load_cells(path, layer="raw").gene_source == "adata.raw.var_names"
    assert load_cells(path, layer="counts").gene_source == "adata.var_names"
    with pytest.raises(DatasetError, match=r"negative values .* name one of: raw, counts \(layer=...\)"):
        load_cells(path)
    with pytest.raises(DatasetError, match=r"layer 'log' does not exist; cells.h5ad has: X, raw, counts"):
        load_cells(path, layer="log")


def test_cells_of_a_sample_are_normalised_and_what_was_read_is_left(tmp_path, labelled):
    with open_cells(in_file(make(), tmp_path)) as query:
        read = query.rows.sample[1].toarray()
        assert np.array_equal(query.sample.matrix.toarray(), labelled.matrix.toarray())
        assert np.array_equal(query.rows.sample[1].toarray(), read)


def test_a_file_without_x_is_refused_with_what_it_has(tmp_path, labelled):
    adata = make()
    adata.layers["counts"], adata.X = adata.X, None
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    assert np.array_equal(load_cells(path, layer="counts").matrix.toarray(), labelled.matrix.toarray())
    with pytest.raises(DatasetError, match=r"layer 'X' does not exist; cells.h5ad has: counts$"):
        load_cells(path)
    del adata.layers["counts"]
    adata.write_h5ad(path)
    with pytest.raises(DatasetError, match=r"layer 'X' does not exist; cells.h5ad has: no matrix of cells and genes"):
        load_cells(path)


def test_a_backed_anndata_is_read_from_its_file(tmp_path, labelled):
    backed = anndata.read_h5ad(in_file(make(), tmp_path), backed="r")
    assert np.array_equal(load_cells(backed).matrix.toarray(), labelled.matrix.toarray())
    assert len(load_cells(backed[:5])) == 5
    backed.file.close()


def test_genes_of_one_symbol_both_keep_it_to_be_summed(tmp_path):
    adata = make()
    adata.var["gene_symbols"] = ["CD3D", "CD3D", *(f"S{i}" for i in range(13))]
    found = load_cells(in_file(adata, tmp_path), gene_column="gene_symbols")
    assert found.genes == tuple(adata.var["gene_symbols"])


def test_cells_without_a_count_one_cell_and_no_cell_are_let_in():
    adata = make()
    adata.X[3] = 0
    adata.X.eliminate_zeros()
    assert load_cells(adata).matrix[3].nnz == 0
    assert np.array_equal(load_cells(adata[5].copy()).matrix.toarray(), load_cells(adata).matrix[5].toarray())
    nothing = load_cells(adata[:0].copy())
    assert (nothing.matrix.shape, nothing.values_name) == ((0, 15), "no value")
    assert load_cells(adata[3].copy()).values_name == "no value"


def few(matrix, **how):
    adata = anndata.AnnData(np.array(matrix, dtype=np.float32))
    return load_cells(adata, **how)


def test_one_cell_of_the_usual_total_is_what_it_is_among_others():
    expected = scanpy_log_normalised(counts())
    for values in (expected, np.log2(np.expm1(expected) + 1), np.log1p(np.expm1(expected) * 100), np.expm1(expected)):
        assert np.allclose(few(values[:1]).matrix.toarray(), expected[:1], rtol=1e-4)


def test_one_cell_of_another_total_is_asked_about_and_believed():
    values = scanpy_log_normalised(counts())[2:3, :9]  # 10,000 is no multiple of its 37 counts
    with pytest.raises(DatasetError, match=r"is unclear.*for frostline annotate --values log1p"):
        few(values)
    assert np.array_equal(few(values, values="log1p").matrix.toarray(), values)


def test_unclear_negative_and_missing_values_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(DatasetError, match="what the values are is unclear"):
        few(rng.random((30, 40)))
    with pytest.raises(DatasetError, match="it looks scaled"):
        few(rng.normal(size=(30, 40)))
    with pytest.raises(DatasetError, match="values are missing, infinite"):
        few(np.full((30, 40), np.nan))


def test_a_cell_that_is_not_of_the_kind_of_the_others_is_refused(tmp_path, monkeypatch):
    """Values are described on a sample; what lies outside it is held against that."""
    monkeypatch.setattr("frostline.cells.streams.SAMPLE", 5)
    adata = make()
    adata.X[1, 0] = 0.5
    with pytest.raises(DatasetError, match=r"the values are counts .* but cell 'c1' has 0.5"):
        load_cells(in_file(adata, tmp_path))
    adata.X = scanpy_log_normalised(counts())
    adata.X[1, 0] = 30
    with pytest.raises(DatasetError, match=r"the values are log-normalised .* but cell 'c1' has 30"):
        load_cells(adata)
    adata.X[1, 0] = -1
    with pytest.raises(DatasetError, match=r"negative, the first is -1.0 in cell 'c1', gene 'G0'"):
        load_cells(adata)


def test_repeated_and_unwritable_names_are_refused():
    adata = make()
    adata.obs_names = ["c"] * 24
    with pytest.raises(DatasetError, match="cell names are not unique"):
        load_cells(adata)
    adata.obs_names = ["a\0b", *(f"c{i}" for i in range(23))]
    with pytest.raises(DatasetError, match="with a character that no file can hold"):
        load_cells(adata)


def test_what_holds_no_cells_is_refused():
    with pytest.raises(DatasetError, match="a DataFrame holds no cells"):
        load_cells(pd.DataFrame())
    with pytest.raises(DatasetError, match="unknown data set 'nobody'"):
        load_cells("nobody")


def test_decimals_that_are_not_logged_are_asked_about_and_believed():
    values = counts() * np.random.default_rng(0).uniform(20, 30, 15)
    with pytest.raises(DatasetError, match="counts corrected for ambient RNA, or RPKM"):
        few(values)
    expected = np.log1p(values / values.sum(axis=1, keepdims=True) * 1e4)
    assert np.allclose(few(values, values="linear").matrix.toarray(), expected, rtol=1e-5)
