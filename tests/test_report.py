"""Tables, figures and report.md say what the records say, whatever the classes are called."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from frostline import report
from frostline.comparison import compare


@pytest.fixture
def comparison(make_record):
    return compare(
        [make_record("pca_logistic", skill=3.0), make_record("frozen_probe"), make_record("lora", skill=1.0)]
    )


def texts(figure) -> list[str]:
    axes = figure.axes[0]
    legend = axes.get_legend()
    return [
        axes.get_title(loc="left"),
        *(text.get_text() for text in axes.texts),
        *(text.get_text() for text in (legend.get_texts() if legend else ())),
        *(label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())),
    ]


class TestMarkdown:
    def test_it_states_data_split_seed_and_leaderboard(self, comparison):
        text = report.report_markdown(comparison)
        assert text.startswith("# Cell type annotation of hand-made\n")
        for fact in (
            "Label column `cell_type`, 3 classes",
            "Profile `quickstart`, seed 42, 1 repeat(s)",
            "90 training, 30 validation and 40 test cells",
            "500 genes",
            "- Made by hand.",
        ):
            assert fact in text, fact
        assert report.markdown_table(comparison.table()) in text
        assert "mini" not in text

    def test_its_rows_stand_in_the_order_of_the_leaderboard(self, comparison):
        text = report.report_markdown(comparison)
        rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
        assert rows[2:] == comparison.leaderboard()["strategy"].tolist()

    def test_the_small_checkpoint_is_called_what_it_is(self, make_record):
        text = report.report_markdown(compare([make_record("lora", parameters={"checkpoint": "mini"})]))
        assert "`mini` is a small model for demonstration, not the official scGPT weights" in text

    def test_a_single_strategy_is_read_with_its_interval_alone(self, make_record):
        text = report.reading(compare([make_record()]))
        assert re.fullmatch(
            r"Highest macro-F1: \w+, 0\.\d{4}\. On the 40 test cells its 95 % interval is 0\.\d{3} to [01]\.\d{3} "
            r"\(bootstrap over cells\)\.",
            text,
        )

    def test_undefined_numbers_are_na(self, make_record):
        metrics = {"accuracy": 0.5, "macro_f1": 0.5, "silhouette": None}
        assert "| NA |" in report.report_markdown(compare([make_record(metrics=metrics)]))

    def test_a_pipe_in_a_cell_does_not_break_the_table(self):
        table = pd.DataFrame({"Strategy": ["a|b"], "x": ["1"]})
        assert report.markdown_table(table).splitlines() == ["| Strategy | x |", "| --- | --- |", "| a\\|b | 1 |"]


class TestConfusion:
    def test_its_numbers_are_those_of_the_comparison(self, comparison):
        figure = report.confusion_figure(comparison, "lora")
        counts = comparison.confusion("lora")
        shown = {tuple(map(int, text.get_position())): int(text.get_text()) for text in figure.axes[0].texts}
        assert shown == {(column, row): counts[row, column] for row, column in zip(*counts.nonzero(), strict=True)}
        assert sum(shown.values()) == 40
        assert "lora: 40 test cells" in texts(figure)

    def test_rows_are_true_and_columns_predicted_classes(self, comparison):
        axes = report.confusion_figure(comparison, "lora").axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        assert [label.get_text() for label in axes.get_yticklabels()] == list(comparison.classes)

    def test_a_class_without_test_cells_has_an_empty_row(self, make_record):
        record = make_record(labels=("B cell",) * 40)
        figure = report.confusion_figure(compare([record]), "head")
        assert len(report.png(figure)) > 1_000


class TestUmap:
    def test_the_legend_counts_the_cells_of_each_class_and_the_wrong_ones(self, comparison):
        record = comparison.of("lora")[0]
        shown = texts(report.umap_figure(comparison, "lora"))
        for name in comparison.classes:
            assert f"{name} ({record.labels.count(name)})" in shown
        wrong = sum(a != b for a, b in zip(record.labels, record.predicted, strict=True))
        assert f"wrongly predicted ({wrong})" in shown
        assert "lora: 40 test cells of hand-made" in shown

    def test_every_cell_stands_where_the_record_puts_it(self, comparison):
        record = comparison.of("lora")[0]
        axes = report.umap_figure(comparison, "lora").axes[0]
        points = np.concatenate([found.get_offsets() for found in axes.collections[:-1]])
        assert sorted(map(tuple, points)) == sorted(map(tuple, record.umap))

    def test_forty_classes_are_told_apart_by_colour_and_marker(self, make_record):
        classes = tuple(f"class {i:02d}" for i in range(40))
        record = make_record(classes=classes, labels=classes, probabilities=np.eye(40))
        axes = report.umap_figure(compare([record]), "head").axes[0]
        looks = {
            (to_hex(found.get_facecolors()[0]), found.get_paths()[0].vertices.tobytes())
            for found in axes.collections[:-1]
        }
        assert len(looks) == 40

    def test_no_map_is_said_to_be_na(self, make_record):
        figure = report.umap_figure(compare([make_record(umap=None)]), "head")
        assert [text.get_text() for text in figure.texts] == ["head: NA, 40 test cells are too few for a UMAP"]
        report.png(figure)


class TestNames:
    @pytest.mark.parametrize("name", ["$5 cell", "a $x^ b$", "_private", "γδ T", "<b>&", "50 %", "x" * 60, "a\nb"])
    @pytest.mark.parametrize("draw", [report.umap_figure, report.confusion_figure])
    def test_any_class_name_is_drawn_as_it_is(self, make_record, name, draw):
        labels = tuple([name, "B", "T"] * 13 + [name])
        figure = draw(compare([make_record(classes=(name, "B", "T"), labels=labels)]), "head")
        assert len(report.png(figure)) > 1_000
        assert any(name in text for text in texts(figure))


def test_pictures_are_png_of_a_readable_size(comparison):
    for figure in (report.umap_figure(comparison, "lora"), report.confusion_figure(comparison, "lora")):
        with Image.open(io.BytesIO(report.png(figure))) as image:
            assert image.format == "PNG"
            assert min(image.size) >= 400
            assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10


def test_the_same_records_give_the_same_picture_to_the_last_byte(comparison):
    one, again = (report.png(report.umap_figure(comparison, "lora")) for _ in range(2))
    assert one == again


def test_an_html_image_has_an_escaped_alternative_text(comparison):
    html = report.image_html(report.confusion_figure(comparison, "lora"), 'say "B" & <T>')
    assert 'alt="say &quot;B&quot; &amp; &lt;T&gt;"' in html
    assert 'src="data:image/png;base64,iVBOR' in html
