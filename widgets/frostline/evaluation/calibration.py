"""How far probabilities can be trusted: temperature, reliability, risk against coverage, thresholds.

Whatever is chosen (the temperature, a confidence threshold) is chosen on validation cells and applied to test
cells. Confidence is the largest probability of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.classes import softmax

N_BINS = 10
"""Equal-width bins of confidence over 0..1, each open to the left: (0, 0.1], (0.1, 0.2], ..."""
TEMPERATURES = (0.05, 20.0)
"""Where the temperature is looked for."""
SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities enter logarithms as at least this, as in scikit-learn's log_loss."""


def log_loss(probabilities: NDArray[np.float64], columns: NDArray[np.integer]) -> float | None:
    """Mean negative logarithm of the true class's probability; None without cells.

    Parameters
    ----------
    probabilities
        (n_cells, n_classes); below 2.2e-16 they count as that, so a class that a strategy rules out costs 36.
    columns
        (n_cells,) column of each cell's true class.

    Examples
    --------
    >>> round(log_loss(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 1])), 4)
    0.4904
    """
    if not len(columns):
        return None
    own = probabilities[np.arange(len(columns)), columns]
    return float(-np.log(np.clip(own, SMALLEST, 1 - SMALLEST)).mean())


def brier(probabilities: NDArray[np.float64], columns: NDArray[np.integer]) -> float | None:
    """Mean over cells of the squared distance to the true class, summed over classes: 0 to 2 (Brier 1950).

    Examples
    --------
    >>> brier(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 1]))
    0.25
    """
    if not len(columns):
        return None
    truth = np.eye(probabilities.shape[1])[columns]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, by bin of confidence."""

    edges: NDArray[np.float64]
    """(N_BINS + 1,)"""
    cells: NDArray[np.int64]
    """(N_BINS,) test cells in each bin."""
    confidence: NDArray[np.float64]
    """(N_BINS,) their mean confidence; NaN in an empty bin."""
    accuracy: NDArray[np.float64]
    """(N_BINS,) share of them that is right; NaN in an empty bin."""

    @property
    def ece(self) -> float | None:
        """Expected calibration error (Naeini et al. 2015): mean gap, weighted by cells; None without cells."""
        if not self.cells.sum():
            return None
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gap * self.cells).sum() / self.cells.sum())


def reliability(probabilities: NDArray[np.float64], columns: NDArray[np.integer]) -> Reliability:
    """Bin the cells by confidence.

    Examples
    --------
    >>> found = reliability(np.array([[0.95, 0.05], [0.95, 0.05]]), np.array([0, 1]))
    >>> int(found.cells[9]), float(found.accuracy[9]), round(found.ece, 2)
    (2, 0.5, 0.45)
    """
    edges = np.linspace(0, 1, N_BINS + 1)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == columns
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, N_BINS - 1)
    cells = np.bincount(bins, minlength=N_BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            edges,
            cells.astype(np.int64),
            np.bincount(bins, confidence, N_BINS) / cells,
            np.bincount(bins, right, N_BINS) / cells,
        )


def scale(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Divide the logarithms by a temperature and normalise again; the most probable class stays.

    Examples
    --------
    >>> scale(np.array([[0.8, 0.2]]), 2.0).round(3).tolist()
    [[0.667, 0.333]]
    """
    with np.errstate(divide="ignore"):  # what a strategy rules out stays ruled out
        return softmax(np.log(probabilities) / temperature)


def fit_temperature(probabilities: NDArray[np.float64], columns: NDArray[np.integer]) -> float | None:
    """Temperature of the lowest log loss on validation cells (Guo et al. 2017, arXiv:1706.04599).

    None without validation cells, or when the probabilities do not depend on the temperature.

    Examples
    --------
    >>> sure = np.tile([[0.99, 0.01]], (10, 1))
    >>> fit_temperature(sure, np.array([0] * 8 + [1] * 2)) > 3  # right in 80 % only: less sure
    True
    """
    from scipy.optimize import minimize_scalar

    if not len(columns):
        return None
    least = np.where(probabilities > 0, probabilities, np.inf).min(axis=1)
    if (probabilities.max(axis=1) == least).all():  # also where one class alone is possible
        return None

    def loss(log_temperature: float) -> float:
        found = log_loss(scale(probabilities, float(np.exp(log_temperature))), columns)
        assert found is not None
        return found

    outcome = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(outcome.x))


def risk_coverage(
    probabilities: NDArray[np.float64], columns: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of wrong cells among the most confident ones, for every share of cells that is kept.

    Cells of equal confidence are kept together or not at all.

    Returns
    -------
    tuple
        Coverage, rising to 1, and the risk at each.

    Examples
    --------
    >>> coverage, risk = risk_coverage(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    >>> coverage.tolist(), risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != columns
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) if len(order) else np.array([], int)
    kept = last + 1
    return kept / max(len(order), 1), np.cumsum(wrong[order])[last] / np.maximum(kept, 1)


def aurc(probabilities: NDArray[np.float64], columns: NDArray[np.integer]) -> float | None:
    """Area under the risk-coverage curve, as a step function: 0 is best (Geifman and El-Yaniv 2017).

    Examples
    --------
    >>> aurc(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
    0.25
    """
    if not len(columns):
        return None
    coverage, risk = risk_coverage(probabilities, columns)
    return float((np.diff(coverage, prepend=0.0) * risk).sum())


@dataclass(frozen=True)
class Threshold:
    """A confidence that promises an accuracy on validation cells, and what it does to test cells."""

    target: float
    """Accuracy that was asked for."""
    confidence: float | None
    """Smallest confidence whose cells reach it on validation; None when no confidence does."""
    coverage: float | None
    """Share of the test cells that are as confident; None without a threshold."""
    accuracy: float | None
    """Share of those that is right; None when there are none."""


def threshold(
    validation: tuple[NDArray[np.float64], NDArray[np.integer]],
    test: tuple[NDArray[np.float64], NDArray[np.integer]],
    target: float,
) -> Threshold:
    """Choose a confidence threshold on validation cells and apply it to test cells.

    Parameters
    ----------
    validation, test
        Probabilities (n_cells, n_classes) and the columns of the true classes.
    target
        Accuracy that all validation cells at or above the threshold must reach together.

    Examples
    --------
    >>> chosen = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 0, 1])
    >>> threshold(chosen, chosen, 0.95)
    Threshold(target=0.95, confidence=0.8, coverage=0.6666666666666666, accuracy=1.0)
    """
    probabilities, columns = validation
    coverage, risk = risk_coverage(probabilities, columns)
    enough = np.flatnonzero(1 - risk >= target)
    if not len(enough):
        return Threshold(target, None, None, None)
    kept = round(coverage[enough[-1]] * len(columns))
    limit = float(np.sort(probabilities.max(axis=1))[::-1][kept - 1])
    confident = test[0].max(axis=1) >= limit
    right = test[0].argmax(axis=1) == test[1]
    return Threshold(
        target,
        limit,
        float(confident.mean()) if len(confident) else None,
        float(right[confident].mean()) if confident.any() else None,
    )
