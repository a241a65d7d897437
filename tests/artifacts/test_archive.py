"""A comparison comes back from disk to the last bit, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from frostline.artifacts import archive
from frostline.comparison.comparisons import compare
from frostline.errors import ArtifactError
from frostline.records import Finding

ONCE_A_CELL = {
    *("cells", "labels", "groups", "probabilities", "umap", "distances"),
    *("validation_cells", "validation_labels", "validation_probabilities", "validation_groups"),
}


@pytest.fixture(scope="module")
def comparison(make_record):
    """Two strategies on two splits with groups, one of them without a map, and both kinds of study."""
    warning = Finding("shared-group", "warning", "donor a", "It matters.", "Hold donors out.")
    grouped = {"groups": ("a", "b") * 20, "group_key": "donor", "split_kind": "group", "findings": (warning,)}
    grouped |= {"n_train_groups": 3, "left_out": {"rare": 2}}
    known = {**grouped, "validation_groups": ("c", "d", "e") * 10}
    records = [make_record(name, repeat=r, **known) for r in (0, 1) for name in ("head", "lora")]
    records[1] = make_record("lora", umap=None, **known)
    plain = {"validation_cells": (), "validation_labels": (), "validation_probabilities": None, "umap": None, **grouped}
    records += [make_record("head", repeat=r, budget=n, **plain) for r in (0, 1) for n in (5, 10)]
    distances = np.random.default_rng(0).random(40)
    records += [make_record("head", unseen=name, distances=distances, **plain) for name in ("NK", "B cell")]
    return compare(records)


def test_every_record_comes_back_to_the_last_bit(comparison, tmp_path):
    archive.write(tmp_path, comparison)
    again = archive.read(tmp_path)
    assert again.records == comparison.records
    assert again.budget_records == comparison.budget_records
    assert again.unseen_records == comparison.unseen_records
    assert {path.name for path in tmp_path.iterdir()} == {*archive.FILES, archive.STUDIES}


def test_a_folder_of_artifacts_is_loaded_by_its_path_or_its_text(comparison, tmp_path):
    archive.write(tmp_path, comparison)
    (tmp_path / "report.csv").touch()
    for folder in (tmp_path, str(tmp_path)):
        assert archive.load_comparison(folder).records == comparison.records
    with pytest.raises(ArtifactError, match="nowhere holds no comparison that can be read"):
        archive.load_comparison(tmp_path / "nowhere")


def test_records_of_an_earlier_version_load_and_claim_less(make_record, tmp_path):
    """They do not say how many groups trained, nor which classes were left out."""
    donors = {"groups": ("a", "b", "c", "d") * 10, "group_key": "donor", "split_kind": "group"}
    archive.write(tmp_path, compare([make_record(n, **donors, n_train_groups=9) for n in ("head", "lora")]))
    lines = [json.loads(line) for line in (tmp_path / archive.RECORDS).read_text().splitlines()]
    for line in lines:
        del line["n_train_groups"], line["left_out"]
    (tmp_path / archive.RECORDS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = archive.read(tmp_path)
    assert (again.records[0].n_train_groups, again.records[0].left_out) == (None, {})
    assert again.verdict.startswith("Of these fitted models on new groups (donor; 4 tested): ")


def test_without_studies_there_is_no_file_of_them(make_record, tmp_path):
    archive.write(tmp_path, compare([make_record()]))
    assert {path.name for path in tmp_path.iterdir()} == set(archive.FILES)
    assert archive.read(tmp_path).records == (make_record(),)


def test_records_without_validation_and_maps_come_back(make_record, tmp_path):
    bare = make_record(umap=None, validation_cells=(), validation_labels=(), validation_probabilities=None)
    archive.write(tmp_path, compare([bare]))
    assert archive.read(tmp_path).records == (bare,)


def test_splits_of_different_classes_come_back(make_record, tmp_path):
    """In a split by group a class may be absent; its column holds 0 there and is dropped again."""
    narrow = make_record(repeat=1, classes=("B cell", "NK", "T cell"))
    wide = make_record(
        repeat=0,
        classes=("B cell", "NK", "T cell", "rare"),
        probabilities=np.tile([0.4, 0.3, 0.2, 0.1], (40, 1)),
        validation_probabilities=np.tile([0.4, 0.3, 0.2, 0.1], (30, 1)),
    )
    archive.write(tmp_path, compare([wide, narrow]))
    assert archive.read(tmp_path).records == (wide, narrow)


def test_a_line_is_the_whole_record_but_for_what_is_there_once_a_cell(comparison, make_record, tmp_path):
    odd = make_record(
        "lora",
        parameters={"genes": np.int64(500), "rate": np.float32(0.1), "checkpoint": tmp_path, "text": "ä\n\u2028"},
        metrics={**make_record().metrics, "silhouette": None, "auroc": 1e-17},
        history=({"loss": 1 / 3},),
    )
    for records in ([*comparison.records, *comparison.budget_records, *comparison.unseen_records], [odd]):
        archive.write(tmp_path, compare(records))
        whole = [json.loads(record.to_json()) for record in records]
        lines = [{key: value for key, value in content.items() if key not in ONCE_A_CELL} for content in whole]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        assert (tmp_path / archive.RECORDS).read_bytes() == text.encode()


def test_no_number_is_there_twice(comparison, tmp_path):
    archive.write(tmp_path, comparison)
    for line in (tmp_path / archive.RECORDS).read_text().splitlines():
        content = json.loads(line)
        assert not {"cells", "labels", "probabilities", "groups", "umap", "distances"} & set(content)
        assert not any(len(value) >= 30 for value in content.values() if isinstance(value, list))


@pytest.mark.parametrize("name", [*archive.FILES, archive.STUDIES])
def test_a_missing_or_damaged_file_is_an_error_that_names_the_folder(comparison, tmp_path, name):
    archive.write(tmp_path, comparison)
    (tmp_path / name).write_bytes(b"no such format")
    with pytest.raises(ArtifactError, match="holds no comparison that can be read"):
        archive.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        archive.read(tmp_path)


def test_predictions_without_a_record_are_an_error(comparison, tmp_path):
    archive.write(tmp_path, comparison)
    lines = (tmp_path / archive.RECORDS).read_text().splitlines(keepends=True)
    (tmp_path / archive.RECORDS).write_text("".join(lines[:1] + lines[2:3] + lines[4:]))
    with pytest.raises(ArtifactError, match=r"predictions without a record in predictions\.parquet"):
        archive.read(tmp_path)


def test_maps_of_other_cells_are_an_error(comparison, tmp_path):
    archive.write(tmp_path, comparison)
    table = pd.read_parquet(tmp_path / archive.UMAP)
    table.iloc[::-1].to_parquet(tmp_path / archive.UMAP, index=False)
    with pytest.raises(ArtifactError, match="of different cells"):
        archive.read(tmp_path)
