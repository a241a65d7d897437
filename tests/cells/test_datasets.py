"""Data sets: what is taken in, what is refused and in which words."""

from __future__ import annotations

import hashlib
import io
import re
import tracemalloc
import urllib.error
import urllib.request
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from small_cells import N_CELLS, N_GENES, counts, make, scanpy_log_normalised

import frostline
from frostline.cells import matrices
from frostline.cells import values as value_kinds
from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset, load_dataset, read_h5ad
from frostline.errors import DatasetError


class TestValues:
    @pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_counts_become_log_values_as_scanpy_makes_them(self, container, dtype):
        dataset = load_dataset(make(container(counts().astype(dtype))), "cell_type")
        assert dataset.values_name == "counts"
        assert (dataset.matrix.format, dataset.matrix.dtype) == ("csr", np.float32)
        np.testing.assert_allclose(dataset.matrix.toarray(), scanpy_log_normalised(counts()), rtol=1e-5)

    def test_normalised_values_without_a_logarithm_get_one(self):
        values = counts()
        values = values / values.sum(axis=1, keepdims=True) * 5e3
        dataset = load_dataset(make(values), "cell_type")
        assert dataset.values_name == "normalised, not logged"
        np.testing.assert_allclose(dataset.matrix.toarray(), scanpy_log_normalised(counts()), rtol=1e-5)

    def test_log_normalised_values_are_left_as_they_are(self):
        logged = scanpy_log_normalised(counts())
        dataset = load_dataset(make(logged), "cell_type")
        assert dataset.values_name == "log-normalised"
        np.testing.assert_array_equal(dataset.matrix.toarray(), logged)

    def test_values_may_be_in_a_layer_or_in_raw(self):
        adata = make()
        adata.layers["umi"] = adata.X.copy()
        adata.raw = adata
        adata.X = sparse.csr_matrix(scanpy_log_normalised(counts()) - 1)  # scaled
        for layer in ("umi", "raw"):
            dataset = load_dataset(adata, "cell_type", layer=layer)
            np.testing.assert_allclose(dataset.matrix.toarray(), scanpy_log_normalised(counts()), rtol=1e-5)

    def test_raw_brings_its_own_genes(self):
        adata = make()
        adata.raw = adata
        dataset = load_dataset(adata[:, :4].copy(), "cell_type", layer="raw")
        assert dataset.genes == tuple(adata.var_names)

    def test_the_input_is_not_changed(self):
        adata = make()
        before = adata.copy()
        load_dataset(adata, "cell_type")
        np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())
        pd.testing.assert_frame_equal(adata.obs, before.obs)


