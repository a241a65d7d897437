"""Intervals and paired tests, against plain resampling, hand-computed cases and known behaviour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from frostline.significance import against, bootstrap_macro_f1, holm, percentile_interval, two_sided_p


def draw(rng, n, accuracy, classes=("B", "NK", "T")):
    """Labels, and predictions that are right with the given probability."""
    labels = rng.choice(classes, n)
    return labels, np.where(rng.random(n) < accuracy, labels, rng.choice(classes, n))


def test_scores_are_those_of_scikit_learn_on_the_same_samples():
    rng = np.random.default_rng(3)
    labels, predicted = draw(rng, 30, 0.6)
    found = bootstrap_macro_f1(labels, [predicted], resamples=40, seed=11)[0]
    counts = np.empty((40, 30), dtype=int)
    classes = np.unique(labels)
    for name, stream in zip(classes, np.random.default_rng(11).spawn(len(classes)), strict=True):
        rows = np.flatnonzero(labels == name)
        counts[:, rows] = stream.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=40)
    for score, times in zip(found, counts, strict=True):
        truth, said = np.repeat(labels, times), np.repeat(predicted, times)
        expected = f1_score(truth, said, labels=np.unique(truth), average="macro", zero_division=0.0)
        assert score == pytest.approx(expected, abs=1e-12)


def test_blocks_of_samples_do_not_change_the_result(monkeypatch):
    labels, predicted = draw(np.random.default_rng(0), 50, 0.7)
    whole = bootstrap_macro_f1(labels, [predicted], resamples=60)
    monkeypatch.setattr("frostline.significance.BLOCK", 7)
    np.testing.assert_array_equal(bootstrap_macro_f1(labels, [predicted], resamples=60), whole)


def test_a_class_that_is_only_predicted_lowers_the_others_and_has_no_f1():
    assert bootstrap_macro_f1(["B"] * 10, [["B"] * 5 + ["T"] * 5], resamples=500).mean() == pytest.approx(
        2 / 3, abs=0.03
    )


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Accuracy 0.8 on two balanced classes: macro-F1 is close to 0.8 in the long run."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(200):
        labels = np.array(["B", "T"] * 75)
        flipped = np.where(labels == "B", "T", "B")
        predicted = np.where(rng.random(150) < 0.8, labels, flipped)
        interval = percentile_interval(bootstrap_macro_f1(labels, [predicted], resamples=300)[0])
        covered += interval.low <= 0.8 <= interval.high
    assert 180 <= covered <= 199


def test_a_clear_winner_is_detected():
    rng = np.random.default_rng(1)
    labels, good = draw(rng, 300, 0.95)
    _, bad = draw(np.random.default_rng(2), 300, 0.0)
    interval, tests = against("good", labels, {"good": good, "bad": bad})
    assert tests["bad"].p < 0.001
    assert tests["bad"].interval.low > 0.3
    assert interval.low < f1_score(labels, good, average="macro") < interval.high


def test_the_same_predictions_are_no_difference():
    labels, predicted = draw(np.random.default_rng(1), 60, 0.8)
    _, tests = against("a", labels, {"a": predicted, "b": predicted})
    assert (tests["b"].difference, tests["b"].p) == (0.0, 1.0)
    assert (tests["b"].interval.low, tests["b"].interval.high) == (0.0, 0.0)


def test_few_cells_cannot_tell_a_small_difference():
    labels = np.array(["B", "T"] * 5)
    one, two = labels.copy(), labels.copy()
    two[0] = "T"
    _, tests = against("one", labels, {"one": one, "two": two})
    assert tests["two"].difference > 0
    assert tests["two"].p > 0.05


def test_false_alarms_are_as_rare_as_they_should_be():
    """Two strategies that err independently and equally often: p below 0.05 in about one case of twenty."""
    alarms = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        labels, first = draw(rng, 80, 0.7)
        second = np.where(rng.random(80) < 0.7, labels, rng.choice(["B", "NK", "T"], 80))
        scores = bootstrap_macro_f1(labels, [first, second], resamples=300)
        alarms += two_sided_p(scores[0] - scores[1]) < 0.05
    assert alarms <= 18


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
def test_holm_by_hand(given_values, adjusted):
    assert holm(given_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(values):
    adjusted = holm(values)
    assert all(value <= after <= 1 for value, after in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_every_class_keeps_its_cells_in_every_sample():
    """One cell of a class that is always right: its F1 never vanishes from the mean."""
    labels = ["rare"] + ["B"] * 20
    scores = bootstrap_macro_f1(labels, [["rare"] + ["B"] * 20, ["B"] * 21], resamples=200)
    assert (scores[0] == 1).all()
    assert scores[1] == pytest.approx(np.full(200, 20 / 41))


def test_the_seed_decides_the_samples():
    labels, predicted = draw(np.random.default_rng(0), 50, 0.7)
    first, again, other = (bootstrap_macro_f1(labels, [predicted], resamples=20, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
