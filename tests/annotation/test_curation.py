"""Ranking of labelled cells by the out-of-fold probability of their label."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from frostline.annotation.curation import ranking, suspects
from frostline.cells.datasets import load_dataset
from frostline.comparison.comparisons import compare
from frostline.errors import DatasetError, FrostlineError

CLASSES = ("B cell", "NK", "T cell")


def given(labels, probabilities):
    return [row[CLASSES.index(label)] for label, row in zip(labels, probabilities, strict=True)]


class TestRanking:
    def test_least_likely_labels_come_first_and_untested_cells_last_without_numbers(self):
        p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.0, 0.0, 0.0], [0.3, 0.1, 0.6]])
        labels, tested = np.array(["B cell", "B cell", "NK", "T cell"]), np.array([True, True, False, True])
        table = ranking(labels, p, CLASSES, ["c1", "c2", "c3", "c4"], tested)
        assert table["cell"].tolist() == ["c2", "c1", "c4", "c3"]
        assert table["p_given"].tolist()[:3] == [0.1, 0.5, 0.6]
        assert table["suggested"].tolist()[:3] == ["T cell", "B cell", "T cell"]
        assert table["rank"].tolist()[:3] == [1, 2, 3]
        assert table.loc[3, ["p_given", "suggested", "p_suggested", "rank"]].isna().all()

    def test_of_equals_the_one_that_something_else_is_likelier_for_comes_first(self):
        p = np.array([[0.2, 0.4, 0.4], [0.2, 0.1, 0.7]])
        table = ranking(np.array(["B cell"] * 2), p, CLASSES, ["c1", "c2"], np.array([True, True]))
        assert table["cell"].tolist() == ["c2", "c1"]

    def test_nothing_tested(self):
        table = ranking(np.array(["odd"]), np.zeros((1, 3)), CLASSES, ["c1"], np.array([False]))
        assert table["rank"].isna().all()

    def test_flipped_labels_are_found(self):
        draw = np.random.default_rng(0)
        truth = draw.integers(3, size=600)
        logits = 4 * np.eye(3)[truth] + draw.normal(size=(600, 3))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = truth.copy()
        labels[:30] = (labels[:30] + 1) % 3
        cells = [f"c{i}" for i in range(600)]
        table = ranking(np.array(CLASSES)[labels], p, CLASSES, cells, np.full(600, True))
        first = set(table["cell"].head(30))
        assert len(first & set(cells[:30])) >= 24


class TestSuspects:
    def test_probabilities_of_a_cell_that_tests_twice_are_averaged(self, make_record):
        first = make_record(repeat=0)
        other = make_record(repeat=1, cells=first.cells, labels=first.labels)
        table = suspects(compare([first, other])).table.set_index("cell")
        mean = (first.probabilities + other.probabilities) / 2
        np.testing.assert_allclose(
            table.loc[list(first.cells), "p_given"].astype(float), given(first.labels, mean), rtol=1e-12
        )

    def test_the_best_strategy_counts_unless_another_is_named(self, make_record):
        good, bad = make_record("good", skill=6.0), make_record("bad", skill=0.5)
        assert suspects([bad, good]).strategy == "good"
        asked = suspects([bad, good], strategy="bad")
        assert asked.strategy == "bad"
        numbers = asked.table.set_index("cell").loc[list(bad.cells), "p_given"].astype(float)
        np.testing.assert_allclose(numbers, given(bad.labels, bad.probabilities))
        with pytest.raises(FrostlineError, match="'lora'"):
            suspects([bad, good], strategy="lora")

    def test_validation_cells_never_tested_and_it_says_so(self, make_record):
        found = suspects([make_record()])
        assert (len(found.table), int(found.table["rank"].count())) == (70, 40)
        assert "30 of 70 cells never tested" in found.sentence
        assert "folds=5" in found.sentence

    def test_all_tested_says_nothing_of_others(self, make_record):
        found = suspects([make_record(validation_cells=(), validation_labels=(), validation_probabilities=None)])
        assert "never tested" not in found.sentence

    def test_cells_of_a_class_that_did_not_train_are_not_ranked_by_it(self, make_record):
        record = make_record(untrained=("NK",))
        table = suspects([record]).table.set_index("cell")
        missing = table.loc[list(record.cells), "rank"].isna().to_numpy()
        np.testing.assert_array_equal(missing, np.array(record.labels) == "NK")

    def test_a_data_set_lists_cells_that_only_trained(self, make_record, three_kinds):
        record = _of(three_kinds, make_record)
        table = suspects([record], three_kinds).table
        assert sorted(table["cell"]) == sorted(three_kinds.cells)
        assert int(table["rank"].count()) == 40

    def test_another_data_set_is_refused_with_the_first_cell(self, make_record, three_kinds):
        record = _of(three_kinds, make_record)
        labels = tuple(np.roll(record.labels, 1))
        with pytest.raises(DatasetError, match=r"in the records and label .* in data set 'three kinds'"):
            suspects([_of(three_kinds, make_record, labels=labels)], three_kinds)
        other = load_dataset("pancreas")
        with pytest.raises(DatasetError, match="no such cell"):
            suspects([record], other)

    def test_shows_the_first_twenty_and_escapes_names(self, make_record):
        names = ("<b>B</b>", "NK", "T cell")
        labels = [names[0]] * 20 + ["NK"] * 20
        found = suspects([make_record(classes=names, labels=tuple(labels), validation_labels=("NK",) * 30)])
        html = found._repr_html_()
        assert html.count("<tr") == 20 + 1
        assert "&lt;b&gt;B&lt;/b&gt;" in html
        assert "<b>" not in html
        assert len(repr(found).splitlines()) == 20 + 2
        assert isinstance(found.table, pd.DataFrame)


def _of(dataset, make_record, **changes):
    rows = np.arange(40) * 3
    names = tuple(np.unique(dataset.labels).tolist())
    content = {
        "classes": names,
        "cells": tuple(dataset.cells[rows].tolist()),
        "labels": tuple(dataset.labels[rows].tolist()),
        "validation_cells": (),
        "validation_labels": (),
        "validation_probabilities": None,
    }
    return make_record(**{**content, **changes})