class TestBadInput:
    """Each is refused in words that name the column, the value seen and what to do."""

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("celltype", r"label column 'celltype' is not in obs, which has: cell_type, donor"),
            (None, r"name the label column; obs has: cell_type, donor"),
        ],
    )
    def test_a_missing_label_column_says_which_columns_exist(self, key, message):
        with pytest.raises(DatasetError, match=message):
            load_dataset(make(), key)

    def test_a_missing_group_column_says_which_columns_exist(self):
        with pytest.raises(DatasetError, match=r"group column 'batch' is not in obs, which has: cell_type, donor"):
            load_dataset(make(), "cell_type", group_key="batch")

    def test_one_class_only(self):
        with pytest.raises(DatasetError, match=r"label column 'same' has only 'B'; .*two classes"):
            load_dataset(make(same="B"), "same")

    def test_no_cells(self):
        with pytest.raises(DatasetError, match="no cell at all"):
            load_dataset(make()[:0].copy(), "cell_type")

    def test_labels_that_are_no_classes(self):
        names = [f"c{i}" for i in range(100)]
        adata = anndata.AnnData(np.ones((100, 3), np.float32), obs=pd.DataFrame({"id": names}, index=names))
        with pytest.raises(DatasetError, match=r"'id' has 100 different values in 100 cells"):
            load_dataset(adata, "id")

    @pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
    @pytest.mark.parametrize("dtype", ["object", "category"])
    def test_missing_labels_are_counted(self, missing, dtype):
        adata = make()
        labels = ["B", "T"] * (N_CELLS // 2)
        labels[2] = labels[7] = missing
        adata.obs["some"] = pd.Series(labels, index=adata.obs_names, dtype=object).astype(dtype)
        with pytest.raises(DatasetError, match=r"label column 'some' is missing for 2 of 24 cells.*notna"):
            load_dataset(adata, "some")

    @pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
    def test_missing_groups_are_counted(self, missing):
        adata = make()
        donors = ["d1", "d2"] * (N_CELLS // 2)
        donors[3] = missing
        adata.obs["donor"] = pd.Series(donors, index=adata.obs_names, dtype=object)
        with pytest.raises(
            DatasetError, match=r"group column 'donor' is missing for 1 of 24 cells.*another column.*notna"
        ):
            load_dataset(adata, "cell_type", group_key="donor")
        assert load_dataset(adata, "cell_type").groups is None

    @pytest.mark.parametrize("container", [sparse.csr_matrix, np.asarray])
    def test_scaled_values_name_where_else_to_look(self, container):
        adata = make(container(counts() - 1.5))
        with pytest.raises(
            DatasetError, match=r"X holds negative values \(smallest -1\.5\).*scaled.*load a file of what was measured$"
        ):
            load_dataset(adata, "cell_type")
        adata.layers["umi"] = counts()
        adata.raw = make()
        with pytest.raises(DatasetError, match=r"name one of: raw, umi \(layer=\.\.\.\)"):
            load_dataset(adata, "cell_type")

    @pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (-2.0, "-2")])
    def test_a_bad_value_names_its_cell_and_gene(self, value, word):
        values = counts()
        values[5, 3] = value
        adata = make()
        adata.layers["umi"] = sparse.csr_matrix(values)
        with pytest.raises(DatasetError, match=rf"1 values? .*{word}.*'c5'.*'G3'"):
            load_dataset(adata, "cell_type", layer="umi")

    @pytest.mark.parametrize("container", [sparse.csr_matrix, np.asarray])
    def test_a_missing_value_in_x_names_its_cell_and_gene(self, container):
        values = counts()
        values[5, 3] = np.nan
        with pytest.raises(DatasetError, match=r"nan.*'c5'.*'G3'"):
            load_dataset(make(container(values)), "cell_type")

    def test_zeros_only(self):
        with pytest.raises(DatasetError, match="every value is zero"):
            load_dataset(make(np.zeros((N_CELLS, N_GENES), np.float32)), "cell_type")

    def test_no_values_at_all(self):
        adata = make()
        adata.X = None
        with pytest.raises(DatasetError, match="no X; name a layer"):
            load_dataset(adata, "cell_type")

    def test_an_unknown_layer_lists_those_there_are(self):
        adata = make()
        adata.layers["umi"] = counts()
        with pytest.raises(DatasetError, match=r"layer 'counts' does not exist; this AnnData has: X, umi"):
            load_dataset(adata, "cell_type", layer="counts")
        with pytest.raises(DatasetError, match=r"no \.raw"):
            load_dataset(adata, "cell_type", layer="raw")

    @pytest.mark.filterwarnings("ignore:.* names are not unique")  # said by anndata when the input is made
    @pytest.mark.parametrize(("axis", "word"), [("obs_names", "cell"), ("var_names", "gene")])
    def test_repeated_names_are_shown_with_the_remedy(self, axis, word):
        adata = make()
        names = list(getattr(adata, axis))
        names[3] = names[1]
        setattr(adata, axis, names)
        with pytest.raises(DatasetError, match=rf"{word} names are not unique.*'{names[1]}'.*{axis}_make_unique"):
            load_dataset(adata, "cell_type")

    @pytest.mark.filterwarnings("ignore:.* names are not unique")
    def test_repeated_gene_names_in_raw_are_refused_too(self):
        repeated = make()
        repeated.var_names = ["G0", "G0", *repeated.var_names[2:]]
        adata = make()
        adata.raw = repeated
        with pytest.raises(DatasetError, match=r"gene names are not unique.*'G0'"):
            load_dataset(adata, "cell_type", layer="raw")

    @pytest.mark.parametrize("bad", ["a\ud800", "a\0"])
    @pytest.mark.parametrize(
        "place", ["adata.obs_names", "adata.var_names", "adata.obs['cell_type']", "adata.obs['donor']"]
    )
    def test_a_name_that_no_file_can_hold_is_refused_with_the_line_that_mends_it(self, place, bad):
        adata = make()
        names = {"adata": adata, "bad": bad}
        exec(f"column = list({place}.astype(str)); column[1] = bad; {place} = column", names)
        with pytest.raises(DatasetError, match="that no file can hold") as refused:
            load_dataset(adata, "cell_type", group_key="donor")
        assert repr(bad) in str(refused.value)
        exec(str(refused.value).partition("; run ")[2], names)
        load_dataset(adata, "cell_type", group_key="donor")

    def test_so_is_the_name_of_a_data_set_or_an_embedding(self):
        with pytest.raises(DatasetError, match="rename it"):
            load_dataset(make(), "cell_type", name="a\udfff")
        adata = make()
        adata.obsm["X_\0"] = np.zeros((len(adata), 3))
        with pytest.raises(DatasetError, match="rename it"):
            load_dataset(adata, "cell_type")


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path):
        make().write_h5ad(tmp_path / "mine.h5ad")
        return tmp_path / "mine.h5ad"

    def test_a_path_is_loaded_and_named_after_the_file(self, path):
        for source in (path, str(path)):
            dataset = load_dataset(source, "cell_type")
            assert (dataset.name, len(dataset)) == ("mine", N_CELLS)
        assert load_dataset(path, "cell_type", name="ours").name == "ours"

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
    def test_a_truncated_file_is_named(self, path, share):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(DatasetError, match=r"mine\.h5ad cannot be read as \.h5ad \(truncated"):
            load_dataset(path, "cell_type")

    def test_a_file_of_another_kind_is_named(self, tmp_path):
        (tmp_path / "table.h5ad").write_text("cell,label\n")
        with pytest.raises(DatasetError, match=r"table\.h5ad cannot be read"):
            read_h5ad(tmp_path / "table.h5ad")

    def test_a_path_without_a_file_is_named(self, tmp_path):
        with pytest.raises(DatasetError, match=r"there is no file .*absent\.h5ad"):
            load_dataset(tmp_path / "absent.h5ad", "cell_type")

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(DatasetError, match=r"unknown data set 'pbmc9k'; known: pbmc68k-reduced, pbmc3k.*\.h5ad"):
            load_dataset("pbmc9k")


