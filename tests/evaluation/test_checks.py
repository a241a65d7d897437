"""Checks: each fires on data made to deserve it, says what was seen, and is silent on data that does not."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.gene_mapping import map_genes
from frostline.cells.joining import join_datasets
from frostline.cells.splits import split
from frostline.cells.symbols import known_symbols
from frostline.encoder.checkpoints import CORPUS_GENES, find_folder
from frostline.errors import CheckpointError
from frostline.evaluation import clusterings
from frostline.evaluation.checks import CHECKS, UNLIKE, _corpus_genes, rare_shares, review
from frostline.evaluation.leakage import BARCODES
from frostline.pretraining.corpus import read_corpus
from frostline.profiles import get_profile
from frostline.records import Finding

CODES = {
    *("same-barcode", "same-profile", "shared-group", "optimistic-split", "labels-from-clusters", "few-test-cells"),
    *("class-not-in-training", "genes-chosen-on-all-cells", "unlike-pretraining", "seen-in-pretraining"),
    *("little-vocabulary", "missing-as-text", "similar-names", "labels-are-groups", "groups-are-cells"),
}
LETTERS = "ACGT"


def barcode(number: int) -> str:
    """A 16-letter barcode of its own for every number."""
    return "".join(LETTERS[number // 4**i % 4] for i in range(16))


def cells(n: int = 120, n_genes: int = 60, *, seed: int = 0, names=None, classes=("B", "NK", "T"), **obs) -> AnnData:
    """Counts of cells whose class changes from one to the next."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(2.0, (n, n_genes)).astype(np.float32)
    table = pd.DataFrame({"kind": [classes[i % len(classes)] for i in range(n)], **obs})
    table.index = [f"cell{i:05d}" for i in range(n)] if names is None else names
    return AnnData(sparse.csr_matrix(values), obs=table, var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)]))


def found(dataset: Dataset, cut=None, checkpoint=None) -> dict[str, Finding]:
    """Findings by code; none twice."""
    findings = review(dataset, cut or split(dataset), checkpoint)
    by_code = {finding.code: finding for finding in findings}
    assert len(by_code) == len(findings)
    assert by_code.keys() <= CODES
    return by_code


def found_in(adata: AnnData, **options) -> dict[str, Finding]:
    return found(load_dataset(adata, "kind", **options))


def test_a_clean_data_set_has_nothing_to_say():
    dataset = load_dataset(cells(150, 3_000), "kind", name="clean")
    assert review(dataset, split(dataset)) == ()
    named = cells(150, 3_000)
    named.var_names = sorted(known_symbols())[:3_000]
    dataset = load_dataset(named, "kind", name="clean")
    assert {finding.code for finding in review(dataset, split(dataset), "mini")} <= {"unlike-pretraining"}


def test_findings_are_sorted_by_severity_and_explain_themselves():
    adata = cells(60, donor=["a", "unknown"] * 30, leiden=["0", "1", "2"] * 20)
    adata.X = sparse.csr_matrix(np.vstack([adata.X.toarray()[:30]] * 2))
    findings = review(dataset := load_dataset(adata, "kind"), split(dataset), "mini")
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert {"error", "warning", "note"} == set(severities)
    for finding in findings:
        texts = (finding.title, finding.explanation, finding.remedy)
        assert all(text[0].isupper() or text[0].isdigit() for text in texts)
        assert not finding.title.endswith(".")
        assert finding.explanation.endswith(".")
        assert finding.remedy.endswith(".")


def test_a_warning_comes_before_the_note_of_an_earlier_check(pbmc):
    codes = [finding.code for finding in review(pbmc, split(pbmc), "mini")]
    assert codes == ["few-test-cells", "seen-in-pretraining", "labels-from-clusters", "genes-chosen-on-all-cells"]


def test_each_check_is_one_entry():
    shared = {"similar-names"}  # of one check with missing-as-text
    assert len(CHECKS) == len(set(CHECKS)) == len(CODES - shared)


