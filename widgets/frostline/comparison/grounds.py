"""What is independent in a comparison, and so what its numbers are claims about.

The design says the unit, and the unit says what may be claimed. Everything is paired, because all strategies predict
the same test cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
RELEVANT = 0.05
"""A difference in macro-F1 that would change most readers' choice; equivalent is what is shown to differ by less."""
MIN_UNITS = 3
"""Groups, or splits, from which on their spread is measured."""
MIN_CELLS = 10
"""Test cells of a group from which on its macro-F1 counts."""
NO_SPREAD = 1e-12
"""Spread below which there is none."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Repeat:
    """The test cells of one repeat, and what every strategy predicted."""

    cells: Sequence[str]
    labels: NDArray[np.str_]
    predictions: Mapping[str, NDArray[np.str_]]
    """By strategy (n_cells,)."""
    n_train: int
    """Training cells."""
    groups: NDArray[np.str_] | None = None
    """Group of each cell; None where groups are not known."""
    n_train_groups: int | None = None
    """Groups that trained; None where that is not known."""


@dataclass(frozen=True)
class Ground:
    """What was tested, what is independent in it, and so what the numbers are claims about.

    - `groups`: three or more held-out donors, batches or studies. A group's score is the macro-F1 of its own cells
      over the classes that it has. The claim is of strategies, on new groups.
    - `splits`: three or more random splits. A split's score is its macro-F1. The claim is of strategies, on new cells
      of the same groups.
    - `cells`: fewer splits, or one external data set, however often strategies were trained for it. The claim is of
      the fitted models, on more such cells.
    - `none`: fewer than three groups were tested, which says nothing about other groups.
    """

    unit: str
    repeats: tuple[Repeat, ...]
    scores: Mapping[str, NDArray[np.float64]]
    """By strategy the score of each group or split; for `cells` and `none` of each repeat."""
    n_units: int
    training: float = 0.0
    """What the noise of training adds to the variance of a mean, in variances of one unit's score."""
    small: tuple[str, ...] = ()
    """Groups that do not count, for want of test cells."""

    @classmethod
    def of(cls, kind: str, repeats: Sequence[Repeat]) -> Ground:
        """Find the unit by the kind of split, never by the columns that exist.

        Parameters
        ----------
        kind
            `stratified`, `group` or `cross`.
        repeats
            What was tested; all of the same strategies.

        Examples
        --------
        >>> labels = np.array(["B", "T"] * 10)
        >>> cut = Repeat([f"c{i}" for i in range(20)], labels, {"x": labels}, 60)
        >>> Ground.of("stratified", [cut]).unit, Ground.of("stratified", [cut] * 3).unit
        ('cells', 'splits')
        """
        repeats = tuple(repeats)
        names = tuple(repeats[0].predictions)
        pooled = {name: np.array([macro_f1_of(part, name) for part in repeats]) for name in names}
        if kind == "group" or (kind == "cross" and repeats[0].groups is not None):
            return cls._of_groups(repeats, pooled)
        if kind == "stratified" and len(repeats) >= MIN_UNITS:
            shares = [len(part.labels) / part.n_train for part in repeats]
            return cls("splits", repeats, pooled, len(repeats), float(np.mean(shares)))
        return cls("cells", repeats, pooled, len({cell for part in repeats for cell in part.cells}))

    @classmethod
    def _of_groups(cls, repeats: tuple[Repeat, ...], pooled: Mapping[str, NDArray[np.float64]]) -> Ground:
        """Score every group that has enough cells; one that several repeats tested counts once, with its mean."""
        found: dict[str, list[list[float]]] = {}
        seen: set[str] = set()
        for part in repeats:
            groups = np.asarray(part.groups if part.groups is not None else [])
            for group, n_cells in zip(*np.unique(groups, return_counts=True), strict=True):
                seen.add(str(group))
                if n_cells >= MIN_CELLS:
                    scores = [macro_f1_of(part, name, np.flatnonzero(groups == group)) for name in pooled]
                    found.setdefault(str(group), []).append(scores)
        small = tuple(sorted(seen - found.keys()))
        if len(found) < MIN_UNITS:
            return cls("none", repeats, pooled, len(found), small=small)
        table = np.array([np.mean(scores, axis=0) for _, scores in sorted(found.items())])  # (n_groups, n_strategies)
        trained = [part.n_train_groups for part in repeats if part.n_train_groups]
        training = 1 / float(np.mean(trained)) if trained else 0.0
        return cls("groups", repeats, dict(zip(pooled, table.T, strict=True)), len(found), training, small)

    @property
    def estimand(self) -> str:
        """What a score is a mean over: `donors` (whatever the groups are), or the test cells of a split, `pooled`."""
        return "donors" if self.unit == "groups" else "pooled"

    @property
    def train_groups(self) -> float | None:
        """Groups that trained, mean over repeats; None where that is not known."""
        known = [part.n_train_groups for part in self.repeats if part.n_train_groups is not None]
        return float(np.mean(known)) if len(known) == len(self.repeats) else None

    def score(self, strategy: str) -> float:
        """Mean score of a strategy, which its interval is of.

        Examples
        --------
        >>> labels = np.array(["B", "T"])
        >>> Ground.of("stratified", [Repeat(["c1", "c2"], labels, {"x": labels}, 6)]).score("x")
        1.0
        """
        return float(self.scores[strategy].mean())


