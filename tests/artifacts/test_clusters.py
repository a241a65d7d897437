"""A study of clusters: what is taken out of an AnnData, and that an altered file is found."""

from __future__ import annotations

import re
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn.metrics import adjusted_rand_score

import frostline
from frostline import RunSettings, artifacts, clusters
from frostline.artifacts.clusters import Clusters
from frostline.artifacts.manifests import DatasetFacts, Manifest
from frostline.errors import ArtifactError, DatasetError
from frostline.publishing.terminal import result_lines

MANIFEST = Manifest.model_construct(dataset=DatasetFacts(name="hand-made", label_key="kind", cells=60))


@pytest.fixture
def found() -> Clusters:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(60, 4)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    cells = pd.DataFrame(
        {
            "cell": [f"cell-{i}" for i in range(60)],
            "label": ["B", "T", "NK"] * 20,
            "cluster": [0, 1, 2] * 19 + [1, 1, 1],
            "umap_1": rng.normal(size=60),
            "umap_2": rng.normal(size=60),
        }
    )
    rows = [(c, r, f"GENE{c}{r}", 10.0 - r, 1.0, 0.01 * r) for c in range(3) for r in (1, 2, 3)]
    return Clusters(embedding, cells, pd.DataFrame(rows, columns=list(clusters.COLUMNS["markers"])))


@pytest.fixture
def folder(found, tmp_path):
    clusters.write(tmp_path, found, "hand-made")
    return tmp_path


def test_what_was_written_passes_and_states_its_numbers(folder, found):
    assert {path.name for path in folder.iterdir()} == set(clusters.FILES)
    assert clusters.problems(folder, MANIFEST) == (5, [])
    report = (folder / clusters.REPORT).read_text()
    assert f"ARI {adjusted_rand_score(found.cells['label'], found.cells['cluster']):.4f}" in report
    (head,) = [line for line in report.splitlines() if "Marker genes" in line]
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "Cluster",
        "Cells",
        "Most frequent label",
        "Marker genes",
    ]
    assert "GENE01, GENE02, GENE03" in report


def test_a_study_is_saved_checked_and_said_as_a_comparison_is(found, pbmc, tmp_path):
    settings = RunSettings(output_dir=str(tmp_path / "out"))
    folder = artifacts.save_clusters(artifacts.begin(settings, tutorial="hand-made"), found, pbmc)
    assert {path.name for path in folder.iterdir()} == {*artifacts.declared([], ["clusters"]), "manifest.json"}
    result = artifacts.check(folder)
    assert (result.problems, result.files, result.numbers) == ([], 6, 5)
    assert result_lines(folder) == [clusters.described(found)]


def test_a_picture_that_cannot_be_drawn_costs_nothing_that_was_computed(found, pbmc, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "umap_figure", lambda _: 1 / 0)
    run = artifacts.begin(RunSettings(output_dir=str(tmp_path / "out")), tutorial="hand-made")
    with pytest.raises(ArtifactError, match=r"ZeroDivisionError.*read it with numpy\.load and pandas\.read_csv"):
        artifacts.save_clusters(run, found, pbmc)
    (kept,) = tmp_path.iterdir()
    columns = ["cell", "label", "cluster"]
    assert clusters.read(kept).cells[columns].equals(found.cells[columns])


def edit(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def longer_rows(folder):
    np.save(folder / clusters.EMBEDDING, 2 * np.load(folder / clusters.EMBEDDING))


def fewer_rows(folder):
    np.save(folder / clusters.EMBEDDING, np.load(folder / clusters.EMBEDDING)[:-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit(clusters.REPORT, "ARI 0.", "ARI 1."), "report.md: is not what"),
        (edit(clusters.CELLS, "cell-0,B,0", "cell-0,B,1"), "report.md: is not what"),
        (edit(clusters.CELLS, "cell-0,", "cell-1,"), "cells.csv: its cells are not some"),
        (edit(clusters.CELLS, "label", "type"), "cells.csv: columns are"),
        (edit(clusters.MARKERS, "0,1,GENE01", "0,1,GENE02"), "markers.csv: cluster 0 has not each gene once"),
        (edit(clusters.MARKERS, "GENE02,8.0", "GENE02,9.5"), "markers.csv: cluster 0 is not sorted by score"),
        (edit(clusters.MARKERS, "2,1,", "5,1,"), "markers.csv: its clusters are not those"),
        (longer_rows, "embedding.npy: rows are not all finite and of norm 1"),
        (fewer_rows, r"embedding.npy: has shape \(59, 4\) for 60 cells"),
        (lambda folder: (folder / clusters.EMBEDDING).write_bytes(b"no array"), "no clusters that can be read"),
    ],
)
def test_altered_file_is_named(folder, change, said):
    change(folder)
    _, problems = clusters.problems(folder, MANIFEST)
    assert problems
    assert any(pd.Series(problems).str.contains(said))


def test_step_that_was_left_out_is_named(pbmc):
    adata = clusters.annotated(pbmc, range(10))
    with pytest.raises(DatasetError, match=r"has no obsm\['X_scGPT'\]; run frostline.embed"):
        clusters.collect(adata)


