"""Whether a query is like the training data: a classifier that can tell them apart shows that it is not.

A two-sample test by classification (Lopez-Paz and Oquab 2017, arXiv:1610.06545): the promise of a stated error is for
cells like those it was counted on. What is reported is that a query differs, never an accuracy on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from frostline.threads import one_blas_thread

LIMIT = 0.7
"""AUROC above which the whole interval must lie."""
MOST = 1000
"""Cells of either side that are looked at."""
DIMENSIONS, FOLDS, PENALTY = 50, 5, 400.0
GROUPS = 8
"""Groups of the training data that are compared with its others, at most: of many small ones some would be
distinguished by chance."""
FEWEST = 20
"""Cells of either side from which on anything is said."""


@dataclass(frozen=True)
class Shift:
    """How well cells of a query can be distinguished from those of the training data."""

    auroc: float | None
    """0.5 where they cannot be distinguished, 1 where each can; None with too few cells."""
    low: float | None
    high: float | None
    """Its 95 % interval (DeLong et al. 1988)."""
    differs: bool
    usual: float | None = None
    """Largest AUROC with which a group of the training data was distinguished from its others; None without groups."""
    n: int = 0
    """Cells of either side that were looked at."""
    reference_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    """What the classifier says of each training cell: larger for those that are like cells of the query."""
    query_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def sentence(self) -> str:
        """What follows for the stated error."""
        if self.auroc is None:
            few = f"{self.n:,} comparable cells are too few"
            return f"{few} to tell whether this query differs from the training data."
        between = f"{self.auroc:.2f} ({self.low:.2f} to {self.high:.2f})"
        seen = f"a classifier tells their cells apart with an AUROC of {between}"
        if self.usual is not None:
            seen += f", and groups of the training data with one of up to {self.usual:.2f}"
        if self.differs:
            return f"This query differs from the training data: the stated error does not hold ({seen})."
        if self.high is not None and self.high > max(LIMIT, self.usual or 0.0):
            return f"These cells do not show whether this query differs from the training data: {seen}."
        if self.usual is not None and self.usual > LIMIT:
            return f"This query is not shown to differ from the training data more than their own groups do: {seen}."
        return f"This query is like the training data, as far as a classifier can tell: {seen}."


def compare(
    reference: NDArray[np.floating],
    query: NDArray[np.floating],
    seed: int = 0,
    kinds: tuple[NDArray[np.str_], NDArray[np.str_]] | None = None,
    groups: NDArray[np.str_] | None = None,
) -> Shift:
    """Test whether a classifier tells cells of a query from those of the training data.

    As many cells of each, at most 1,000, are drawn, their first 50 principal components taken, and a logistic
    regression cross-validated. The query differs where the 95 % interval of its AUROC lies above 0.7, and above what a
    group of the training data reaches against its others: another donor of the same laboratory stays below, another
    chemistry, laboratory or treatment is above.

    Parameters
    ----------
    reference, query
        (n, d) and (m, d) representations by the same model.
    seed
        Of the draw and the folds.
    kinds
        (n,) labels of the reference and (m,) predictions of the query. As many cells of each kind are then compared,
        so that a query of other shares of the same kinds does not differ.
    groups
        (n,) donors, batches, studies of the reference; of more than eight, eight are drawn and tried.

    Examples
    --------
    >>> cells = np.random.default_rng(0).normal(size=(400, 5))
    >>> compare(cells[:200], cells[200:]).differs, compare(cells[:200], cells[200:] + 1).differs
    (False, True)
    """
    found = _separation(reference, query, seed, kinds)
    names: NDArray[np.str_] = np.unique(groups if groups is not None and found.auroc is not None else [])
    within = []
    for name in np.random.default_rng(seed).permutation(names)[:GROUPS]:
        own, others = np.flatnonzero(groups == name), np.flatnonzero(groups != name)
        own_kinds = (kinds[0][others], kinds[0][own]) if kinds else None
        within.append(_separation(reference[others], reference[own], seed, own_kinds).auroc)
    usual = max((auroc for auroc in within if auroc is not None), default=None)
    return replace(found, usual=usual, differs=found.low is not None and found.low > max(LIMIT, usual or 0.0))


def _separation(
    reference: NDArray[np.floating],
    query: NDArray[np.floating],
    seed: int,
    kinds: tuple[NDArray[np.str_], NDArray[np.str_]] | None,
) -> Shift:
    """AUROC and its interval, whatever that means."""
    rows = _balanced(np.random.default_rng(seed), len(reference), len(query), kinds)
    n = len(rows[0])
    if n < FEWEST:
        return Shift(None, None, None, False, n=n)
    parts = [np.asarray(side, np.float64)[chosen] for side, chosen in zip((reference, query), rows, strict=True)]
    scores = _scores(np.concatenate(parts), np.repeat([0, 1], n))
    auroc, error = auroc_with_error(scores[:n], scores[n:])
    low, high = max(0.0, auroc - 1.96 * error), min(1.0, auroc + 1.96 * error)
    return Shift(auroc, low, high, False, None, n, scores[:n], scores[n:])


def _balanced(
    draw: np.random.Generator, n: int, m: int, kinds: tuple[NDArray[np.str_], NDArray[np.str_]] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of either side, as many of each kind."""
    first, second = kinds or (np.zeros(n), np.zeros(m))
    pairs = []
    for kind in np.intersect1d(first, second):
        sides = [draw.permutation(np.flatnonzero(side == kind)) for side in (first, second)]
        pairs += list(zip(*sides, strict=False))
    chosen = draw.permutation(np.array(pairs, dtype=np.int64).reshape(-1, 2))[:MOST]
    return chosen[:, 0], chosen[:, 1]


def _scores(x: NDArray[np.float64], side: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much a cell looks like one of the query, each cell's by a classifier that had not seen it."""
    scores, fold = np.zeros(len(x)), np.arange(len(x)) % FOLDS  # either side is in random order
    for i in range(FOLDS):
        scores[fold == i] = _discriminant(x[fold != i], side[fold != i], x[fold == i])
    return scores


def _discriminant(x: NDArray[np.float64], side: NDArray[np.int64], unseen: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_unseen,) scores of Fisher's discriminant, as ridge regression on standardised principal components.

    Written out, for scikit-learn takes more memory than all that is read of a file at once.
    """
    mean = x.mean(axis=0)
    with one_blas_thread():
        _, lengths, axes = np.linalg.svd(x - mean, full_matrices=False)
    leading = (lengths > 1e-10 * max(1.0, lengths[0])) & (np.arange(len(lengths)) < DIMENSIONS)
    axes = axes[leading].T / lengths[leading] * np.sqrt(len(x))  # of variance 1
    weights = ((x - mean) @ axes).T @ np.where(side, 1.0, -1.0) / (len(x) + PENALTY)
    found: NDArray[np.float64] = (unseen - mean) @ axes @ weights
    return found


def auroc_with_error(below: NDArray[np.floating], above: NDArray[np.floating]) -> tuple[float, float]:
    """Share of pairs in which the second is larger, ties half, and its standard error (DeLong et al. 1988).

    Examples
    --------
    >>> auroc, error = auroc_with_error(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0]))
    >>> auroc, round(error, 4)
    (0.75, 0.2887)
    """
    n, m = len(below), len(above)
    ranks = _ranks(np.concatenate([below, above]))
    of_above = (ranks[n:] - _ranks(above)) / n
    of_below = 1 - (ranks[:n] - _ranks(below)) / m
    return float(of_above.mean()), float(np.sqrt(of_above.var(ddof=1) / m + of_below.var(ddof=1) / n))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1, the mean of them for values that are equal."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
