"""A model and cells that it labelled, as files: what is measured, and that no altered file passes."""

from __future__ import annotations

import io
import shutil
import zipfile

import anndata
import numpy as np
import pandas as pd
import pytest
from kept_models import islet_model, islets, model_of

from frostline.annotation.annotating import annotate
from frostline.artifacts import kinds, labelled, pictures
from frostline.artifacts.manifests import DatasetFacts, Manifest
from frostline.errors import ArtifactError, FrostlineError
from frostline.plain_files import FileFacts
from frostline.strategies import PcaLogistic

SOURCE = "0" * 64
"""In the place of the hash of the predictions."""


@pytest.fixture(scope="module")
def found():
    """23 cells of a donor, the label of the first given wrongly."""
    adata = islets().adata
    adata = adata[adata.obs["donor"] == "human4"].copy()
    true = adata.obs["cell_type"].astype(str).to_numpy()
    adata.obs = adata.obs[[]]
    annotation = annotate(islet_model(), adata)
    true[0] = "delta" if true[0] != "delta" else "alpha"
    return labelled.collect(islet_model(), adata, annotation, true)


@pytest.fixture(scope="module")
def manifest():
    facts = DatasetFacts(name="islets", label_key="cell_type", sha256=islets().fingerprint())
    files = {"predictions.parquet": FileFacts(sha256=SOURCE)}
    return Manifest.model_construct(
        dataset=facts, strategies=["pca_logistic"], parameters={}, studies=["annotation"], files=files
    )


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    labelled.write(folder, found, "islets", SOURCE)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy that may be altered."""
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


def test_files_that_are_written_are_those_that_are_declared(folder):
    assert {path.name for path in folder.iterdir()} == set(labelled.FILES)
    declared = set(kinds.of(["annotation"]).files(["pca_logistic"], ["annotation"]))
    assert declared == {*labelled.FILES, *kinds.COMPARISON.files(["pca_logistic"], [])}


def test_what_was_written_passes(folder, manifest):
    numbers, problems = labelled.problems(folder, manifest)
    assert problems == []
    assert numbers >= 2 * 23


def test_labels_from_a_layer_are_labels_again_from_that_layer(found, manifest, tmp_path):
    cells = islets().adata[found.cells.obs_names].copy()
    cells.layers["counts"] = cells.X
    cells.X = cells.X.tocsr()[:, ::-1].copy()
    annotation = annotate(islet_model(), cells, layer="counts")
    assert annotation.obs.equals(found.annotation.obs)
    labelled.write(tmp_path, labelled.collect(islet_model(), cells, annotation), "islets", SOURCE)
    other = manifest.model_copy(update={"parameters": {"layer": "of the training data"}})
    assert labelled.problems(tmp_path, other)[1] == []


def test_measured_is_what_counting_gives(found):
    table = found.table
    assert list(table.columns) == list(labelled.COLUMNS)
    n = wrong = 0
    for row in table.itertuples():
        if row.label != "Unknown":
            n, wrong = n + 1, wrong + (row.label != row.true_label)
    measured = found.measured
    assert (measured["cells"], measured["labelled"]) == (23, n)
    assert wrong >= 1
    assert measured["right of labelled"] == pytest.approx((n - wrong) / n)
    sure = table[(table["label"] != "Unknown") & (table["reason"] == "")]
    assert measured["right of sure"] == pytest.approx(np.mean(sure["label"] == sure["true_label"]))


def test_without_known_labels_nothing_is_said_to_be_right(found):
    cells = found.cells.copy()
    del cells.obs["true_label"]
    bare = labelled.Labelled(found.model, cells)
    assert "right of labelled" not in bare.measured
    assert set(bare.table["true_label"]) == {""}
    assert "right are" not in labelled.described(bare)[0]


@pytest.mark.parametrize("missing", ["", None, np.nan])
def test_cells_whose_label_is_not_known_are_neither_right_nor_wrong(found, missing):
    true = found.cells.obs["true_label"].astype(object).to_numpy()
    true[5:] = missing
    part = labelled.collect(islet_model(), found.cells, found.annotation, true)
    assert part.table["true_label"].tolist() == [*true[:5], *[""] * 18]
    labels = part.table["label"].tolist()[:5]
    right = [label == known for label, known in zip(labels, true[:5], strict=True) if label != "Unknown"]
    assert part.measured["right of labelled"] == pytest.approx(sum(right) / len(right))
    assert (
        f"; of the 5 whose label is known, right are {100 * sum(right) / len(right):.1f} % of the labels"
        in (labelled.described(part)[0])
    )


def test_a_column_of_the_query_without_a_label_is_as_none(found):
    cells = found.cells.copy()
    cells.obs["true_label"] = np.nan
    empty = labelled.collect(islet_model(), cells, found.annotation)
    assert set(empty.table["true_label"]) == {""}
    assert "right are" not in labelled.described(empty)[0]


def test_the_same_model_gives_the_same_bytes(found):
    again = labelled.collect(islet_model(), found.cells, found.annotation)
    assert again.model == found.model


def test_model_loads_from_the_zip(found):
    assert labelled.loaded(found.model).classes == islet_model().classes


def test_cells_without_labels_are_refused(found):
    with pytest.raises(FrostlineError, match=r"no obs\['frostline'\]; label them first"):
        labelled.collect(islet_model(), islets().adata, found.annotation)


@pytest.mark.parametrize("value", [("a", 1), 2.5])
def test_cells_that_no_file_can_hold_are_refused_and_the_remedy_works(found, value):
    cells = found.cells.copy()
    cells.obs["when"] = [value, *["a"] * 22]
    with pytest.raises(FrostlineError, match=r"run first: (adata\.obs\['when'\] = .*)$") as error:
        labelled.collect(islet_model(), cells, found.annotation)
    exec(error.value.line, {"adata": cells})
    assert len(labelled.collect(islet_model(), cells, found.annotation).table) == 23


def test_cells_in_a_file_are_taken(found, tmp_path):
    found.cells.write_h5ad(tmp_path / "query.h5ad")
    backed = anndata.read_h5ad(tmp_path / "query.h5ad", backed="r+")
    backed.obs[list(found.annotation.obs)] = found.annotation.obs
    assert labelled.collect(islet_model(), backed, found.annotation).table.equals(found.table)
    backed.file.close()


def test_an_annotation_of_other_cells_is_refused(found):
    other = found.cells.copy()
    other.obs["frostline"] = other.obs["frostline"][::-1].to_numpy()
    with pytest.raises(FrostlineError, match="others than the annotation has"):
        labelled.collect(islet_model(), other, found.annotation)


def test_the_report_shows_each_promise_by_a_picture(folder):
    report = (folder / "labels.md").read_text()
    for name, heading in labelled.PICTURES.items():
        assert f"## {heading}" in report
        assert f"]({name})" in report
        assert pictures.problems(folder / name, SOURCE) == []


def test_pictures_are_drawn_again_and_another_one_is_found(folder, manifest):
    assert labelled.problems(folder, manifest, draws=True)[1] == []
    shutil.copy(folder / "promise_coarser.png", folder / "promise_likeness.png")
    problems = labelled.problems(folder, manifest, draws=True)[1]
    assert [problem.split(":")[0] for problem in problems] == ["promise_likeness.png"]


def altered(folder, name, change):
    cells = anndata.read_h5ad(folder / "labelled.h5ad")
    column = cells.obs[name]
    cells.obs[name] = pd.Categorical(change(column.astype(str))) if column.dtype == "category" else change(column)
    cells.write_h5ad(folder / "labelled.h5ad")
    rewritten = labelled.read(folder)
    (folder / "labels.csv").write_text(labelled._table_text(rewritten))
    (folder / "labels.md").write_text(labelled.report_markdown(rewritten, "islets"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("frostline", lambda column: column[::-1].to_numpy()),
        ("frostline_confidence", lambda column: column.to_numpy() * 0.99),
        ("frostline_reason", lambda column: np.where(np.arange(len(column)) == 3, "low confidence", column)),
    ],
)
def test_labels_that_the_model_does_not_give_are_found_though_all_texts_fit_them(folder, manifest, name, change):
    altered(folder, name, change)
    _, problems = labelled.problems(folder, manifest)
    assert problems == [f"labelled.h5ad: obs[{name!r}] is not what model.zip gives these cells"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels.csv", "labels.md"])
def test_edited_text_is_found(folder, manifest, name):
    (folder / name).write_text((folder / name).read_text().replace("alpha", "beta"))
    assert labelled.problems(folder, manifest)[1] == [f"{name}: is not what labelled.h5ad gives"]


@pytest.mark.slow
def test_another_model_is_found(folder, manifest):
    other = model_of(islets().relabelled("donor"), PcaLogistic(n_hvg=300, n_components=10))
    (folder / "model.zip").write_bytes(labelled._packed(other))
    said = " ".join(labelled.problems(folder, manifest)[1])
    assert "model.zip: its label column is donor, the manifest says cell_type" in said
    assert "is not what model.zip gives these cells" in said


def packed(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("UP", ".."), data)
    return content.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no zip", "cannot be unpacked"),
        (packed(UP__out=b"x"), "something else than the files of a model"),
        (packed(folder__x=b"x"), "something else than the files of a model"),
        (packed(x=b"x"), "no folder of a model"),
    ],
)
def test_zip_that_is_none_of_a_model_is_refused_and_writes_nothing_elsewhere(folder, manifest, content, said):
    (folder / "model.zip").write_bytes(content)
    before = {path.name for path in folder.parent.iterdir()}
    _, (problem,) = labelled.problems(folder, manifest)
    assert problem.startswith("model.zip: ")
    assert said in problem
    assert {path.name for path in folder.parent.iterdir()} == before


def test_damaged_cells_are_an_error_that_names_them(folder):
    (folder / "labelled.h5ad").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="labelled cells that can be read"):
        labelled.read(folder)