class TestSameProfile:
    def copies(self, n: int) -> Dataset:
        """A data set whose first test cells repeat training cells."""
        adata = cells()
        cut = split(load_dataset(adata, "kind"))
        values = adata.X.toarray()
        for i in range(n):
            values[cut.test[i]] = values[cut.train[i]]
        adata.X = sparse.csr_matrix(values)
        return load_dataset(adata, "kind")

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_copies_on_both_sides_are_counted_and_named(self, n):
        dataset = self.copies(n)
        cut = split(dataset)
        finding = found(dataset)["same-profile"]
        assert finding.severity == "error"
        assert finding.title.startswith(f"{n} of {len(cut.test)} test cells")
        assert f"{dataset.cells[cut.test[0]]} = {dataset.cells[cut.train[0]]}" in finding.explanation

    def test_copies_of_validation_cells_count_too(self):
        adata = cells()
        cut = split(load_dataset(adata, "kind"))
        values = adata.X.toarray()
        values[cut.test[3]] = values[cut.validation[2]]
        adata.X = sparse.csr_matrix(values)
        assert found_in(adata)["same-profile"].title.startswith("1 of")

    def test_copies_on_one_side_do_not(self):
        adata = cells()
        cut = split(load_dataset(adata, "kind"))
        values = adata.X.toarray()
        values[cut.test[1]] = values[cut.test[0]]
        values[cut.train[1]] = values[cut.train[0]]
        values[cut.validation[0]] = values[cut.train[0]]
        adata.X = sparse.csr_matrix(values)
        assert "same-profile" not in found_in(adata)

    def test_one_count_more_or_less_is_another_cell(self):
        adata = cells()
        cut = split(load_dataset(adata, "kind"))
        values = adata.X.toarray() + 10
        values[cut.test[0]] = values[cut.train[0]]
        values[cut.test[0], 3] += 1
        adata.X = sparse.csr_matrix(values)
        assert "same-profile" not in found_in(adata)

    def test_cells_that_express_next_to_nothing_may_coincide(self):
        adata = cells()
        cut = split(load_dataset(adata, "kind"))
        values = adata.X.toarray()
        for row in (cut.test[0], cut.train[0]):
            values[row] = 0
            values[row, :4] = 1
        adata.X = sparse.csr_matrix(values)
        assert "same-profile" not in found_in(adata)
        values[[cut.test[0], cut.train[0]], 4] = 1
        adata.X = sparse.csr_matrix(values)
        assert "same-profile" in found_in(adata)

    def test_a_cell_is_known_again_after_another_normalisation(self):
        """The second set has more genes, so its totals and its log values are others."""
        one, other = cells(90, 60, seed=1), cells(90, 80, seed=2)
        values = other.X.toarray()
        values[7, :60] = one.X.toarray()[11]
        other.X = sparse.csr_matrix(values)
        joined = join_datasets(load_dataset(one, "kind", name="one"), load_dataset(other, "kind", name="other"))
        finding = found(joined)["same-profile"]
        assert finding.title.startswith("1 of 90 test cells")
        assert "other/cell00007 = one/cell00011" in finding.explanation

    def test_only_cells_of_the_split_are_compared(self):
        adata = cells(120)
        adata.obs["kind"] = adata.obs["kind"].astype(object)
        adata.obs.iloc[0, 0] = "single"
        values = adata.X.toarray()
        values[0] = values[1]
        adata.X = sparse.csr_matrix(values)
        assert "same-profile" not in found_in(adata)

    @pytest.mark.slow
    @given(st.integers(0, 200))
    def test_small_random_counts_are_no_copies(self, seed):
        adata = cells(60, 12, seed=seed)
        assert "same-profile" not in found_in(adata)


