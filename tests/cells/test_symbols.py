"""Symbols are taken from the column of var that holds them, and what was done is said."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from frostline.cells.datasets import load_dataset
from frostline.cells.joining import join_datasets
from frostline.cells.symbols import SYMBOL_COLUMNS, best_column, known_symbols, read_symbols
from frostline.errors import DatasetError

SYMBOLS = ["CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "CD79A"]
IDS = [f"ENSG{i:011d}.{i}" for i in range(6)]


def table(index=IDS, **columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=index)


class TestTheColumn:
    @pytest.mark.parametrize("name", [*SYMBOL_COLUMNS, "Symbol", "GENE_NAME", "Gene name", "my favourite names"])
    @pytest.mark.parametrize("kind", [list, pd.Categorical, lambda names: pd.array(names, dtype="string")])
    def test_is_found_by_what_it_holds_whatever_its_name_and_type(self, name, kind):
        found = read_symbols(table(**{"biotype": ["protein_coding"] * 6, name: kind(SYMBOLS), "n_cells": range(6)}))
        assert found.names == tuple(SYMBOLS)
        assert found.source == f"adata.var[{name!r}]"
        assert found.note.startswith(f"Gene symbols are from adata.var[{name!r}], not adata.var_names ({IDS[0]}, ")
        assert found.note.endswith("6 of 6 genes have one.")

    @pytest.mark.parametrize("index", [IDS, list("012345"), [f"{s}_{i}" for s, i in zip(SYMBOLS, IDS, strict=True)]])
    def test_is_taken_beside_all_kinds_of_names_that_are_no_symbols(self, index):
        assert read_symbols(table(index, gene_symbols=SYMBOLS)).names == tuple(SYMBOLS)

    def test_of_two_the_one_with_more_symbols_and_of_equals_the_usual_name(self):
        worse = [*SYMBOLS[:4], "foo", "bar"]
        assert best_column(table(feature_name=worse, strange=SYMBOLS)) == "strange"
        assert best_column(table(strange=SYMBOLS, symbol=SYMBOLS, feature_name=SYMBOLS)) == "feature_name"

    def test_is_left_alone_where_the_names_are_symbols(self):
        found = read_symbols(table(SYMBOLS, feature_name=[*SYMBOLS[:-1], "IL7R"]))
        assert (found.names, found.source, found.note) == (tuple(SYMBOLS), "adata.var_names", "")

    @pytest.mark.parametrize(
        "values", [["X"] * 6, [np.nan] * 6, ["Cd3d", "Lyz2", "Nkg7", "a", "b", "c"], ["CD3D"] * 6, range(6)]
    )
    def test_is_none_where_it_holds_no_human_symbols(self, values):
        assert best_column(table(chromosome=values)) is None

    def test_some_receptors_in_a_table_of_all_genes_are_no_symbols_of_the_genes(self):
        ids = [f"ENSG{i:011d}" for i in range(400)]
        assert best_column(table(ids, receptor=[*SYMBOLS, *[f"x{i}" for i in range(394)]])) is None

    def test_may_stand_twice_when_it_is_not_asked_for(self):
        twice = pd.concat([table(symbol=SYMBOLS), table(symbol=SYMBOLS)], axis=1)
        assert best_column(twice) is None
        with pytest.raises(DatasetError, match=r"adata\.var has two columns 'symbol'"):
            read_symbols(twice, "symbol")


class TestAskedFor:
    def test_a_column_is_taken_even_if_the_names_are_symbols(self):
        assert read_symbols(table(SYMBOLS, mine=IDS), "mine").names == tuple(IDS)

    @pytest.mark.parametrize("asked", ["0", 0])
    def test_a_column_may_be_named_by_a_number(self, asked):
        """As a table without a header is read; a command has texts only."""
        numbered = table(feature_name=IDS).assign(**{"1": IDS}).rename(columns={"feature_name": 7})
        numbered[0] = SYMBOLS
        found = read_symbols(numbered, asked)
        assert (found.names, found.source) == (tuple(SYMBOLS), "adata.var[0]")
        numbered["0"] = IDS
        with pytest.raises(DatasetError, match=r"adata\.var has two columns"):
            read_symbols(numbered, asked)

    @pytest.mark.parametrize("name", ["var_names", "index", "symbol"])
    def test_the_names_themselves_can_be_asked_for(self, name):
        found = read_symbols(table(feature_name=SYMBOLS).rename_axis("symbol"), name)
        assert (found.names, found.source) == (tuple(IDS), "adata.var_names")

    def test_a_column_that_is_not_there_is_an_error_with_those_that_are(self):
        with pytest.raises(
            DatasetError, match=r"'symbol' is not in adata\.raw\.var; it has: feature_name; 'var_names'"
        ):
            read_symbols(table(feature_name=SYMBOLS), "symbol", raw=True)

    def test_so_is_one_without_any_symbol(self):
        with pytest.raises(DatasetError, match=r"adata\.var\['empty'\] holds no gene symbol"):
            read_symbols(table(empty=["", np.nan, "nan", "-", None, " "]), "empty")


class TestMissingAndShared:
    def test_a_gene_without_a_symbol_keeps_its_name(self):
        found = read_symbols(table(symbol=["CD3D", np.nan, "LYZ", "", "nan", "CD79A "]))
        assert found.names == ("CD3D", IDS[1], "LYZ", IDS[3], IDS[4], "CD79A")
        assert "3 of 6 genes have one" in found.note

    def test_a_gene_called_like_a_missing_value_stays(self):
        assert read_symbols(table(symbol=["BAD", *SYMBOLS[1:]])).names[0] == "BAD"

    def test_of_several_genes_of_one_symbol_the_one_with_most_counts_gets_it(self):
        var = table(symbol=["CD3D", "LYZ", "LYZ", "NKG7", "LYZ", "CD3D"])
        counts = np.array([5.0, 1, 9, 2, 3, 5])
        found = read_symbols(var, "symbol", totals=lambda: counts)
        assert found.names == ("CD3D", IDS[1], "LYZ", "NKG7", IDS[4], IDS[5])
        assert found.note.endswith("3 of 6 genes have one; 3 whose symbol a gene with more counts has keep their name.")

    def test_a_gene_that_bears_the_symbol_as_its_name_gets_it(self):
        found = read_symbols(
            table(["LYZ", *IDS[1:]], symbol=[None, "LYZ", *SYMBOLS[3:], "CD3D"]), totals=lambda: np.arange(6.0)
        )
        assert found.names[:2] == ("LYZ", IDS[1])

    @given(
        st.lists(st.sampled_from([*SYMBOLS, *IDS, ""]), min_size=6, max_size=6),
        st.permutations([*IDS[:3], *SYMBOLS[:3]]),
    )
    def test_names_are_unique_whatever_is_shared(self, symbols, index):
        if any(symbols):
            names = read_symbols(table(index, symbol=symbols), "symbol").names
            assert len(set(names)) == 6
            assert all(name in (own, symbol) for name, own, symbol in zip(names, index, symbols, strict=True))

    @pytest.mark.parametrize("raw", [False, True])
    def test_names_that_repeat_are_refused_with_a_remedy_that_works(self, raw):
        with warnings.catch_warnings(action="ignore"):  # anndata says it, too
            adata = AnnData(np.arange(12, dtype=np.float32).reshape(4, 3), var=pd.DataFrame(index=["A", "B", "A"]))
            adata.obs["kind"] = ["x", "y"] * 2
            if raw:
                adata.raw = adata
                adata = adata[:, :2].copy()
        layer = "raw" if raw else None
        with pytest.raises(DatasetError, match=r"gene names are not unique, for example 'A'; call ") as caught:
            load_dataset(adata, "kind", layer=layer)
        with warnings.catch_warnings(action="ignore"):
            exec(str(caught.value).partition("call ")[2].removesuffix(" first"), {"adata": adata})
        assert len(load_dataset(adata, "kind", layer=layer).genes) == 3


@pytest.fixture
def cellxgene(pbmc) -> AnnData:
    """Symbols in a categorical column of both tables, ids that differ in X and raw."""
    adata = pbmc.adata.raw.to_adata()
    adata.obs = pbmc.adata.obs[["bulk_labels"]].copy()
    adata.var = pd.DataFrame(
        {"feature_name": pd.Categorical(adata.var_names)}, index=[f"ENSG{i:011d}" for i in range(765)]
    )
    adata.raw = adata
    return adata[:, 100:400].copy()


class TestDatasets:
    def test_the_table_of_the_layer_is_looked_at(self, cellxgene, pbmc):
        whole, part = (load_dataset(cellxgene, "bulk_labels", layer=layer) for layer in ("raw", None))
        assert whole.genes == pbmc.genes
        assert part.genes == pbmc.genes[100:400]
        assert (whole.gene_source, part.gene_source) == ("adata.raw.var['feature_name']", "adata.var['feature_name']")
        assert "not adata.raw.var_names" in whole.notes[-1]

    def test_raw_with_ids_beside_symbols_in_x(self, cellxgene, pbmc):
        cellxgene.var_names = cellxgene.var.pop("feature_name").tolist()
        assert load_dataset(cellxgene, "bulk_labels", layer="raw").genes == pbmc.genes
        assert load_dataset(cellxgene, "bulk_labels").gene_source == "adata.var_names"
        with pytest.raises(DatasetError, match=r"not in adata\.var; it has: no column"):
            load_dataset(cellxgene, "bulk_labels", gene_column="feature_name")

    def test_a_categorical_index_is_one_of_names(self, cellxgene):
        cellxgene.var.index = pd.CategoricalIndex(cellxgene.var.pop("feature_name").astype(str))
        assert load_dataset(cellxgene, "bulk_labels").gene_source == "adata.var_names"

    def test_sets_with_other_ids_meet_in_their_symbols(self, cellxgene, pbmc):
        other = cellxgene.copy()
        other.obs_names = [f"{name}-x" for name in other.obs_names]
        other.var = pd.DataFrame({"gene_symbols": other.var["feature_name"].to_numpy()}, index=map(str, range(300)))
        joined = join_datasets(
            *(load_dataset(each, "bulk_labels", name=f"{i}") for i, each in enumerate((cellxgene, other)))
        )
        assert joined.genes == pbmc.genes[100:400]
        assert sum("Gene symbols are from" in note for note in joined.notes) == 2


def test_known_symbols_are_human():
    assert {"CD3D", "MS4A1", "LYZ", "HLA-DRA"} <= known_symbols()
    assert not {"<pad>", "Cd3d", "ENSG00000167286"} & known_symbols()
