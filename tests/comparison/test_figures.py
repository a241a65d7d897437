"""Figures show what the records say, whatever the classes are called."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from PIL import Image

from frostline import figures
from frostline.classes import class_numbers
from frostline.comparison.comparisons import compare
from frostline.comparison.lettering import MOST_INCHES
from frostline.errors import FrostlineError
from frostline.escaping import for_figure
from frostline.evaluation import calibration

UNVALIDATED = {"validation_cells": (), "validation_labels": (), "validation_probabilities": None}


@pytest.fixture
def comparison(make_record):
    return compare(
        [make_record("pca_logistic", skill=3.0), make_record("frozen_probe"), make_record("lora", skill=1.0)]
    )


def texts(figure) -> list[str]:
    axes = figure.axes[0]
    return [
        axes.get_title(loc="left"),
        *(text.get_text() for text in axes.texts),
        *(text.get_text() for legend in figure.legends for text in legend.get_texts()),
        *(label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())),
    ]


class TestConfusion:
    def test_its_numbers_are_those_of_the_comparison(self, comparison):
        figure = figures.confusion_figure(comparison, "lora")
        counts = comparison.confusion("lora")
        shown = {tuple(map(int, text.get_position())): int(text.get_text()) for text in figure.axes[0].texts}
        assert shown == {(column, row): counts[row, column] for row, column in zip(*counts.nonzero(), strict=True)}
        assert sum(shown.values()) == 40
        assert "lora: 40 test cells" in texts(figure)

    def test_rows_are_true_and_columns_predicted_classes(self, comparison):
        axes = figures.confusion_figure(comparison, "lora").axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        assert [label.get_text() for label in axes.get_yticklabels()] == list(comparison.classes)

    def test_a_class_without_test_cells_has_an_empty_row(self, make_record):
        record = make_record(labels=("B cell",) * 40)
        figure = figures.confusion_figure(compare([record]), "head")
        assert len(figures.png(figure)) > 1_000


class TestUmap:
    def test_the_legend_counts_the_cells_of_each_class_and_the_wrong_ones(self, comparison):
        record = comparison.of("lora")[0]
        shown = texts(figures.umap_figure(comparison, "lora"))
        for name in comparison.classes:
            assert f"{name} ({record.labels.count(name)})" in shown
        wrong = sum(a != b for a, b in zip(record.labels, record.predicted, strict=True))
        assert f"wrongly predicted ({wrong})" in shown
        assert "lora: 40 test cells of hand-made" in shown

    def test_every_cell_stands_where_the_record_puts_it(self, comparison):
        record = comparison.of("lora")[0]
        axes = figures.umap_figure(comparison, "lora").axes[0]
        points = np.concatenate([found.get_offsets() for found in axes.collections[:-1]])
        assert sorted(map(tuple, points)) == sorted(map(tuple, record.umap))

    @pytest.mark.parametrize(("n", "wanted"), [(30, 30), (40, 30)])
    def test_thirty_classes_are_distinguished_and_of_more_the_rarest_are_grey(self, make_record, n, wanted):
        classes = tuple(f"class {i:02d}" for i in range(n))
        record = make_record(
            n=n, classes=classes, labels=classes, probabilities=np.eye(n), umap=np.eye(n)[:, :2], **UNVALIDATED
        )
        axes = figures.umap_figure(compare([record]), "head").axes[0]
        looks = {
            (to_hex(found.get_facecolors()[0]), found.get_paths()[0].vertices.tobytes())
            for found in axes.collections[:-1]
        }
        assert len(looks) == wanted
        grey = [found.get_label() for found in axes.collections if found.get_label().endswith("rarer kinds (11)")]
        assert grey == (["11 rarer kinds (11)"] if n == 40 else [])

    def test_no_map_is_said_to_be_na(self, make_record):
        figure = figures.umap_figure(compare([make_record(umap=None)]), "head")
        assert [text.get_text() for text in figure.texts] == ["head: NA, 40 test cells are too few for a UMAP"]
        figures.png(figure)


class TestNames:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["$5 cell", "a $x^ b$", "_private", "γδ T", "<b>&", "50 %", "x" * 60, "a\nb"])
    @pytest.mark.parametrize("draw", [figures.umap_figure, figures.confusion_figure])
    def test_any_class_name_is_drawn_as_it_is(self, make_record, name, draw):
        labels = tuple([name, "B", "T"] * 13 + [name])
        figure = draw(compare([make_record(classes=(name, "B", "T"), labels=labels)]), "head")
        assert len(figures.png(figure)) > 1_000
        assert any(for_figure(name) in text for text in texts(figure))

    @pytest.mark.slow
    @given(names=st.lists(st.text(max_size=9) | st.text("$\\{}_^\n", max_size=9), min_size=2, max_size=4, unique=True))
    @settings(max_examples=5)
    def test_every_figure_can_be_drawn_whatever_the_classes_are_called(self, make_record, names):
        studied = named_after(make_record, names)
        for draw in (
            figures.unknown_cells_figure,
            lambda c: figures.confusion_figure(c, "head"),
            lambda c: figures.umaps_figure(c, ["head", "head"], "prediction"),
        ):
            figure = draw(studied)
            figure.set_dpi(40)
            assert len(figures.png(figure)) > 500

    def test_many_and_long_names_neither_fail_nor_make_a_huge_figure(self, make_record):
        names = [f"{i} {'a very long name of a class ' * 20}{i}" for i in range(80)]
        studied = named_after(make_record, names)
        shown = texts(figures.umap_figure(studied, "head"))
        assert any(re.fullmatch("51 rarer kinds \\(\\d+\\)", text) for text in shown)
        assert any(text.startswith("wrongly predicted") for text in shown)
        drawn = figures.confusion_figure(studied, "head")
        labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
        assert len(set(labels)) == len(names)
        assert max(map(len, labels)) <= 60
        for figure in (drawn, figures.umap_figure(studied, "head"), figures.unknown_cells_figure(studied)):
            assert max(figure.get_size_inches()) <= MOST_INCHES + 3

    def test_characters_without_a_glyph_are_shown_by_their_code(self, make_record):
        shown = texts(figures.confusion_figure(named_after(make_record, ["細胞", "B"]), "head"))
        assert "\\u7d30\\u80de" in shown


def named_after(make_record, names):
    """A comparison of records whose classes have these names."""
    n, k = max(40, len(names)), len(names)
    noise = np.random.default_rng(0).random((n, k))
    labels = tuple(names[i % k] for i in range(n))
    chances = {"probabilities": noise / noise.sum(axis=1, keepdims=True), **UNVALIDATED}
    whole = make_record(n=n, classes=tuple(names), labels=labels, **chances)
    withheld = [dataclasses.replace(whole, unseen=name, distances=np.arange(float(n))) for name in names]
    return compare([whole, *withheld])


def test_pictures_are_png_of_a_readable_size(comparison):
    for figure in (figures.umap_figure(comparison, "lora"), figures.confusion_figure(comparison, "lora")):
        with Image.open(io.BytesIO(figures.png(figure))) as image:
            assert image.format == "PNG"
            assert min(image.size) >= 400
            assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10


def test_the_same_records_give_the_same_picture_to_the_last_byte(comparison):
    one, again = (figures.png(figures.umap_figure(comparison, "lora")) for _ in range(2))
    assert one == again


def test_an_html_image_has_an_escaped_alternative_text(comparison):
    html = figures.image_html(figures.confusion_figure(comparison, "lora"), 'say "B" & <T>')
    assert 'alt="say &quot;B&quot; &amp; &lt;T&gt;"' in html
    assert 'src="data:image/png;base64,iVBOR' in html


class TestIntervals:
    def test_every_strategy_stands_at_its_score_within_its_interval(self, comparison):
        axes = figures.interval_figure(comparison).axes[0]
        board = comparison.leaderboard()
        assert [label.get_text() for label in axes.get_yticklabels()] == board["strategy"].tolist()
        for i, (_, row) in enumerate(board.iterrows()):
            assert axes.lines[i].get_xdata() == pytest.approx([row["macro_f1_low"], row["macro_f1_high"]])
            assert tuple(axes.collections[i].get_offsets()[0]) == pytest.approx((row["macro_f1"], i))

    def test_where_there_is_no_interval_there_is_no_line(self, make_record):
        few = {"groups": ("a",) * 40, "group_key": "donor", "split_kind": "group"}
        axes = figures.interval_figure(compare([make_record(name, **few) for name in ("head", "lora")])).axes[0]
        assert (len(axes.lines), len(axes.collections)) == (0, 2)
        assert axes.get_xlabel() == "macro-F1, too few groups for an interval"

    def test_the_best_is_on_top(self, comparison):
        low, high = figures.interval_figure(comparison).axes[0].get_ylim()
        assert low > high


class TestProbabilities:
    def test_reliability_shows_each_strategy_before_and_after_scaling(self, comparison):
        figure = figures.reliability_figure(comparison)
        assert [axes.get_title(loc="left") for axes in figure.axes] == list(comparison.strategies)
        record = comparison.of("lora")[0]
        _, raw, scaled = figure.axes[2].lines
        columns = class_numbers(record.labels, record.classes)
        for line, probabilities in (
            (raw, record.probabilities),
            (scaled, calibration.scale(record.probabilities, record.metrics["temperature"])),
        ):
            found = calibration.reliability(probabilities, columns)
            full = found.cells > 0
            np.testing.assert_allclose(line.get_xdata(), found.confidence[full])
            np.testing.assert_allclose(line.get_ydata(), found.accuracy[full])

    def test_risk_is_drawn_against_coverage(self, comparison):
        axes = figures.risk_coverage_figure(comparison).axes[0]
        record = comparison.of("lora")[0]
        coverage, risk = calibration.risk_coverage(record.probabilities, class_numbers(record.labels, record.classes))
        np.testing.assert_allclose(axes.lines[2].get_xdata(), coverage)
        np.testing.assert_allclose(axes.lines[2].get_ydata(), risk)
        assert risk[-1] == pytest.approx(1 - record.metrics["accuracy"])


class TestStudies:
    @pytest.fixture
    def studied(self, make_record):
        records = [make_record(name) for name in ("head", "lora")]
        records += [dataclasses.replace(record, budget=n) for record in records for n in (5, 10)]
        records += [
            dataclasses.replace(record, unseen=name, distances=np.arange(40.0))
            for record in records[:2]
            for name in ("B cell", "NK")
        ]
        return compare(records)

    def test_label_efficiency_ends_with_all_cells(self, studied):
        axes = figures.label_efficiency_figure(studied).axes[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "all"]
        table = studied.label_efficiency()
        for name, line in zip(("head", "lora"), (c.lines[0] for c in axes.containers), strict=True):
            np.testing.assert_allclose(line.get_ydata(), table[table["strategy"] == name]["macro_f1"].astype(float))

    def test_unknown_cells_are_shown_by_both_scores(self, studied):
        figure = figures.unknown_cells_figure(studied)
        table = studied.unknown_cells()
        for axes, key in zip(figure.axes[:2], ("auroc_confidence", "auroc_distance"), strict=True):
            shown = [text.get_text() for text in axes.texts]
            assert shown == [f"{value:.2f}" for value in table[key]]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["head", "lora"]

    def test_an_undefined_number_is_na(self, make_record):
        records = [make_record(), make_record(unseen="Platelet", distances=np.ones(40))]
        figure = figures.unknown_cells_figure(compare(records))
        assert [text.get_text() for text in figure.axes[0].texts] == ["NA"]

    @pytest.mark.parametrize("draw", [figures.label_efficiency_figure, figures.unknown_cells_figure])
    def test_what_was_not_measured_is_no_figure(self, comparison, draw):
        with pytest.raises(FrostlineError, match=r"(was|were) not measured"):
            draw(comparison)


def test_no_two_of_30_strategies_look_alike():
    assert len({tuple(figures.style(i).values()) for i in range(30)}) == 30
