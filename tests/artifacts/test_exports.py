"""What a run leaves behind is checked by its content, and replaced whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from frostline import figures, report
from frostline.artifacts import archive, exports, labelled, plans, texts
from frostline.artifacts.checking import check, declared
from frostline.artifacts.exports import begin, save
from frostline.comparison.comparisons import compare
from frostline.errors import ArtifactError
from frostline.evaluation.metrics import prediction_metrics
from frostline.hashes import file_sha256
from frostline.records import load_records
from frostline.settings import RunSettings

pytestmark = pytest.mark.slow

TUTORIAL = "cell_type_annotation"
NAMES = ("pca_logistic", "frozen_probe", "head", "lora")
TABLES = (
    "report.csv",
    "strategy_metrics.csv",
    "class_metrics.csv",
    "paired_tests.csv",
    "prediction_sets.csv",
    "report.md",
)
MAPS = ("frozen_embedding_umap.png", "lora_embedding_umap.png")
PICTURES = (
    *MAPS,
    "best_strategy_confusion_matrix.png",
    "macro_f1_intervals.png",
    "reliability.png",
    "risk_coverage.png",
)
STUDIES = ("label_efficiency", "unknown_cells")
STUDY_FILES = {*(f"{name}.{kind}" for name in STUDIES for kind in ("csv", "png")), "study_predictions.parquet"}
SAVED = ("predictions.parquet", "validation_predictions.parquet", "umap.parquet", "records.jsonl")
FILES = {*TABLES, *PICTURES, *SAVED, *STUDY_FILES, "manifest.json"}


@pytest.fixture(scope="module")
def comparison(make_record):
    """Four strategies of different skill on two splits, with fewer labels, and with a class withheld."""
    skills = dict(zip(NAMES, (1.0, 2.5, 4.0, 1.5), strict=True))
    records = [make_record(name, repeat=repeat, skill=skills[name]) for repeat in (0, 1) for name in NAMES]
    for record in records[:2]:
        metrics = prediction_metrics(record.labels, record.probabilities, record.classes)
        bare = {"metrics": metrics, "umap": None, "validation_cells": (), "validation_labels": ()}
        study = dataclasses.replace(record, validation_probabilities=None, **bare)
        records.append(dataclasses.replace(study, budget=5))
        records.append(dataclasses.replace(study, unseen="NK", distances=np.arange(40.0)))
    return compare(records)


@pytest.fixture(scope="module")
def settings_for(small_checkpoint):
    return lambda folder, **changes: RunSettings(checkpoint=str(small_checkpoint), output_dir=str(folder), **changes)


@pytest.fixture(scope="module")
def hand_made(pbmc, fresh):
    """The data set that the records say they are of."""
    return fresh(pbmc, name="hand-made", label_key="cell_type")


@pytest.fixture(scope="module")
def saved(comparison, settings_for, hand_made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "artifacts"
    return save(begin(settings_for(folder), TUTORIAL), comparison, hand_made)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of the saved artifacts that may be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "artifacts"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_manifest(folder: Path, **changes) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    content = {key: value for key, value in {**content, **changes}.items() if value is not ...}
    (folder / "manifest.json").write_text(json.dumps(content))


def cover_up(folder: Path) -> None:
    """Write the hashes of the files as they are now into the manifest."""
    files = {path.name: {"sha256": file_sha256(path)} for path in folder.iterdir() if path.name != "manifest.json"}
    edit_manifest(folder, files=files)


def edit_records(folder: Path, change) -> None:
    """Change the first record, of pca_logistic on the first split."""
    first, *others = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    content = json.loads(first)
    change(content)
    (folder / "records.jsonl").write_text(json.dumps(content) + "\n" + "".join(others))


def edit_csv(path: Path, change) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


def edit_predictions(folder: Path, change) -> None:
    path = folder / "predictions.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def refused(folder: Path, name: str, message: str = "") -> str:
    """The check fails and names the file; returns what it says."""
    result = check(folder)
    assert not result.passed
    said = [problem for problem in result.problems if problem.startswith(f"{name}: ")]
    assert said, result.problems
    assert any(message in problem for problem in said), said
    assert str(result).startswith("failed: ")
    assert name in str(result)
    return " ".join(said)


class TestWhatIsWritten:
    def test_the_files_are_exactly_those_declared(self, saved):
        assert {path.name for path in saved.iterdir()} == FILES
        assert set(declared(NAMES, STUDIES)) | {"manifest.json"} == FILES
        assert set(declared(NAMES)) | {"manifest.json"} == FILES - STUDY_FILES

    def test_the_check_passes_and_counts_files_and_numbers(self, saved):
        result = check(saved)
        assert result.problems == []
        assert result.files == len(FILES)
        assert result.numbers == 8 * 25 + 4 * 11  # of every evaluation, and of every study
        assert str(result) == f"passed: {len(FILES)} files opened, {result.numbers} numbers recomputed"
        assert check(str(saved)) == result

    def test_tables_and_predictions_are_those_of_the_comparison(self, saved, comparison):
        pd.testing.assert_frame_equal(pd.read_parquet(saved / "predictions.parquet"), comparison.predictions())
        board = pd.read_csv(saved / "report.csv")
        assert board["strategy"].tolist() == comparison.leaderboard()["strategy"].tolist()
        np.testing.assert_array_equal(board["macro_f1"], comparison.leaderboard()["macro_f1"].astype(float))
        assert len(pd.read_csv(saved / "strategy_metrics.csv")) == 8
        assert (saved / "report.md").read_text() == report.report_markdown(comparison)
        assert archive.read(saved).unseen_records == comparison.unseen_records

    def test_the_manifest_tells_where_everything_came_from(self, saved, hand_made, settings_for):
        manifest = json.loads((saved / "manifest.json").read_text())
        assert manifest["tutorial"] == TUTORIAL
        run = {"label_key": "cell_type", "split": "stratified", "repeats": 2, "checkpoint": "", "layer": "raw"}
        assert manifest["parameters"] == {**settings_for(saved).model_dump(), **run}
        assert re.fullmatch("[0-9a-f]{32}", manifest["run"])
        assert manifest["seed"] == 42
        assert manifest["dataset"]["sha256"] == hand_made.fingerprint()
        assert manifest["checkpoints"] == {}
        assert manifest["splits"] == {"0": "split-0", "1": "split-1"}
        assert {"python", "torch", "frostline", "matplotlib"} <= set(manifest["versions"])
        assert set(manifest["files"]) == FILES - {"manifest.json"}
        for name, facts in manifest["files"].items():
            assert facts == {"sha256": file_sha256(saved / name), "bytes": (saved / name).stat().st_size}
        started, ended = (datetime.fromisoformat(manifest[key]) for key in ("started", "ended"))
        assert started.tzinfo == ended.tzinfo == UTC
        assert started <= ended

    def test_the_hash_of_the_notebook_is_recorded_where_the_kernel_runs(self, monkeypatch, tmp_path, settings_for):
        monkeypatch.chdir(tmp_path)
        assert begin(settings_for("out"), TUTORIAL).notebook_sha256 is None
        (tmp_path / f"{TUTORIAL}.ipynb").write_text("{}")
        assert begin(settings_for("out"), TUTORIAL).notebook_sha256 == file_sha256(tmp_path / f"{TUTORIAL}.ipynb")

    @pytest.mark.usefixtures("instant_pictures")
    def test_undefined_numbers_are_na(self, make_record, settings_for, hand_made, tmp_path):
        record = make_record("pca_logistic")
        record = make_record("pca_logistic", metrics={**record.metrics, "silhouette": None})
        folder = save(begin(settings_for(tmp_path / "out"), TUTORIAL), compare([record]), hand_made)
        for name in ("report.csv", "strategy_metrics.csv"):
            assert pd.read_csv(folder / name, dtype=str, keep_default_na=False)["silhouette"].tolist() == ["NA"]
        assert check(folder).passed

    @pytest.mark.parametrize(
        ("names", "pictures"),
        [
            (["pca_logistic"], set()),
            (["lora"], {"lora_embedding_umap.png"}),
            (["head"], {"frozen_embedding_umap.png"}),
            (["frozen_probe", "pca_logistic"], {"frozen_embedding_umap.png"}),
        ],
    )
    @pytest.mark.usefixtures("instant_pictures")
    def test_a_run_of_fewer_strategies_leaves_fewer_pictures(
        self, make_record, settings_for, hand_made, tmp_path, names, pictures
    ):
        comparison = compare([make_record(name) for name in names])
        folder = save(begin(settings_for(tmp_path / "out"), TUTORIAL), comparison, hand_made)
        assert {path.name for path in folder.iterdir()} == FILES - STUDY_FILES - set(MAPS) | pictures
        assert check(folder).passed


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


ALTERED = "altered since the run (sha256 differs from the manifest)"
DAMAGES = {
    "missing": (Path.unlink, "missing"),
    "empty": (lambda path: path.write_bytes(b""), ALTERED),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), ALTERED),
    "one changed byte": (change_byte, ALTERED),
}
"""What is done to a file, and what is said of it."""


class TestDamage:
    """Every damage is found, and the file is named."""

    @pytest.mark.parametrize("kind", DAMAGES)
    def test_every_file_is_held_to_its_hash(self, folder, kind):
        damage, said = DAMAGES[kind]
        for name in FILES - {"manifest.json"}:
            damage(folder / name)
        problems = check(folder).problems
        assert {name for name in FILES if any(problem == f"{name}: {said}" for problem in problems)} == FILES - {
            "manifest.json"
        }

    @pytest.mark.parametrize("kind", ["missing", "empty", "truncated"])
    def test_a_damaged_manifest(self, folder, kind):
        DAMAGES[kind][0](folder / "manifest.json")
        refused(folder, "manifest.json")

    @pytest.mark.parametrize("name", ["records.jsonl", "report.csv"])
    def test_one_file_that_is_damaged(self, folder, name):
        DAMAGES["one changed byte"][0](folder / name)
        refused(folder, name, ALTERED)

    @pytest.mark.parametrize("name", ["notes.txt", "extra.png", ".hidden"])
    def test_an_extra_file(self, folder, name):
        (folder / name).write_text("left behind")
        refused(folder, name, "unexpected")

    def test_an_extra_folder(self, folder):
        (folder / "more").mkdir()
        refused(folder, "more", "unexpected")

    def test_a_folder_in_the_place_of_a_file(self, folder):
        (folder / "report.csv").unlink()
        (folder / "report.csv").mkdir()
        refused(folder, "report.csv")

    def test_a_folder_that_is_not_there(self, tmp_path):
        refused(tmp_path / "nowhere", "manifest.json", "missing")

    def test_all_damage_is_said_at_once(self, folder):
        (folder / "report.md").unlink()
        (folder / "lora_embedding_umap.png").write_bytes(b"")
        (folder / "extra").write_text("")
        said = " ".join(check(folder).problems)
        assert all(name in said for name in ("report.md: ", "lora_embedding_umap.png: ", "extra: "))


class TestForgery:
    """The content is wrong, but the manifest has been brought into line with it."""

    @pytest.mark.parametrize("name", ["report.csv", "strategy_metrics.csv"])
    @pytest.mark.parametrize("key", ["accuracy", "macro_f1"])
    @pytest.mark.parametrize("row", [0, -1])
    def test_an_edited_number_in_a_table(self, folder, name, key, row):
        def edit(table):
            table.loc[table.index[row], key] = str(float(table[key].iloc[row]) + 0.001)
            return table

        edit_csv(folder / name, edit)
        cover_up(folder)
        assert "the saved records give" in refused(folder, name, "line ")

    @pytest.mark.parametrize("value", ["NA", "", "high"])
    @pytest.mark.parametrize("name", ["report.csv", "strategy_metrics.csv"])
    def test_a_number_taken_out_of_a_table(self, folder, name, value):
        edit_csv(folder / name, lambda table: table.assign(macro_f1=value))
        cover_up(folder)
        refused(folder, name)

    def test_an_edited_number_of_test_cells(self, folder):
        edit_csv(folder / "strategy_metrics.csv", lambda table: table.assign(n_test="400"))
        cover_up(folder)
        refused(folder, "strategy_metrics.csv", "line 2 is")

    @pytest.mark.parametrize("key", ["accuracy", "macro_f1", "ece", "temperature", "log_loss", "coverage_95"])
    def test_an_edited_metric_of_a_record_with_every_table_written_from_it(self, folder, key):
        """Records and tables agree with one another, but not with the predictions."""

        def forge(content):
            content["metrics"][key] = (content["metrics"][key] or 0.0) + 0.01

        edit_records(folder, forge)
        forged = archive.read(folder)
        for name in texts.names_of(plans.studies(forged)):
            (folder / name).write_text(texts.text_of(forged, name))
        cover_up(folder)
        refused(folder, "records.jsonl", f"pca_logistic, repeat 0: {key} is given as")

    @pytest.mark.parametrize(("key", "value"), [("silhouette", 1.5), ("silhouette", -2.0), ("knn_purity", -0.5)])
    def test_a_metric_out_of_its_range(self, folder, key, value):
        edit_records(folder, lambda content: content["metrics"].update({key: value}))
        cover_up(folder)
        refused(folder, "records.jsonl", f"{key} is given as {value:.6f}")

    @pytest.mark.parametrize(
        "name",
        ["label_efficiency.csv", "unknown_cells.csv", "paired_tests.csv", "prediction_sets.csv", "class_metrics.csv"],
    )
    def test_an_edited_number_in_any_other_table(self, folder, name):
        text = (folder / name).read_text()
        where = re.search(r"0\.\d{4,}", text).start() + 2
        (folder / name).write_text(text[:where] + ("1" if text[where] != "1" else "2") + text[where + 1 :])
        cover_up(folder)
        refused(folder, name, "the saved records give")

    @pytest.mark.parametrize("column", ["Accuracy", "Macro-F1"])
    def test_an_edited_number_in_the_leaderboard_of_the_report(self, folder, comparison, column):
        value = comparison.table()[column].iloc[1]
        path, other = folder / "report.md", f"{float(value) + 0.0002:.4f}"
        rows = path.read_text().splitlines()
        where = next(i for i, line in enumerate(rows) if line.startswith(f"| {comparison.table()['Strategy'].iloc[1]}"))
        rows[where] = rows[where].replace(f"| {value} |", f"| {other} |", 1)
        path.write_text("\n".join(rows) + "\n")
        cover_up(folder)
        refused(folder, "report.md", other)

    @pytest.mark.parametrize("what", ["macro-F1", "interval", "difference", "p", "verdict", "cells"])
    def test_an_edited_number_in_the_words_of_the_report(self, folder, comparison, what):
        path = folder / "report.md"
        pattern, forged = {
            "macro-F1": (r"Highest macro-F1: (\w+), \d\.\d{4}", r"Highest macro-F1: \1, 0.9999"),
            "interval": (r"interval \d\.\d{3} to", "interval 0.001 to"),
            "difference": (r"It leads (\w+) by \+\d\.\d{4}", r"It leads \1 by +0.9876"),
            "p": (r"p (=|<) \d\.\d{3}", "p = 0.042"),
            "verdict": (r"(take|no choice is supported yet;) \w+", "take magic"),
            "cells": (r"on more such cells \([\d,]+ tested", "on more such cells (9,000 tested"),
        }[what]
        text, count = re.subn(pattern, forged, path.read_text(), count=1)
        assert count == 1
        path.write_text(text)
        cover_up(folder)
        refused(folder, "report.md", "the saved records give")

    @pytest.mark.parametrize("name", ["report.csv", "report.md"])
    def test_swapped_rows(self, folder, name):
        lines = (folder / name).read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith(("| head", "head,")))
        lines[first], lines[first + 1] = lines[first + 1], lines[first]
        (folder / name).write_text("\n".join(lines) + "\n")
        cover_up(folder)
        refused(folder, name, "the saved records give")

    @pytest.mark.parametrize("name", ["report.csv", "strategy_metrics.csv"])
    @pytest.mark.parametrize("how", ["a row less", "a row twice", "another strategy"])
    def test_rows_that_are_not_those_of_the_run(self, folder, name, how):
        changes = {
            "a row less": lambda table: table.iloc[1:],
            "a row twice": lambda table: pd.concat([table, table.iloc[:1]]),
            "another strategy": lambda table: table.assign(strategy=["magic", *table["strategy"][1:]]),
        }
        edit_csv(folder / name, changes[how])
        cover_up(folder)
        refused(folder, name, "the saved records give")

    def test_a_report_without_its_leaderboard(self, folder):
        text = (folder / "report.md").read_text()
        (folder / "report.md").write_text("\n".join(x for x in text.splitlines() if not x.startswith("|")))
        cover_up(folder)
        refused(folder, "report.md", "the saved records give")

    def test_a_table_without_a_column(self, folder):
        edit_csv(folder / "report.csv", lambda table: table.drop(columns="macro_f1"))
        cover_up(folder)
        refused(folder, "report.csv")

    @pytest.mark.parametrize(("size", "message"), [((900, 600), "is blank"), ((20, 20), "is only 20 x 20 pixels")])
    def test_blank_or_tiny_pictures(self, folder, size, message):
        for name in PICTURES:
            Image.new("RGB", size, "white").save(folder / name)
        cover_up(folder)
        problems = check(folder).problems
        assert [name for name in PICTURES if not any(p.startswith(f"{name}: {message}") for p in problems)] == []

    @pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
    def test_a_truncated_picture(self, folder, share):
        path = folder / "lora_embedding_umap.png"
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        cover_up(folder)
        refused(folder, path.name, "no readable picture")

    def test_a_picture_of_another_kind(self, folder):
        path = folder / "lora_embedding_umap.png"
        with Image.open(path) as image:
            image.convert("RGB").save(path, format="JPEG")
        cover_up(folder)
        refused(folder, path.name, "is JPEG, not PNG")

    def test_swapped_pictures(self, folder):
        one, two = folder / MAPS[0], folder / MAPS[1]
        first = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(first)
        cover_up(folder)
        refused(folder, MAPS[0], f"says that it is {MAPS[1]}")

    @pytest.mark.usefixtures("instant_pictures")
    def test_a_picture_of_another_run(self, folder, make_record, settings_for, hand_made, tmp_path):
        other = save(begin(settings_for(tmp_path / "other"), TUTORIAL), compare([make_record("lora")]), hand_made)
        shutil.copy(other / "reliability.png", folder)
        cover_up(folder)
        refused(folder, "reliability.png", "was drawn from other predictions")


class TestForgedPredictions:
    """Predictions were altered, and the manifest brought into line."""

    def test_a_prediction_that_its_probabilities_do_not_give(self, folder):
        def edit(table):
            table.loc[3, "predicted"] = next(c for c in ("B cell", "NK") if c != table.loc[3, "predicted"])
            return table

        edit_predictions(folder, edit)
        refused(folder, "predictions.parquet", "altered since the run")
        cover_up(folder)
        refused(folder, "predictions.parquet", "a predicted class is not the most probable one")

    @pytest.mark.parametrize("value", [0.9, -0.1, np.nan, np.inf])
    def test_probabilities_that_do_not_sum_to_one(self, folder, value):
        def edit(table):
            table.loc[5, "p_NK"] = value
            return table

        edit_predictions(folder, edit)
        cover_up(folder)
        refused(folder, "predictions.parquet", "probabilities are not all finite")

    def test_a_changed_label_changes_the_numbers(self, folder):
        def edit(table):  # of one cell, for all strategies alike
            cell = table.loc[0, "cell"]
            here = table["cell"] == cell
            table.loc[here, "label"] = next(c for c in ("B cell", "NK") if c != table.loc[0, "label"])
            return table

        edit_predictions(folder, edit)
        cover_up(folder)
        refused(folder, "records.jsonl", "the predictions give")

    def test_a_label_changed_for_one_strategy_only(self, folder):
        def edit(table):
            table.loc[0, "label"] = next(c for c in ("B cell", "NK") if c != table.loc[0, "label"])
            return table

        edit_predictions(folder, edit)
        cover_up(folder)
        refused(folder, "predictions.parquet", "not tested on the same cells and labels")

    def test_a_dropped_row(self, folder):
        edit_predictions(folder, lambda table: table.drop(index=7))
        refused(folder, "predictions.parquet", "altered since the run")
        cover_up(folder)
        refused(folder, "predictions.parquet", "not tested on the same cells and labels")

    def test_a_cell_dropped_for_every_strategy(self, folder):
        edit_predictions(folder, lambda table: table[table["cell"] != table.loc[0, "cell"]])
        cover_up(folder)
        assert any("different cells" in problem for problem in check(folder).problems)

    def test_every_cell_twice_under_another_name(self, folder):
        """The scores survive; the number of test cells that the tables state does not."""
        edit_predictions(
            folder, lambda table: pd.concat([table, table.assign(cell="copy of " + table["cell"])], ignore_index=True)
        )
        cover_up(folder)
        assert any("different cells" in problem for problem in check(folder).problems)

    def test_a_cell_twice(self, folder):
        def double(table):
            again = table[table["cell"] == table.loc[0, "cell"]]
            return pd.concat([table, again], ignore_index=True)

        edit_predictions(folder, double)
        cover_up(folder)
        refused(folder, "predictions.parquet", "a cell appears twice")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda table: table.rename(columns={"label": "truth"}), "columns are"),
            (lambda table: table.iloc[:0], "is empty"),
            (lambda table: table.iloc[:, :5], ""),
            (lambda table: table.assign(p_NK="high"), ""),
        ],
        ids=["column", "empty", "no probabilities", "words"],
    )
    def test_tables_of_another_shape(self, folder, change, message):
        edit_predictions(folder, change)
        cover_up(folder)
        refused(folder, "predictions.parquet", message)

    @pytest.mark.parametrize("drop", [lambda table: table["strategy"] == "lora", lambda table: table["repeat"] == 1])
    def test_predictions_of_fewer_strategies_or_repeats(self, folder, drop):
        edit_predictions(folder, lambda table: table[~drop(table)])
        cover_up(folder)
        assert any("holds no comparison that can be read" in problem for problem in check(folder).problems)

    @pytest.mark.parametrize("name", ["validation_predictions.parquet", "study_predictions.parquet"])
    def test_other_predictions_are_checked_as_well(self, folder, name):
        table = pd.read_parquet(folder / name)
        table.loc[3, ["p_B cell", "p_NK", "p_T cell"]] = [0.1, 0.1, 0.1]
        table.to_parquet(folder / name, index=False)
        cover_up(folder)
        refused(folder, name, "probabilities are not all finite")

    def test_altered_validation_predictions_change_what_was_chosen_on_them(self, folder):
        path = folder / "validation_predictions.parquet"
        table = pd.read_parquet(path)
        table["label"] = table["label"].to_numpy()[::-1]
        table.to_parquet(path, index=False)
        cover_up(folder)
        refused(folder, "records.jsonl", "temperature is given as")

    @pytest.mark.parametrize("content", [b"", b"PAR1 no more PAR1", b"cell,label\n"])
    def test_a_file_that_is_no_parquet(self, folder, content):
        (folder / "predictions.parquet").write_bytes(content)
        cover_up(folder)
        refused(folder, "predictions.parquet", "cannot be read")


class TestManifest:
    @pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '"text"', "\udcff"])
    def test_what_is_no_json_object(self, folder, content):
        (folder / "manifest.json").write_text(content, errors="surrogateescape")
        refused(folder, "manifest.json")

    @pytest.mark.parametrize(
        "key",
        [
            "tutorial",
            "started",
            "ended",
            "parameters",
            "seed",
            "strategies",
            "repeats",
            "studies",
            "dataset",
            "versions",
            "files",
        ],
    )
    def test_a_lacking_entry_is_named(self, folder, key):
        edit_manifest(folder, **{key: ...})
        refused(folder, "manifest.json", f"lacks {key}")

    @pytest.mark.parametrize(
        "changes",
        [
            {"started": "yesterday"},
            {"ended": None},
            {"ended": "2026-01-01T10:00:00"},
            {"strategies": 4},
            {"strategies": None},
            {"strategies": [["head"]]},
            {"repeats": 2},
            {"files": []},
            {"files": None},
            {"files": {"report.md": "hash"}},
        ],
        ids=str,
    )
    def test_an_entry_of_another_kind_is_a_problem_and_no_crash(self, folder, changes):
        edit_manifest(folder, **changes)
        result = check(folder)
        assert not result.passed
        assert "manifest.json" in str(result) or "altered" in str(result)

    def test_an_end_before_the_start(self, folder):
        edit_manifest(folder, started="2030-01-02T00:00:00+00:00", ended="2030-01-01T00:00:00+00:00")
        refused(folder, "manifest.json", "ended before it started")

    def test_a_strategy_more_or_less_than_was_run(self, folder):
        edit_manifest(folder, strategies=["pca_logistic", "head"])
        assert "lora_embedding_umap.png: unexpected" in refused(folder, "lora_embedding_umap.png")


@pytest.mark.usefixtures("instant_pictures")
class TestReplacing:
    @pytest.fixture
    def earlier(self, folder) -> dict[str, bytes]:
        return contents(folder)

    def test_a_later_run_replaces_everything(self, folder, settings_for, make_record, hand_made):
        comparison = compare([make_record("pca_logistic")])
        assert save(begin(settings_for(folder), TUTORIAL), comparison, hand_made) == folder
        assert {path.name for path in folder.iterdir()} == FILES - STUDY_FILES - set(MAPS)
        assert check(folder).passed
        assert [path.name for path in folder.parent.iterdir()] == ["artifacts"]

    @pytest.mark.parametrize("change", [{"tutorial": "another"}, {"label_key": "fine_type"}, {"profile": "full"}])
    def test_artifacts_of_something_else_are_kept_under_another_name(
        self, folder, earlier, settings_for, make_record, hand_made, fresh, capsys, change
    ):
        record = make_record("pca_logistic", **{key: value for key, value in change.items() if key != "tutorial"})
        dataset = fresh(hand_made, label_key=record.label_key)
        run = begin(settings_for(folder), change.get("tutorial", TUTORIAL))
        assert check(save(run, compare([record]), dataset)).passed
        kept = folder.parent / "artifacts-1"
        assert contents(kept) == earlier
        said = capsys.readouterr().out
        assert "artifacts held artifacts of something else; they are kept beside it, as artifacts-1\n" in said
        assert str(kept) not in said  # a published page must not name a folder of the machine

    def test_another_data_set_of_the_same_name_is_something_else_where_it_is_known(
        self, make_record, hand_made, fresh, tmp_path
    ):
        found = compare([make_record("pca_logistic")])
        other = fresh(hand_made, matrix=2 * hand_made.matrix)
        for dataset, folders in ((hand_made, ["out"]), (hand_made, ["out"]), (other, ["out", "out-1"])):
            exports.export(tmp_path / "out", found, dataset)
            assert sorted(path.name for path in tmp_path.iterdir()) == folders
        kept = json.loads((tmp_path / "out-1" / "manifest.json").read_text())["dataset"]["sha256"]
        assert kept == hand_made.fingerprint() != other.fingerprint()
        exports.export(tmp_path / "out", found)  # by its name and label column alone
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-1"]

    def test_the_same_run_may_save_twice(self, settings_for, make_record, hand_made, tmp_path):
        run = begin(settings_for(tmp_path / "out"), TUTORIAL)
        for name in ("pca_logistic", "pca_knn"):
            folder = save(run, compare([make_record(name)]), hand_made)
        assert json.loads((folder / "manifest.json").read_text())["strategies"] == ["pca_knn"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_folder_that_was_filled_while_the_run_went_on_survives_and_so_do_the_results(
        self, settings_for, comparison, hand_made, tmp_path
    ):
        run = begin(settings_for(tmp_path / "out"), TUTORIAL)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.md").write_text("mine")
        with pytest.raises(ArtifactError, match=r"out holds .*notes.md.*The new results are complete and checked, in "):
            save(run, comparison, hand_made)
        assert contents(tmp_path / "out") == {"notes.md": b"mine"}
        assert check(tmp_path / "out-1").passed
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-1"]

    def test_artifacts_that_came_while_the_run_went_on_survive(self, settings_for, make_record, hand_made, tmp_path):
        run = begin(settings_for(tmp_path / "out"), TUTORIAL)
        exports.export(tmp_path / "out", compare([make_record("pca_knn")]), hand_made)
        with pytest.raises(ArtifactError, match="holds the artifacts of another run"):
            save(run, compare([make_record("pca_logistic")]), hand_made)
        for name, strategy in (("out", "pca_knn"), ("out-1", "pca_logistic")):
            assert json.loads((tmp_path / name / "manifest.json").read_text())["strategies"] == [strategy]
            assert check(tmp_path / name).passed

    def test_a_clock_that_is_set_back_loses_nothing(self, settings_for, make_record, hand_made, tmp_path):
        run = begin(settings_for(tmp_path / "out"), TUTORIAL)
        later = dataclasses.replace(run, started=run.started + timedelta(days=1))
        assert check(save(later, compare([make_record("pca_logistic")]), hand_made)).passed

    def test_the_folder_can_be_read_by_others(self, saved):
        assert saved.stat().st_mode & 0o777 == 0o755

    def test_folders_above_are_made(self, settings_for, comparison, hand_made, tmp_path):
        folder = tmp_path / "a" / "b" / "c"
        assert check(save(begin(settings_for(folder), TUTORIAL), comparison, hand_made)).passed

    @pytest.mark.parametrize(
        "where",
        [
            "comparison.figures.png",
            "comparison.report.report_markdown",
            "artifacts.archive.write",
            "artifacts.folders.os.rename",
        ],
    )
    def test_whatever_fails_while_writing_costs_nothing_that_was_computed(
        self, folder, earlier, settings_for, comparison, hand_made, monkeypatch, where
    ):
        def fail(*_args, **_facts):
            raise OSError("no space left")

        run = begin(settings_for(folder), TUTORIAL)
        monkeypatch.setattr(f"frostline.{where}", fail)
        with pytest.raises(ArtifactError, match=r"no space left.*What was computed is in .*; read it with") as error:
            save(run, comparison, hand_made)
        (kept,) = [path for path in folder.parent.iterdir() if path.name != "artifacts"]
        assert str(kept) in str(error.value)
        assert compare(load_records(kept / "records.jsonl")).records == comparison.records
        monkeypatch.undo()
        assert contents(folder) == earlier

    def test_what_no_file_can_hold_costs_nothing_else(self, settings_for, comparison, hand_made, tmp_path):
        class Cells:
            def write_h5ad(self, path):
                path.write_text("half")
                raise TypeError("no file holds a tuple")

        run = begin(settings_for(tmp_path / "out"), TUTORIAL)
        with pytest.raises(ArtifactError, match=r"out was not written: TypeError: no file holds a tuple") as error:
            exports.save_annotation(run, comparison, labelled.Labelled(b"model", Cells(), object()), hand_made)
        (kept,) = tmp_path.iterdir()
        assert f"{kept} holds model.zip, records.jsonl; the rest could not be written (TypeError: no file" in str(
            error.value
        )
        assert {path.name for path in kept.iterdir()} == {"model.zip", "records.jsonl"}

    def test_an_interrupt_is_one(self, folder, earlier, settings_for, comparison, hand_made, monkeypatch):
        run = begin(settings_for(folder), TUTORIAL)
        monkeypatch.setattr(figures, "png", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(run, comparison, hand_made)
        assert contents(folder) == earlier
        assert [path.name for path in folder.parent.iterdir()] == ["artifacts"]

    def test_a_failing_check_of_what_was_written_leaves_earlier_artifacts_as_they_were(
        self, folder, earlier, settings_for, comparison, hand_made, monkeypatch
    ):
        original = figures.png
        monkeypatch.setattr(figures, "png", lambda figure, **facts: original(figure, **{**facts, "Title": "another"}))
        with pytest.raises(ArtifactError, match=r"fail their own check: .*\.png: .*What was computed is in "):
            save(begin(settings_for(folder), TUTORIAL), comparison, hand_made)
        assert contents(folder) == earlier

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_failure_while_moving_leaves_both_old_and_new(
        self, folder, earlier, settings_for, comparison, hand_made, monkeypatch, failing
    ):
        original, calls = os.rename, []

        def rename(source, target):
            calls.append(target)
            if len(calls) == failing:
                raise PermissionError("the folder is in use")
            original(source, target)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(ArtifactError, match=r"in use.*complete and checked, in "):
            save(begin(settings_for(folder), TUTORIAL), comparison, hand_made)
        assert contents(folder) == earlier
        assert check(folder.parent / "artifacts-1").passed
        assert sorted(path.name for path in folder.parent.iterdir()) == ["artifacts", "artifacts-1"]

    def test_metrics_that_the_predictions_do_not_give_are_never_saved(
        self, folder, earlier, settings_for, make_record, hand_made
    ):
        record = make_record("head")
        flattering = make_record("head", metrics={**record.metrics, "accuracy": 0.99})
        with pytest.raises(ArtifactError, match=r"head, repeat 0: accuracy is given as 0\.99"):
            save(begin(settings_for(folder), TUTORIAL), compare([flattering]), hand_made)
        assert contents(folder) == earlier


class TestBegin:
    def test_a_folder_of_something_else_is_refused_and_left_alone(self, settings_for, tmp_path):
        (tmp_path / "thesis.docx").write_text("three years")
        with pytest.raises(ArtifactError, match=r"OUTPUT_DIR .* holds files but no manifest\.json"):
            begin(settings_for(tmp_path), TUTORIAL)
        assert contents(tmp_path) == {"thesis.docx": b"three years"}

    def test_a_file_is_refused(self, settings_for, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(ArtifactError, match=r"OUTPUT_DIR .*out is a file; name a folder"):
            begin(settings_for(tmp_path / "out"), TUTORIAL)

    def test_a_new_an_empty_and_an_earlier_folder_are_taken(self, settings_for, folder, tmp_path):
        (tmp_path / "empty").mkdir()
        for taken in (tmp_path / "new", tmp_path / "empty", folder):
            assert begin(settings_for(taken), TUTORIAL).folder == taken.resolve()
        assert not (tmp_path / "new").exists()

    def test_a_project_that_has_a_manifest_of_its_own_is_refused(self, settings_for, tmp_path):
        (tmp_path / "manifest.json").write_text('{"name": "web app", "icons": []}')
        (tmp_path / "index.html").write_text("<html>")
        with pytest.raises(ArtifactError, match="OUTPUT_DIR"):
            begin(settings_for(tmp_path), TUTORIAL)
