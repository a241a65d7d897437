"""Too little of a vocabulary is refused with the numbers, the cause and a remedy that works, wherever it matters."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from frostline.cells.datasets import load_dataset
from frostline.cells.gene_table import ensembl_of
from frostline.cells.splits import split
from frostline.cells.variable_genes import variable_genes
from frostline.comparison.comparisons import compare
from frostline.comparison.report import reading, report_markdown
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.embedding import embed, readable, token_table, tokenize_cells
from frostline.encoder.vocabulary import gene_totals, overlap, token_values
from frostline.errors import DatasetError
from frostline.evaluation.checks import review
from frostline.evaluation.evaluations import evaluate
from frostline.strategies import FrozenProbe, Majority
from frostline.strategies.encoder import known_genes, variable_known_genes


@pytest.fixture
def blood(pbmc):
    """The cells of pbmc68k-reduced with their values in X, to be changed."""
    adata = pbmc.adata.raw.to_adata()
    adata.obs = pbmc.adata.obs[["bulk_labels"]].copy()
    adata.var = adata.var[[]].copy()
    return adata


def few(adata, n: int):
    """Leave the symbols of the n most expressed genes only."""
    names = np.array([f"ENSG009{i:08d}" for i in range(adata.n_vars)], dtype=object)
    most = np.argsort(-np.asarray((adata.X > 0).mean(axis=0)).ravel())[:n]
    names[most] = adata.var_names[most]
    adata.var_names = names
    return adata[np.asarray(adata.X[:, most].sum(axis=1)).ravel() > 0].copy()


def little(dataset, checkpoint="mini"):
    (finding,) = (f for f in review(dataset, split(dataset), checkpoint) if f.code == "little-vocabulary")
    return finding


def test_the_share_of_the_counts_is_that_of_the_counts():
    pancreas = load_dataset("pancreas")
    match = overlap(pancreas, load_checkpoint("mini"))
    counts = pancreas.adata.X.toarray()
    per_cell = counts / counts.sum(axis=1, keepdims=True)
    assert match.covered == pytest.approx(per_cell[:, match.ids >= 0].sum() / per_cell.sum(), rel=1e-5)
    assert (match.n_matched, len(match.names)) == (7_483, 12_474)
    assert match.map.counts["exact"] == 7_424


def test_known_genes_say_nothing(pbmc):
    assert "little-vocabulary" not in {f.code for f in review(pbmc, split(pbmc), "mini")}
    ensembl = load_dataset(pbmc.adata, "bulk_labels", layer="raw")
    assert "little-vocabulary" not in {f.code for f in review(ensembl, split(ensembl))}  # and no checkpoint


@pytest.mark.parametrize("column", ["var_names", "raw", "symbol", "raw symbol"])
def test_the_line_of_code_mends_the_names_where_they_are(blood, pbmc, column):
    """In var_names, those of raw, or a column of either."""
    wrong = [f"run.7:{name}" for name in blood.var_names]
    options = {}
    if "symbol" in column:
        blood.var["symbol"], options["gene_column"] = wrong, "symbol"
        blood.var_names = [f"ENSG009{i:08d}" for i in range(blood.n_vars)]
    else:
        blood.var_names = wrong
    if "raw" in column:
        blood.raw, options["layer"] = blood.copy(), "raw"
    finding = little(load_dataset(blood, "bulk_labels", **options))
    assert (finding.severity, finding.title) == ("error", "0 of 765 genes are in the vocabulary of mini")
    assert "all begin with 'run.7:' (run.7:HES4" in finding.explanation
    (line,) = re.findall(r"`([^`]*)`", finding.remedy)
    exec(line, {"adata": blood})
    assert load_dataset(blood, "bulk_labels", **options).genes == pbmc.genes


def test_a_better_column_is_named(blood):
    blood.var["hgnc"] = blood.var_names
    blood.var["other"] = blood.var_names = [f"ENSG009{i:08d}" for i in range(blood.n_vars)]
    for wrong in ("var_names", "other"):
        finding = little(load_dataset(blood, "bulk_labels", gene_column=wrong))
        assert "seem to be in adata.var['hgnc']" in finding.explanation
        assert "gene_column='hgnc'" in finding.remedy


@pytest.mark.parametrize(("n", "severity"), [(40, "error"), (150, "warning")])
def test_a_targeted_panel_is_called_one(blood, n, severity):
    most = np.argsort(-np.asarray(blood.X.mean(axis=0)).ravel())[:n]
    finding = little(load_dataset(blood[:, most].copy(), "bulk_labels"))
    assert finding.severity == severity
    assert "as targeted panels have" in finding.explanation
    assert "Nothing is to be mended" in finding.remedy


OLD = "LSMD1"
"""An old symbol of pbmc68k-reduced that mini's vocabulary has beside the new one, NAA38."""


