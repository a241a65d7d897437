"""What is written: nothing but the new names, whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from types import SimpleNamespace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse

from frostline.annotation.outputs import BLOCK, Outputs, Spool, names_of, refuse_taken
from frostline.cells.datasets import load_dataset
from frostline.errors import DatasetError, FrostlineError
from frostline.scratch import scratch_path

N = 5
CELLS = [f"c{i}" for i in range(N)]


def table(key="type"):
    columns = (pd.Categorical(list("BTBTB")), np.arange(N) / 10, pd.Categorical(list("TBTBT")))
    rest = (pd.Categorical(list("BBBBB")), np.full(N, np.nan), pd.Categorical([""] * N))
    return pd.DataFrame(dict(zip(names_of(key)["obs"], (*columns, *rest), strict=True)), index=CELLS)


def outputs(key="type", spool=None):
    spool = spool or Spool(3, parts=[np.ones((N, 3), dtype=np.float32)], n=N)
    half = Spool(2, parts=[np.full((N, 2), 0.5, dtype=np.float32)], n=N)
    columns = {name: column.values for name, column in table(key).items()}
    return Outputs(key, pd.Index(CELLS), columns, half, spool, {"genes": {"exact": 3}, "why": []})


@pytest.fixture
def source(tmp_path):
    """A file with something of every kind, in which nothing may change."""
    obs = pd.DataFrame({"n": range(N), "kind": pd.Categorical(list("xyxyx"))}, index=CELLS)
    adata = anndata.AnnData(sparse.csr_matrix(np.eye(N, 4, dtype=np.float32)), obs=obs)
    adata.raw, adata.layers["l"], adata.obsm["pca"] = adata.copy(), adata.X.tocsc(), np.ones((N, 2))
    adata.obsp["near"], adata.uns["a"] = sparse.eye(N, format="csr"), {"b": [1]}
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def test_a_copy_holds_the_new_names_and_all_that_was_there(source, tmp_path):
    before = source.read_bytes()
    outputs().save(source, tmp_path / "out.h5ad")
    assert source.read_bytes() == before
    old, new = anndata.read_h5ad(source), anndata.read_h5ad(tmp_path / "out.h5ad")
    assert list(new.obs) == ["n", "kind", *names_of("type")["obs"]]
    pd.testing.assert_frame_equal(new.obs[["n", "kind"]], old.obs)
    pd.testing.assert_frame_equal(new.obs[list(names_of("type")["obs"])], table())
    assert np.array_equal(new.obsm["X_type"], np.ones((N, 3)))
    assert np.array_equal(new.obsm["type_probabilities"], np.full((N, 2), 0.5))
    assert new.uns["type"]["genes"]["exact"] == 3
    assert set(new.obsm) == {"pca", "X_type", "type_probabilities"}
    assert new.uns["a"]["b"].tolist() == [1]
    for get in (lambda a: a.X, lambda a: a.layers["l"], lambda a: a.raw.X, lambda a: a.obsp["near"]):
        assert (get(old) != get(new)).nnz == 0


def test_written_again_it_is_replaced(source, tmp_path):
    outputs().save(source, tmp_path / "once.h5ad")
    three = Spool(3, parts=[np.zeros((N, 3), dtype=np.float32)], n=N)
    again = dataclasses.replace(outputs(), probabilities=three)
    again.save(tmp_path / "once.h5ad", tmp_path / "twice.h5ad")
    read = anndata.read_h5ad(tmp_path / "twice.h5ad")
    assert read.obsm["type_probabilities"].shape == (N, 3)
    assert list(read.obs) == ["n", "kind", *names_of("type")["obs"]]


def test_files_of_an_older_layout_are_written_again(source, tmp_path):
    with h5py.File(source, "r+") as file:
        file["obs"].attrs["encoding-version"] = "0.1.0"
    outputs().save(source, tmp_path / "out.h5ad")
    assert list(anndata.read_h5ad(tmp_path / "out.h5ad").obs) == ["n", "kind", *names_of("type")["obs"]]


def reversed_cells(source):
    anndata.read_h5ad(source)[::-1].copy().write_h5ad(source)


def fewer_cells(source):
    anndata.read_h5ad(source)[:3].copy().write_h5ad(source)


def older_and_reversed(source):
    reversed_cells(source)
    with h5py.File(source, "r+") as file:
        file["obs"].attrs["encoding-version"] = "0.1.0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reversed_cells, r"in\.h5ad has been written again .*; annotate it again"),
        (fewer_cells, r"in\.h5ad has been written again .*; annotate it again"),
        (older_and_reversed, r"in\.h5ad has been written again .*; annotate it again"),
        (lambda source: source.write_bytes(b"a table"), r"in\.h5ad has been written again"),
        (lambda source: source.unlink(), r"in\.h5ad is not there any more: put it back, or annotate"),
    ],
)
def test_labels_are_not_written_to_other_cells_than_those_that_were_read(source, tmp_path, change, said):
    (tmp_path / "out.h5ad").write_bytes(b"mine")
    change(source)
    with pytest.raises(FrostlineError, match=said):
        outputs().save(source, tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} <= {"in.h5ad", "out.h5ad"}


def test_a_file_without_obsm_and_uns_gets_them(source, tmp_path):
    with h5py.File(source, "r+") as file:
        del file["obsm"], file["uns"]
    outputs().save(source, tmp_path / "out.h5ad")
    assert "type" in anndata.read_h5ad(tmp_path / "out.h5ad").uns


def test_nothing_is_left_where_writing_fails(source, tmp_path, monkeypatch):
    (tmp_path / "out.h5ad").write_bytes(b"mine")
    monkeypatch.setattr("frostline.annotation.outputs._fill", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(FrostlineError, match=r"out\.h5ad could not be written \(disk full\)"):
        outputs().save(source, tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "out.h5ad"}


def test_what_a_killed_save_left_is_cleared_by_the_next_one(source, tmp_path):
    own = scratch_path(tmp_path, ".h5ad")
    left = tmp_path / own.name.replace(f"-{os.getpid()}-", "-4194305-")  # above what Linux numbers processes with
    left.write_bytes(b"half of a file")
    outputs().save(source, tmp_path / "out.h5ad")
    assert {path.name for path in tmp_path.iterdir()} == {"in.h5ad", "out.h5ad"}


@pytest.mark.parametrize("make", [Spool, Spool.on_disk])
def test_rows_come_back_as_they_were_appended(make):
    rows = np.random.default_rng(0).random((BLOCK + 7, 2)).astype(np.float32)
    spool = make(2)
    assert spool.array().shape == (0, 2)
    for start in (0, 3, 5_000):
        spool.append(rows[start : {0: 3, 3: 5_000, 5_000: None}[start]])
    assert np.array_equal(spool.array(), rows)
    assert spool.n == len(rows)


def test_a_temporary_folder_that_is_full_is_named(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    spool = Spool.on_disk(2)
    monkeypatch.setattr(spool, "file", SimpleNamespace(seek=full))
    with pytest.raises(FrostlineError, match=r"temporary folder .* \(.*No space left.*\); set TMPDIR"):
        spool.append(np.ones((1, 2)))
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(FrostlineError, match="temporary folder"):
        Spool.on_disk(2)


def test_what_stands_under_a_key_is_refused_in_memory_and_in_a_file(source, tmp_path):
    refuse_taken(source, "type")
    outputs().save(source, tmp_path / "out.h5ad")
    for there in (tmp_path / "out.h5ad", anndata.read_h5ad(tmp_path / "out.h5ad")):
        with pytest.raises(DatasetError, match=r"obs\['type'\].*obsm\['X_type'\].*uns\['type'\] stands there already"):
            refuse_taken(there, "type")
        refuse_taken(there, "type", overwrite=True)
        refuse_taken(there, "type_2")


@pytest.mark.parametrize("kind", ["AnnData", "file", "zarr", "data set"])
def test_a_column_never_replaces_the_names_of_the_cells(source, tmp_path, kind):
    adata = anndata.read_h5ad(source)
    adata.obs.index.name = "type_set"
    there = {"AnnData": adata, "file": source, "zarr": tmp_path / "in.zarr"}.get(kind)
    if kind == "file":
        adata.write_h5ad(source)
    elif kind == "zarr":
        write_elem(zarr.open_group(there, mode="w", zarr_format=2), "obs", adata.obs)
        write_elem(zarr.open_group(there, mode="r+"), "var", adata.var)
    elif kind == "data set":
        adata.X = np.asarray(adata.X + np.arange(20).reshape(N, 4))
        there = load_dataset(adata, "kind")
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match=r"names of the cells under 'type_set', .*--key type_2"):
            refuse_taken(there, "type", overwrite=overwrite)
    refuse_taken(there, "type_2")
