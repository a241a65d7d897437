"""Matrices: every kind that anndata permits comes in as the same canonical CSR, and damaged ones crash nothing."""

from __future__ import annotations

import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from frostline.cells import matrices
from frostline.cells.columns import columns_of, repeated_names
from frostline.cells.datasets import load_dataset
from frostline.cells.joining import join_datasets
from frostline.cells.matrices import canonical, in_memory, values_of
from frostline.cells.previews import anndatas, preview
from frostline.encoder.embedding import embed
from frostline.errors import DatasetError
from frostline.pretraining.corpus import read_corpus

N, M = 24, 15
COUNTS = np.random.default_rng(0).poisson(2.0, (N, M)).astype(np.float32)
COUNTS[:, 0] += 1


def cells(matrix=None) -> anndata.AnnData:
    obs = pd.DataFrame(
        {"cell_type": ["B", "NK", "T"] * (N // 3), "donor": ["d1", "d2"] * (N // 2)}, index=[f"c{i}" for i in range(N)]
    )
    var = pd.DataFrame(index=[f"G{i}" for i in range(M)])
    return anndata.AnnData(sparse.csr_matrix(COUNTS) if matrix is None else matrix, obs=obs, var=var)


def split_in_two(matrix) -> sparse.coo_matrix:
    """Each value above 1 as two entries at the same place."""
    whole = sparse.coo_matrix(matrix)
    big = whole.data > 1
    data = np.r_[np.where(big, whole.data - 1, whole.data), np.ones(big.sum())].astype(whole.dtype)
    return sparse.coo_matrix(
        (data, (np.r_[whole.row, whole.row[big]], np.r_[whole.col, whole.col[big]])), shape=whole.shape
    )


def unsorted_twice(kind=sparse.csr_matrix) -> sparse.csr_matrix:
    """Like COUNTS, with entries that stand twice, and those of a row (or column) backwards."""
    twice = split_in_two(COUNTS)
    major, size = (twice.row, N) if kind is sparse.csr_matrix else (twice.col, M)
    minor = twice.col if kind is sparse.csr_matrix else twice.row
    order = np.lexsort((-minor, major))
    indptr = np.r_[0, np.cumsum(np.bincount(major, minlength=size))]
    return kind((twice.data[order], minor[order], indptr), shape=(N, M))


def damage(name: str, matrix) -> None:
    """Do to a sparse matrix what scipy's own constructors would refuse."""
    if name == "pointer below zero":
        matrix.indptr[5] = -(2**31)
    elif name == "pointer too large":
        matrix.indptr[5] = 2**30
    elif name == "last pointer too large":
        matrix.indptr[-1] += 10
    elif name == "pointers fall":
        matrix.indptr[3] = matrix.indptr[5]
    elif name == "first pointer":
        matrix.indptr[0] = 1
    elif name == "pointers too few":
        matrix.indptr = matrix.indptr[:-1]
    elif name == "index below zero":
        matrix.indices[4] = -3
    elif name == "index too large":
        matrix.indices[4] = 10**6
    elif name == "last index too large":
        matrix.indices[-1] = max(matrix.shape)
    elif name == "values too few":
        matrix.data = matrix.data[:-2]
    elif name == "pointers no integers":
        matrix.indptr = matrix.indptr.astype(float)


DAMAGES = (
    "pointer below zero",
    "pointer too large",
    "last pointer too large",
    "pointers fall",
    "first pointer",
    "pointers too few",
    "index below zero",
    "index too large",
    "last index too large",
    "values too few",
    "pointers no integers",
)


class TestCanonical:
    @pytest.mark.parametrize("flavour", ["matrix", "array"])
    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
    def test_every_sparse_format(self, kind, flavour):
        found = canonical(getattr(sparse, f"{kind}_{flavour}")(COUNTS), (N, M), "X")
        np.testing.assert_array_equal(found.toarray(), COUNTS)
        assert (found.format, found.dtype, found.has_canonical_format) == ("csr", np.float32, True)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i8", "u8", "longdouble", "O"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_every_kind_of_number(self, dtype, order):
        np.testing.assert_array_equal(canonical(np.asarray(COUNTS, dtype, order), (N, M), "X").toarray(), COUNTS)

    def test_a_dense_matrix_is_taken_in_blocks(self, monkeypatch):
        monkeypatch.setattr(matrices, "BLOCK", 2 * M)
        np.testing.assert_array_equal(canonical(COUNTS, (N, M), "X").toarray(), COUNTS)
        np.testing.assert_array_equal(canonical(np.ma.masked_array(COUNTS), (N, M), "X").toarray(), COUNTS)

    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
    def test_entries_that_stand_twice_are_summed_and_the_input_stays(self, kind):
        given = unsorted_twice(kind)
        before = given.data.copy(), given.indices.copy(), given.indptr.copy()
        found = canonical(given, (N, M), "X")
        np.testing.assert_array_equal(found.toarray(), COUNTS)
        assert found.nnz == np.count_nonzero(COUNTS)
        for array, old in zip((given.data, given.indices, given.indptr), before, strict=True):
            np.testing.assert_array_equal(array, old)

    @pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 200), (np.bool_, True), (np.int8, 100)])
    @pytest.mark.parametrize("kind", ["coo", "csr"])
    def test_a_sum_of_small_integers_does_not_overflow(self, dtype, value, kind):
        data = np.array([value, value, value], dtype)
        twice = {
            "coo": lambda: sparse.coo_matrix((data, ([0, 0, 0], [1, 1, 2])), shape=(1, 3)),
            "csr": lambda: sparse.csr_matrix((data, [1, 1, 2], [0, 3]), shape=(1, 3)),
        }[kind]()
        assert canonical(twice, (1, 3), "X").toarray().tolist() == [[0, 2 * int(value), int(value)]]

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(-3, 9)), max_size=30))
    def test_it_is_the_sum_of_what_is_stored_at_a_place(self, entries):
        expected = np.zeros((4, 5), np.float32)
        for row, column, value in entries:
            expected[row, column] += value
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        coo = sparse.coo_matrix((np.array(values, float), (list(rows), list(columns))), shape=(4, 5))
        found = canonical(coo, (4, 5), "X")
        np.testing.assert_array_equal(found.toarray(), expected)
        assert found.nnz == np.count_nonzero(expected)

    def test_it_shares_no_memory_with_the_input(self):
        given = sparse.csr_matrix(COUNTS)
        found = canonical(given, (N, M), "X")
        assert not any(
            np.shares_memory(getattr(found, name), getattr(given, name)) for name in ("data", "indices", "indptr")
        )

    @pytest.mark.parametrize(
        ("matrix", "said"),
        [
            (COUNTS.astype(np.complex64), "complex64 values; real numbers"),
            (np.where(COUNTS == 1, "x", COUNTS.astype(object)), "no number: .*'x'"),
            (COUNTS[:, 0], r"1 dimension"),
            (COUNTS[:, :3], r"shape \(24, 3\), but there are 24 cells and 15 genes"),
            (object(), "0 dimension"),
        ],
    )
    def test_what_is_no_matrix_of_numbers_is_refused(self, matrix, said):
        with pytest.raises(DatasetError, match=said):
            canonical(matrix, (N, M), "X")

    def test_what_is_masked_or_too_large_is_no_value(self):
        for matrix in (np.ma.masked_equal(COUNTS, 3), COUNTS.astype(float) * 1e300, np.where(COUNTS == 3, None, 1.0)):
            with pytest.raises(DatasetError, match=r"missing, infinite .*cell 'c\d+', gene 'G\d+'"):
                load_dataset(cells_with(matrix), "cell_type")


