"""Values: recognised by evidence on real counts under every usual transform, converted rightly, or asked for."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from frostline.cells.datasets import load_dataset
from frostline.cells.values import NAMES, describe, log_normalise
from frostline.errors import DatasetError
from frostline.settings import RunSettings


@pytest.fixture(scope="module")
def counts() -> sparse.csr_matrix:
    """(175, 12474) counts of pancreas cells."""
    return sparse.csr_matrix(load_dataset("pancreas").adata.X).astype(np.float64)


@pytest.fixture(scope="module")
def some(counts):
    """Every twelfth gene."""
    return np.arange(0, counts.shape[1], 12)


def to_total(counts, total) -> sparse.csr_matrix:
    sums = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(total / sums) @ counts)


def each(matrix, function) -> sparse.csr_matrix:
    changed = matrix.copy()
    changed.data = function(changed.data)
    return changed


def found(matrix, said=None):
    """What is found, and the values that strategies would read."""
    canonical = sparse.csr_matrix(matrix, dtype=np.float32)
    canonical.eliminate_zeros()
    canonical.sort_indices()
    values = describe(canonical, said)
    log_normalise(canonical, values)
    return values, canonical


def by_scanpy(counts) -> np.ndarray:
    adata = anndata.AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata.X.toarray()


LOGS = {
    "log1p": np.log1p,
    "log2": lambda x: np.log2(x + 1),
    "log10": lambda x: np.log10(x + 1),
    "log1p-twice": lambda x: np.log1p(np.log1p(x)),
}


class TestTold:
    @pytest.mark.parametrize("total", [1e4, 1e6, 2_204.0])
    @pytest.mark.parametrize("log", LOGS)
    def test_logarithms_of_a_common_total_become_those_of_ten_thousand(self, counts, log, total):
        values, matrix = found(each(to_total(counts, total), LOGS[log]))
        assert (values.transform.name, values.total) == (log, pytest.approx(total, rel=1e-3))
        assert (values.name == "log-normalised") == (log == "log1p" and total == 1e4)
        assert values.is_done == (log == "log1p" and total == 1e4)
        assert "within 1% in 100% of cells" in values.evidence
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(counts), atol=2e-4)

    @pytest.mark.parametrize(
        ("total", "name"),
        [
            (1.0, "fractions, not logged"),
            (100.0, "percent, not logged"),
            (1e4, "counts per ten thousand, not logged"),
            (1e6, "counts per million, not logged"),
            (2_204.0, "normalised, not logged"),
        ],
    )
    def test_a_common_total_without_a_logarithm(self, counts, total, name):
        values, matrix = found(to_total(counts, total))
        assert values.name == name
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(counts), rtol=1e-4)

    @pytest.mark.parametrize("log", LOGS)
    def test_with_genes_taken_away_the_logarithm_is_said_and_no_total(self, counts, some, log):
        values, matrix = found(each(to_total(counts, 1e4), LOGS[log])[:, some])
        assert (values.transform.name, values.total) == (log, None)
        assert values.name == f"{log}, row sums differ"
        assert "row sums of" in values.evidence
        assert "whole multiples" in values.evidence
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(counts)[:, some], atol=2e-4)

    def test_values_that_are_right_keep_their_bits(self, counts, some):
        right = sparse.csr_matrix(by_scanpy(counts))
        for matrix in (right, right[:, some]):
            np.testing.assert_array_equal(found(matrix)[1].toarray(), matrix.toarray())

    @pytest.mark.parametrize("function", [np.log1p, np.sqrt, lambda x: np.log2(x + 1)])
    def test_counts_under_a_transform_are_counts_again(self, counts, function):
        values, matrix = found(each(counts, function))
        assert values.name.endswith(" of counts")
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(counts), atol=1e-3)

    @pytest.mark.parametrize("genes", ["all", "some"])
    def test_corrected_counts_have_decimals_and_no_total(self, counts, some, genes):
        rng = np.random.default_rng(0)
        corrected = each(counts, lambda x: np.maximum(x - 0.6 * rng.random(len(x)), 0.01))
        corrected = corrected[:, some] if genes == "some" else corrected
        values, matrix = found(corrected)
        assert values.name == "decimals, not logged (such as ambient-corrected counts)"
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(corrected), rtol=1e-4)

    def test_the_cells_of_pbmc68k_were_cut_to_some_genes(self, pbmc):
        assert pbmc.values_name == "log1p, row sums differ"
        assert pbmc.evidence.startswith("row sums of expm1 differ: 1,3")

    def test_order_and_number_of_cells_change_nothing(self, counts):
        logged = each(to_total(counts, 1e6), np.log1p)
        order = np.random.default_rng(0).permutation(175)
        assert describe(logged[order].astype(np.float32)).name == describe(logged[:20].astype(np.float32)).name

    def test_ones_and_zeros_are_no_counts(self, counts):
        for values, name in ((each(counts, np.sign), "presence (0 or 1)"), (counts, "counts")):
            assert (found(values)[0].name, found(values)[0].whole) == (name, True)


class TestAsked:
    def refused(self, matrix) -> str:
        with pytest.raises(DatasetError) as error:
            found(matrix)
        return str(error.value)

    def test_logarithms_of_corrected_counts_of_some_genes(self, counts, some):
        rng = np.random.default_rng(0)
        noisy = each(counts, lambda x: x * np.exp(0.3 * rng.normal(size=len(x))))
        logged = each(to_total(noisy, 1e4), np.log1p)
        assert found(logged)[0].name == "log-normalised"
        words = self.refused(logged[:, some])
        assert "values='log1p'" in words
        assert "VALUES = 'log1p'" in words
        assert all(name in words for name in NAMES)
        np.testing.assert_array_equal(
            found(logged[:, some], "log1p")[1].toarray(), logged[:, some].astype(np.float32).toarray()
        )

    def test_binned_values(self, counts):
        highest = np.repeat(counts.max(axis=1).toarray().ravel(), np.diff(counts.indptr))
        binned = counts.copy()
        binned.data = np.ceil(51 * binned.data / highest)
        assert "look binned" in self.refused(binned)
        assert found(binned, "counts")[0].name == "counts"

    @pytest.mark.parametrize("other", ["counts", "millions"])
    def test_sets_that_were_normalised_differently(self, counts, other):
        logged = each(to_total(counts, 1e4), np.log1p)
        part = counts if other == "counts" else to_total(counts, 1e6)
        words = self.refused(sparse.vstack([part[:60], logged[60:]], format="csr"))
        assert "some look log1p, others linear" in words

    def test_and_those_with_two_totals(self, counts):
        parts = [each(to_total(counts, total), np.log1p) for total in (1e4, 1e6)]
        words = self.refused(sparse.vstack([parts[0][:75], parts[1][75:]], format="csr"))
        assert "are 10,000 in 43% of cells and 1,000,000 in the others" in words

    def test_random_numbers(self):
        words = self.refused(sparse.csr_matrix(np.random.default_rng(0).random((40, 30))))
        assert "is unclear" in words


class TestSaid:
    @pytest.mark.parametrize("said", ["log1p", "log2", "log10", "log1p-twice", "sqrt"])
    def test_whole_numbers_are_under_no_transform(self, counts, said):
        with pytest.raises(DatasetError, match=f"values='{said}' was said, but all are whole numbers"):
            found(counts, said)

    def test_nor_are_large_ones(self, counts):
        with pytest.raises(DatasetError, match=r"log1p' was said, but .* would stand for .* counts"):
            found(to_total(counts, 1e6), "log1p")

    def test_decimals_are_no_counts(self, counts):
        with pytest.raises(DatasetError, match=r"not all are whole numbers, such as .*values='linear'"):
            found(to_total(counts, 1e6), "counts")

    @pytest.mark.parametrize("said", ["linear", "counts"])
    def test_counts_are_counts_whichever_way_it_is_said(self, counts, said):
        assert found(counts, said)[0].name == "counts"

    @pytest.mark.parametrize("log", LOGS)
    def test_what_is_said_is_taken(self, counts, log):
        values, matrix = found(each(to_total(counts, 1e6), LOGS[log]), log)
        assert values.evidence.startswith(f"said to be {log}; row sums of ")
        np.testing.assert_allclose(matrix.toarray(), by_scanpy(counts), atol=2e-4)

    def test_an_unknown_name_lists_the_known_ones(self, counts):
        with pytest.raises(ValueError, match="unknown kind of values 'cpm'; known: counts, linear, log1p"):
            found(counts, "cpm")
        with pytest.raises(ValueError, match="unknown kind of values 'cpm'; known: counts, linear, log1p"):
            RunSettings(values="cpm")


def test_a_data_set_takes_what_is_said_and_a_run_hands_it_on(tmp_path):
    values = np.random.default_rng(0).random((30, 12)).astype(np.float32)
    obs = pd.DataFrame({"kind": ["a", "b"] * 15}, index=[f"c{i}" for i in range(30)])
    adata = anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(12)]))
    with pytest.raises(DatasetError, match="is unclear"):
        load_dataset(adata, "kind")
    dataset = load_dataset(adata, "kind", values="log1p")
    np.testing.assert_array_equal(dataset.matrix.toarray(), values)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    settings = RunSettings(dataset=str(tmp_path / "cells.h5ad"), label_key="kind", values="log1p")
    assert settings.load().fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: x / x.sum(axis=1, keepdims=True), "fractions, not logged"),
        (lambda x: np.log2(1 + 1e6 * x / x.sum(axis=1, keepdims=True)), "log2 of 1,000,000 a cell"),
        (lambda x: np.log1p(1e6 * x / x.sum(axis=1, keepdims=True)), "log-normalised to 1,000,000"),
        (np.log1p, "log1p of counts"),
        (lambda x: np.log2(1 + x), "log2 of counts"),
    ],
)
def test_few_genes_whose_smallest_count_is_above_one_are_said_by_their_total_or_as_whole(change, name):
    x = np.random.default_rng(0).poisson(1.5, (200, 90)) * np.random.default_rng(1).integers(2, 9, (200, 90))
    found = describe(sparse.csr_matrix(change(x.astype(float)).astype(np.float32)))
    assert found.name == name
