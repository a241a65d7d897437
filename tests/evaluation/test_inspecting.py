"""Inspect: what values are, which are taken, what is refused as load_dataset says it, and code that mends it."""

from __future__ import annotations

import contextlib
import re
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import frostline
from frostline.cells.datasets import load_dataset
from frostline.cells.queries import open_cells
from frostline.encoder.vocabulary import overlap
from frostline.errors import DatasetError
from frostline.evaluation import looks
from frostline.evaluation.inspecting import SPLIT, inspect

N = 60


@pytest.fixture(scope="module")
def counts() -> anndata.AnnData:
    """Every second pancreas cell up to 60, the 600 genes with most counts."""
    whole = load_dataset("pancreas").adata
    genes = np.argsort(-np.asarray(whole.X.sum(axis=0)).ravel())[:600]
    adata = whole[::2, np.sort(genes)][:N].copy()
    adata.obs = adata.obs[["cell_type", "donor"]].astype(str)
    return adata


def to_total(counts: sparse.csr_matrix, total: float) -> np.ndarray:
    dense = counts.toarray().astype(np.float64)
    return total * dense / dense.sum(axis=1, keepdims=True)


def binned(dense: np.ndarray) -> np.ndarray:
    """scGPT's 51 bins: each cell's expressed genes by their place among quantiles."""
    out = np.zeros_like(dense)
    for row, values in enumerate(dense):
        expressed = values > 0
        edges = np.quantile(values[expressed], np.linspace(0, 1, 50))
        out[row, expressed] = np.digitize(values[expressed], edges)
    return out


@pytest.fixture(scope="module")
def kinds(counts) -> anndata.AnnData:
    """One layer for each kind of values; X holds scaled ones."""
    rng = np.random.default_rng(0)
    logged = np.log1p(to_total(counts.X, 1e4))
    lengths = rng.uniform(0.4, 9.0, counts.n_vars)
    rates = to_total(counts.X, 1e6) / lengths
    adata = anndata.AnnData((logged - logged.mean(axis=0)) / (logged.std(axis=0) + 1e-6), counts.obs, counts.var)
    layers = {
        "counts": counts.X.copy(),
        "log": sparse.csr_matrix(logged),
        "log of CPM": np.log1p(to_total(counts.X, 1e6)),
        "log2": np.log2(to_total(counts.X, 1e6) + 1),
        "log10": np.log10(to_total(counts.X, 1e4) + 1),
        "CPM": to_total(counts.X, 1e6),
        "bins": binned(logged),
        "decimals": counts.X.toarray() * rng.uniform(0.8, 0.99, counts.shape),
        "log of RPKM": np.log1p(rates),
        "unit variance": logged / (logged.std(axis=0) + 1e-6),
        "zeros": np.zeros(counts.shape),
        "gap": np.where(np.arange(counts.n_vars) == 3, np.nan, counts.X.toarray()),
    }
    adata.layers.update(layers)
    return adata


EXPECTED = {
    "X": "scaled",
    "counts": "counts",
    "log": "log-normalised",
    "log of CPM": "log-normalised to 1,000,000",
    "log2": "log2 of 1,000,000 a cell",
    "log10": "log10 of 10,000 a cell",
    "CPM": "counts per million, not logged",
    "bins": "binned",
    "decimals": "decimals, not logged (such as ambient-corrected counts)",
    "log of RPKM": "unknown: ask",
    "unit variance": "unknown: ask",
    "zeros": "zero",
    "gap": "partly missing, infinite or negative",
}


@pytest.fixture(scope="module")
def of_kinds(kinds):
    return inspect(kinds, "cell_type")