def cells_with(matrix) -> anndata.AnnData:
    """An AnnData with a matrix that its constructor might change or refuse."""
    adata = cells()
    adata._X = matrix
    return adata


class TestDamaged:
    @pytest.mark.parametrize("kind", ["csr", "csc"])
    @pytest.mark.parametrize("name", DAMAGES)
    def test_no_routine_of_scipy_sees_it(self, name, kind, monkeypatch):
        matrix = sparse.csr_matrix(COUNTS).asformat(kind)
        damage(name, matrix)
        monkeypatch.setattr(sparse, "csr_matrix", None)
        monkeypatch.setattr(sparse, "csc_matrix", None)
        with pytest.raises(DatasetError, match=r"layer 'umi' is damaged: its? .*from its source again"):
            canonical(matrix, (N, M), "layer 'umi'")

    @pytest.mark.parametrize(("axis", "value"), [(0, -1), (0, N), (1, 10**6)])
    def test_coordinates_outside(self, axis, value):
        matrix = sparse.coo_matrix(COUNTS)
        matrix.coords[axis][7] = value
        with pytest.raises(DatasetError, match="X is damaged: its coordinates go from"):
            canonical(matrix, (N, M), "X")

    @pytest.mark.slow
    def test_a_file_is_refused_at_every_way_in_and_crashes_nothing(self, tmp_path):
        """In a process of its own: where it fails, the interpreter ends with a signal."""
        adata = cells()
        adata.raw, adata.layers["umi"] = cells(), adata.X.copy()
        adata.write_h5ad(tmp_path / "good.h5ad")
        code = """
import sys, warnings, anndata, h5py, shutil, frostline
from pathlib import Path
from frostline.pretraining.corpus import read_corpus
from frostline.errors import DatasetError
warnings.simplefilter("ignore")
for place, layer in (("X", None), ("raw/X", "raw"), ("layers/umi", "umi")):
    shutil.copy("good.h5ad", "bad.h5ad")
    with h5py.File("bad.h5ad", "r+") as file:
        file[place]["indptr"][5] = -(2**31)
        file[place]["indices"][9] = 2**30
    read = anndata.read_h5ad
    ways = [lambda: "bad.h5ad", lambda: read("bad.h5ad"), lambda: read("bad.h5ad", backed="r")]
    ways += [lambda: read("bad.h5ad")[:9]] if layer != "raw" else []
    ways = [lambda way=way: frostline.load_dataset(way(), "cell_type", layer=layer) for way in ways]
    if layer is None:
        ways += [lambda: read_corpus([Path("bad.h5ad")])]
    for way in ways:
        try:
            way()
        except DatasetError as error:
            print("damaged" in str(error))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout.split()) == (0, ["True"] * 12), done.stderr[-500:]


class TestWaysIn:
    def test_entries_that_stand_twice_change_no_data_set(self):
        expected = load_dataset(cells(), "cell_type").fingerprint()
        adata = cells(unsorted_twice())
        adata.layers["umi"], adata.raw = unsorted_twice(sparse.csc_matrix), cells(unsorted_twice())
        for layer in (None, "umi", "raw"):
            assert load_dataset(adata, "cell_type", layer=layer).fingerprint() == expected
        assert adata.X.nnz == unsorted_twice().nnz  # and the user's own stays as it was

    def test_nor_an_embedding(self, pbmc, small_checkpoint):
        adata = pbmc.adata.raw.to_adata()[:5].copy()
        expected = embed(adata, checkpoint=small_checkpoint)
        half = sparse.csr_matrix(adata.X)
        half.data /= 2
        doubled = sparse.csr_matrix(
            (np.repeat(half.data, 2), np.repeat(half.indices, 2), 2 * half.indptr), shape=half.shape
        )
        adata.X = doubled
        np.testing.assert_allclose(embed(adata, checkpoint=small_checkpoint), expected, rtol=0, atol=1e-6)
        assert adata.X.nnz == 2 * half.nnz

    def test_nor_a_corpus(self, tmp_path):
        for name, matrix in (("one", None), ("two", unsorted_twice(sparse.csc_matrix))):
            cells(matrix).write_h5ad(tmp_path / f"{name}.h5ad")
        one, two = (read_corpus([tmp_path / f"{name}.h5ad"]).counts for name in ("one", "two"))
        assert (one != two).nnz == 0
        assert one.nnz == two.nnz

    @pytest.mark.parametrize("mode", ["r", "r+"])
    @pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
    def test_backed_data_are_read(self, tmp_path, kind, mode):
        adata = cells(kind(COUNTS))
        adata.raw, adata.layers["umi"] = cells(kind(COUNTS)), kind(COUNTS)
        adata.write_h5ad(tmp_path / "cells.h5ad")
        backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed=mode)
        expected = load_dataset(cells(), "cell_type").fingerprint()
        for layer in (None, "raw", "umi"):
            dataset = load_dataset(backed, "cell_type", layer=layer)
            assert (dataset.fingerprint(), dataset.adata.isbacked) == (expected, False)
        np.testing.assert_array_equal(values_of(backed).toarray(), COUNTS)
        assert len(load_dataset(backed[:12], "cell_type")) == 12
        assert preview(backed).n_cells == N
        backed.file.close()

    def test_a_backed_file_that_is_gone_says_to_memory(self, tmp_path):
        cells().write_h5ad(tmp_path / "cells.h5ad")
        backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        backed.file.close()
        (tmp_path / "cells.h5ad").unlink()
        with pytest.raises(DatasetError, match=r"cannot be read .*adata\.to_memory\(\)"):
            in_memory(backed)

    def test_lazy_matrices_are_computed(self):
        class Lazy:
            def compute(self):
                return sparse.csr_matrix(COUNTS)

        np.testing.assert_array_equal(canonical(Lazy(), (N, M), "X").toarray(), COUNTS)

    def test_subclasses_are_data_and_other_things_are_not(self):
        class Mine(anndata.AnnData):
            pass

        mine = Mine(cells())
        assert len(load_dataset(mine, "cell_type")) == preview(mine).n_cells == N
        assert list(anndatas({"mine": mine})) == ["mine"]
        for source in (None, 5, COUNTS, mine.obs):
            for door in (load_dataset, preview):
                with pytest.raises(DatasetError, match=f"a {type(source).__name__} is no data set: give"):
                    door(source)


class TestFlat:
    @pytest.mark.parametrize(
        ("matrix", "said"),
        [
            (np.ones((N, M)), "all 24 cells have the same values .1 everywhere"),
            (np.full((N, M), 3.7), "all 24 cells have the same values .3.7 everywhere"),
            (np.tile(COUNTS[:1], (N, 1)), "all 24 cells have the same values"),
            (COUNTS[:1] * np.arange(1, N + 1)[:, None], "all 24 cells have the same values"),
        ],
    )
    def test_values_that_tell_no_cell_from_another(self, matrix, said):
        with pytest.raises(DatasetError, match=said):
            load_dataset(cells(matrix.astype(np.float32)), "cell_type")

    @pytest.mark.parametrize("n", [0, 1])
    def test_too_few_genes(self, n):
        with pytest.raises(DatasetError, match=f"number of genes is {n}"):
            load_dataset(cells()[:, :n].copy(), "cell_type")


class TestColumns:
    def test_a_name_that_stands_twice_harms_nobody_who_does_not_need_it(self):
        adata = cells()
        adata.obs = pd.concat([adata.obs, adata.obs[["donor"]]], axis=1)
        dataset = load_dataset(adata, "cell_type")
        assert repeated_names(adata.obs) == ("donor",)
        assert preview(adata).groups == ()
        assert list(join_datasets(dataset, dataset).adata.obs) == ["cell_type"]
        assert dataset.relabelled("cell_type").label_key == "cell_type"

    @pytest.mark.parametrize("needed", ["label", "group"])
    def test_and_is_named_where_it_is_needed_with_a_remedy_that_works(self, needed):
        adata = cells()
        adata.obs = pd.concat([adata.obs, adata.obs], axis=1)
        keys = {"label_key": "cell_type"} if needed == "label" else {"label_key": "cell_type", "group_key": "donor"}
        if needed == "group":
            adata.obs = adata.obs.iloc[:, [0, 1, 3]]
        with pytest.raises(DatasetError, match=rf"{needed} column '\w+' stands more than once in obs") as error:
            load_dataset(adata, **keys)
        exec(str(error.value).split("of each name: ")[1], {"adata": adata})
        assert len(load_dataset(adata, **keys)) == N

    @pytest.mark.parametrize("name", [7, ("x", "y"), 2.5, True])
    def test_names_that_are_no_text(self, name):
        adata = cells()
        adata.obs = pd.concat([adata.obs, pd.DataFrame({name: adata.obs["cell_type"]})], axis=1)
        assert list(columns_of(adata.obs)) == ["cell_type", "donor", str(name)]
        dataset = load_dataset(adata, str(name), group_key="donor")
        assert dataset.labels.tolist() == adata.obs["cell_type"].tolist()
        assert str(name) in [column.name for column in preview(adata).columns]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0, 1, 2], ["0", "1", "2"]),
            ([True, False, True], ["False", "True"]),
            (pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"]), ["a", "b"]),
            (pd.array(["a", "b", "a"], dtype="string"), ["a", "b"]),
            (pd.array([1, 2, 1], dtype="Int64"), ["1", "2"]),
        ],
    )
    def test_labels_of_every_kind(self, values, expected):
        adata = cells()
        adata.obs["kind"] = pd.Series(list(values) * (N // 3), index=adata.obs_names, dtype=pd.Series(values).dtype)
        assert sorted(set(load_dataset(adata, "kind").labels.tolist())) == expected

    def test_names_of_genes_that_are_categories_are_mended_as_said(self):
        adata = cells()
        adata.var.index = pd.CategoricalIndex(["G0", "G0", *adata.var_names[2:]])
        with pytest.raises(DatasetError, match=r"gene names are not unique.*'G0'.*astype\(str\)") as error:
            load_dataset(adata, "cell_type")
        exec(str(error.value).split("call ")[1].removesuffix(" first"), {"adata": adata})
        assert load_dataset(adata, "cell_type").genes[:2] == ("G0", "G0-1")

    def test_names_that_stand_twice_where_they_are_not_read(self):
        adata = cells()
        adata.raw = cells()
        adata.var.index = pd.Index(["G0", "G0", *adata.var_names[2:]])
        assert len(set(load_dataset(adata, "cell_type", layer="raw").genes)) == M


def test_a_dense_backed_matrix_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(matrices, "BLOCK", 5 * M)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["X"] = COUNTS
        np.testing.assert_array_equal(canonical(file["X"], (N, M), "X").toarray(), COUNTS)
