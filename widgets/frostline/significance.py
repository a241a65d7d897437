"""How sure the numbers are: bootstrap intervals, and paired tests between strategies on the same cells.

All tests are paired, because all strategies predict the same test cells. Resampling is over cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A bootstrap percentile interval."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Two strategies on the same cells."""

    difference: float
    """Macro-F1 of the first minus macro-F1 of the second."""
    interval: Interval
    """Of the difference."""
    p_macro_f1: float
    """Two-sided, from the paired bootstrap."""
    p_accuracy: float
    """McNemar's exact test."""


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
        Bootstrap samples, each n_cells drawn with replacement; the same for every strategy.
    seed
        Of the samples.

    Returns
    -------
    ndarray
        (n_strategies, resamples). In a sample, the mean runs over the classes that it holds.

    Examples
    --------
    >>> scores = bootstrap_macro_f1(["B", "T", "T"], [["B", "T", "T"], ["T", "T", "T"]], resamples=10)
    >>> scores.shape, bool((scores[0] == 1).all())
    ((2, 10), True)
    """
    truth = np.asarray(labels)
    classes = np.unique(truth)
    is_class = truth[:, None] == classes  # (n_cells, n_classes)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples).astype(np.float64)
    support = weights @ is_class  # (resamples, n_classes)
    scores = np.empty((len(predictions), resamples))
    for i, predicted in enumerate(predictions):
        said = np.asarray(predicted)[:, None] == classes
        hits = weights @ (is_class & said)
        # where a class is in the sample the denominator is positive; elsewhere F1 does not exist
        f1 = np.divide(2 * hits, support + weights @ said, out=np.full_like(hits, np.nan), where=support > 0)
        scores[i] = np.nanmean(f1, axis=1)
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


def mcnemar_exact(labels: Sequence[str], first: Sequence[str], second: Sequence[str]) -> float:
    """Return the p-value of McNemar's exact test: do two strategies err on equally many cells (McNemar 1947).

    Only the cells count that exactly one of the two predicts right; 1 when there is none.

    Examples
    --------
    >>> mcnemar_exact(["B"] * 5, ["B"] * 5, ["T"] * 5)
    0.0625
    """
    from scipy.stats import binomtest

    truth = np.asarray(labels)
    right, also = np.asarray(first) == truth, np.asarray(second) == truth
    only_first, only_second = int((right & ~also).sum()), int((also & ~right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


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


def paired_test(
    labels: Sequence[str], first: Sequence[str], second: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedTest:
    """Compare two strategies on the same cells: macro-F1 by paired bootstrap, accuracy by McNemar.

    Examples
    --------
    >>> same = paired_test(["B", "T"], ["B", "T"], ["B", "T"], resamples=20)
    >>> same.difference, same.p_macro_f1, same.p_accuracy
    (0.0, 1.0, 1.0)
    """
    from frostline.metrics import macro_f1

    scores = bootstrap_macro_f1(labels, [first, second], resamples=resamples, seed=seed)
    differences = scores[0] - scores[1]
    one, other = macro_f1(labels, first), macro_f1(labels, second)
    if one is None or other is None:
        raise ValueError("there is no cell to compare on")
    return PairedTest(
        difference=one - other,
        interval=percentile_interval(differences),
        p_macro_f1=two_sided_p(differences),
        p_accuracy=mcnemar_exact(labels, first, second),
    )