class TestValues:
    @pytest.mark.parametrize("layer", EXPECTED)
    def test_each_kind_is_said_with_what_was_seen(self, of_kinds, layer):
        found = of_kinds.matrix(layer)
        assert found.kind == EXPECTED[layer]
        assert len(found.evidence) > 15

    def test_what_is_refused_is_what_loading_refuses_and_what_is_found_what_it_finds(self, kinds, of_kinds):
        for matrix in of_kinds.matrices:
            if matrix.values is None:
                with pytest.raises(DatasetError) as caught:
                    load_dataset(kinds, "cell_type", layer=matrix.name)
                assert str(caught.value) == matrix.evidence
            else:
                loaded = load_dataset(kinds, "cell_type", layer=matrix.name)
                assert (loaded.values_name, loaded.evidence) == (matrix.kind, matrix.evidence)

    def test_size_and_storage(self, kinds, of_kinds, counts):
        found = of_kinds.matrix("counts")
        assert (found.storage, found.n_values, found.n_genes) == ("CSR float32", counts.X.nnz, 600)
        assert found.n_bytes == 8 * counts.X.nnz
        assert of_kinds.matrix("CPM").storage == "dense float64"
        assert of_kinds.matrix("zeros").n_empty == N

    def test_counts_go_first_then_what_is_log_normalised_then_what_is_converted(self, kinds, of_kinds):
        left = kinds.copy()
        order = []
        while (taken := inspect(left, "cell_type").recommended) is not None:
            order.append(taken)
            del left.layers[taken]
        assert order[:2] == ["counts", "log"]
        assert set(order[2:6]) == {"log of CPM", "log2", "log10", "CPM"}
        assert order[6:] == ["decimals"]
        assert len(set(order)) == len(order)
        assert "each is refused" in inspect(left, "cell_type").why

    def test_of_two_alike_the_one_with_more_genes_and_a_larger_one_is_mentioned(self, counts):
        few = counts[:, :300].copy()
        few.raw = counts
        assert inspect(few).recommended == "raw"
        few.raw = anndata.AnnData(np.log1p(to_total(counts.X, 1e4)), counts.obs, counts.var)
        found = inspect(few)
        assert found.recommended == "X"
        assert "raw has 600 genes, of which these are 300" in found.why

    def test_one_with_half_as_many_genes_more_is_not_mentioned(self, counts):
        most = counts[:, :400].copy()
        most.raw = anndata.AnnData(np.log1p(to_total(counts.X, 1e4)), counts.obs, counts.var)
        found = inspect(most)
        assert (found.recommended, "genes, of which" in found.why) == ("X", False)

    def test_what_a_registered_set_is_loaded_from(self):
        found = inspect("pbmc68k-reduced")
        assert (found.default, found.recommended, found.refusals) == ("raw", "raw", ())
        assert "layer" not in found.code + found.command


class TestGenes:
    @pytest.mark.parametrize("given", ["pancreas", "cells without a symbol column"])
    def test_a_checkpoint_knows_at_least_the_genes_of_its_vocabulary(self, given, counts):
        source = counts if given != "pancreas" else given
        dataset = load_dataset(source, "cell_type")
        exact = overlap(dataset, frostline.load_checkpoint("mini"))
        (found,) = inspect(source, "cell_type").coverage
        assert found.checkpoint == "mini"
        assert found.genes.counts["exact"] <= exact.n_matched <= (found.genes.places >= 0).sum()
        assert found.genes.covered == pytest.approx(exact.covered, abs=0.02)

    def test_the_layout_of_cellxgene(self, counts):
        from frostline.cells.gene_table import ensembl_of

        symbols = counts.var_names.to_numpy()
        ids = np.array(ensembl_of(symbols))
        adata = counts[:, ids != ""].copy()
        adata.var["feature_name"] = symbols[ids != ""]
        adata.var_names = [f"{each}.{i % 7}" for i, each in enumerate(ids[ids != ""])]
        found = inspect(adata)
        assert found.names.kinds == {"Ensembl id": adata.n_vars}
        assert found.names.n_versions == adata.n_vars
        assert found.gene_source.startswith("adata.var['feature_name']. Gene symbols are from")
        of_symbols, of_ids = found.coverage[0], inspect(adata, gene_column="var_names").coverage[0]
        assert of_symbols.genes.covered == pytest.approx(of_ids.genes.covered, abs=0.02)

    def test_a_mouse_is_named(self, counts):
        adata = counts.copy()
        adata.var_names = [name.title() for name in adata.var_names]
        found = inspect(adata, "cell_type")
        assert found.names.species == "mouse or rat"
        (refusal,) = found.refusals
        assert "genes are those of mouse or rat" in refusal.message
        assert refusal.by == ("annotate", "strategies with a checkpoint")
        assert "load_dataset" in found.code  # baselines run on any names

    def test_copies_are_counted(self, counts):
        adata = counts.copy()
        adata.obs_names = ["a", "a", "a", *adata.obs_names[3:]]
        adata.var_names = ["CD3D", "CD3D", *adata.var_names[2:]]
        adata.X = adata.X[[*range(5), 9, *range(6, N)]]
        assert inspect(adata).n_repeated == {"cells": 2, "genes": 1, "profiles": 1}


