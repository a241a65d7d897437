"""A stated error: the confidence from which at most so many labels are wrong, with a one-sided bound; or that none is.

Confidence thresholds are tested one after the other, and the first that fails ends it, so that many may be tried at
the level of one test (fixed sequence testing, Angelopoulos et al. 2021, arXiv:2110.01052). Where the sequence begins is
decided by the confidences alone, without a look at what is right. Each test is the bound of Clopper and Pearson (1934).
The cells of a donor are not independent: with three groups or more the number of cells is cut down to the
effective one, as Korn and Graubard (1998) do for clustered surveys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.comparison.grounds import MIN_UNITS

TARGET, DELTA = 0.95, 0.1
STEPS = 50
"""Thresholds that are tried at most: each two hundredths of the cells further."""
WRONG_LABELS = 0.01
"""Share of wrong labels that is reckoned with, beside the confidence, in choosing where the sequence begins."""


@dataclass(frozen=True)
class Answers:
    """What would be answered at one confidence threshold."""

    threshold: float
    stated: NDArray[np.float64]
    """(n_answered,) probability of each answer."""
    wrong: NDArray[np.bool_]
    """(n_answered,)"""
    groups: NDArray[np.str_] | None = None
    """(n_answered,) group of each cell."""

    @property
    def errors(self) -> int:
        """How many are wrong."""
        return int(self.wrong.sum())

    def __len__(self) -> int:
        return len(self.wrong)


@dataclass(frozen=True)
class Certificate:
    """The confidence from which answers hold the promised accuracy, or why there is none."""

    target: float
    """Accuracy that is promised."""
    delta: float
    """Probability with which the promise may be broken."""
    threshold: float | None
    """Smallest confidence of an answer; None where the error cannot be certified."""
    n: int
    """Cells that were predicted by a model that had not seen them."""
    answered: int
    """How many of them are as confident; 0 without a threshold."""
    errors: int
    """How many of those were wrong."""
    bound: float | None
    """Upper bound of the share of wrong answers; None without a threshold."""
    groups: int | None = None
    """Groups that the bound is over; None where it is over cells."""
    curve: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    """Share answered, share of that which is right, and what the bound leaves of it, for each threshold, falling."""

    @property
    def sentence(self) -> str:
        """What may be said of the answers."""
        if self.threshold is None:
            return f"The error cannot be certified: {self._reason}."
        claim = "other cells of the same origin" if self.groups is None else "other groups like these"
        wrong = f"{self.errors:,} {'was' if self.errors == 1 else 'were'} wrong (at most {_percent(self.bound)})"
        return (
            f"At a confidence of {_floor(self.threshold)} or more, {100 * self.target:g} % of the answers are right, "
            f"with a certainty of {100 - 100 * self.delta:g} %, for {claim}: of {self.answered:,} such cells among "
            f"{self.n:,} that the model had not seen {wrong}."
        )

    @property
    def _reason(self) -> str:
        least, promise = needed(self.target, self.delta), f"{100 * self.target:g} %"
        if self.n < least:
            return (
                f"{self.n:,} labelled cells could be predicted by a model that had not seen them, and {promise} "
                f"cannot be shown with fewer than {least:,}, even without one error"
            )
        over = "" if self.groups is None else f" in {self.groups} groups"
        return (
            f"at no confidence do the {self.n:,} labelled cells{over} show that {promise} of the answers are right, "
            f"with a certainty of {100 - 100 * self.delta:g} %"
        )

    def facts(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Rebuild what `facts` returned, from JSON too."""
        return cls(**{**facts, "curve": tuple((*row,) for row in facts["curve"])})


def needed(target: float, delta: float) -> int:
    """Cells without one error that it takes to show an accuracy.

    Examples
    --------
    >>> needed(0.95, 0.1)
    45
    """
    return ceil(log(delta) / log(target))


def upper_bound(errors: float, n: float, delta: float = DELTA) -> float:
    """Largest share of errors that is not excluded at level `delta` (Clopper and Pearson 1934).

    Parameters
    ----------
    errors, n
        Wrong ones, and all; an effective number of cells need not be whole.
    delta
        Level of the one-sided test.

    Examples
    --------
    >>> round(upper_bound(0, 45), 4), round(upper_bound(3, 100), 4)
    (0.0499, 0.0656)
    """
    from scipy.special import betaincinv

    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def group_bound(wrong: NDArray[np.bool_], groups: NDArray[np.str_], delta: float = DELTA) -> float:
    """Upper bound of the share of errors in other groups (Korn and Graubard 1998).

    The number of cells becomes the one of independent cells that would vary as much as the share does when each group
    is left out in turn, and is cut further for the few degrees of freedom that groups leave; it never grows. A group
    with most of the cells hardly differs from the share of all, which it makes: only leaving it out shows its weight.

    Parameters
    ----------
    wrong, groups
        (n,) whether each answer is wrong, and the group of its cell.
    delta
        Level of the one-sided test.

    Examples
    --------
    >>> wrong = np.repeat([True, False], [10, 290])
    >>> round(upper_bound(10, 300), 3)
    0.051
    >>> spread, one = np.arange(300) % 3, np.arange(300) // 100
    >>> round(group_bound(wrong, spread), 3), round(group_bound(wrong, one), 3)
    (0.062, 0.206)
    """
    names, place = np.unique(groups, return_inverse=True)
    n, g = len(wrong), len(names)
    if g < 2:
        return 1.0
    share = float(wrong.mean())
    apart = np.bincount(place, wrong - share)  # a group's errors beyond its part
    left = n - np.bincount(place)  # without a group, the share is smaller by its errors beyond its part, over these
    variance = (g - 1) / g * float(((apart / left) ** 2).sum())
    effective = min(n, share * (1 - share) / variance) if variance > 0 else n
    effective *= _kept(n, g, delta)
    return upper_bound(share * effective, effective, delta)


