"""The check names what is wrong with damaged and forged files, and never ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot

from frostline.artifacts import checking, exports, pictures
from frostline.artifacts.checking import check
from frostline.comparison.comparisons import compare
from frostline.hashes import file_sha256

pytestmark = pytest.mark.slow

FILES = ("records.jsonl", "predictions.parquet", "validation_predictions.parquet", "umap.parquet", "report.csv")
PICTURES = ("frozen_embedding_umap.png", "lora_embedding_umap.png")


@pytest.fixture(scope="module")
def exported(make_record, tmp_path_factory) -> Path:
    comparison = compare([make_record(name) for name in ("frozen_probe", "lora")])
    return exports.export(tmp_path_factory.mktemp("exported") / "out", comparison)


@pytest.fixture
def folder(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "out"))


def edit_manifest(folder: Path, change) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def cover_up(folder: Path) -> None:
    """Bring the manifest in line with the files."""
    files = [path for path in folder.iterdir() if path.name != "manifest.json" and path.is_file()]
    edit_manifest(folder, lambda m: m.update(files={path.name: {"sha256": file_sha256(path)} for path in files}))


def edit_record(folder: Path, change) -> None:
    first, *others = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    content = json.loads(first)
    change(content)
    (folder / "records.jsonl").write_text(json.dumps(content) + "\n" + "".join(others))


def edit_table(folder: Path, name: str, change) -> None:
    table = pd.read_parquet(folder / name)
    change(table).to_parquet(folder / name, index=False)


def said(folder: Path) -> str:
    result = check(folder)
    assert not result.passed
    return " ".join(result.problems)


@pytest.mark.parametrize("name", [*FILES, "report.md", "reliability.png", "manifest.json"])
@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b"3", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b"NaN\n"]
)
def test_a_file_of_something_else_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    if name != "manifest.json":
        cover_up(folder)
    assert name in said(folder)


@pytest.mark.parametrize("name", ["records.jsonl", "reliability.png", "manifest.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "link to nowhere"])
def test_what_is_no_file_of_its_own_is_named(folder, name, kind):
    (folder / name).rename(folder.parent / "moved")
    {
        "pipe": os.mkfifo,
        "folder": os.mkdir,
        "link": lambda path: path.symlink_to(folder.parent / "moved"),
        "link to nowhere": lambda path: path.symlink_to("/nowhere"),
    }[kind](folder / name)
    assert name in said(folder)


@pytest.mark.parametrize(
    ("keys", "value", "wrong"),
    [
        (("cost", "seconds", "fit"), -1.0, "cost.seconds.fit"),
        (("cost", "seconds", "fit"), "2", "cost.seconds.fit"),
        (("cost", "peak_memory"), -5, "cost.peak_memory"),
        (("cost", "saved_bytes"), 10**30, "cost.saved_bytes"),
        (("cost", "seconds", "fit"), float("nan"), "NaN is no number of JSON"),
        (("cost",), None, "cost"),
        (("sizes", "test"), -1, "sizes.test"),
        (("classes",), [], "classes"),
        (("findings",), [{"code": None}], "findings.0"),
        (("metrics", "accuracy"), [1], "metrics.accuracy"),
        (("seed",), True, "seed"),
    ],
)
def test_an_entry_of_a_record_that_cannot_be_is_named_with_its_line(folder, keys, value, wrong):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    edit_record(folder, change)
    cover_up(folder)
    assert f"records.jsonl: line 1: {wrong}" in said(folder)


def test_a_key_that_stands_twice_is_named(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"seed": 42,', '"seed": 42, "seed": 42,', 1))
    assert "the key 'seed' stands there twice" in said(folder)


@pytest.mark.parametrize("name", FILES[1:4])
@pytest.mark.parametrize("how", ["dropped", "null", "number", "list", "twice"])
@pytest.mark.parametrize("column", ["cell", "strategy", "repeat"])
def test_a_table_with_another_column_is_named(folder, name, how, column):
    changes = {
        "dropped": lambda table: table.drop(columns=column),
        "null": lambda table: table.assign(**{column: table[column].where(table.index != 3)}),
        "number": lambda table: table.assign(**{column: 7.5}),
        "list": lambda table: table.assign(**{column: [[1]] * len(table)}),
        "twice": lambda table: pd.concat([table, table]),
    }
    edit_table(folder, name, changes[how])
    cover_up(folder)
    said(folder)


@pytest.mark.parametrize("name", FILES[1:3])
def test_a_probability_that_is_no_number_is_named(folder, name):
    def spell(table):
        column = next(column for column in table.columns if column.startswith("p_"))
        return table.assign(**{column: "much"})

    edit_table(folder, name, spell)
    cover_up(folder)
    assert "a probability is no number" in said(folder)


def test_a_picture_of_absurd_size_is_named_and_not_opened(folder):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    )
    (folder / "reliability.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    cover_up(folder)
    assert "reliability.png: is no readable picture (Image size (3600000000 pixels) exceeds limit" in said(folder)


class TestForgery:
    """What is in line with its hash, but not with the rest."""

    @pytest.mark.parametrize(
        ("keys", "value", "wrong"),
        [
            (("seed",), 7, "seeds are [42], the manifest says [7]"),
            (("parameters", "seed"), 7, "seeds are 42, the manifest says 7"),
            (("parameters", "profile"), "full", "profiles are quickstart, the manifest says full"),
            (("parameters", "group_key"), "donor", "group columns are , the manifest says donor"),
            (("dataset", "name"), "kang", "data sets are ['hand-made'], the manifest says ['kang']"),
            (("dataset", "label_key"), "fine", "label columns are ['cell_type'], the manifest says ['fine']"),
            (("splits", "0"), "another", "splits are"),
            (("checkpoints", "mini"), "0" * 64, "checkpoints are {}, the manifest says"),
            (("dataset",), {}, "manifest.json: lacks dataset.name; lacks dataset.label_key"),
            (("studies",), ["of something"], "manifest.json: studies.0"),
            (("files", "report.md"), "hash", "manifest.json: files.report.md"),
        ],
        ids=str,
    )
    def test_a_manifest_that_says_something_else_than_the_records(self, folder, keys, value, wrong):
        def change(content):
            for key in keys[:-1]:
                content = content[key]
            content[keys[-1]] = value

        edit_manifest(folder, change)
        assert wrong in said(folder)

    @pytest.mark.parametrize(("of_records", "of_manifest"), [("1", "1"), ("1", "2"), (None, "2"), ("1", None)])
    def test_a_manifest_of_other_data_than_the_records(self, folder, of_records, of_manifest):
        """What one of the two does not say is not held against the other."""
        found, wanted = (mark and mark * 64 for mark in (of_records, of_manifest))
        lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        text = "".join(json.dumps(line | {"data_sha256": found}) + "\n" for line in lines)
        (folder / "records.jsonl").write_text(text)
        edit_manifest(folder, lambda content: content["dataset"].update(sha256=wanted))
        cover_up(folder)
        wrong = f"records.jsonl: data are ['{found}'], the manifest says ['{wanted}']"
        assert check(folder).problems == ([wrong] if (of_records, of_manifest) == ("1", "2") else [])

    def test_validation_cells_that_are_test_cells(self, folder):
        cell = pd.read_parquet(folder / "predictions.parquet")["cell"].iloc[0]
        edit_table(folder, "validation_predictions.parquet", lambda table: table.replace({"known-0-000": cell}))
        cover_up(folder)
        assert f"1 validation cells are test cells, such as {cell}" in said(folder)

    def test_validation_labels_of_one_strategy(self, folder):
        def change(table):
            labels = table["label"].where(table["strategy"] != "lora", table["label"].to_numpy()[::-1])
            return table.assign(label=labels)

        edit_table(folder, "validation_predictions.parquet", change)
        cover_up(folder)
        assert "not tested on the same cells and labels" in said(folder)

    @pytest.mark.parametrize("column", ["coverage", "size", "singles", "limit", "calibration_cells"])
    def test_a_number_of_the_prediction_sets_that_is_another(self, folder, column):
        table = pd.read_csv(folder / "prediction_sets.csv", keep_default_na=False)
        table.loc[1, column] = float(table.loc[1, column]) * 0.5
        table.to_csv(folder / "prediction_sets.csv", index=False)
        cover_up(folder)
        assert "prediction_sets.csv: line " in said(folder)

    def test_coverage_of_a_record_that_its_predictions_do_not_give(self, folder):
        edit_record(folder, lambda content: content["metrics"].update(set_coverage=1.0))
        cover_up(folder)
        assert "frozen_probe, repeat 0: set_coverage is given as 1.000000, the predictions give" in said(folder)

    def test_groups_of_validation_cells_that_sets_were_not_calibrated_on(self, folder):
        """Ten of thirty cells in a group of their own, which has another limit."""
        edit_table(
            folder,
            "validation_predictions.parquet",
            lambda table: table.assign(group=["x"] * 10 + ["y"] * 20 + ["x"] * 10 + ["y"] * 20),
        )
        cover_up(folder)
        assert "set_limit is given as" in said(folder)

    def test_test_cells_that_are_not_those_of_the_split(self, folder):
        for name in ("predictions.parquet", "umap.parquet"):
            edit_table(folder, name, lambda table: table.replace({"cell-0-000": "cell-of-mine"}))
        cover_up(folder)
        assert "test cells and labels are not those of its fingerprint" in said(folder)

    def test_a_class_that_is_renamed_in_one_file(self, folder):
        edit_table(folder, "predictions.parquet", lambda table: table.rename(columns={"p_NK": "p_natural killer"}))
        cover_up(folder)
        assert "predictions.parquet: " in said(folder)

    def test_a_map_that_is_missing(self, folder):
        edit_table(folder, "umap.parquet", lambda table: table[table["strategy"] != "lora"])
        cover_up(folder)
        assert "lora, repeat 0: its map is missing in umap.parquet" in said(folder)

    def test_pictures_that_are_swapped_with_what_they_say_of_themselves(self, folder):
        from PIL import Image, PngImagePlugin

        opened = [Image.open(BytesIO((folder / name).read_bytes())) for name in PICTURES]
        for image, name in zip(opened, reversed(PICTURES), strict=True):
            facts = PngImagePlugin.PngInfo()
            facts.add_text("Title", name)
            facts.add_text("Source", image.info["Source"])
            image.load()
            image.save(folder / name, pnginfo=facts)
        cover_up(folder)
        found = said(folder)
        for name in PICTURES:
            assert f"{name}: is not what the saved records give when it is drawn again" in found

    def test_pixels_that_are_painted_over(self, folder):
        from PIL import Image, PngImagePlugin

        with Image.open(folder / "macro_f1_intervals.png") as image:
            image.load()
            facts = PngImagePlugin.PngInfo()
            for key in ("Title", "Source"):
                facts.add_text(key, image.info[key])
            image.putpixel((100, 100), (1, 2, 3, 255))
            image.save(folder / "macro_f1_intervals.png", pnginfo=facts)
        cover_up(folder)
        assert "macro_f1_intervals.png: is not what the saved records give" in said(folder)


def test_pictures_are_drawn_alike_under_every_style_and_in_a_process_that_never_drew_them(exported, monkeypatch):
    monkeypatch.setattr(pictures, "_drawn", {})
    with pyplot.style.context("ggplot"), pyplot.rc_context({"figure.facecolor": "black", "font.size": 20}):
        assert check(exported).problems == []


def test_what_another_thread_forgets_meanwhile_is_no_problem(tmp_path, monkeypatch):
    from PIL import Image

    opened = pictures._opened

    def forget(source):
        pictures._drawn.clear()
        return opened(source)

    monkeypatch.setattr(pictures, "_drawn", {})
    monkeypatch.setattr(pictures, "_opened", forget)
    for name, shade in (("same.png", 1), ("other.png", 2)):
        Image.new("L", (8, 8), shade).save(tmp_path / name)
    redraw = {name: (tmp_path / "same.png").read_bytes() for name in ("same.png", "other.png")}
    (problem,) = pictures.redrawn_problems(tmp_path, redraw, "0" * 64, redraw.__getitem__)
    assert problem.startswith("other.png: is not what the saved records give")


def test_pictures_of_another_matplotlib_are_not_compared_and_that_is_said(folder):
    edit_manifest(folder, lambda content: content["versions"].update(matplotlib="3.0.0"))
    result = check(folder)
    assert result.passed
    assert (
        f"pictures were not drawn again: they are by matplotlib 3.0.0, here {pictures.drawing_versions()['matplotlib']}"
        in str(result)
    )


def test_whatever_a_library_raises_is_a_problem(folder, monkeypatch):
    def fail(*_args):
        raise RecursionError("too deep")

    monkeypatch.setattr("frostline.artifacts.texts.text_of", fail)
    assert "predictions.parquet: the other files cannot be held to it (RecursionError: too deep)" in said(folder)


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(checking, "file_sha256", refuse)
    assert "report.md: cannot be read" in said(folder)


def test_system_files_are_no_tampering(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "report-checkpoint.md").write_text("x")
    assert check(folder).problems == []


def test_artifacts_of_an_earlier_version_are_read_and_nothing_is_claimed_of_what_they_lack(folder):
    def age(content):
        for key in ("run", "checkpoints"):
            content.pop(key)
        content["parameters"] = {"profile": "full"}

    edit_manifest(folder, age)
    edit_record(
        folder, lambda content: [content.pop(k) for k in ("training_fingerprint", "weights_sha256", "data_sha256")]
    )
    cover_up(folder)
    assert check(folder).problems == []