class TestSameBarcode:
    def joined(self, ours: list[str], theirs: list[str]) -> Dataset:
        sets = []
        for name, ids in (("ours", ours), ("theirs", theirs)):
            sets.append(load_dataset(cells(len(ids), seed=len(name), names=ids), "kind", name=name))
        return join_datasets(*sets)

    def test_the_same_barcodes_in_both_sets(self):
        ours = [f"{barcode(i)}-1" for i in range(60)]
        theirs = [f"{barcode(i + 50)}-1" for i in range(60)]
        dataset = self.joined(ours, theirs)
        finding = found(dataset)["same-barcode"]
        assert finding.severity == "error"
        assert finding.title.startswith("10 of 60 test cells")
        assert f"about {60 * 60 / BARCODES:.2g} barcodes" in finding.explanation

    @pytest.mark.parametrize("decorate", ["pbmc_{}-1", "{}-2", "sample7#{}", "{}", "s1_{}_x"])
    def test_prefixes_and_suffixes_do_not_hide_it(self, decorate):
        ours = [f"{barcode(i)}-1" for i in range(30)]
        theirs = [decorate.format(barcode(i)) for i in range(30)]
        assert found(self.joined(ours, theirs))["same-barcode"].title.startswith("30 of 30")

    def test_different_barcodes_say_nothing(self):
        ours = [f"{barcode(i)}-1" for i in range(60)]
        theirs = [f"{barcode(i + 60)}-1" for i in range(60)]
        assert "same-barcode" not in found(self.joined(ours, theirs))

    @pytest.mark.slow
    def test_what_chance_explains_is_no_finding(self):
        """3,000 x 3,000 cells of two lanes share about 12 barcodes by chance."""
        n = 3_000
        rng = np.random.default_rng(0)
        lanes = [rng.choice(BARCODES, n, replace=False) for _ in range(2)]
        shared = len(set(lanes[0].tolist()) & set(lanes[1].tolist()))
        assert shared > 5
        names = [[f"{barcode(int(i))}-1" for i in lane] for lane in lanes]
        whole = dataclasses.replace(get_profile("full"), max_cells=2 * n)
        lucky = self.joined(*names)
        assert "same-barcode" not in found(lucky, split(lucky, profile=whole))
        names[1][:40] = names[0][:40]
        copied = self.joined(*names)
        n_found = len(set(names[0]) & set(names[1]))
        assert found(copied, split(copied, profile=whole))["same-barcode"].title.startswith(f"{n_found} of 3,000")

    def test_cells_of_many_lanes_in_one_data_set(self):
        names = [f"{barcode(i)}-{lane}" for i in range(60) for lane in (1, 2)]
        dataset = load_dataset(cells(120, names=names), "kind")
        assert found(dataset)["same-barcode"].severity == "error"
        alone = load_dataset(cells(120, names=[f"{barcode(i)}-{1 + i % 2}" for i in range(120)]), "kind")
        assert "same-barcode" not in found(alone)

    def test_copies_kept_together_by_a_group_say_nothing(self):
        names = [f"{barcode(i)}-{lane}" for i in range(60) for lane in (1, 2)]
        donors = [f"d{i // 2 % 4}" for i in range(120)]
        adata = cells(120, names=names, classes=("B", "B", "T", "T", "NK", "NK", "B", "T"), donor=donors)
        assert "same-barcode" not in found(load_dataset(adata, "kind", group_key="donor"))

    def test_ids_without_barcodes_count_when_they_are_no_counters(self):
        ids = [f"human1_lib2.final_cell_{i:04d}" for i in range(30)]
        assert found(self.joined(ids, ids))["same-barcode"].title.startswith("30 of 30")
        one_shared = [*(f"mouse_{i}_x{i}" for i in range(29)), ids[4]]
        assert found(self.joined(ids, one_shared))["same-barcode"].title.startswith("1 of 30")
        for counter in ("cell{}", "{}", "c-{}", "Cell_{}"):
            names = [counter.format(i) for i in range(30)]
            assert "same-barcode" not in found(self.joined(names, names))

    def test_ids_that_were_made_unique_are_known_again(self):
        names = [f"plate_A{i}_x" for i in range(60)] + [f"plate_A{i}_x-1" for i in range(60)]
        finding = found(load_dataset(cells(120, names=names), "kind"))["same-barcode"]
        assert "'plate_A" in finding.title
        apart = [f"plate_x-{i}" for i in range(120)]  # and there is no plate_x
        assert "same-barcode" not in found(load_dataset(cells(120, names=apart), "kind"))


class TestGroups:
    def test_a_random_split_with_groups_shares_them(self):
        adata = cells(donor=[f"d{i % 4}" for i in range(120)])
        dataset = load_dataset(adata, "kind", group_key="donor")
        finding = found(dataset, split(dataset, kind="stratified"))["shared-group"]
        assert finding.severity == "warning"
        assert finding.title == "4 of 4 test groups of 'donor' have training or validation cells too (d0, d1, d2, d3)"

    def test_held_out_groups_are_not_shared(self):
        adata = cells(donor=[f"d{i // 3 % 4}" for i in range(120)])
        assert not {"shared-group", "optimistic-split"} & found_in(adata, group_key="donor").keys()

    def test_donors_behind_the_groups_are_looked_at(self):
        """Libraries are held out, but each donor gave two."""
        libraries = [f"l{i // 3 % 8}" for i in range(240)]
        donors = [f"p{i // 3 % 4}" for i in range(240)]
        technologies = ["x", "y"] * 120
        adata = cells(240, library=libraries, patient=donors, technology=technologies)
        dataset = load_dataset(adata, "kind", group_key="library")
        finding = found(dataset)["shared-group"]
        assert "'patient'" in finding.title
        assert "group_key='patient'" in finding.remedy

    def test_the_same_names_in_two_data_sets(self):
        one = load_dataset(cells(donor=["d1", "d2"] * 60), "kind", group_key="donor", name="one")
        other = load_dataset(cells(donor=["d2", "d3"] * 60, seed=9), "kind", group_key="donor", name="other")
        finding = found(join_datasets(one, other))["shared-group"]
        assert finding.title.startswith("1 of 2 test groups of 'donor'")
        assert "(d2)" in finding.title

    def test_a_second_set_that_was_loaded_without_groups_is_looked_at_too(self):
        one = load_dataset(cells(donor=["d1", "d2"] * 60), "kind", group_key="donor", name="one")
        other = load_dataset(cells(donor=["d2", "d3"] * 60, seed=9), "kind", name="other")
        assert "(d2)" in found(join_datasets(one, other))["shared-group"].title

    @pytest.mark.parametrize(
        ("column", "values"),
        [
            ("technology", ["smartseq2", "10x"]),
            ("chemistry", ["v1", "v2", "v3"]),
            ("donor", ["1", "2", "3", "4"]),
        ],
    )
    def test_a_random_split_across_a_group_like_column_is_optimistic(self, column, values):
        adata = cells(**{column: (values * 60)[:120]})
        finding = found_in(adata)["optimistic-split"]
        assert finding.severity == "warning"
        assert finding.title == f"Random split across {column!r} with {len(values)} groups: optimistic"
        assert f"group_key={column!r}" in finding.remedy
        assert "shared-group" not in found_in(adata)

    def test_holding_out_by_any_of_them_is_not(self):
        adata = cells(chemistry=["v1", "v2", "v3", "v1"] * 30)
        assert "optimistic-split" not in found_in(adata, group_key="chemistry")

    def test_a_random_split_of_joined_sets_is_optimistic(self):
        sets = [load_dataset(cells(seed=i), "kind", name=f"set{i}") for i in range(2)]
        joined = join_datasets(*sets)
        assert "optimistic-split" not in found(joined)
        finding = found(joined, split(joined, kind="stratified"))["optimistic-split"]
        assert "set0 and set1" in finding.title
        assert "kind='cross'" in finding.remedy