def _kept(n: float, groups: int, delta: float) -> float:
    """Share of the cells that few groups leave, by the degrees of freedom of Student's t."""
    from scipy.stats import t

    return min(1.0, float(t.ppf(1 - delta, n - 1) / t.ppf(1 - delta, groups - 1)) ** 2)


def certify(
    confidence: NDArray[np.floating],
    right: NDArray[np.bool_],
    target: float = TARGET,
    delta: float = DELTA,
    groups: NDArray[np.str_] | None = None,
) -> Certificate:
    """Find the smallest confidence from which answers are as accurate as promised.

    Parameters
    ----------
    confidence
        (n,) of labelled cells, each predicted by a model that had not seen it; nor, where there are groups, its group.
    right
        (n,) whether the prediction is the label.
    target
        Accuracy that is promised.
    delta
        Probability with which the promise may be broken.
    groups
        (n,) donors, batches, studies; with fewer than three the bound is over cells, and so is the claim.

    Examples
    --------
    >>> confidence = np.linspace(1, 0.3, 500)
    >>> found = certify(confidence, confidence > 0.5)
    >>> round(found.threshold, 2), found.errors, found.answered
    (0.49, 4, 361)
    >>> print(certify(confidence[:30], np.full(30, True)).sentence)
    The error cannot be certified: 30 labelled cells could be predicted by a model that had not seen them, and 95 % \
cannot be shown with fewer than 45, even without one error.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order].astype(np.float64)
    steps = []
    for n in sorted({ceil(len(order) * share) for share in np.linspace(1 / STEPS, 1, STEPS)} - {0}):
        n = int(np.searchsorted(-ranked, -ranked[n - 1], side="right"))  # cells of equal confidence stay together
        rows = order[:n]
        steps.append(Answers(float(ranked[n - 1]), ranked[:n], ~right[rows], None if groups is None else groups[rows]))
    return certify_steps(steps, len(order), target, delta, groups)


def certify_steps(
    steps: Sequence[Answers], n: int, target: float, delta: float, groups: NDArray[np.str_] | None
) -> Certificate:
    """Test one threshold after the other, falling, from where success is most likely, until one fails.

    Parameters
    ----------
    steps
        What would be answered at each threshold, thresholds falling.
    n
        Cells, answered or not.
    target, delta, groups
        As for `certify`.
    """
    units = 0 if groups is None else len(np.unique(groups))
    n_groups = units if units >= MIN_UNITS else None
    bounds = [_bound(step, delta, n_groups is not None) for step in steps]
    curve = tuple(
        (len(step) / n, 1 - step.errors / len(step), 1 - bound)
        for step, bound in zip(steps, bounds, strict=True)
        if len(step)
    )
    found = None
    sizes = np.array([len(step) for step in steps])
    if n_groups is not None:
        sizes = np.floor(sizes * _kept(n, n_groups, delta)).astype(int)
    for place in range(_begin(steps, sizes, target, delta), len(steps)):
        if bounds[place] > 1 - target:
            break
        found = place
    if found is None:
        return Certificate(target, delta, None, n, 0, 0, None, n_groups, curve)
    last = steps[found]
    return Certificate(target, delta, last.threshold, n, len(last), last.errors, bounds[found], n_groups, curve)


def _bound(step: Answers, delta: float, over_groups: bool) -> float:
    if over_groups and step.groups is not None:
        return max(group_bound(step.wrong, step.groups, delta), upper_bound(step.errors, len(step), delta))
    return upper_bound(step.errors, len(step), delta)


def _begin(steps: Sequence[Answers], n: NDArray[np.int64], target: float, delta: float) -> int:
    """Place of the threshold that is likeliest to pass if the confidences are true; what is right is not looked at.

    `n` has the independent answers at each threshold.
    """
    from scipy.stats import binom

    if not steps:
        return 0
    # so many errors pass as have, together with fewer, at most the probability delta at the error that is too large
    allowed = binom.ppf(delta, n, 1 - target)
    allowed -= binom.cdf(allowed, n, 1 - target) > delta
    error = np.array([1 - step.stated.mean() if len(step) else 1.0 for step in steps]) + WRONG_LABELS
    return int(np.argmax(binom.cdf(allowed, n, np.clip(error, 0, 1))))


def _floor(value: float) -> str:
    return f"{np.floor(value * 1000) / 1000:.3f}"


def _percent(share: float | None) -> str:
    return "NA" if share is None else f"{np.ceil(share * 1000) / 10:.1f} %"