class TestColumns:
    def test_labels_groups_and_their_support(self, counts):
        adata = counts.copy()
        adata.obs["kind_of_cell"] = ["x"] * 7 + [None] * 3 + ["y"] * (N - 10)
        found = inspect(adata)
        assert (found.label_key, found.group_key) == ("cell_type", "donor")
        assert dict(found.classes) == adata.obs["cell_type"].value_counts().to_dict()
        (column,) = (each for each in found.outline.columns if each.name == "kind_of_cell")
        assert (column.n_values, column.n_fewest, column.n_missing) == (2, 7, 3)
        assert inspect(adata, "donor").group_key is None  # labels are no groups

    def test_names_that_say_nothing_and_spellings(self, counts):
        adata = counts.copy()
        adata.obs["cell_type"] = ["unknown"] * 4 + ["Beta cell"] * 20 + ["beta cells"] * (N - 24)
        assert [finding.code for finding in inspect(adata).findings] == ["missing-as-text", "similar-names"]

    @pytest.mark.parametrize("kind", [object, "category"])
    def test_the_report_can_be_followed_from_top_to_bottom(self, counts, kind):
        """Names are made one, then cells without a name are left out: they must still be without one."""
        adata = counts.copy()
        names = ["Alpha"] * 9 + ["Beta cell"] * 20 + ["beta cells"] * 4 + [None] * (N - 33)
        adata.obs["cell_type"] = pd.Series(names, index=adata.obs_names, dtype=kind)
        found = inspect(adata, "cell_type")
        ((line,), (refusal,)) = re.findall("`(.*?)`", found.findings[0].remedy), found.refusals
        variables = {"adata": adata}
        exec(f"{line}; {refusal.line}", variables)
        cells = load_dataset(variables["adata"], "cell_type").summary()["cells"]
        assert cells.to_dict() == {"Beta cell": 24, "Alpha": 9}


def twice(names):
    return [names[0], names[0], *names[2:]]


def spoil_labels(adata):
    adata.obs["cell_type"] = [None, None, *adata.obs["cell_type"][2:]]


def spoil_groups(adata):
    adata.obs["donor"] = [*adata.obs["donor"][:-1], None]


def spoil_cells(adata):
    adata.obs_names = twice(adata.obs_names)


def spoil_genes(adata):
    adata.var_names = twice(adata.var_names)


def spoil_raw(adata):
    raw = adata.copy()
    raw.var_names = twice(raw.var_names)
    adata.raw = raw
    adata.X = adata.X - np.float32(3) * (adata.X > 0).astype(np.float32)


def spoil_values(adata):
    adata.layers["umi"] = adata.X.copy()
    adata.X = adata.X.toarray() - 1


def spoil_much(adata):
    for spoil in (spoil_labels, spoil_groups, spoil_cells, spoil_genes, spoil_values):
        spoil(adata)