@dataclass(frozen=True)
class PairedTest:
    """Two strategies on the same cells."""

    first: str
    second: str
    difference: float
    """Score of the first minus score of the second."""
    interval: Interval | None = None
    """Of the difference, for this pair alone; None where there is no spread to tell it from."""
    p_adjusted: float | None = None
    """Of no difference, after Holm's correction for all pairs; None where nothing could have been detected."""
    p_equivalent: float | None = None
    """Of a difference of `RELEVANT` or more (two one-sided tests), after Holm's correction."""
    detectable: float | None = None
    """The smallest difference that would have been detected, whatever the other pairs give."""
    first_only: int = 0
    """Test cells of the first repeat that only the first predicts right."""
    second_only: int = 0
    """Those that only the second predicts right."""
    mcnemar_p: float | None = None
    """McNemar's exact test of the first repeat's accuracy, after Holm's correction; None unless cells are the unit."""

    @property
    def claim(self) -> str:
        """Of the first against the second: `better`, `worse`, `equivalent`, `undecided` or `untestable`."""
        if self.p_adjusted is not None and self.p_adjusted < ALPHA:
            return "better" if self.difference > 0 else "worse"
        if self.p_equivalent is not None and self.p_equivalent < ALPHA:
            return "equivalent"
        return "untestable" if self.p_adjusted is None else "undecided"

    @property
    def shown_from(self) -> float | None:
        """As `detectable`; None where a lead as large was not detected, as few cells of rare classes may leave it."""
        open_ = self.claim == "undecided" and self.detectable is not None and self.detectable <= abs(self.difference)
        return None if open_ else self.detectable

    def turned(self) -> PairedTest:
        """The same test, the second strategy first.

        Examples
        --------
        >>> PairedTest("a", "b", 0.1, Interval(0.05, 0.2)).turned().interval
        Interval(low=-0.2, high=-0.05)
        """
        interval = None if self.interval is None else Interval(-self.interval.high, -self.interval.low)
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=interval,
            first_only=self.second_only,
            second_only=self.first_only,
        )


def macro_f1_of(part: Repeat, name: str, rows: NDArray[np.int64] | slice = slice(None)) -> float:
    """Macro-F1 over the classes that have a test cell among the rows.

    Examples
    --------
    >>> labels = np.array(["B", "T"])
    >>> macro_f1_of(Repeat(["c1", "c2"], labels, {"x": labels}, 6), "x")
    1.0
    """
    labels, predicted = part.labels[rows], part.predictions[name][rows]
    classes, truth = np.unique(labels, return_inverse=True)
    hits = np.bincount(truth, labels == predicted, len(classes))
    claimed = (predicted[:, None] == classes).sum(axis=0)
    return float((2 * hits / (np.bincount(truth) + claimed)).mean())


def only_one_right(ground: Ground, pair: tuple[str, str]) -> dict[str, Any]:
    """Test cells of the first repeat that only one of the two predicts right.

    Examples
    --------
    >>> labels = np.array(["B", "T"])
    >>> part = Repeat(["c1", "c2"], labels, {"x": labels, "y": np.array(["B", "B"])}, 6)
    >>> only_one_right(Ground.of("stratified", [part]), ("x", "y"))
    {'first_only': 1, 'second_only': 0}
    """
    part = ground.repeats[0]
    first, second = (part.predictions[name] == part.labels for name in pair)
    return {"first_only": int((first & ~second).sum()), "second_only": int((second & ~first).sum())}
