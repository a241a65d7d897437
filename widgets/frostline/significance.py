"""How sure the numbers are: bootstrap intervals, and paired tests between strategies on the same cells.

All tests are paired, because all strategies predict the same test cells. Resampling is over cells, within each
true class: a stratified split fixes how many cells of each class are tested, and so do the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.metrics import macro_f1

RESAMPLES = 2_000
CONFIDENCE = 0.95
BLOCK = 200  # samples at a time, to bound the memory


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Two strategies on the same cells; p adjusted for the comparisons made along with it."""

    difference: float
    """Macro-F1 of the first minus macro-F1 of the second."""
    interval: Interval
    """Of the difference."""
    p: float
    """Two-sided, from the paired bootstrap."""


def bootstrap_macro_f1(
    labels: Sequence[str], predictions: Sequence[Sequence[str]], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Macro-F1 of several strategies on the same bootstrap samples of cells (Efron 1979).

    Parameters
    ----------
    labels
        (n_cells,) true classes.
    predictions
        One sequence of n_cells predicted classes for each strategy.
    resamples
        Bootstrap samples, cells drawn with replacement within each true class; the same for every strategy.
    seed
        Of the samples.

    Returns
    -------
    ndarray
        (n_strategies, resamples)

    Examples
    --------
    >>> scores = bootstrap_macro_f1(["B", "T", "T"], [["B", "T", "T"], ["T", "T", "T"]], resamples=10)
    >>> scores.shape, bool((scores[0] == 1).all())
    ((2, 10), True)
    """
    truth = np.asarray(labels)
    classes = np.unique(truth)
    is_class = truth[:, None] == classes  # (n_cells, n_classes)
    support = is_class.sum(axis=0)  # (n_classes,), the same in every sample
    members = [np.flatnonzero(column) for column in is_class.T]
    streams = np.random.default_rng(seed).spawn(len(classes))  # one a class: blocks do not change what is drawn
    scores = np.empty((len(predictions), resamples))
    said = [np.asarray(predicted)[:, None] == classes for predicted in predictions]
    for start in range(0, resamples, BLOCK):
        block = slice(start, min(start + BLOCK, resamples))
        weights = np.empty((block.stop - start, len(truth)))  # how often each cell is in each sample
        for rows, stream in zip(members, streams, strict=True):
            weights[:, rows] = stream.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=len(weights))
        for i, claimed in enumerate(said):
            hits = weights @ (is_class & claimed)
            total = support + weights @ claimed
            scores[i, block] = (2 * hits / total).mean(axis=1)
    return scores


def percentile_interval(scores: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval that leaves half of 1 - confidence on either side.

    Examples
    --------
    >>> percentile_interval(np.arange(101.0), confidence=0.5)
    Interval(low=25.0, high=75.0)
    """
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def two_sided_p(differences: NDArray[np.float64]) -> float:
    """Twice the smaller share of resampled differences on one side of zero, never below 1 / (n + 1).

    The differences are those of the paired bootstrap; a share of zero counts on both sides.

    Examples
    --------
    >>> two_sided_p(np.array([1.0, 2.0, 3.0])), two_sided_p(np.zeros(3))
    (0.5, 1.0)
    """
    n = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (n + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons (Holm 1979), in the order given.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    ordered = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=float)[order] * factors))
    adjusted = np.empty(len(p_values))
    adjusted[order] = ordered
    return [float(p) for p in adjusted]


def against(
    best: str, labels: Sequence[str], predictions: Mapping[str, Sequence[str]], *, seed: int = 0
) -> tuple[Interval, dict[str, PairedTest]]:
    """Compare one strategy with each of the others on the same cells.

    Parameters
    ----------
    best
        Name of the strategy that the others are held against.
    labels
        (n_cells,) true classes.
    predictions
        Predicted classes by strategy, all of the same cells in the same order.
    seed
        Of the bootstrap samples, which are the same for all strategies.

    Returns
    -------
    tuple
        The interval of the macro-F1 of `best`, and by name the tests of the others against it, their
        p-values adjusted for the number of them (Holm).

    Examples
    --------
    >>> interval, tests = against("x", ["B", "T"] * 20, {"x": ["B", "T"] * 20, "y": ["B"] * 40})
    >>> interval, round(tests["y"].difference, 4), tests["y"].p < 0.01
    (Interval(low=1.0, high=1.0), 0.6667, True)
    """
    others = [name for name in predictions if name != best]
    scores = bootstrap_macro_f1(labels, [predictions[name] for name in (best, *others)], seed=seed)
    differences = [scores[0] - scores[i + 1] for i in range(len(others))]
    observed = [_macro_f1(labels, predictions[name]) for name in (best, *others)]
    adjusted = holm([two_sided_p(difference) for difference in differences])
    tests = {
        name: PairedTest(
            difference=observed[0] - observed[i + 1],
            interval=percentile_interval(differences[i]),
            p=adjusted[i],
        )
        for i, name in enumerate(others)
    }
    return percentile_interval(scores[0]), tests


def _macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float:
    score = macro_f1(labels, predicted)
    if score is None:
        raise ValueError("there is no cell to compare on")
    return score