class TestRefusals:
    @pytest.mark.slow
    @pytest.mark.parametrize("place", ["memory", "file"])
    @pytest.mark.parametrize(
        "spoil", [spoil_labels, spoil_groups, spoil_cells, spoil_genes, spoil_raw, spoil_values, spoil_much]
    )
    def test_the_first_is_what_loading_says_and_the_code_mends_all(self, counts, spoil, place, tmp_path):
        adata = counts.copy()
        with warnings.catch_warnings(action="ignore"):  # names that are not unique
            spoil(adata)
            source = adata
            if place == "file":
                source = tmp_path / "my cells.h5ad"
                adata.write_h5ad(source)
            with pytest.raises(DatasetError) as caught:
                load_dataset(source, "cell_type", group_key="donor")
            found = inspect(source, "cell_type")
            assert found.refusals[0].message == str(caught.value)
            assert all(refusal.line for refusal in found.refusals)
            names = {"adata": adata}
            exec(found.code, names)
        assert len(names["cells"]) in (N, N - 1, N - 2, N - 3)
        assert names["cells"].group_key == "donor"
        if place == "file" and "mended" in found.command:
            assert found.command == (
                f"frostline adapt '{tmp_path / 'my cells.mended.h5ad'}' --label cell_type --group donor"
                + (f" --layer {found.recommended}" if found.recommended != "X" else "")
                + " -o 'my cells-model'"
            )
            layer = None if found.recommended == "X" else found.recommended
            assert len(load_dataset(tmp_path / "my cells.mended.h5ad", "cell_type", layer=layer)) == len(names["cells"])

    @pytest.mark.parametrize("spoil", [spoil_labels, spoil_groups, spoil_cells, spoil_genes, spoil_raw, spoil_values])
    def test_what_annotate_refuses_is_what_cells_without_labels_are_refused_for(self, counts, spoil):
        adata = counts.copy()
        with warnings.catch_warnings(action="ignore"):
            spoil(adata)
            said = [refusal.message for refusal in inspect(adata).refusals if "annotate" in refusal.by]
            with (
                pytest.raises(DatasetError) if said else contextlib.nullcontext() as caught,
                open_cells(adata) as cells,
            ):
                assert len(cells) == N
        assert said[:1] == ([str(caught.value)] if said else [])

    def test_each_remedy_alone_moves_the_refusal_on(self, counts):
        adata = counts.copy()
        with warnings.catch_warnings(action="ignore"):
            spoil_much(adata)
            seen = []
            while (found := inspect(adata, "cell_type")).refusals:
                refusal = found.refusals[0]
                seen.append(refusal.message.split(" ")[0])
                if refusal.line.startswith("cells = "):
                    break
                names = {"adata": adata}
                exec(refusal.line, names)
                adata = names["adata"]
        assert seen == ["label", "group", "X"]

    def test_where_somebody_has_to_choose_there_is_no_code(self, kinds):
        unclear = anndata.AnnData(kinds.layers["log of RPKM"], kinds.obs, kinds.var)
        found = inspect(unclear, "cell_type")
        (refusal,) = found.refusals
        assert refusal.line == found.code == found.command == ""
        assert "values='log1p'" in refusal.message
        assert load_dataset(unclear, "cell_type", values="log1p").label_key == "cell_type"
        missing = inspect(kinds, "cell_typ")
        assert "'cell_typ' is not in obs" in missing.refusals[0].message
        assert (missing.code, dict(missing.classes)) == ("", {})

    def test_the_command_adapts_a_file_that_can_be_split(self, counts, tmp_path):
        """Of cells in memory there is no file, and of a class in one group alone no split."""
        counts.write_h5ad(tmp_path / "cells.h5ad")
        asked = {"label_key": "cell_type", "group_key": "donor"}
        whole = inspect(tmp_path / "cells.h5ad", **asked)
        assert whole.command.startswith(f"frostline adapt {tmp_path / 'cells.h5ad'} --label cell_type --group donor")
        assert (inspect(counts, **asked).command, inspect(counts, **asked).refusals) == ("", ())
        lone = counts.copy()
        lone.obs["cell_type"] = lone.obs["donor"].astype(str)
        lone.write_h5ad(tmp_path / "lone.h5ad")
        found = inspect(tmp_path / "lone.h5ad", **asked)
        assert [refusal.by for refusal in found.refusals] == [SPLIT]
        assert found.command == ""

    def test_cells_that_cannot_be_distinguished_are_refused_for_comparisons_only(self, counts):
        adata = counts.copy()
        adata.X = np.ones(adata.shape)
        (refusal,) = inspect(adata, "cell_type").refusals
        assert refusal.by == ("load_dataset", "adapt")

    @pytest.mark.parametrize("place", ["memory", "file"])
    def test_without_x_another_matrix_is_taken(self, counts, place, tmp_path):
        adata = anndata.AnnData(obs=counts.obs, var=counts.var)
        adata.layers["umi"] = counts.X
        source = adata
        if place == "file":
            source = tmp_path / "cells.h5ad"
            adata.write_h5ad(source)
        with pytest.raises(DatasetError) as caught:
            load_dataset(source, "cell_type")
        found = inspect(source, "cell_type")
        assert found.refusals[0].message == str(caught.value)
        names = {"adata": adata}
        exec(found.refusals[0].line, {**names, "frostline": frostline})
        exec(found.code, names)
        assert (found.recommended, names["cells"].values_name) == ("umi", "counts")

    def test_what_cannot_be_split_is_said_and_loads_all_the_same(self, counts):
        adata = counts.copy()
        adata.obs["donor"] = "one"
        found = inspect(adata, "cell_type", group_key="donor")
        (refusal,) = found.refusals
        dataset = load_dataset(adata, "cell_type", group_key="donor")
        with pytest.raises(DatasetError) as caught:
            frostline.split(dataset)
        assert (refusal.message, refusal.by) == (str(caught.value), ("split", "adapt"))
        assert "load_dataset(adata" in found.code

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda obs: obs.drop(columns="donor"),
            lambda obs: pd.concat([obs, obs[["donor"]]], axis=1),
            lambda obs: obs.assign(donor=[[name] for name in obs["donor"]]),
            lambda obs: obs.assign(donor=obs["donor"].where(obs["donor"] != "human1")),
        ],
        ids=["mistyped", "twice", "lists", "missing"],
    )
    def test_a_group_column_that_cannot_be_used_is_said_once(self, counts, spoil):
        adata = counts.copy()
        adata.obs = spoil(adata.obs)
        (refusal,) = inspect(adata, "cell_type", group_key="donor").refusals
        with pytest.raises(DatasetError) as caught:
            load_dataset(adata, "cell_type", group_key="donor")
        assert refusal.message == str(caught.value)

    def test_a_damaged_matrix_leaves_the_others(self, counts):
        adata = counts.copy()
        adata.layers["broken"] = adata.X.copy()
        adata.layers["broken"].indices[0] = 10_000
        found = inspect(adata)
        assert found.matrix("broken").kind == "cannot be read"
        assert "is damaged" in found.matrix("broken").evidence
        assert (found.recommended, found.refusals) == ("X", ())

    def test_what_cannot_be_read_is_an_error(self, tmp_path):
        (tmp_path / "text.h5ad").write_text("not HDF5")
        with pytest.raises(DatasetError, match="cannot be read as"):
            inspect(tmp_path / "text.h5ad")


