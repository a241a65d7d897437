"""Intervals and paired tests, against plain resampling, scipy, statsmodels, hand-computed cases, known behaviour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from frostline.comparison.significance import (
    Ground,
    bootstrap_macro_f1,
    holm,
    mcnemar,
    observed_macro_f1,
    paired_tests,
    percentile_interval,
    two_sided_p,
)


def draw(rng, n, accuracy, classes=("B", "NK", "T")):
    """Labels, and predictions that are right with the given probability."""
    labels = rng.choice(classes, n)
    return labels, np.where(rng.random(n) < accuracy, labels, rng.choice(classes, n))


def one_repeat(labels, groups=None):
    cells = [f"cell-{i}" for i in range(len(labels))]
    return Ground.of([list(labels)], [cells], None if groups is None else [list(groups)])


def scores_of(labels, *predictions, resamples=300, seed=0):
    said = {str(i): [list(predicted)] for i, predicted in enumerate(predictions)}
    return list(bootstrap_macro_f1(one_repeat(labels), said, resamples=resamples, seed=seed).values())


def compared(ground, **said):
    """Both directions of the first pair."""
    return paired_tests(ground, said, bootstrap_macro_f1(ground, said))


class TestCells:
    def test_scores_are_those_of_scikit_learn_on_the_same_samples(self):
        rng = np.random.default_rng(3)
        labels, predicted = draw(rng, 30, 0.6)
        found = scores_of(labels, predicted, resamples=40, seed=11)[0]
        counts = np.empty((40, 30), dtype=int)
        names = np.array([f"cell-{i}" for i in range(30)])
        order = np.argsort(names)  # units are numbered by name
        classes = np.unique(labels)
        for name, stream in zip(classes, np.random.default_rng(11).spawn(len(classes)), strict=True):
            rows = order[labels[order] == name]
            counts[:, rows] = stream.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=40)
        for score, times in zip(found, counts, strict=True):
            truth, said = np.repeat(labels, times), np.repeat(predicted, times)
            expected = f1_score(truth, said, labels=np.unique(truth), average="macro", zero_division=0.0)
            assert score == pytest.approx(expected, abs=1e-12)

    def test_blocks_of_samples_do_not_change_the_result(self, monkeypatch):
        labels, predicted = draw(np.random.default_rng(0), 50, 0.7)
        whole = scores_of(labels, predicted, resamples=60)[0]
        monkeypatch.setattr("frostline.comparison.significance.BLOCK", 7)
        np.testing.assert_array_equal(scores_of(labels, predicted, resamples=60)[0], whole)

    def test_a_class_that_is_only_predicted_lowers_the_others_and_has_no_f1(self):
        scores = scores_of(["B"] * 10, ["B"] * 5 + ["T"] * 5, resamples=500)[0]
        assert scores.mean() == pytest.approx(2 / 3, abs=0.03)

    def test_the_interval_covers_the_truth_about_as_often_as_it_says(self):
        """Accuracy 0.8 on two balanced classes: macro-F1 is close to 0.8 in the long run."""
        rng, covered = np.random.default_rng(5), 0
        for _ in range(200):
            labels = np.array(["B", "T"] * 75)
            flipped = np.where(labels == "B", "T", "B")
            predicted = np.where(rng.random(150) < 0.8, labels, flipped)
            interval = percentile_interval(scores_of(labels, predicted)[0])
            covered += interval.low <= 0.8 <= interval.high
        assert 180 <= covered <= 199

    def test_every_class_keeps_its_cells_in_every_sample(self):
        """One cell of a class that is always right: its F1 never vanishes from the mean."""
        labels = ["rare"] + ["B"] * 20
        right, wrong = scores_of(labels, labels, ["B"] * 21, resamples=200)
        assert (right == 1).all()
        assert wrong == pytest.approx(np.full(200, 20 / 41))

    def test_the_seed_decides_the_samples(self):
        labels, predicted = draw(np.random.default_rng(0), 50, 0.7)
        first, again, other = (scores_of(labels, predicted, resamples=20, seed=seed)[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


class TestRepeats:
    def test_a_cell_tested_twice_is_one_unit(self):
        """Two repeats of the same cells and predictions are no more evidence than one."""
        labels, predicted = draw(np.random.default_rng(0), 60, 0.7)
        cells = [f"cell-{i}" for i in range(60)]
        twice = Ground.of([labels, labels], [cells, cells])
        assert twice.n_units == 60
        doubled = bootstrap_macro_f1(twice, {"x": [predicted, predicted]}, resamples=100)["x"]
        single = bootstrap_macro_f1(Ground.of([labels], [cells]), {"x": [predicted]}, resamples=100)["x"]
        np.testing.assert_allclose(doubled, single, atol=1e-12)

    def test_the_observed_score_is_the_mean_over_repeats(self):
        ground = Ground.of([["B", "T"], ["B", "T"]], [["a", "b"], ["c", "d"]])
        assert observed_macro_f1(ground, [["B", "T"], ["B", "B"]]) == pytest.approx((1 + 1 / 3) / 2)

    def test_more_distinct_cells_give_a_narrower_interval(self):
        rng = np.random.default_rng(0)
        parts = [draw(rng, 80, 0.7) for _ in range(4)]
        cells = [[f"{r}-{i}" for i in range(80)] for r in range(4)]
        all_four = Ground.of([labels for labels, _ in parts], cells)
        spread = np.std(bootstrap_macro_f1(all_four, {"x": [said for _, said in parts]})["x"])
        assert spread < 0.7 * np.std(scores_of(*parts[0], resamples=2000)[0])


class TestGroups:
    def test_one_group_is_no_group_to_resample(self):
        assert one_repeat(["B", "T"], ["donor"] * 2).unit == "cells"
        ground = one_repeat(["B", "T"], ["one", "two"])
        assert (ground.unit, ground.n_units) == ("groups", 2)

    def test_whole_groups_are_resampled(self):
        """Four donors of which one fails wholly: the mean over samples of donors is binomial, not smooth."""
        labels, groups = ["B", "T"] * 40, np.repeat(list("abcd"), 20)
        predicted = np.where(groups == "a", np.where(np.array(labels) == "B", "T", "B"), labels)
        scores = bootstrap_macro_f1(one_repeat(labels, groups), {"x": [predicted]})["x"]
        assert set(np.round(scores, 6)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
        share = (np.round(scores, 6) == 1.0).mean()  # no sample holds the failing donor: (3/4)^4
        assert share == pytest.approx(0.75**4, abs=0.03)

    def test_groups_give_a_wider_interval_than_their_cells(self):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(8), 50).astype(str)
        labels = rng.choice(["B", "T"], 400)
        skill = np.repeat(rng.uniform(0.5, 1.0, 8), 50)
        predicted = np.where(rng.random(400) < skill, labels, np.where(labels == "B", "T", "B"))
        by_group = np.std(bootstrap_macro_f1(one_repeat(labels, groups), {"x": [predicted]})["x"])
        assert by_group > 1.5 * np.std(scores_of(labels, predicted, resamples=2000)[0])

    @pytest.mark.parametrize("n", [2, 3, 6])
    def test_no_p_is_smaller_than_so_few_groups_allow(self, n):
        labels = ["B", "T"] * (10 * n)
        ground = one_repeat(labels, np.repeat(np.arange(n), 20).astype(str))
        test = compared(ground, good=[labels], bad=[["B"] * len(labels)])[0]
        assert test.p == 2.0 ** (1 - n)
        assert (test.mcnemar_p, test.mcnemar_p_adjusted) == (None, None)

    def test_a_repeat_without_any_group_of_a_sample_does_not_enter_its_mean(self):
        """Two repeats, each of one donor: a sample that has one donor twice scores that donor's repeat alone."""
        ground = Ground.of([["B", "T"], ["B", "T"]], [["a", "b"], ["c", "d"]], [["x", "x"], ["y", "y"]])
        scores = bootstrap_macro_f1(ground, {"s": [["B", "T"], ["T", "B"]]})["s"]
        assert set(scores) == {0.0, 0.5, 1.0}


