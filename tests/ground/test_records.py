"""Records survive being written, to the last bit, and refuse what they cannot hold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from frostline.records import Cost, Record, load_records, save_records


def test_json_and_back_gives_an_equal_record(make_record):
    record = make_record(parameters={"rank": 4, "targets": ("linear1", "linear2"), "rate": 2e-3})
    again = Record.from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


def test_every_number_survives_to_the_last_bit(make_record):
    rng = np.random.default_rng(0)
    awkward = rng.dirichlet(np.full(3, 0.01), size=40)
    record = make_record(probabilities=awkward, metrics={"accuracy": 0.1 + 0.2, "macro_f1": 1 / 3, "silhouette": None})
    again = Record.from_json(record.to_json())
    np.testing.assert_array_equal(again.probabilities, awkward)
    np.testing.assert_array_equal(again.umap, record.umap)
    assert again.metrics == {"accuracy": 0.1 + 0.2, "macro_f1": 1 / 3, "silhouette": None}
    assert (again.probabilities.dtype, again.predicted) == (np.float64, record.predicted)


def test_an_undefined_metric_and_a_missing_map_stay_none(make_record):
    again = Record.from_json(make_record(umap=None, metrics={"silhouette": None}).to_json())
    assert again.umap is None
    assert again.metrics["silhouette"] is None


def test_names_in_any_script_survive(make_record):
    classes = ("γδ T", 'say "B"', "back\\slash\nline")
    record = make_record(classes=classes, labels=("γδ T",) * 40)
    assert Record.from_json(record.to_json()).classes == classes


def test_numpy_scalars_and_paths_are_written_as_plain_values(make_record):
    record = make_record(parameters={"rank": np.int64(4), "rate": np.float32(0.5), "checkpoint": Path("folder/x")})
    assert json.loads(record.to_json())["parameters"] == {"rank": 4, "rate": 0.5, "checkpoint": "folder/x"}
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused_and_not_written_as_nan(make_record, value):
    with pytest.raises(ValueError, match="JSON"):
        make_record(metrics={"accuracy": value}).to_json()


def test_what_json_cannot_hold_is_named(make_record):
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        make_record(parameters={"thing": object()}).to_json()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": np.ones((39, 3)) / 3}, r"test probabilities are \(39, 3\), not \(40, 3\)"),
        ({"probabilities": np.ones((40, 2)) / 2}, r"probabilities are \(40, 2\), not \(40, 3\)"),
        ({"labels": ("B cell",) * 39}, "39 labels for 40 test cells"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(make_record, changes, message):
    with pytest.raises(ValueError, match=message):
        make_record(**changes)


def test_the_prediction_is_the_most_probable_class_and_the_first_of_equals(make_record):
    probabilities = np.tile([0.2, 0.5, 0.3], (40, 1))
    probabilities[1] = [0.4, 0.4, 0.2]
    record = make_record(probabilities=probabilities)
    assert record.predicted[:3] == ("NK", "B cell", "NK")


def test_records_that_differ_in_one_number_are_not_equal(make_record):
    record = make_record()
    probabilities = record.probabilities.copy()
    probabilities[0, 0] = np.nextafter(probabilities[0, 0], 1)
    assert make_record(probabilities=probabilities) != record
    assert make_record() == record
    assert record != "record"


def test_the_cost_adds_up_all_stages():
    assert Cost({"load": 0.5, "embed": 1.0, "fit": 2.0, "predict": 0.25}, 10, 20).total_seconds == 3.75
    assert Cost({}, 10, 20).total_seconds == 0.0


def test_files_hold_one_record_a_line(make_record, tmp_path):
    records = [make_record("head"), make_record("lora", umap=None), make_record("head", repeat=1)]
    save_records(records, tmp_path / "records.jsonl")
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3
    assert load_records(tmp_path / "records.jsonl") == records


def test_a_line_separator_in_a_name_does_not_break_a_file(make_record, tmp_path):
    record = make_record(cells=tuple(f"cell\u2028{i}" for i in range(40)))
    save_records([record, record], tmp_path / "records.jsonl")
    assert load_records(tmp_path / "records.jsonl") == [record, record]
