"""Reference cells: who is drawn, counts as they were, small and exact on disk."""

from __future__ import annotations

import io

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from frostline.annotation.references import packed, reference_of, unpacked
from frostline.cells.datasets import load_dataset
from frostline.cells.joining import join_datasets
from frostline.errors import ModelError


@pytest.fixture(scope="module")
def counted():
    """60 cells with counts in X: class A has 40 in donors p (30) and q (10), class B 20 in donor p."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"kind": ["A"] * 40 + ["B"] * 20, "donor": ["p"] * 30 + ["q"] * 10 + ["p"] * 20},
        index=[f"c{i}" for i in range(60)],
    )
    counts = rng.poisson(3.0, (60, 30)).astype(np.float32)
    counts[0, 0] = 70_000
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(30)])
    return anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


class TestDraw:
    def test_so_many_cells_of_each_class_evenly_from_its_groups(self, counted):
        dataset = load_dataset(counted, "kind", group_key="donor")
        found = reference_of(dataset, np.arange(60), 16, seed=1)
        table = pd.crosstab(found.labels, found.groups)
        assert table.loc["A"].tolist() == [8, 8]
        assert table.loc["B"].tolist() == [16, 0]

    def test_a_class_that_is_smaller_is_kept_whole_and_other_rows_are_not_drawn(self, counted):
        dataset = load_dataset(counted, "kind")
        found = reference_of(dataset, np.arange(55), 25, seed=1)
        assert pd.Series(found.labels).value_counts().to_dict() == {"A": 25, "B": 15}
        assert found.groups is None
        assert reference_of(dataset, np.arange(60), 0, seed=1) is None

    def test_the_order_of_the_cells_decides_nothing(self, counted):
        def cells(adata):
            dataset = load_dataset(adata, "kind", group_key="donor")
            found = reference_of(dataset, np.arange(60), 9, seed=1)
            return {tuple(row) for row in found.values.toarray()}

        assert cells(counted) == cells(counted[np.random.default_rng(1).permutation(60)].copy())

    def test_values_are_the_counts_whatever_was_done_to_them_without_loss(self, counted):
        as_counts = reference_of(load_dataset(counted, "kind"), np.arange(60), 99, seed=1)
        np.testing.assert_array_equal(as_counts.values.toarray(), counted.X.toarray())
        logged = counted.copy()
        logged.X = logged.X.log1p()
        found = reference_of(load_dataset(logged, "kind"), np.arange(60), 99, seed=1)
        assert as_counts.counted
        assert found.counted
        np.testing.assert_array_equal(found.values.toarray(), counted.X.toarray())

    def test_without_counts_they_are_normalised_values_not_logged(self, counted, pbmc):
        found = reference_of(pbmc, np.arange(700), 5, seed=1)
        assert not found.counted
        assert found.values.shape == (50, 765)
        one, other = (load_dataset(counted[:, :n].copy(), "kind", name=str(n)) for n in (30, 20))
        joined = join_datasets(one, other)
        both = reference_of(joined, np.arange(120), 999, seed=1)
        assert not both.counted
        np.testing.assert_allclose(both.values.toarray(), np.expm1(joined.matrix.toarray()), rtol=1e-6)

    @pytest.mark.parametrize("change", ["downsampled", "scaled", "fewer genes", "fewer cells", "layer gone"])
    def test_an_anndata_that_was_changed_since_gives_the_values_that_were_loaded(self, counted, change):
        adata = counted.copy()
        adata.layers["counts"] = adata.X.copy()
        dataset = load_dataset(adata, "kind", group_key="donor", layer="counts" if change == "layer gone" else None)
        if change == "downsampled":
            adata.X.data = np.ceil(adata.X.data / 2)
        elif change == "scaled":
            adata.X = adata.X.toarray() - 3
        elif change == "fewer genes":
            adata._inplace_subset_var(np.arange(20))
        elif change == "fewer cells":
            adata._inplace_subset_obs(np.arange(50))
        else:
            del adata.layers["counts"]
        found = reference_of(dataset, np.arange(60), 99, seed=1)
        counts = counted.X.toarray()
        assert not found.counted
        np.testing.assert_allclose(found.values.toarray(), 1e4 * counts / counts.sum(axis=1, keepdims=True), rtol=1e-4)
        assert found.labels.tolist() == counted.obs["kind"].tolist()
        assert found.groups.tolist() == counted.obs["donor"].tolist()


class TestFile:
    @pytest.mark.parametrize("group_key", [None, "donor"])
    def test_what_is_packed_is_unpacked_to_the_last_bit(self, counted, group_key):
        before = reference_of(load_dataset(counted, "kind", group_key=group_key), np.arange(60), 99, seed=1)
        after = unpacked(packed(before), "reference.npz", 30)
        assert (before.values != after.values).nnz == 0
        assert after.values.max() == 70_000
        np.testing.assert_array_equal(after.labels, before.labels)
        assert (after.groups is None) == (group_key is None)
        if group_key:
            np.testing.assert_array_equal(after.groups, before.groups)
        assert after.counted

    def test_numbers_take_no_more_bytes_than_they_need(self, counted):
        small = counted[1:].copy()
        with np.load(io.BytesIO(packed(reference_of(load_dataset(small, "kind"), np.arange(59), 99, seed=1)))) as file:
            assert {name: file[name].dtype for name in ("data", "indices", "labels")} == {
                "data": np.uint8, "indices": np.uint8, "labels": np.uint8,
            }  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"shape": np.array([60, 31])}, r"the model has 30 genes"),
            ({"data": np.full(1, -1.0)}, r"holds no reference cells"),
            ({"indptr": np.array([0, 10**9])}, r"holds no reference cells"),
            ({"labels": np.zeros(3, dtype=int)}, r"3 labels for 60 cells"),
            ({"labels": np.full(60, 7)}, r"holds no reference cells"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, counted, changes, said):
        content = packed(reference_of(load_dataset(counted, "kind"), np.arange(60), 99, seed=1))
        with np.load(io.BytesIO(content)) as file:
            arrays = dict(file) | changes
        out = io.BytesIO()
        np.savez(out, **arrays)
        with pytest.raises(ModelError, match=rf"reference.npz .*{said}|{said}"):
            unpacked(out.getvalue(), "reference.npz", 30)
        with pytest.raises(ModelError, match=r"reference.npz holds no reference cells that can be read"):
            unpacked(b"no zip", "reference.npz", 30)
