"""Figures show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from frostline.annotation import figures
from frostline.annotation.certificates import certify
from frostline.annotation.hierarchies import Hierarchy
from frostline.annotation.shifts import compare
from frostline.comparison.drawing import png


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.fixture(scope="module")
def confidence():
    return np.linspace(1, 0.3, 500)


def test_certified_threshold_stands_where_it_was_certified(confidence):
    found = certify(confidence, confidence > 0.5)
    figure = figures.certificate_figure(found)
    point = figure.axes[0].collections[0].get_offsets()[0]
    np.testing.assert_allclose(point, [found.answered / 500, 1 - found.errors / found.answered])
    assert any(text.startswith("certified: confidence 0.4") for text in texts(figure))
    assert figure.axes[0].lines[0].get_ydata()[-1] == pytest.approx(np.mean(confidence > 0.5))
    assert png(figure)


def test_without_a_certificate_no_threshold_is_marked(confidence):
    assert not figures.certificate_figure(certify(confidence, confidence > 0.99)).axes[0].collections
    empty = figures.certificate_figure(certify(np.array([]), np.array([], dtype=bool)))
    assert "NA" in empty.texts[0].get_text()


def test_known_cells_and_query_are_counted():
    figure = figures.known_figure(np.linspace(0.001, 1, 100), np.array([0.01, 0.01, 0.5, 0.9]), 0.05)
    labels = texts(figure)
    assert "query: 50.0% of 4 cells unknown" in labels
    assert any(label.startswith("labelled: 5.0% of 100") for label in labels)
    assert figures.known_figure(np.array([0.5]), np.array([]), 0.05).axes


def test_hierarchy_names_every_class_and_thickens_what_may_be_answered():
    p = np.repeat([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]], 60, axis=0)
    names = ("CD4 T", "CD8 T", "$B$")
    figure = figures.hierarchy_figure(Hierarchy.learn(p, np.repeat(names, 60), names))
    axes = figure.axes[0]
    assert {label.get_text() for label in axes.get_yticklabels()} == {"CD4 T", "CD8 T", r"\$B\$"}
    widths = [line.get_linewidth() for line in axes.lines[:2]]
    assert widths[0] > widths[1]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 0.4, 0.4, 1])
    assert png(figure)


def test_shift_says_what_was_found():
    cells = np.random.default_rng(0).normal(size=(200, 3))
    found = compare(cells[:100], cells[100:] + 2)
    figure = figures.shift_figure(found)
    assert figure.axes[0].get_title("left") == f"AUROC {found.auroc:.2f} ({found.low:.2f} to {found.high:.2f}): differs"
    assert texts(figure) == ["training data (100 cells)", "query (100 cells)"]
    few = figures.shift_figure(compare(cells[:9], cells[9:]))
    assert "too few" in few.texts[0].get_text()