class TestClusters:
    @pytest.mark.parametrize(
        "column", ["leiden", "louvain_r1", "seurat_clusters", "Cluster", "RNA_snn_res.0.8", "kmeans"]
    )
    def test_labels_that_equal_a_clustering(self, column):
        adata = cells(**{column: ["0", "1", "2"] * 40})
        finding = found_in(adata)["labels-from-clusters"]
        assert finding.severity == "warning"
        assert f"{column!r} (adjusted Rand index 1.00)" in finding.title

    @pytest.mark.parametrize("changed", [0, 1, 2, 3, 4, 5, 8, 20])
    def test_the_limit_is_an_adjusted_rand_index_of_nine_tenths(self, changed):
        clusters = ["0", "1", "2"] * 40
        for i in range(changed):
            clusters[3 * i] = "1"
        adata = cells(leiden=clusters)
        expected = adjusted_rand_score(adata.obs["kind"], clusters)
        finding = found_in(adata).get("labels-from-clusters")
        assert (finding is not None) == (expected >= 0.9)
        if finding:
            assert f"index {expected:.2f}" in finding.title

    def test_all_matching_columns_are_listed_the_closest_first(self):
        close = ["0", "1", "2"] * 40
        close[0] = "1"
        other = ["x", "y", "z"] * 40
        adata = cells(leiden_1=close, louvain=["0", "1", "2"] * 40, other=other, annotator=["9", "5", "7"] * 40)
        title = found_in(adata)["labels-from-clusters"].title
        assert title.index("'louvain'") < title.index("'leiden_1'")
        assert "'other'" not in title
        assert "'annotator'" not in title

    @pytest.mark.parametrize(("missing", "fires"), [(12, True), (13, False)])
    def test_a_tenth_of_the_cells_may_lack_a_cluster(self, missing, fires):
        clusters = pd.Series(["0", "1", "2"] * 40, dtype=object)
        clusters[:missing] = None
        finding = found_in(cells(leiden=clusters.to_numpy())).get("labels-from-clusters")
        assert (finding is not None and "index 1.00" in finding.title) == fires

    @pytest.mark.parametrize("classes", [{"T"}, {"B", "T"}])
    def test_a_clustering_of_some_classes_does_not_decide_the_labels(self, classes):
        """Each cluster holds one class, and the cells of the others have none."""
        adata = cells(240)
        parts = adata.obs["kind"] + [f"-{i // 3 % 2}" for i in range(240)]
        adata.obs["T_leiden"] = parts.where(adata.obs["kind"].isin(classes)).astype("category")
        assert "labels-from-clusters" not in found_in(adata)

    def test_a_clustering_of_the_one_common_class_does_not_either(self):
        adata = cells(240, classes=("T",) * 19 + ("B",))
        parts = pd.Series([str(i % 3) for i in range(240)], index=adata.obs_names)
        adata.obs["T_leiden"] = parts.where(adata.obs["kind"] == "T")
        assert "labels-from-clusters" not in found_in(adata)

    def test_columns_that_are_no_clustering(self):
        adata = cells(leiden=["0"] * 120, cluster_score=np.linspace(0, 1, 120), leiden_2=[str(i) for i in range(120)])
        assert "labels-from-clusters" not in found_in(adata)

    def test_a_label_column_that_is_named_after_a_clustering(self):
        adata = cells()
        adata.obs["seurat_clusters"] = adata.obs.pop("kind")
        finding = found(load_dataset(adata, "seurat_clusters"))["labels-from-clusters"]
        assert finding.title == "The label column 'seurat_clusters' is named after a clustering"

    def test_registered_data_sets_say_where_their_labels_come_from(self, pbmc):
        finding = found(pbmc)["labels-from-clusters"]
        assert finding.severity == "note"
        assert finding.explanation == pbmc.notes[0]
        own = load_dataset(pbmc.adata, "bulk_labels", layer="raw", name="mine")
        assert "labels-from-clusters" not in found(own)
        assert "labels-from-clusters" not in found(load_dataset("pbmc68k-reduced", "phase"))
        louvain = load_dataset("pbmc68k-reduced", "louvain")
        assert found(louvain)["labels-from-clusters"].severity == "warning"

    @pytest.mark.parametrize("named", ["{}", "c{}", "cluster {}", "{}.0"])
    def test_labels_that_name_clusters_follow_from_them_whatever_the_column_is_called(self, named):
        """Six clusters, two of each class: far from the same partition, and yet the labels are theirs."""
        adata = cells(240, mine=[named.format(i % 6) for i in range(240)])
        assert adjusted_rand_score(adata.obs["kind"], adata.obs["mine"]) < 0.8
        finding = found_in(adata)["labels-from-clusters"]
        assert finding.severity == "warning"
        assert "'mine' (homogeneity 1.00 in 6 clusters)" in finding.title

    def test_clusters_that_do_not_decide_the_labels_say_nothing(self):
        mixed = [i % 6 if i % 10 else 3 for i in range(240)]
        assert "labels-from-clusters" not in found_in(cells(240, leiden=[str(i) for i in mixed]))

    def test_many_small_clusters_hold_one_label_by_chance(self):
        assert "labels-from-clusters" not in found_in(
            cells(120, leiden=[str(i // 3 * 3 + i % 3) for i in range(60)] * 2)
        )

    def test_numbered_batches_are_no_clusters(self):
        assert "labels-from-clusters" not in found_in(cells(batch=[i % 3 for i in range(120)]))

    @pytest.mark.parametrize(("labels", "least"), [("kept", 0.95), ("merged", 0.9)])
    def test_labels_of_clusters_are_found_when_the_clusters_are_gone(self, pbmc, labels, least):
        """Of another run, with fewer genes and components and other neighbours."""
        adata = pbmc.adata.raw.to_adata()
        sc.pp.pca(adata, n_comps=20, mask_var=np.asarray(adata.X.mean(axis=0)).ravel() > 0.1)
        near = kneighbors_graph(adata.obsm["X_pca"], 12)
        graph = near.maximum(near.T)
        sc.tl.leiden(adata, 0.4, adjacency=graph, flavor="igraph", n_iterations=2, directed=False)
        names = adata.obs["leiden"].astype(str)
        adata.obs = pd.DataFrame({"kind": "type " + names.replace({"0": "1"} if labels == "merged" else {})})
        finding = found(load_dataset(adata, "kind"))["labels-from-clusters"]
        assert finding.severity == "note"
        measured = re.fullmatch(r"Leiden on the same matrix .* \(homogeneity (0\.\d+) in \d+ clusters\)", finding.title)
        assert float(measured[1]) >= least

    def test_labels_that_clusters_do_not_give_back_say_nothing(self, pbmc):
        adata = pbmc.adata.raw.to_adata()
        adata.obs = pbmc.adata.obs[["bulk_labels"]].copy()
        assert "labels-from-clusters" not in found(load_dataset(adata, "bulk_labels"))

    def test_clusterings_of_small_clusters_are_left_out(self, pbmc, monkeypatch):
        matrix = pbmc.matrix[:100]
        before = [len(np.unique(clusters)) for clusters in clusterings.leiden(matrix)]
        monkeypatch.setattr(clusterings, "_CELLS_A_CLUSTER", 100 / min(before))
        after = [len(np.unique(clusters)) for clusters in clusterings.leiden(matrix)]
        assert after == [n for n in before if n == min(before)] != before

    def test_clusters_are_seeded_and_computed_once(self, pbmc, monkeypatch):
        dataset = dataclasses.replace(pbmc, cache={}, name="mine")
        first = found(dataset)
        one, other = (clusterings.leiden(pbmc.matrix[:100]) for _ in range(2))
        np.testing.assert_array_equal(one, other)
        monkeypatch.setattr(clusterings, "leiden", None)
        assert found(dataset) == first


class TestClasses:
    def test_classes_of_few_test_cells_are_listed_with_their_number(self):
        kinds = ["B"] * 100 + ["T"] * 40 + ["NK"] * 36 + ["rare"] * 3 + ["single"]
        adata = cells(180)
        adata.obs["kind"] = kinds
        finding = found_in(adata)["few-test-cells"]
        assert finding.severity == "warning"
        assert finding.title == "2 of 4 classes have fewer than 10 test cells: rare (1), NK (9)"

    def test_ten_test_cells_are_enough(self):
        adata = cells(120)  # 40 cells a class, a quarter tests
        assert "few-test-cells" not in found_in(adata)

    def test_a_class_without_a_test_cell_is_among_them(self):
        adata = cells(240, donor=[f"d{i // 3 % 4}" for i in range(240)])
        dataset = load_dataset(adata, "kind", group_key="donor")
        tested = split(dataset).groups["test"][0]
        adata.obs["kind"] = adata.obs["kind"].where(adata.obs["donor"] != tested, ["B", "T"] * 120)
        title = found(load_dataset(adata, "kind", group_key="donor"))["few-test-cells"].title
        assert title.endswith("NK (0)")

    def test_a_class_that_training_lacks(self):
        adata = cells(240, donor=[f"d{i // 3 % 4}" for i in range(240)])
        tested = split(load_dataset(adata, "kind", group_key="donor")).groups["test"][0]
        kinds = adata.obs["kind"].astype(object)
        kinds[(adata.obs["donor"] == tested) & (adata.obs["kind"] == "B")] = "new"
        adata.obs["kind"] = kinds
        finding = found_in(adata, group_key="donor")["class-not-in-training"]
        assert finding.severity == "warning"
        assert finding.title == "20 of 60 test cells have the class 'new', which no training cell has"

    def test_a_class_taken_out_on_purpose_is_a_note(self):
        dataset = load_dataset(cells(), "kind")
        cut = split(dataset).without_class(dataset, "NK")
        finding = found(dataset, cut)["class-not-in-training"]
        assert (finding.severity, finding.title[:15]) == ("note", "10 of 30 test c")
        assert "on purpose" in finding.remedy


class TestGenes:
    @pytest.mark.parametrize(("n_genes", "fires"), [(2_999, True), (3_000, False)])
    def test_few_genes_were_probably_chosen(self, n_genes, fires):
        findings = found_in(cells(60, n_genes))
        assert ("genes-chosen-on-all-cells" in findings) == fires
        if fires:
            assert findings["genes-chosen-on-all-cells"].severity == "note"
            assert "2,999 genes, fewer than 3,000" in findings["genes-chosen-on-all-cells"].title

    @pytest.mark.parametrize("dtype", [bool, object])
    def test_genes_that_are_all_marked_were_chosen(self, dtype):
        adata = cells(60, 3_100)
        adata.var["highly_variable"] = np.ones(3_100, dtype=dtype)
        adata.var["highly_variable"] = adata.var["highly_variable"].astype(bool).astype(dtype)
        assert "3,100 genes, all marked highly_variable" in found_in(adata)["genes-chosen-on-all-cells"].title
        adata.var.iloc[5, 0] = False
        assert "genes-chosen-on-all-cells" not in found_in(adata)

    def test_marks_of_other_genes_than_those_in_use_do_not_count(self):
        whole = cells(60, 3_100)
        part = whole[:, :50].copy()
        part.raw = whole
        part.var["highly_variable"] = True
        assert "genes-chosen-on-all-cells" not in found_in(part, layer="raw")
        assert "genes-chosen-on-all-cells" in found_in(part)


def test_clusters_of_a_joined_set_are_those_of_the_cells_of_each(monkeypatch):
    sets = [load_dataset(cells(n), "kind", name=name) for n, name in ((120, "one"), (160, "other"))]
    joined, clustered = join_datasets(*sets), []
    monkeypatch.setattr(clusterings, "leiden", lambda matrix: clustered.append(matrix.shape[0]) or [])
    for name in ("one", "other"):
        rows, _ = clusterings._leiden_of(joined, name)
        assert set(joined.origin[rows]) == {name}
    assert clustered == [120, 160]


class TestSeenInPretraining:
    def test_known_overlaps_are_said(self, pbmc):
        finding = found(pbmc, checkpoint="mini")["seen-in-pretraining"]
        assert finding.severity == "warning"
        assert "other cells of the same donor" in finding.explanation
        assert "seen-in-pretraining" not in found(pbmc)

    def test_so_they_are_where_the_checkpoint_is_given_as_a_folder(self, pbmc, tmp_path, small_checkpoint):
        folder = shutil.copytree(find_folder("mini"), tmp_path / "mine")
        assert "donor" in found(pbmc, checkpoint=str(folder))["seen-in-pretraining"].explanation
        assert "seen-in-pretraining" not in found(pbmc, checkpoint=str(small_checkpoint))

    def test_the_sets_of_a_joined_one_are_looked_at(self, pbmc):
        other = load_dataset(pbmc.adata[:300].copy(), "bulk_labels", layer="raw", name="other")
        assert "pbmc68k-reduced" in found(join_datasets(other, pbmc), checkpoint="mini")["seen-in-pretraining"].title

    def test_public_cells_and_an_official_checkpoint(self, monkeypatch, tmp_path):
        shutil.copytree(find_folder("mini"), tmp_path / "checkpoints" / "whole-human")
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
        finding = found(load_dataset("pancreas"), checkpoint="whole-human")["seen-in-pretraining"]
        assert finding.severity == "note"
        assert "not recorded" in finding.explanation
        assert "seen-in-pretraining" not in found(load_dataset(cells(), "kind"), checkpoint="whole-human")

    def test_an_unknown_checkpoint_is_refused(self, pbmc):
        with pytest.raises(CheckpointError, match="unknown checkpoint 'maxi'"):
            review(pbmc, split(pbmc), "maxi")


@pytest.fixture(scope="module")
def corpus_genes() -> pd.DataFrame:
    return pd.read_csv(find_folder("mini") / CORPUS_GENES, keep_default_na=False).set_index("gene")


class TestUnlikePretraining:
    def test_pancreas_is_unlike_blood(self, corpus_genes):
        pancreas = load_dataset("pancreas")
        for repeat in range(4):
            finding = found(pancreas, split(pancreas, repeat=repeat), "mini")["unlike-pretraining"]
            assert finding.severity == "warning"
            assert "29% of a typical cell's counts" in finding.title
            assert "(5% in those themselves)" in finding.title
        assert "does not know 4,991" in finding.explanation
        assert "activated_stellate 33%" in finding.explanation
        card = (find_folder("mini") / "MODEL_CARD.md").read_text(encoding="utf-8")
        (row,) = re.findall(r"\| pancreas, donors left out one by one \|(.*)\|", card)
        frozen, classical = (float(re.search(r"[\d.]+", row.split("|")[i])[0]) for i in (1, -1))
        assert (
            f"macro-F1 of {frozen:.2f} where PCA + logistic regression reached {classical:.2f}" in finding.explanation
        )
        assert "whole-human" in finding.remedy
        assert "pca_logistic" in finding.remedy

    def test_each_part_of_the_pancreas_is_far_beyond_the_limit(self, corpus_genes):
        pancreas = load_dataset("pancreas")
        for name in np.unique(pancreas.labels):
            shares, expected = rare_shares(pancreas, np.flatnonzero(pancreas.labels == name), corpus_genes)
            assert np.median(shares) - expected > 1.5 * UNLIKE

    def test_blood_is_not(self, pbmc, corpus_genes):
        assert "unlike-pretraining" not in found(pbmc, checkpoint="mini")
        shares, expected = rare_shares(pbmc, np.arange(len(pbmc)), corpus_genes)
        assert np.median(shares) - expected < UNLIKE / 10

    def test_the_shares_are_those_of_the_counts(self, corpus_genes):
        """Recomputed from the raw counts of a few cells, gene by gene."""
        pancreas = load_dataset("pancreas")
        shares, expected = rare_shares(pancreas, np.arange(3), corpus_genes)
        percent = corpus_genes["percent_of_cells"].to_dict()
        cpm = corpus_genes["mean_cpm"].to_dict()
        found = map_genes(pancreas.genes, list(percent)).table().query("kind in ('exact', 'mapped')")
        common = dict(zip(found["name"], found["token"], strict=True))
        for row in range(3):
            counts = dict(zip(pancreas.genes, pancreas.adata.X[row].toarray().ravel(), strict=True))
            rare = sum(counts[gene] for gene, token in common.items() if percent[token] < 5)
            assert shares[row] == pytest.approx(rare / sum(counts[gene] for gene in common), rel=1e-5)
        rare = sum(cpm[token] for token in common.values() if percent[token] < 5)
        assert expected == pytest.approx(rare / sum(cpm[token] for token in common.values()))

    def test_sequencing_depth_does_not_decide(self, corpus_genes):
        pancreas = load_dataset("pancreas")
        rng = np.random.default_rng(0)
        thin = pancreas.adata.copy()
        thin.X = thin.X.copy()
        thin.X.data = rng.binomial(thin.X.data.astype(int), 0.2).astype(np.float32)
        medians = [
            np.median(rare_shares(data, np.arange(175), corpus_genes)[0])
            for data in (pancreas, load_dataset(thin, "cell_type"))
        ]
        assert medians[1] == pytest.approx(medians[0], rel=0.05)

    def test_checkpoints_without_the_file_and_foreign_genes_say_nothing(self, small_checkpoint, pbmc):
        pancreas = load_dataset("pancreas")
        assert "unlike-pretraining" not in found(pancreas)
        assert "unlike-pretraining" not in found(pancreas, checkpoint=small_checkpoint)
        assert "unlike-pretraining" not in found_in(cells())

    @pytest.mark.parametrize(("n_genes", "fires"), [(49, False), (50, True)])
    def test_a_handful_of_common_genes_is_too_few_to_tell(self, corpus_genes, n_genes, fires):
        rare = corpus_genes.index[corpus_genes["percent_of_cells"] < 5][: n_genes - 1]
        adata = cells(120, n_genes)
        adata.var_names = [*rare, "B2M"]
        findings = found(load_dataset(adata, "kind", name="panel"), checkpoint="mini")
        assert ("unlike-pretraining" in findings) == fires

    @pytest.mark.slow
    def test_of_joined_sets_each_is_measured(self, corpus_genes):
        share = corpus_genes["mean_cpm"].to_numpy() / corpus_genes["mean_cpm"].sum()
        counts = np.random.default_rng(0).multinomial(3_000, share, 300).astype(np.float32)
        kinds = pd.DataFrame({"kind": ["beta", "delta"] * 150}, index=[f"b{i}" for i in range(300)])
        blood = AnnData(sparse.csr_matrix(counts), obs=kinds, var=pd.DataFrame(index=corpus_genes.index))
        blood = load_dataset(blood, "kind", name="blood")
        assert "unlike-pretraining" not in found(blood, checkpoint="mini")
        islets = load_dataset("pancreas")
        for pair in ((blood, islets), (islets, blood)):
            title = found(join_datasets(*pair), checkpoint="mini")["unlike-pretraining"].title
            assert title.startswith("pancreas is unlike the cells that mini was pre-trained on")


class TestCorpusGenes:
    def test_statistics_of_a_hand_made_corpus(self, tmp_path):
        one = AnnData(np.array([[1, 0, 3], [0, 0, 5], [2, 2, 0], [1, 1, 2]], np.float32))
        one.var_names = ["A", "B", "C"]
        two = AnnData(np.array([[4, 1], [6, 0]], np.float32))
        two.var_names = ["B", "D,E"]
        for name, adata in (("one", one), ("two", two)):
            adata.write_h5ad(tmp_path / f"{name}.h5ad")
        statistics = read_corpus([tmp_path / "one.h5ad", tmp_path / "two.h5ad"]).statistics()
        assert statistics.genes == ("A", "B", "C", "D,E")
        np.testing.assert_allclose(statistics.detected, [0.75, 1.0, 0.75, 0.5])
        np.testing.assert_allclose(
            statistics.share,
            [(1 / 4 + 2 / 4 + 1 / 4) / 6, (2 / 4 + 1 / 4 + 4 / 5 + 1) / 6, (3 / 4 + 1 + 2 / 4) / 6, (1 / 5) / 6],
        )
        statistics.write(tmp_path / CORPUS_GENES)
        table = pd.read_csv(tmp_path / CORPUS_GENES, index_col="gene")
        assert table["percent_of_cells"].to_dict() == {"A": 75.0, "B": 100.0, "C": 75.0, "D,E": 50.0}
        np.testing.assert_allclose(table["mean_cpm"], 1e6 * statistics.share, rtol=0.05)

    def test_a_gene_may_be_called_na(self, tmp_path):
        (tmp_path / CORPUS_GENES).write_text("gene,percent_of_cells,mean_cpm\nNA,1.0,2\nB2M,99.0,3\n")
        assert list(_corpus_genes(tmp_path).index) == ["NA", "B2M"]

    def test_the_shipped_file_is_that_of_minis_corpus(self, corpus_genes):
        """The vocabulary holds the genes that at least 1 % of the cells of one set express."""
        vocabulary = json.loads((find_folder("mini") / "vocab.json").read_text())
        frequent = set(corpus_genes.index[corpus_genes["percent_of_cells"] > 1.05])
        rare = set(corpus_genes.index[corpus_genes["percent_of_cells"] < 0.95])
        assert frequent <= vocabulary.keys()
        assert not rare & vocabulary.keys()
        assert len(frequent) > 8_900
        assert corpus_genes["mean_cpm"].sum() == pytest.approx(1e6, rel=0.01)
        assert corpus_genes.loc["B2M", "percent_of_cells"] > 90
        assert (find_folder("mini") / CORPUS_GENES).stat().st_size < 300_000