class TestPairs:
    def test_a_clear_winner_is_detected(self):
        labels, good = draw(np.random.default_rng(1), 300, 0.95)
        _, bad = draw(np.random.default_rng(2), 300, 0.0)
        test = compared(one_repeat(labels), good=[good], bad=[bad])[0]
        assert (test.first, test.second) == ("good", "bad")
        assert test.p < 0.001
        assert test.mcnemar_p < 1e-6
        assert test.interval.low > 0.3
        expected = f1_score(labels, good, average="macro") - f1_score(labels, bad, average="macro")
        assert test.difference == pytest.approx(expected)

    def test_the_same_predictions_are_no_difference(self):
        labels, predicted = draw(np.random.default_rng(1), 60, 0.8)
        test = compared(one_repeat(labels), a=[predicted], b=[predicted])[0]
        assert (test.difference, test.p, test.mcnemar_p) == (0.0, 1.0, 1.0)
        assert (test.interval.low, test.interval.high) == (0.0, 0.0)

    def test_few_cells_cannot_tell_a_small_difference(self):
        labels = np.array(["B", "T"] * 5)
        two = labels.copy()
        two[0] = "T"
        test = compared(one_repeat(labels), one=[labels], two=[two])[0]
        assert test.difference > 0
        assert test.p > 0.05

    def test_false_alarms_are_as_rare_as_they_should_be(self):
        """Two strategies that err independently and equally often: p below 0.05 in about one case of twenty."""
        alarms = 0
        for seed in range(150):
            rng = np.random.default_rng(seed)
            labels, first = draw(rng, 80, 0.7)
            second = np.where(rng.random(80) < 0.7, labels, rng.choice(["B", "NK", "T"], 80))
            one, two = scores_of(labels, first, second)
            alarms += two_sided_p(one - two) < 0.05
        assert alarms <= 18

    def test_every_pair_is_tested_once_and_corrected_for_all(self):
        rng = np.random.default_rng(0)
        labels, _ = draw(rng, 120, 1.0)
        said = {
            name: [np.where(rng.random(120) < q, labels, "B")]
            for name, q in zip("abcd", (1, 0.9, 0.8, 0.3), strict=True)
        }
        tests = compared(one_repeat(labels), **said)
        assert [(t.first, t.second) for t in tests] == [tuple(p) for p in ("ab", "ac", "ad", "bc", "bd", "cd")]
        assert [t.p_adjusted for t in tests] == holm([t.p for t in tests])
        assert [t.mcnemar_p_adjusted for t in tests] == holm([t.mcnemar_p for t in tests])

    def test_swapping_two_strategies_mirrors_the_test(self):
        labels, first = draw(np.random.default_rng(1), 100, 0.9)
        _, second = draw(np.random.default_rng(1), 100, 0.6)
        one = compared(one_repeat(labels), a=[first], b=[second])[0]
        other = compared(one_repeat(labels), b=[second], a=[first])[0]
        assert other.difference == pytest.approx(-one.difference)
        assert (other.interval.low, other.interval.high) == pytest.approx((-one.interval.high, -one.interval.low))
        assert (other.p, other.mcnemar_p) == (one.p, one.mcnemar_p)
        assert (other.first_only, other.second_only) == (one.second_only, one.first_only)