class TestOtherNames:
    """Cells are read alike whatever their genes are called."""

    @pytest.fixture
    def renamed(self, blood):
        """The same cells, their genes called otherwise where the table knows them."""

        def rename(change, **options):
            symbols = list(blood.var_names)
            ids = [number if name != OLD else "" for name, number in zip(symbols, ensembl_of(symbols), strict=True)]
            adata = blood.copy()
            adata.var_names = [
                change(name, number) if number else name for name, number in zip(symbols, ids, strict=True)
            ]
            assert sum(map(bool, ids)) == 754
            return load_dataset(adata, "bulk_labels", **options)

        return rename

    @pytest.mark.parametrize(
        "change",
        [
            lambda name, number: number,
            lambda name, number: f"{number}.11",
            lambda name, number: f"GRCh38_{name}",
            lambda name, number: f"{name}_{number}",
        ],
        ids=["Ensembl", "versions", "prefix", "symbol and id"],
    )
    def test_tokens_embeddings_and_predictions_are_the_same(self, pbmc, renamed, change):
        mini, rows = load_checkpoint("mini"), np.arange(700)
        dataset = renamed(change)
        one, other = (tokenize_cells(data, rows, known_genes(data, mini), mini) for data in (pbmc, dataset))
        for part in ("gene_ids", "bins", "offsets"):
            assert np.array_equal(getattr(one, part), getattr(other, part))
        assert overlap(dataset, mini).covered == overlap(pbmc, mini).covered
        tables = [token_table(data, 3, data.genes, mini) for data in (pbmc, dataset)]
        assert tables[0].equals(tables[1])
        assert np.array_equal(
            readable(pbmc.matrix[:, :9], pbmc.genes[:9], "mini"),
            readable(pbmc.matrix[:, :9], dataset.genes[:9], "mini"),
        )

    def test_a_fitted_strategy_predicts_them_alike(self, pbmc, renamed):
        dataset, cut = renamed(lambda name, number: number), split(pbmc).with_budget(pbmc, 2)
        fitted = FrozenProbe().fit(pbmc, cut)
        expected = fitted.predict_proba(pbmc, cut.test[:4])
        assert np.array_equal(fitted.predict_proba(dataset, cut.test[:4]), expected)
        (note,) = set(fitted.notes(dataset)) - set(fitted.notes(pbmc))
        assert note.startswith("Genes and the vocabulary of mini: 8 exact, 744 mapped, 13 lost")

    def test_tuning_reads_the_same_genes(self, pbmc, renamed):
        mini, rows = load_checkpoint("mini"), np.arange(50)
        dataset = renamed(lambda name, number: number)
        chosen = variable_known_genes(pbmc, rows, 30, mini)
        other = variable_known_genes(dataset, rows, 30, mini)
        assert len(chosen) == 30
        assert [pbmc.genes.index(name) for name in chosen] == [dataset.genes.index(name) for name in other]
        assert chosen == tuple(name for name in variable_genes(pbmc, rows, 31) if name in chosen)

    def test_embeddings_of_an_anndata_are_the_same(self, blood, renamed):
        adata = renamed(lambda name, number: number).adata[:10].copy()
        assert np.array_equal(embed(adata), embed(blood[:10].copy()))

    def test_values_of_one_gene_are_summed_before_they_are_binned(self, blood):
        mini, rows = load_checkpoint("mini"), np.arange(20)
        at = blood.var_names.get_loc("CD3D")
        counts = np.random.default_rng(0).poisson(3.0, blood.shape).astype(np.float32)
        twice = AnnData(np.column_stack([counts, counts[:, at]]), obs=blood.obs)
        twice.var_names = [*blood.var_names[:at], "ENSG00000167286.1", *blood.var_names[at + 1 :], "ENSG00000167286.2"]
        whole = AnnData(counts.copy(), obs=blood.obs, var=blood.var)
        whole.X[:, at] *= 2
        one, other = (load_dataset(adata, "bulk_labels") for adata in (twice, whole))
        (summed, tokens), (expected, names) = (token_values(d, rows, known_genes(d, mini), mini) for d in (one, other))
        assert tokens == names
        assert np.allclose(summed.toarray(), expected.toarray(), rtol=1e-6)
        assert np.array_equal(embed(twice[:5].copy()), embed(whole[:5].copy()))

    @pytest.mark.parametrize("name", [str.capitalize, lambda name: f"ENSMUSG{abs(hash(name)) % 10**11:011d}"])
    def test_another_species_is_refused_by_name(self, blood, name):
        blood.var_names = [name(symbol) for symbol in blood.var_names]
        dataset = load_dataset(blood, "bulk_labels")
        with pytest.raises(DatasetError, match="the genes are those of mouse"):
            FrozenProbe().ensure_applicable(dataset, split(dataset))
        with pytest.raises(DatasetError, match="the genes are those of mouse"):
            embed(blood[:5].copy())
        assert "mouse" in little(dataset).explanation
        Majority().ensure_applicable(dataset, split(dataset))  # who needs no checkpoint may compare them


