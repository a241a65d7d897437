"""Previews: what can be chosen from, before anything is loaded."""

from __future__ import annotations

import collections
import sys
import types

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from frostline.cells.datasets import load_dataset
from frostline.cells.previews import Column, anndatas, path_problem, preview, shown_columns
from frostline.errors import DatasetError

N = 40


def cells(**columns) -> anndata.AnnData:
    obs = pd.DataFrame(columns, index=[f"cell-{i}" for i in range(N)])
    adata = anndata.AnnData(sparse.csr_matrix(np.eye(N, 6, dtype=np.float32)), obs=obs)
    adata.var_names = [f"gene-{i}" for i in range(6)]
    return adata


KINDS = np.array(["B", "T"] * (N // 2))


@pytest.fixture
def mine() -> anndata.AnnData:
    adata = cells(
        patient=[f"p{i % 4}" for i in range(N)],
        louvain=pd.Categorical([str(i % 5) for i in range(N)]),
        barcode=[f"ACGT-{i}" for i in range(N)],
        n_counts=np.random.default_rng(0).random(N),
        pct_mito=(np.arange(N) % 7) / 10,
        cell_type=pd.Categorical(KINDS),
        same=["x"] * N,
    )
    adata.layers["umi"] = adata.X.copy()
    adata.raw = anndata.AnnData(sparse.csr_matrix((N, 9), dtype=np.float32), obs=adata.obs[[]])
    return adata


class TestSources:
    def test_a_registered_name(self):
        found = preview("pancreas")
        assert (found.name, found.n_cells, found.n_genes) == ("pancreas", 175, 12_474)
        assert (found.label_key, found.groups, found.layers) == ("cell_type", ("donor",), ("X",))

    def test_an_anndata(self, mine):
        found = preview(mine)
        assert (found.name, found.n_cells) == ("adata", N)
        assert found.n_genes == 9  # raw has more of them
        assert found.layers == ("X", "raw", "umi")
        assert found.groups == ("patient",)

    def test_a_data_set_keeps_its_name(self, mine):
        found = preview(load_dataset(mine, "cell_type", name="ours"))
        assert (found.name, found.label_key) == ("ours", "cell_type")

    @pytest.mark.parametrize("kind", [str, lambda path: path])
    def test_a_file_offers_what_the_anndata_offers(self, mine, tmp_path, kind):
        mine.write_h5ad(tmp_path / "my.cells.h5ad")
        found, expected = preview(kind(tmp_path / "my.cells.h5ad")), preview(mine)
        assert found.name == "my.cells"
        assert vars(found) == {**vars(expected), "name": "my.cells"}

    def test_a_file_without_raw_and_layers(self, tmp_path):
        cells(kind=KINDS).write_h5ad(tmp_path / "plain.h5ad")
        found = preview(tmp_path / "plain.h5ad")
        assert (found.n_genes, found.layers, found.groups) == (6, ("X",), ())

    def test_values_layers_and_embeddings_of_a_file_are_not_read(self, mine, tmp_path):
        """They are damaged: their chunks do not decompress. Whoever reads them fails."""
        rng = np.random.default_rng(0)
        mine.X = rng.random((N, 6)).astype(np.float32)
        mine.layers["umi"] = rng.random((N, 6)).astype(np.float32)
        mine.obsm["X_pca"] = rng.random((N, 5)).astype(np.float32)
        expected = preview(mine)
        path = tmp_path / "damaged.h5ad"
        mine.write_h5ad(path, compression="gzip")
        for name in ("X", "layers/umi", "obsm/X_pca"):
            with h5py.File(path) as file:
                chunk = file[name].id.get_chunk_info(0)
            with path.open("r+b") as file:
                file.seek(chunk.byte_offset)
                file.write(b"\xff" * chunk.size)
            with h5py.File(path) as file, pytest.raises(OSError, match="read"):
                file[name][()]
        with pytest.raises(DatasetError, match="cannot be read as"):
            load_dataset(path, "cell_type")
        assert vars(preview(path)) == {**vars(expected), "name": "damaged"}

    def test_a_file_of_an_old_layout(self):
        """As scanpy installs one: its table of cells is no group of columns."""
        from pathlib import Path

        import scanpy

        path = Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
        with h5py.File(path) as file:
            assert isinstance(file["obs"], h5py.Dataset)
        assert vars(preview(path)) == {**vars(preview("pbmc68k-reduced")), "name": path.stem}

    def test_the_file_is_closed_afterwards(self, mine, tmp_path):
        path = tmp_path / "cells.h5ad"
        mine.write_h5ad(path)
        preview(path)
        with h5py.File(path, "r+") as file:  # refused while it is open for reading
            assert "obs" in file

    def test_a_path_in_the_home_folder(self, mine, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        mine.write_h5ad(tmp_path / "cells.h5ad")
        assert path_problem("~/cells.h5ad") == ""
        assert preview("~/cells.h5ad").name == "cells"
        assert load_dataset("~/cells.h5ad", "cell_type").name == "cells"


class TestProblems:
    def test_nothing_was_typed(self):
        assert path_problem("") == path_problem("  ") == "type the path of an .h5ad file"

    def test_a_folder(self, tmp_path):
        assert path_problem(str(tmp_path)) == f"{tmp_path} is a folder without an .h5ad file"
        for name in ("d", "c", "b", "a"):
            (tmp_path / f"{name}.h5ad").touch()
        assert path_problem(str(tmp_path)) == f"{tmp_path} is a folder; in it: a.h5ad, b.h5ad, c.h5ad"

    def test_another_format(self, tmp_path):
        (tmp_path / "cells.npz").touch()
        path = str(tmp_path / "cells.npz")
        assert path_problem(path) == f"{path} is no .h5ad file; write one with adata.write_h5ad('cells.h5ad')"
        (tmp_path / "cells.csv").touch()
        with pytest.raises(DatasetError, match=r"cells\.csv is no \.h5ad file; write one with .*sc\.read_csv\("):
            preview(tmp_path / "cells.csv")

    def test_a_missing_file(self, tmp_path):
        path = str(tmp_path / "cels.h5ad")
        assert path_problem(path) == f"there is no file {path}"
        for name in ("cells.h5ad", "._cells.h5ad"):
            (tmp_path / name).touch()
        assert path_problem(path) == f"there is no file {path}; in its folder: cells.h5ad"
        with pytest.raises(DatasetError, match=r"there is no file .*cels\.h5ad; in its folder: cells\.h5ad"):
            preview(path)
        nowhere = str(tmp_path / "no" / "such.h5ad")
        assert path_problem(nowhere) == f"there is no file {nowhere}"

    def test_what_cannot_even_be_looked_at_is_said_and_not_raised(self):
        assert path_problem("~nobody-of-that-name/x.h5ad") == "there is no file ~nobody-of-that-name/x.h5ad"
        assert "cannot be looked at: " in path_problem("x" * 5_000 + ".h5ad")

    def test_a_file_that_is_there(self, mine, tmp_path):
        mine.write_h5ad(tmp_path / "cells.h5ad")
        assert path_problem(str(tmp_path / "cells.h5ad")) == ""

    @pytest.mark.parametrize("damage", ["text", "half", "other"])
    def test_a_damaged_file(self, mine, tmp_path, damage):
        path = tmp_path / "cells.h5ad"
        mine.write_h5ad(path)
        if damage == "text":
            path.write_text("not HDF5")
        elif damage == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            with h5py.File(path, "w") as file:
                file["something"] = [1, 2]
        with pytest.raises(DatasetError, match=r"cells\.h5ad cannot be read as \.h5ad \(truncated or not an AnnData"):
            preview(path)


class TestColumns:
    def test_labels_come_first_and_ids_and_measures_not_at_all(self, mine):
        found = preview(mine)
        assert [column.name for column in found.columns] == ["cell_type", "louvain", "patient"]
        assert found.label_key == "cell_type"

    @pytest.mark.parametrize(
        ("left", "expected"),
        [(["patient", "louvain", "cell_type"], "cell_type"), (["patient", "louvain"], "louvain"), (["patient"], None)],
    )
    def test_the_likeliest_label_whatever_the_order(self, mine, left, expected):
        for names in (left, left[::-1]):
            mine_of_these = cells(**{name: mine.obs[name].to_numpy() for name in names})
            assert preview(mine_of_these).label_key == expected

    @pytest.mark.parametrize("name", ["donor_label", "batch", "sample_cluster", "study"])
    def test_columns_of_groups_come_last_and_are_no_likely_labels(self, name):
        groups = [f"g{i % 4}" for i in range(N)]
        found = preview(cells(**{name: groups, "colour": np.arange(N) % 3}))
        assert ([column.name for column in found.columns], found.label_key) == (["colour", name], None)
        assert preview(cells(**{name: groups, "leiden": KINDS})).label_key == "leiden"
        assert preview(cells(cell_type_by_study=KINDS)).label_key == "cell_type_by_study"

    def test_columns_of_genes_are_listed(self):
        adata = cells(cell_type=KINDS)
        adata.var["symbol"] = "x"
        assert preview(adata).var_columns == ("symbol",)

    def test_names_of_types_go_before_their_ids(self):
        adata = cells(cell_type_ontology_term_id=[f"CL:{i % 2}" for i in range(N)], cell_type=KINDS)
        assert preview(adata).label_key == "cell_type"

    def test_upper_case_and_texts_before_numbers(self):
        adata = cells(cluster=np.arange(N) % 3, Cluster_name=KINDS)
        assert [column.name for column in preview(adata).columns] == ["Cluster_name", "cluster"]
        assert preview(cells(CellType=KINDS)).label_key == "CellType"

    @pytest.mark.parametrize(
        ("values", "n_values", "n_missing"),
        [
            (pd.Categorical(["a", "b", None, "a"] * 10, categories=["a", "b", "unused"]), 2, 10),
            (pd.array(["a", None, "b", "c"] * 10, dtype="string"), 3, 10),
            (np.array(["a", np.nan, "b", "b"] * 10, dtype=object), 2, 0),  # numpy writes "nan"
            ([True, False] * 20, 2, 0),
            (pd.array([True, None] * 10 + [False, None] * 10, dtype="boolean"), 2, 20),
            (np.arange(N) % 4, 4, 0),
            (pd.array([1, 2, None, 3] * 10, dtype="Int64"), 3, 10),
            (np.array([0.0, 1.0, np.nan, 2.0] * 10), 3, 10),  # numbers of clusters that pandas made floats
        ],
        ids=["category", "string", "object", "bool", "boolean", "int", "Int64", "whole floats"],
    )
    def test_kinds_of_columns_with_their_missing_values(self, tmp_path, values, n_values, n_missing):
        adata = cells(kind=values)
        if adata.obs["kind"].dtype == object:
            n_missing = int(adata.obs["kind"].isna().sum())
            assert n_missing == 10
        n_fewest = min(collections.Counter(adata.obs["kind"].dropna().tolist()).values())
        expected = (Column("kind", n_values, n_missing, n_fewest),)
        assert preview(adata).columns == expected
        if adata.obs["kind"].dtype != "string":  # anndata writes it only when asked to
            adata.write_h5ad(tmp_path / "kinds.h5ad")
            assert preview(tmp_path / "kinds.h5ad").columns == expected

    @pytest.mark.parametrize(("n_values", "offered"), [(1, False), (2, True), (N // 2, True), (N // 2 + 1, False)])
    def test_how_many_values_a_column_may_have(self, n_values, offered):
        found = preview(cells(kind=[f"k{i % n_values}" for i in range(N)])).columns
        assert bool(found) == offered

    def test_without_columns_there_is_nothing_to_choose(self):
        found = preview(cells())
        assert (found.columns, found.label_key, found.groups) == ((), None, ())

    def test_how_they_are_shown(self):
        shown = shown_columns([Column("cell_type", 8, 1_234, 9), Column("donor", 4, 0, 30)])
        assert shown == [("cell_type (8 values, 1,234 missing)", "cell_type"), ("donor (4 values)", "donor")]


def test_the_anndatas_of_a_notebook(mine):
    names = {"mine": mine, "_": mine, "table": mine.obs, "kind": anndata.AnnData, "other": cells()}
    assert list(anndatas(names)) == ["mine", "other"]
    assert anndatas({}) == {}


def test_there_are_no_anndatas_while_another_thread_still_imports_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "anndata", types.ModuleType("anndata"))
    assert anndatas({"x": 3}) == {}
