"""Prediction sets: limits by hand, coverage in simulated worlds, what is undefined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from frostline.evaluation.metrics import chosen_metrics
from frostline.evaluation.prediction_sets import coverage_by_group, coverage_table, limit_of, members


def two_classes(scores):
    """Cells of the first class, whose probability lacks so much to 1."""
    scores = np.asarray(scores, dtype=float)
    return np.column_stack([1 - scores, scores]), np.zeros(len(scores), dtype=int)


def world(rng, n, shift=0.0, k=5):
    """Cells of k classes with probabilities that are wrong about as often as they say, and a shift of a group."""
    columns = rng.integers(k, size=n)
    bias = rng.normal(0, 1, (k, k)) * shift
    logits = 2.0 * np.eye(k)[columns] + bias[columns] + rng.normal(size=(n, k))
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), columns


class TestLimit:
    @pytest.mark.parametrize(
        ("n", "kth"),
        [(9, 9), (10, 10), (18, 18), (19, 18), (20, 19), (29, 27), (99, 90), (100, 91)],
    )
    def test_it_is_the_kth_smallest_score_with_k_by_hand(self, n, kth):
        scores = np.random.default_rng(n).permutation(np.arange(1, n + 1)) / 200
        assert limit_of(*two_classes(scores)) == pytest.approx(kth / 200)

    @pytest.mark.parametrize("n", [0, 1, 8])
    def test_fewer_than_nine_cells_give_none(self, n):
        assert limit_of(*two_classes(np.zeros(n))) is None

    def test_each_group_has_a_limit_and_the_largest_counts(self):
        scores = np.concatenate([np.arange(1, 101) / 1000, np.arange(301, 310) / 1000])
        groups = ["x"] * 100 + ["y"] * 9
        together = limit_of(*two_classes(scores))
        assert together == pytest.approx(0.099)  # the 99th of 109
        assert limit_of(*two_classes(scores), groups) == pytest.approx(0.309)  # of y, the 9th of 9
        # eight cells have none of their own
        assert limit_of(*two_classes(scores[:-1]), groups[:-1]) == pytest.approx(limit_of(*two_classes(scores[:-1])))

    def test_a_group_of_easy_cells_does_not_lower_the_limit(self):
        scores = np.concatenate([np.full(50, 0.4), np.full(50, 0.01)])
        assert limit_of(*two_classes(scores), ["hard"] * 50 + ["easy"] * 50) == pytest.approx(0.4)


class TestSets:
    def test_they_hold_what_reaches_the_limit_and_the_most_probable_class(self):
        found = members(np.array([[0.6, 0.3, 0.1], [0.25, 0.35, 0.4], [0.3, 0.3, 0.4]]), 0.7)
        assert found.tolist() == [[True, True, False], [False, True, True], [True, True, True]]
        assert members(np.array([[0.4, 0.35, 0.25]]), 0.1).tolist() == [[True, False, False]]

    def test_coverage_size_and_singles_by_hand(self):
        p = np.array([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
        one, other = coverage_by_group(p, np.array([0, 1, 2, 2]), 0.65, ["b", "a", "a", "b"])
        assert (one.group, one.cells, one.coverage, one.size, one.singles) == ("a", 2, 0.5, 2.0, 0.0)
        assert (other.group, other.cells, other.coverage, other.size, other.singles) == ("b", 2, 1.0, 1.0, 1.0)
        (whole,) = coverage_by_group(p, np.array([0, 1, 2, 2]), 0.65)
        assert (whole.group, whole.coverage, whole.size, whole.singles) == (None, 0.75, 1.5, 0.5)


class TestSimulated:
    def test_cells_of_the_same_origin_are_covered_as_promised(self):
        rng, hits, n = np.random.default_rng(0), 0, 0
        for _ in range(400):
            limit = limit_of(*world(rng, 50))
            p, columns = world(rng, 5)
            hits += members(p, limit)[np.arange(5), columns].sum()
            n += 5
        assert stats.binomtest(int(hits), n, 0.9, alternative="less").pvalue > 0.001
        assert hits / n < 0.95

    def test_groups_of_their_own_are_covered_better_when_the_largest_limit_counts(self):
        rng, own, pooled = np.random.default_rng(1), [], []
        for _ in range(150):
            parts = [world(rng, 40, shift=0.7) for _ in range(4)]
            p, columns = parts.pop()
            known = np.vstack([q for q, _ in parts]), np.concatenate([c for _, c in parts])
            for groups, found in ((np.repeat(["a", "b", "c"], 40), own), (None, pooled)):
                found.append(members(p, limit_of(*known, groups))[np.arange(40), columns].mean())
        assert np.mean(own) >= 0.9
        assert np.mean(np.array(own) < 0.85) < np.mean(np.array(pooled) < 0.85)


class TestRecord:
    def test_the_metrics_are_those_of_the_table(self, make_record):
        record = make_record()
        table = coverage_table([record])
        assert len(table) == 1
        assert (table["cells"][0], table["calibration_cells"][0]) == (40, 30)
        assert pd.isna(table["group"][0])
        assert pd.isna(table["calibration_groups"][0])
        for column in ("limit", "coverage", "size", "singles"):
            assert table[column][0] == record.metrics[f"set_{column}"]
        # by hand: the 28th of 30 scores
        scores = [
            1 - p[record.classes.index(label)]
            for p, label in zip(record.validation_probabilities, record.validation_labels, strict=True)
        ]
        assert record.metrics["set_limit"] == pytest.approx(sorted(scores)[27])

    def test_groups_have_rows_of_their_own(self, make_record):
        halves = ("x",) * 15 + ("y",) * 15
        table = coverage_table([make_record(groups=("a",) * 30 + ("b",) * 10, validation_groups=halves)])
        assert table["group"].tolist() == ["a", "b"]
        assert table["cells"].tolist() == [30, 10]
        assert table["calibration_groups"].tolist() == [2, 2]

    @pytest.mark.parametrize("n", [0, 8])
    def test_too_few_validation_cells_are_na_and_never_zero(self, make_record, n):
        plain = make_record()
        few = {
            "validation_cells": plain.validation_cells[:n],
            "validation_labels": plain.validation_labels[:n],
            "validation_probabilities": plain.validation_probabilities[:n],
        }
        table = coverage_table([make_record(**few)])
        assert table[["limit", "coverage", "size", "singles"]].isna().all(axis=None)
        found = chosen_metrics(
            plain.labels, plain.probabilities, few["validation_labels"], few["validation_probabilities"], plain.classes
        )
        assert {found[f"set_{key}"] for key in ("limit", "coverage", "size", "singles")} == {None}

    def test_a_record_without_validation_probabilities_is_na(self, make_record):
        bare = make_record(validation_cells=(), validation_labels=(), validation_probabilities=None)
        assert coverage_table([bare])["coverage"].isna().all()

    @pytest.mark.parametrize(("n", "inside"), [(9, False), (10, True)])
    def test_a_class_that_training_lacks_is_in_no_set_unless_a_tenth_of_the_validation_cells_has_it(self, n, inside):
        """The 91st smallest score of 100 is that of another class, or 1."""
        p = np.tile([0.6, 0.4, 0.0], (100, 1))
        limit = limit_of(p, np.array([2] * n + [0] * (100 - n)))
        assert limit == pytest.approx(1.0 if inside else 0.4)
        assert members(np.array([[0.6, 0.4, 0.0]]), limit).tolist() == [[True, inside, inside]]