@pytest.fixture
def scanpy_folder(tmp_path):
    """An empty folder in the place of scanpy's cache of data sets."""
    before = sc.settings.datasetdir
    sc.settings.datasetdir = tmp_path
    yield tmp_path
    sc.settings.datasetdir = before


class TestRegistered:
    def test_pbmc68k_reduced_is_read_from_its_log_values(self, pbmc):
        adata = sc.datasets.pbmc68k_reduced()
        assert (len(pbmc), len(pbmc.genes), len(set(pbmc.labels))) == (700, 765, 10)
        assert (pbmc.label_key, pbmc.values_name) == ("bulk_labels", "log1p, row sums differ")
        np.testing.assert_array_equal(pbmc.matrix.toarray(), adata.raw.X.toarray())
        np.testing.assert_array_equal(pbmc.labels, adata.obs["bulk_labels"].astype(str))
        assert pbmc.notes

    def test_pancreas_is_installed_with_its_donors(self):
        pancreas = load_dataset("pancreas")
        assert (len(pancreas), len(pancreas.genes), pancreas.values_name) == (175, 12_474, "counts")
        assert pancreas.summary()["cells"].to_dict() == dict.fromkeys(
            ("activated_stellate", "alpha", "beta", "delta", "macrophage"), 35
        )
        donors, cells = np.unique(pancreas.groups, return_counts=True)
        assert dict(zip(donors, cells, strict=True)) == {"human1": 42, "human2": 52, "human3": 58, "human4": 23}
        assert "balanced by selection" in " ".join(pancreas.notes)
        for gene, kind in (("IAPP", "beta"), ("GCG", "alpha"), ("SST", "delta"), ("COL1A1", "activated_stellate")):
            values = pancreas.expression(np.arange(175), [gene]).toarray().ravel()
            assert max(set(pancreas.labels), key=lambda name: values[pancreas.labels == name].mean()) == kind

    def test_installed_files_are_those_of_their_readme(self):
        folder = Path(frostline.__file__).parent / "data" / "datasets"
        readme = (folder / "README.md").read_text(encoding="utf-8")
        for path in folder.glob("*.h5ad"):
            assert path.name in readme
            assert hashlib.sha256(path.read_bytes()).hexdigest() in readme
        for needed in ("MIT", "zhiyhu/CIDER", "GSE84133", "Cell Systems", "175 cells x 12,474 genes"):
            assert needed in readme

    def test_another_label_column_can_be_chosen(self):
        assert load_dataset("pbmc68k-reduced", "louvain").label_key == "louvain"

    def test_each_has_a_label_column_and_a_description(self):
        for name, spec in DATASETS.items():
            assert (spec.name, bool(spec.label_key), bool(spec.description)) == (name, True, True)

    def test_offline_and_not_cached_pbmc3k_names_the_offline_data_set(self, monkeypatch, scanpy_folder):
        asked = []

        def refuse(request, *_args, **_kwargs):
            asked.append(request.full_url)
            raise urllib.error.URLError("Network is unreachable")

        monkeypatch.setattr(urllib.request, "urlopen", refuse)
        with pytest.raises(DatasetError, match=r"'pbmc3k' .*could not be downloaded.*use 'pbmc68k-reduced'"):
            load_dataset("pbmc3k")
        assert 1 <= len(asked) <= 2  # scanpy asks again with other certificates, then gives up
        assert list(scanpy_folder.iterdir()) == []

    def test_a_download_of_pbmc3k_is_in_its_place_when_it_is_whole(self, monkeypatch, scanpy_folder):
        place, whole = scanpy_folder / "pbmc3k_processed.h5ad", scanpy_folder.parent / "whole.h5ad"
        make(louvain=["B cells", "T cells"] * (N_CELLS // 2)).write_h5ad(whole)
        seen = []

        class Answer(io.BytesIO):
            def info(self):
                return {}

            def read(self, size=-1):
                seen.append(place.exists())
                return super().read(size)

        monkeypatch.setattr(urllib.request, "urlopen", lambda *_args, **_kwargs: Answer(whole.read_bytes()))
        DATASETS["pbmc3k"].load()
        assert len(seen) > 1
        assert not any(seen)
        assert [path.name for path in scanpy_folder.iterdir()] == [place.name]
        assert place.read_bytes() == whole.read_bytes()

    def test_cached_pbmc3k_needs_no_network(self, monkeypatch, scanpy_folder):
        adata = make(louvain=["B cells", "T cells"] * (N_CELLS // 2))
        adata.raw = make(scanpy_log_normalised(counts()))
        adata.X = adata.X.toarray() - 1
        adata.write_h5ad(scanpy_folder / "pbmc3k_processed.h5ad")
        monkeypatch.setattr(urllib.request, "urlopen", None)
        dataset = load_dataset("pbmc3k")
        assert (dataset.name, dataset.label_key, dataset.values_name) == ("pbmc3k", "louvain", "log-normalised")


class TestDataset:
    @pytest.fixture
    def dataset(self) -> Dataset:
        return load_dataset(make(), "cell_type", group_key="donor")

    def test_expression_returns_cells_and_genes_in_the_order_asked_for(self, dataset):
        part = dataset.expression(np.array([4, 1]), ["G7", "G0", "G3"]).toarray()
        np.testing.assert_array_equal(part, dataset.matrix.toarray()[[4, 1]][:, [7, 0, 3]])

    def test_expression_names_genes_that_are_not_there(self, dataset):
        with pytest.raises(DatasetError, match=r"'AnnData' lacks 1 genes.*'GX'"):
            dataset.expression(np.array([0]), ["G0", "GX"])

    def test_the_summary_counts_cells_of_each_class(self, dataset):
        summary = dataset.summary()
        assert summary["cells"].to_dict() == {"B": 8, "NK": 8, "T": 8}
        assert summary["share"].sum() == pytest.approx(1)

    def test_the_fingerprint_changes_with_any_cell_label_gene_or_value(self, dataset):
        assert re.fullmatch("[0-9a-f]{64}", dataset.fingerprint())
        assert load_dataset(make(), "cell_type").fingerprint() == dataset.fingerprint()
        changed = [make(), make(), make(cell_type=["NK", "B", "T"] * (N_CELLS // 3)), make()]
        changed[0].obs_names = ["other", *changed[0].obs_names[1:]]
        changed[1].var_names = ["other", *changed[1].var_names[1:]]
        changed[3].X[0, 0] += 1
        prints = {load_dataset(adata, "cell_type").fingerprint() for adata in changed}
        assert len(prints | {dataset.fingerprint()}) == 5


class TestAnnDataThatIsChangedLater:
    def test_cells_and_groups_are_those_that_were_loaded(self):
        adata = make(donor=["x", "y"] * (N_CELLS // 2))
        dataset, cells = load_dataset(adata, "cell_type", group_key="donor"), adata.obs_names.tolist()
        before = dataset.fingerprint()
        adata.obs_names = [f"other-{cell}" for cell in cells]
        adata.obs["donor"] = "z"
        adata._inplace_subset_obs(np.arange(5))
        assert (len(dataset), dataset.cells.tolist()) == (N_CELLS, cells)
        assert dataset.groups.tolist() == ["x", "y"] * (N_CELLS // 2)
        assert dataset.fingerprint() == before

    @pytest.mark.parametrize("ask", [lambda d: d.part(np.arange(3)), lambda d: d.relabelled("cell_type")])
    def test_what_is_read_of_it_again_is_refused_where_it_holds_other_cells(self, ask):
        adata = make()
        dataset = load_dataset(adata, "cell_type", name="mine")
        adata._inplace_subset_obs(np.arange(5))
        with pytest.raises(DatasetError, match=rf"'mine' has been changed .*5, {N_CELLS} were .*load it again"):
            ask(dataset)

    def test_a_column_that_was_added_can_be_chosen(self):
        adata = make()
        dataset = load_dataset(adata, "cell_type")
        adata.obs["side"] = ["left", "right"] * (N_CELLS // 2)
        assert dataset.relabelled("side").obs["side"].tolist() == dataset.relabelled("side").labels.tolist()


class TestGroups:
    def test_groups_are_text_in_the_order_of_the_cells(self):
        adata = make(donor=pd.Categorical([3, 4] * (N_CELLS // 2)))
        dataset = load_dataset(adata, "cell_type", group_key="donor")
        assert dataset.groups.tolist() == ["3", "4"] * (N_CELLS // 2)

    def test_without_a_group_column_there_are_none(self):
        assert load_dataset(make(), "cell_type").groups is None

    def test_what_was_worked_out_stays_with_other_labels_and_not_with_other_groups(self):
        pancreas = load_dataset("pancreas")
        pancreas.cache["found"] = 1
        pancreas.adata.obs["halves"] = ["one", "other"] * (len(pancreas) // 2) + ["one"] * (len(pancreas) % 2)
        assert pancreas.relabelled("halves", "donor").cache is pancreas.cache
        assert pancreas.relabelled("cell_type", "halves").cache == {}


class TestMemory:
    """Values are normalised beside those that were read; where they are is held once."""

    @staticmethod
    def written(path, n_cells=4_000, dense=False):
        rng = np.random.default_rng(0)
        values = sparse.random(n_cells, 500, 0.2, format="csr", dtype=np.float32, random_state=1)
        values.data = rng.geometric(0.4, len(values.data)).astype(np.float32)
        obs = pd.DataFrame(
            {"kind": np.where(np.arange(n_cells) % 2, "a", "b")}, index=[f"c{i}" for i in range(n_cells)]
        )
        anndata.AnnData(values.toarray() if dense else values, obs=obs).write_h5ad(path)
        return values

    def test_a_file_takes_at_most_one_and_a_half_times_its_matrix(self, tmp_path, monkeypatch):
        monkeypatch.setattr(matrices, "_PART", 2**14)
        monkeypatch.setattr(value_kinds, "SAMPLE", 100)
        values = self.written(tmp_path / "cells.h5ad")
        size = values.data.nbytes + values.indices.nbytes + values.indptr.nbytes
        load_dataset(tmp_path / "cells.h5ad", "kind")  # what is imported is not counted
        tracemalloc.start()
        try:
            dataset = load_dataset(tmp_path / "cells.h5ad", "kind")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(dataset) == 4_000
        # Names and labels of the cells take half a megabyte; one more copy of the values would take 1.6.
        assert peak < 1.5 * size + 500_000 + values.data.nbytes / 2

    @pytest.mark.parametrize("dense", [False, True])
    def test_the_values_are_those_of_an_anndata_that_somebody_else_has(self, tmp_path, dense):
        values = self.written(tmp_path / "cells.h5ad", 60, dense)
        read = load_dataset(tmp_path / "cells.h5ad", "kind")
        adata = read.adata.copy()
        given = load_dataset(adata, "kind")
        assert (read.matrix != given.matrix).nnz == 0
        assert (sparse.csr_matrix(read.adata.X) != values).nnz == 0
        if not dense:
            assert not np.shares_memory(given.matrix.indices, adata.X.indices)
