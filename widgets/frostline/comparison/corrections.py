"""McNemar's test, and Holm's correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar test (1947) of whether two strategies err equally often.

    Examples
    --------
    >>> mcnemar(5, 0), mcnemar(0, 0)
    (0.0625, 1.0)
    """
    from scipy.stats import binomtest

    n = first_only + second_only
    return float(binomtest(first_only, n, 0.5).pvalue) if n else 1.0


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