def test_totals_of_genes_are_summed_and_undone_with_double_precision():
    """exp(20) - 1 of float32 would be off by 100 in 485 million, and a thousand of them by more."""
    values = sparse.csr_matrix(np.full((1_000, 1), 20.0, dtype=np.float32))
    assert gene_totals(values) == pytest.approx([1_000 * (math.exp(20) - 1)], rel=1e-12)


class TestFewGenes:
    def test_table_report_and_verdict_say_so_of_the_strategies_concerned(self, blood, instant_umap):
        two = blood[blood.obs["bulk_labels"].isin(["Dendritic", "CD14+ Monocyte"])][:120].copy()
        dataset = load_dataset(few(two, 8), "bulk_labels")
        cut = split(dataset)
        comparison = compare([evaluate(strategy, dataset, cut) for strategy in (Majority(), FrozenProbe())])
        match = overlap(dataset, load_checkpoint("mini"))
        title = f"8 of 765 genes are in the vocabulary of mini, with {match.covered:.0%}".replace(
            "%", " % of the counts"
        )
        assert comparison.verdict.startswith(f"Warning: {title} (frozen_probe). ")
        assert reading(comparison).startswith(comparison.verdict)
        for text in (repr(comparison), comparison._repr_html_(), report_markdown(comparison)):
            assert f"{title}" in text
        assert "little-vocabulary" not in {f.code for f in evaluate(Majority(), dataset, cut).findings}

    def test_cells_that_express_none_of_them_are_refused_and_that_is_said_first(self, blood):
        adata = few(blood, 8)
        values = adata.X.tolil()
        values[[3, 5, 7]] = 0
        values[[3, 5, 7], 0] = 1  # a gene that is not known
        adata.X = values.tocsr()
        dataset = load_dataset(adata, "bulk_labels")
        with pytest.raises(DatasetError, match=r"^8 of 765 genes .* Ensembl ids .*; 3 cell\(s\) express no") as caught:
            FrozenProbe().ensure_applicable(dataset, split(dataset))
        names = {"adata": adata}
        exec(re.findall(r"`(adata = adata\[[^`]*)`", str(caught.value))[0], names)
        left = load_dataset(names["adata"], "bulk_labels")
        assert len(left) == len(dataset) - 3
        FrozenProbe().ensure_applicable(left, split(left))
        Majority().ensure_applicable(dataset, split(dataset))

    def test_no_known_gene_at_all(self, blood):
        blood.var_names = [name.lower() for name in blood.var_names]
        dataset, mini = load_dataset(blood, "bulk_labels"), load_checkpoint("mini")
        assert overlap(dataset, mini).n_matched == 0
        assert "lower case" in str(overlap(dataset, mini))
        table = token_table(dataset, 0, dataset.genes, mini)
        assert (len(table), list(table.columns)) == (0, ["gene", "log-normalised", "bin"])
        with pytest.raises(DatasetError, match=r"^0 of 765 genes.*lower case.*no cell expresses a gene"):
            tokenize_cells(dataset, np.arange(5), dataset.genes, mini)

    def test_readable_cells_are_those_with_a_known_gene(self):
        values = np.array([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0]])
        assert readable(values, ["LYZ", "no gene"], "mini").tolist() == [False, True, False]
        assert readable(values, pd.Index(["a", "b"]), "mini").tolist() == [False, False, False]