@pytest.mark.slow
def test_the_steps_that_are_named_one_after_the_other_are_enough(pbmc, monkeypatch):
    """UMAP, which compiles for long, is stood in for."""
    monkeypatch.setattr(sc.tl, "umap", lambda adata: adata.obsm.update(X_umap=np.zeros((adata.n_obs, 2))))
    adata, done = clusters.annotated(pbmc, range(120)), []
    while len(done) < 4:
        with pytest.raises(DatasetError, match=r"; run (.*) first$") as refused:
            clusters.collect(adata)
        done.append(re.search(r"; run (.*) first$", str(refused.value))[1])
        exec(done[-1], {"adata": adata, "sc": sc, "frostline": frostline})
    assert len(set(done)) == 4
    assert len(clusters.collect(adata).cells) == 120


@pytest.fixture
def worked_on(found) -> anndata.AnnData:
    """Sixty cells of five genes, as scanpy leaves them."""
    adata = anndata.AnnData(np.random.default_rng(0).random((60, 5), dtype=np.float32))
    adata.obs["label"] = found.cells["label"].to_numpy()
    adata.obs["leiden"] = pd.Categorical(found.cells["cluster"].astype(str))
    adata.obsm.update(X_scGPT=found.embedding, X_umap=found.cells[["umap_1", "umap_2"]].to_numpy())
    sc.tl.rank_genes_groups(adata, "leiden")
    return adata


def of_other_names(adata, name):
    adata.obs["leiden"] = adata.obs["leiden"].cat.rename_categories(name)
    sc.tl.rank_genes_groups(adata, "leiden")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda adata: of_other_names(adata, "c{}".format), r"obs\['leiden'\] holds 'c0', and clusters are numbered"),
        (lambda adata: of_other_names(adata, "1,{}".format), r"obs\['leiden'\] holds '1,0', and"),
        (lambda adata: sc.tl.rank_genes_groups(adata, "label"), r"is of the groups B, NK, T, and not of the clusters"),
        (lambda adata: sc.tl.rank_genes_groups(adata, "leiden", groups=["0"]), "is of the groups 0, and not"),
        (lambda adata: adata.obs["leiden"].array.__setitem__(slice(7), None), "names no cluster for 7 cells"),
    ],
)
def test_clusters_of_other_names_or_markers_are_refused_and_the_remedy_works(worked_on, change, said):
    change(worked_on)
    with pytest.raises(DatasetError, match=rf"{said}.*; run (.*) first$") as refused:
        clusters.collect(worked_on)
    place = {"adata": worked_on, "sc": sc}
    exec(re.search(r"; run (.*) first$", str(refused.value))[1], place)
    found = clusters.collect(place["adata"])
    assert sorted(set(found.cells["cluster"])) == sorted(set(found.markers["cluster"])) == [0, 1, 2]


def test_a_single_cluster_is_taken(worked_on):
    worked_on.obs["leiden"] = pd.Categorical(["0"] * 60)
    with warnings.catch_warnings(action="ignore"):  # scanpy takes the mean of no other cell
        sc.tl.rank_genes_groups(worked_on, "leiden")
    assert set(clusters.collect(worked_on).markers["cluster"]) == {0}


@pytest.mark.parametrize("harm", [lambda rows: 2 * rows, lambda rows: np.where(rows > 0.9, np.nan, rows)])
def test_an_embedding_of_no_checkpoint_is_refused(worked_on, harm):
    worked_on.obsm["X_pca"] = harm(worked_on.obsm["X_scGPT"])
    with pytest.raises(DatasetError, match=r"obsm\['X_pca'\] has rows that .*; make one .*embedding='X_scGPT'"):
        clusters.collect(worked_on, embedding="X_pca")


def test_annotated_cells_are_those_asked_for(pbmc):
    adata = clusters.annotated(pbmc, [5, 3])
    assert isinstance(adata, anndata.AnnData)
    assert adata.obs_names.tolist() == pbmc.cells[[3, 5]].tolist()
    assert adata.obs["label"].astype(str).tolist() == pbmc.labels[[3, 5]].tolist()


def test_marker_table_shows_the_first_of_each_cluster(found):
    table = found.marker_table(2)
    assert table.loc[(1, 1)].tolist() == ["GENE11", "9.0", "1.00", "1.0e-02"]
    assert len(table) == 6


def test_names_come_back_as_they_were_whatever_they_are(found, tmp_path):
    names = ["NA", "", "01", "a\rb", "a\nb", '"x",', "nan", " b ", "=1+1", "<b>$\\frac{$|`"]
    found.cells["label"] = names * 6
    found.cells["cell"] = [f"{name}{i // 10}" for i, name in enumerate(names * 6)]
    found.markers["gene"] = names[:9]
    clusters.write(tmp_path, found, "<i>\n# x")
    again = clusters.read(tmp_path)
    assert again.cells[["cell", "label"]].equals(found.cells[["cell", "label"]])
    assert again.markers["gene"].tolist() == found.markers["gene"].tolist()
    assert (
        clusters.problems(
            tmp_path, Manifest.model_construct(dataset=DatasetFacts(name="<i>\n# x", label_key="kind", cells=60))
        )[1]
        == []
    )
    report = (tmp_path / clusters.REPORT).read_text()
    assert report.startswith("# Clusters of &lt;i> \\# x in a frozen embedding\n")
    assert len([line for line in report.splitlines() if line.startswith("| ")]) == 2 + 3