class TestSamples:
    """Of what is large some cells are looked at, from memory and from a file of each layout."""

    @pytest.fixture
    def large(self, monkeypatch):
        monkeypatch.setattr(looks, "LARGE", 0)
        monkeypatch.setattr(looks, "CELLS", 40)

    @pytest.mark.usefixtures("large")
    @pytest.mark.parametrize("place", ["memory", "file", "packed file"])
    def test_it_says_what_the_whole_says(self, kinds, of_kinds, place, tmp_path):
        source = kinds
        if place != "memory":
            source = tmp_path / "adata.h5ad"
            source_cells = kinds.copy()
            source_cells.layers["counts"] = sparse.csc_matrix(source_cells.layers["counts"])
            source_cells.write_h5ad(source, compression="gzip" if place == "packed file" else None)
        found = inspect(source, "cell_type")
        assert (found.n_seen, found.is_sample, of_kinds.is_sample) == (40, True, False)
        assert {each.name for each in found.matrices} == set(EXPECTED)
        for one in found.matrices:
            whole = of_kinds.matrix(one.name)
            assert (one.name, one.kind, one.n_genes) == (whole.name, whole.kind, whole.n_genes)
            assert one.n_values == pytest.approx(whole.n_values, rel=0.15)
        for name in ("recommended", "why", "names", "classes", "n_repeated", "label_key", "gene_source"):
            assert getattr(found, name) == getattr(of_kinds, name)
        assert found.coverage[0].genes.counts == of_kinds.coverage[0].genes.counts
        assert "40 cells that lie evenly" in str(found)

    @pytest.mark.usefixtures("large")
    def test_few_cells_are_looked_at_whole(self, kinds):
        assert not inspect(kinds[:30].copy()).is_sample


def test_it_can_be_stopped_between_matrices(kinds):
    said = []
    monitor = frostline.Monitor(lambda fraction, words: said.append(words), lambda: len(said) > 1)
    with pytest.raises(Exception, match="looking at log"):
        inspect(kinds, monitor=monitor)
    assert said == ["looking at X", "looking at counts"]


def test_progress_rises_from_matrix_to_matrix(kinds):
    seen = []
    inspect(kinds, monitor=frostline.Monitor(lambda fraction, _: seen.append(fraction)))
    assert seen == [i / len(seen) for i in range(len(kinds.layers) + 1)]


def test_a_loaded_data_set_is_looked_at_as_it_was_loaded(kinds):
    dataset = load_dataset(kinds, "donor", layer="log", name="ours")
    found = inspect(dataset)
    assert (found.outline.name, found.label_key, found.default) == ("ours", "donor", "log")
    assert frostline.inspect is inspect