class TestMcNemar:
    @given(st.integers(0, 60), st.integers(0, 60))
    def test_it_is_that_of_statsmodels(self, b, c):
        expected = statsmodels_mcnemar([[5, b], [c, 7]], exact=True).pvalue if b + c else 1.0
        assert mcnemar(b, c) == pytest.approx(min(1.0, expected))

    def test_by_hand(self):
        assert mcnemar(6, 0) == pytest.approx(2 * 0.5**6)
        assert mcnemar(3, 1) == pytest.approx(2 * (1 + 4) / 16)
        assert mcnemar(4, 4) == 1.0


class TestHolm:
    @pytest.mark.parametrize(
        ("given_values", "adjusted"),
        [
            ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
            ([0.5], [0.5]),
            ([], []),
            ([0.6, 0.7], [1.0, 1.0]),
            ([0.04, 0.01, 0.01, 0.02], [0.04, 0.04, 0.04, 0.04]),
        ],
    )
    def test_by_hand(self, given_values, adjusted):
        assert holm(given_values) == pytest.approx(adjusted)

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_it_is_that_of_statsmodels(self, values):
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_it_never_lowers_a_p_and_keeps_their_order(self, values):
        adjusted = holm(values)
        assert all(value <= after <= 1 for value, after in zip(values, adjusted, strict=True))
        order = np.argsort(values, kind="stable")
        assert (np.diff(np.array(adjusted)[order]) >= 0).all()
