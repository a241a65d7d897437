"""Probabilities, against scikit-learn, plain loops and cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax

from frostline.evaluation import calibration


def draw(seed, n=200, classes=4, skill=1.5):
    rng = np.random.default_rng(seed)
    columns = rng.integers(classes, size=n)
    return softmax(rng.normal(size=(n, classes)) + skill * np.eye(classes)[columns], axis=1), columns


@pytest.mark.parametrize("seed", range(3))
def test_log_loss_and_brier_are_those_of_scikit_learn(seed):
    probabilities, columns = draw(seed)
    expected = sklearn.metrics.log_loss(columns, probabilities, labels=range(4))
    assert calibration.log_loss(probabilities, columns) == pytest.approx(expected, abs=1e-12)
    expected = sklearn.metrics.brier_score_loss(columns, probabilities, labels=range(4), scale_by_half=False)
    assert calibration.brier(probabilities, columns) == pytest.approx(expected, abs=1e-12)


def test_a_class_that_was_ruled_out_costs_what_scikit_learn_says():
    probabilities, columns = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0])
    expected = sklearn.metrics.log_loss(columns, probabilities, labels=[0, 1])
    assert calibration.log_loss(probabilities, columns) == pytest.approx(expected)
    assert math.isfinite(expected)


def test_the_calibration_error_by_a_plain_loop():
    probabilities, columns = draw(5, n=317)
    total = 0.0
    for i in range(10):
        low, high = i / 10, (i + 1) / 10
        rows = [r for r in range(317) if low < probabilities[r].max() <= high]
        if rows:
            confidence = sum(probabilities[r].max() for r in rows) / len(rows)
            accuracy = sum(probabilities[r].argmax() == columns[r] for r in rows) / len(rows)
            total += abs(confidence - accuracy) * len(rows) / 317
    assert calibration.reliability(probabilities, columns).ece == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("confidence", "bin_number"), [(1.0, 9), (0.9, 8), (0.9 + 1e-9, 9), (0.5, 4), (0.6, 5)])
def test_a_bin_is_open_to_the_left(confidence, bin_number):
    found = calibration.reliability(np.array([[confidence, 1 - confidence]]), np.array([0]))
    assert found.cells.argmax() == bin_number
    assert found.cells.sum() == 1


def test_scaling_is_dividing_the_logits():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    for temperature in (0.3, 1.0, 4.0):
        expected = softmax(logits / temperature, axis=1)
        np.testing.assert_allclose(calibration.scale(softmax(logits, axis=1), temperature), expected, atol=1e-12)


@given(st.floats(0.05, 20), st.integers(0, 100))
def test_scaling_changes_no_prediction_and_keeps_sums_and_zeros(temperature, seed):
    probabilities, _ = draw(seed, n=20)
    probabilities[0] = [0.0, 0.5, 0.5, 0.0]
    scaled = calibration.scale(probabilities, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    assert scaled[0].tolist() == pytest.approx([0.0, 0.5, 0.5, 0.0])


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found_again(true_temperature):
    """Labels drawn from softmax(z), probabilities handed over as softmax(z * T)."""
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(6000, 4))
    columns = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    sharp = softmax(logits * true_temperature, axis=1)
    assert calibration.fit_temperature(sharp, columns) == pytest.approx(true_temperature, rel=0.06)


def test_the_temperature_is_the_minimum_that_another_optimiser_finds():
    probabilities, columns = draw(7, skill=3.0)

    def loss(x):
        return calibration.log_loss(softmax(np.log(probabilities) / np.exp(x[0]), axis=1), columns)

    expected = math.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x[0])
    assert calibration.fit_temperature(probabilities, columns) == pytest.approx(expected, rel=1e-4)


def test_a_temperature_that_nothing_decides_is_none():
    assert calibration.fit_temperature(np.empty((0, 3)), np.empty(0, int)) is None
    assert calibration.fit_temperature(np.full((5, 2), 0.5), np.zeros(5, int)) is None
    certain = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    for temperature in calibration.TEMPERATURES:
        np.testing.assert_array_equal(calibration.scale(certain, temperature), certain)
    assert calibration.fit_temperature(certain, np.array([0, 1, 0])) is None
    assert calibration.fit_temperature(certain[:2], np.array([0, 2])) is None
    assert calibration.fit_temperature(np.vstack([certain, [[0.6, 0.4, 0.0]]]), np.array([0, 1, 0, 1])) > 1


def test_cells_of_equal_confidence_are_kept_together():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    coverage, risk = calibration.risk_coverage(probabilities, np.array([0, 1, 0, 0]))
    assert coverage.tolist() == [0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 4])


@pytest.mark.parametrize("seed", range(3))
def test_the_area_under_risk_and_coverage_by_a_plain_loop(seed):
    probabilities, columns = draw(seed, n=60)
    order = sorted(range(60), key=lambda r: -probabilities[r].max())
    wrong = [probabilities[r].argmax() != columns[r] for r in order]
    expected = np.mean([sum(wrong[: k + 1]) / (k + 1) for k in range(60)])
    assert calibration.aurc(probabilities, columns) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [0.8, 0.95])
def test_the_threshold_is_the_lowest_that_keeps_the_promise(seed, target):
    validation, test = draw(seed), draw(seed + 100)
    found = calibration.threshold(validation, test, target)
    confidence, right = validation[0].max(axis=1), validation[0].argmax(axis=1) == validation[1]
    keeping = [limit for limit in confidence if right[confidence >= limit].mean() >= target]
    assert found.confidence == min(keeping)
    chosen = test[0].max(axis=1) >= found.confidence
    assert found.coverage == pytest.approx(chosen.mean())
    assert found.accuracy == pytest.approx((test[0].argmax(axis=1) == test[1])[chosen].mean())


def test_a_promise_that_no_confidence_keeps_is_none():
    wrong = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([1, 1])
    found = calibration.threshold(wrong, wrong, 0.95)
    assert (found.confidence, found.coverage, found.accuracy) == (None, None, None)


def test_a_threshold_that_no_test_cell_reaches_has_no_accuracy():
    sure, unsure = (np.array([[0.99, 0.01]]), np.array([0])), (np.array([[0.6, 0.4]]), np.array([0]))
    found = calibration.threshold(sure, unsure, 0.95)
    assert (found.confidence, found.coverage, found.accuracy) == (0.99, 0.0, None)


def test_without_cells_everything_is_none():
    nothing = np.empty((0, 3)), np.empty(0, int)
    assert calibration.log_loss(*nothing) is None
    assert calibration.brier(*nothing) is None
    assert calibration.reliability(*nothing).ece is None
    assert calibration.aurc(*nothing) is None
    assert calibration.threshold(nothing, nothing, 0.95).confidence is None
