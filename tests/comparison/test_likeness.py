"""Records stand side by side only where nothing but the strategy differs; names hold checkpoints apart."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from frostline import strategies
from frostline.artifacts import checking, exports
from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.comparison.comparisons import compare
from frostline.errors import FrostlineError
from frostline.evaluation.evaluations import evaluate
from frostline.evaluation.journal import Journal
from frostline.records import Record

HASHES = ["a" * 64, "b" * 64]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "other"}, "training or validation cells, labels or genes"),
        ({"training_fingerprint": "b" * 64}, "training or validation cells, labels or genes"),
        ({"validation_labels": ("NK",) * 30}, "training or validation cells, labels or genes"),
        ({"dataset": "another"}, r"data set: head \(hand-made\), lora \(another\)"),
        ({"data_sha256": "b" * 64}, "values of the data set"),
        ({"label_key": "fine"}, r"label column: head \(cell_type\), lora \(fine\)"),
        ({"profile": "full"}, r"profile: head \(quickstart\), lora \(full\)"),
        ({"seed": 7}, r"seed: head \(42\), lora \(7\)"),
        ({"split_kind": "group"}, r"kind of split: head \(stratified\), lora \(group\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_records_that_differ_in_more_than_the_strategy_are_refused_by_name(make_record, change, said):
    first = make_record("head", training_fingerprint="a" * 64, data_sha256="a" * 64)
    second = make_record("lora", **{"training_fingerprint": "a" * 64, "data_sha256": "a" * 64, **change})
    with pytest.raises(FrostlineError, match=said):
        compare([first, second])


def test_what_an_earlier_version_did_not_write_down_is_no_difference(make_record):
    known = {"training_fingerprint": "a" * 64, "data_sha256": "a" * 64}
    assert compare([make_record("head"), make_record("lora", **known)]).strategies == ("head", "lora")


def test_studies_of_one_budget_were_trained_on_the_same_cells(make_record):
    bare = {"budget": 5, "validation_cells": (), "validation_labels": (), "validation_probabilities": None}
    plain = [make_record(name, training_fingerprint="a" * 64) for name in ("head", "lora")]
    study = [
        make_record(name, training_fingerprint=digest, **bare)
        for name, digest in zip(("head", "lora"), HASHES, strict=True)
    ]
    with pytest.raises(FrostlineError, match="of repeat 0, 5 cells per class are of different training"):
        compare([*plain, *study])
    assert compare([*plain, *(dataclasses.replace(record, training_fingerprint="c" * 64) for record in study)])


def test_a_record_of_a_budget_and_of_a_withheld_class_is_refused(make_record):
    """It would stand in the place of that of its budget."""
    records = [make_record("head"), make_record("head", budget=5), make_record("head", unseen="NK")]
    both = make_record("head", budget=5, unseen="NK")
    with pytest.raises(FrostlineError, match=r"'head' is of repeat 0, 5 cells per class, NK withheld, .*leave it out"):
        compare([*records, both])
    assert len(compare(records).label_efficiency()) == 2


@pytest.mark.parametrize("study", [{"repeat": 1}, {"budget": 5}])
def test_hyper_parameters_that_differ_between_records_of_a_strategy_are_refused(make_record, study):
    records = [make_record("lora", parameters={"rank": 4}), make_record("lora", parameters={"rank": 8}, **study)]
    with pytest.raises(FrostlineError, match="'lora' have different hyper-parameters: rank 4 and 8"):
        compare(records)


def test_a_record_of_this_run_and_one_of_a_file_have_the_same_hyper_parameters(make_record):
    """Records of earlier versions hold tuples, which a file gives back as lists."""
    fresh, of_a_file = (make_record("lora", parameters={"targets": ("a", "b")}, repeat=r) for r in (0, 1))
    of_a_file = Record.from_json(of_a_file.to_json())
    assert compare([of_a_file, fresh]).strategies == ("lora",)
    with pytest.raises(FrostlineError, match="different hyper-parameters: targets"):
        compare([of_a_file, dataclasses.replace(fresh, parameters={"targets": ("a",)})])


def with_weights(make_record, label, digest, **changes):
    return make_record("head", parameters={"checkpoint": label}, weights_sha256=digest, **changes)


def test_two_checkpoints_are_held_apart_by_name(make_record):
    records = [
        with_weights(make_record, label, digest) for label, digest in zip(("mini", "brain"), HASHES, strict=True)
    ]
    comparison = compare([*records, make_record("pca_logistic")])
    assert comparison.strategies == ("head@mini", "head@brain", "pca_logistic")
    assert compare(comparison.records).strategies == comparison.strategies


def test_two_weights_of_one_name_are_held_apart_by_their_hash(make_record):
    comparison = compare([with_weights(make_record, "mini", digest) for digest in HASHES])
    assert comparison.strategies == ("head@mini-aaaaaaaa", "head@mini-bbbbbbbb")


def test_one_checkpoint_under_two_names_is_one(make_record):
    records = [with_weights(make_record, label, HASHES[0], repeat=r) for r, label in enumerate(("mini", "moved"))]
    assert compare(records).strategies == ("head",)


def test_weights_that_changed_between_repeats_are_not_averaged(make_record):
    records = [with_weights(make_record, "mini", digest, repeat=r) for r, digest in enumerate(HASHES)]
    with pytest.raises(FrostlineError, match="different repeats"):
        compare(records)


@pytest.fixture(scope="module")
def small_cut(three_kinds, tiny_profile):
    return split(three_kinds, seed=1, profile=tiny_profile)


@pytest.mark.parametrize(
    "change",
    [
        lambda cut: {"train": cut.train[::3]},
        lambda cut: {"validation": cut.validation[::2]},
        lambda cut: {"train": np.sort(np.concatenate([cut.train[2:], cut.validation[:2]]))},
        lambda cut: {"genes": cut.genes[:50]},
    ],
    ids=["fewer", "validation", "other cells", "genes"],
)
def test_a_split_that_was_changed_by_hand_is_another(three_kinds, small_cut, instant_umap, change):
    other = dataclasses.replace(small_cut, **change(small_cut))
    first, second = strategies.build(["pca_logistic", "majority"])
    with pytest.raises(FrostlineError, match="different training or validation cells, labels or genes"):
        compare([evaluate(first, three_kinds, small_cut), evaluate(second, three_kinds, other)])


def test_other_values_under_the_same_names_are_separation(pbmc, three_kinds, small_cut, instant_umap, fresh):
    other = fresh(three_kinds, matrix=three_kinds.matrix * 0.5)
    first, second = strategies.build(["pca_logistic", "majority"])
    with pytest.raises(FrostlineError, match="different values of the data set"):
        compare([evaluate(first, three_kinds, small_cut), evaluate(second, other, small_cut)])


@pytest.mark.slow
def test_two_checkpoints_export_and_check_after_their_folder_has_moved(
    three_kinds, small_cut, small_checkpoint, instant_umap, tmp_path, monkeypatch
):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine" / "weights"
    shutil.copytree(small_checkpoint, folder)
    probes = [strategies.FrozenProbe(checkpoint=name) for name in ("mini", str(folder))]
    records = [evaluate(probe, three_kinds, small_cut) for probe in probes]
    journal = Journal.of(three_kinds, [small_cut])
    journal.add(probes[1], records[1])
    shutil.move(folder, tmp_path / "weights")
    moved = strategies.FrozenProbe(checkpoint=str(tmp_path / "weights"))
    assert Journal.of(three_kinds, [small_cut]).finished([moved]) == [records[1]]
    shutil.rmtree(tmp_path / "weights")
    comparison = compare(records)
    label = f"weights-{records[1].weights_sha256[:8]}"
    assert comparison.strategies == ("frozen_probe@mini", f"frozen_probe@{label}")
    out = exports.export(tmp_path / "out", comparison, three_kinds)
    assert checking.check(out).problems == []
    assert set(exports.manifests.read_manifest(out).checkpoints) == {"mini", label}
    for file in out.iterdir():
        assert str(tmp_path / "mine").encode() not in file.read_bytes()


@pytest.mark.slow
def test_a_checkpoint_that_the_manifest_does_not_name_is_found(three_kinds, small_cut, instant_umap, tmp_path):
    comparison = compare([evaluate(strategies.FrozenProbe(), three_kinds, small_cut)])
    out = exports.export(tmp_path / "out", comparison, three_kinds)
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace(comparison.records[0].weights_sha256, "0" * 64))
    assert "checkpoints are" in str(checking.check(out))


def test_the_registered_data_set_has_a_hash_in_its_records(pbmc, instant_umap):
    (strategy,) = strategies.build(["majority"])
    assert evaluate(strategy, pbmc, split(pbmc)).data_sha256 == load_dataset("pbmc68k-reduced").fingerprint()
