"""How sure the numbers are: what the independent unit of a comparison is, and intervals and paired tests over it.

The design says the unit, and the unit says what may be claimed (`Ground`). Over groups and splits the tests are
Student's t with a term for the noise of training; over cells predictions are swapped, and intervals are drawn with
pseudo-cells. Everything is paired, because all strategies predict the same test cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ALPHA = 0.05
RELEVANT = 0.05
"""A difference in macro-F1 that would change most readers' choice; equivalent is what is shown to differ by less."""
MIN_UNITS = 3
"""Groups, or splits, from which on their spread is measured."""
MIN_CELLS = 10
"""Test cells of a group from which on its macro-F1 counts."""
SWAPS = 10_000
"""Random swaps of predictions: a p of 0.0001 is left below 0.05 by Holm's correction over 190 pairs."""
DRAWS = 4_000
"""Draws of weights of cells: a hundred are beyond either end of an interval."""
BLOCK = 200  # draws at a time, to bound the memory
NO_SPREAD = 1e-12


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
        pooled = {name: np.array([_score(part, name) for part in repeats]) for name in names}
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
                    scores = [_score(part, name, np.flatnonzero(groups == group)) for name in pooled]
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
    """The smallest difference that would have been detected."""
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


def _score(part: Repeat, name: str, rows: NDArray[np.int64] | slice = slice(None)) -> float:
    """Macro-F1 over the classes that have a test cell among the rows."""
    labels, predicted = part.labels[rows], part.predictions[name][rows]
    classes, truth = np.unique(labels, return_inverse=True)
    hits = np.bincount(truth, labels == predicted, len(classes))
    claimed = (predicted[:, None] == classes).sum(axis=0)
    return float((2 * hits / (np.bincount(truth) + claimed)).mean())


def score_intervals(ground: Ground) -> dict[str, Interval | None]:
    """95 % interval of every strategy's score; None where there is no spread to tell it from.

    Over groups and splits Student's t on the logit scale, so that it stays within 0 and 1. Over cells the cells get
    random weights (Bayesian bootstrap, Rubin 1981), with one wrong pseudo-cell in every class for the low end and one
    right one for the high end: Clopper and Pearson (1934) in every class, so that a rare class makes the interval wider
    and never narrower.

    Examples
    --------
    >>> labels = np.array(["B"] * 40 + ["NK"] * 5 + ["T"] * 2)
    >>> cut = Repeat([f"c{i}" for i in range(47)], labels, {"x": labels}, 100)
    >>> found = score_intervals(Ground.of("stratified", [cut]))["x"]
    >>> round(found.low, 1), round(found.high, 3)
    (0.6, 1.0)
    """
    if ground.unit == "none":
        return dict.fromkeys(ground.scores)
    if ground.unit == "cells":
        return _cell_intervals(ground)
    return {name: _unit_interval(scores, ground.training) for name, scores in ground.scores.items()}


def _unit_interval(scores: NDArray[np.float64], training: float) -> Interval | None:
    from scipy.special import expit, logit
    from scipy.stats import t

    error = _standard_error(scores, training)
    if error < NO_SPREAD:
        return None
    mean = float(np.clip(scores.mean(), 1e-4, 1 - 1e-4))
    half = t.ppf(1 - ALPHA / 2, len(scores) - 1) * error / (mean * (1 - mean))
    low, high = expit(logit(mean) + np.array([-half, half]))
    return Interval(float(low), float(high))


def _standard_error(scores: NDArray[np.float64], training: float) -> float:
    """Of a mean over units, with the noise of training that units share and do not show (Nadeau and Bengio 2003)."""
    return float(scores.std(ddof=1) * np.sqrt(1 / len(scores) + training))


def paired_tests(ground: Ground) -> list[PairedTest]:
    """Test every pair of strategies, in their order; p-values are adjusted for all pairs.

    Examples
    --------
    >>> labels = np.array(["B", "T"] * 20)
    >>> said = {"x": labels, "y": np.array(["B"] * 40)}
    >>> test = paired_tests(Ground.of("stratified", [Repeat([f"c{i}" for i in range(40)], labels, said, 99)]))[0]
    >>> round(test.difference, 4), test.claim, test.first_only, test.mcnemar_p < 0.001
    (0.6667, 'better', 20, True)
    """
    pairs = list(combinations(ground.scores, 2))
    if ground.unit == "cells":
        return _cell_tests(ground, pairs)
    if ground.unit == "none":
        return [
            PairedTest(*pair, ground.score(pair[0]) - ground.score(pair[1]), **_only(ground, pair)) for pair in pairs
        ]
    return _unit_tests(ground, pairs)


def _only(ground: Ground, pair: tuple[str, str]) -> dict[str, Any]:
    """Test cells of the first repeat that only one of the two predicts right."""
    part = ground.repeats[0]
    first, second = (part.predictions[name] == part.labels for name in pair)
    return {"first_only": int((first & ~second).sum()), "second_only": int((second & ~first).sum())}


def _unit_tests(ground: Ground, pairs: Sequence[tuple[str, str]]) -> list[PairedTest]:
    """Student's t over groups or splits, and two one-sided tests of equivalence (Schuirmann 1987)."""
    from scipy.stats import t

    freedom = ground.n_units - 1
    apart = [ground.scores[a] - ground.scores[b] for a, b in pairs]
    errors = [_standard_error(each, ground.training) for each in apart]
    facts = [(float(each.mean()), error, error >= NO_SPREAD) for each, error in zip(apart, errors, strict=True)]
    unequal = holm([2 * float(t.sf(abs(mean) / error, freedom)) if ok else 1.0 for mean, error, ok in facts])
    equal = holm([float(t.sf((RELEVANT - abs(mean)) / error, freedom)) if ok else 1.0 for mean, error, ok in facts])
    half, cut = (float(t.ppf(1 - ALPHA / 2 / n, freedom)) for n in (1, max(1, len(pairs))))
    tests = []
    for pair, (mean, error, ok), p, q in zip(pairs, facts, unequal, equal, strict=True):
        interval = Interval(max(-1.0, mean - half * error), min(1.0, mean + half * error))
        found = (interval, p, q, cut * error) if ok else ()
        tests.append(PairedTest(*pair, mean, *found, **_only(ground, pair)))
    return tests


# ------------------------------------------------------------------ cells


@dataclass(frozen=True)
class _Numbered:
    """One repeat in numbers."""

    cells: NDArray[np.int64]
    """(n_cells,) number of each cell; a cell has the same number in all repeats."""
    n_all: int
    """Different cells of all repeats."""
    labels: NDArray[np.int64]
    said: Mapping[str, NDArray[np.int64]]
    """By strategy; all classes without a test cell in any repeat have the last number."""
    sizes: NDArray[np.int64]
    """(n_classes,) test cells of each class that has some in any repeat."""

    def _sums(self, places: NDArray[np.int64], n: int) -> csr_matrix:
        """What sums weights of all cells (n_all, n_draws) over the cells that have each place, (n, n_all)."""
        from scipy.sparse import csr_matrix

        return csr_matrix((np.ones(len(places)), (places, self.cells)), shape=(n, self.n_all))

    @cached_property
    def _of_confusion(self) -> dict[str, csr_matrix]:
        n = len(self.sizes)
        return {name: self._sums(self.labels * (n + 1) + said, n * (n + 1)) for name, said in self.said.items()}

    @cached_property
    def _of_hits_and_claims(self) -> dict[str, csr_matrix]:
        from scipy.sparse import vstack

        n = len(self.sizes)
        return {
            name: vstack(
                [self._sums(np.where(said == self.labels, said, n), n + 1)[:n], self._sums(said, n + 1)[:n]],
                format="csr",
            )
            for name, said in self.said.items()
        }

    def confusion(self, strategy: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weight of each true and predicted class, (n_classes, n_classes + 1, n_draws)."""
        n = len(self.sizes)
        return np.asarray(self._of_confusion[strategy] @ weights).reshape(n, n + 1, -1)

    def hits_and_claims(self, strategy: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weight of the right and of the predicted cells of each class, (2, n_classes, n_draws)."""
        return np.asarray(self._of_hits_and_claims[strategy] @ weights).reshape(2, len(self.sizes), -1)

    def macro_f1(self, hits: NDArray[np.float64], claimed: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_draws,) of right cells and of predicted cells of each class, (n_classes, n_draws)."""
        here = self.sizes > 0
        scores: NDArray[np.float64] = (2 * hits[here] / (self.sizes[here, None] + claimed[here])).mean(axis=0)
        return scores


def _numbered(ground: Ground) -> list[_Numbered]:
    """All repeats in numbers."""
    cells = {cell: i for i, cell in enumerate(dict.fromkeys(c for part in ground.repeats for c in part.cells))}
    classes = {name: i for i, name in enumerate(sorted({str(x) for part in ground.repeats for x in part.labels}))}

    def numbers(names: NDArray[np.str_]) -> NDArray[np.int64]:
        return np.array([classes.get(str(name), len(classes)) for name in names], dtype=np.int64)

    parts = []
    for part in ground.repeats:
        labels = numbers(part.labels)
        said = {name: numbers(predicted) for name, predicted in part.predictions.items()}
        rows = np.array([cells[cell] for cell in part.cells], dtype=np.int64)
        parts.append(_Numbered(rows, len(cells), labels, said, np.bincount(labels, minlength=len(classes))))
    return parts


def _with_pseudo_cells(
    part: _Numbered, confusion: NDArray[np.float64], right: NDArray[np.float64], wrong: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_draws,) macro-F1 with pseudo-cells in every class, (n_classes, n_draws) of them right and wrong.

    Classes keep their sizes, as in a stratified split. A wrong pseudo-cell is spread over the other classes.
    """
    n = len(part.sizes)
    scale = part.sizes[:, None] / (confusion.sum(axis=1) + right + wrong)
    hits = scale * (confusion[np.arange(n), np.arange(n)] + right)
    spread = scale * wrong / max(1, n - 1)
    claimed = np.einsum("cd,cjd->jd", scale, confusion[:, :n]) + scale * right + spread.sum(axis=0) - spread
    return part.macro_f1(hits, claimed)


def _blocks(seed: int, n_draws: int) -> Iterator[np.random.Generator]:
    """Yield a stream for each block of draws."""
    yield from np.random.default_rng(seed).spawn(n_draws // BLOCK)


def _cell_intervals(ground: Ground) -> dict[str, Interval | None]:
    parts = _numbered(ground)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ground.scores}
    for stream in _blocks(0, DRAWS):
        weights = stream.exponential(size=(parts[0].n_all, BLOCK))
        pseudo = stream.exponential(size=(len(parts[0].sizes), BLOCK))
        for name, found in drawn.items():
            each = [(part, part.confusion(name, weights)) for part in parts]
            low = np.mean([_with_pseudo_cells(*pair, 0 * pseudo, pseudo) for pair in each], axis=0)
            high = np.mean([_with_pseudo_cells(*pair, pseudo, 0 * pseudo) for pair in each], axis=0)
            found.append(np.stack([low, high]))
    ends = {name: np.concatenate(found, axis=1) for name, found in drawn.items()}
    return {
        name: Interval(float(np.quantile(low, ALPHA / 2)), float(np.quantile(high, 1 - ALPHA / 2)))
        for name, (low, high) in ends.items()
    }


def _drawn_leads(ground: Ground, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """(2, n_pairs, DRAWS) of the score of the first, who leads, minus the second's, under random weights of cells.

    Once with half a pseudo-cell in each class for each paired outcome, which draws the lead towards zero, and once with
    one that only the leader predicts right.
    """
    parts = _numbered(ground)
    blocks = []
    for stream in _blocks(1, DRAWS):
        weights = stream.exponential(size=(parts[0].n_all, BLOCK))
        both, first, second, neither = stream.gamma(0.5, size=(4, len(parts[0].sizes), BLOCK))
        won, none = stream.exponential(size=first.shape), np.zeros_like(first)
        leads = np.zeros((2, len(pairs), BLOCK))
        for part in parts:
            found = {name: part.confusion(name, weights) for name in ground.scores}
            ahead, behind = (
                {name: [_with_pseudo_cells(part, found[name], *each) for each in pseudo] for name in names}
                for names, pseudo in (
                    ({a for a, _ in pairs}, ((both + first, second + neither), (won, none))),
                    ({b for _, b in pairs}, ((both + second, first + neither), (none, won))),
                )
            )
            for i, (a, b) in enumerate(pairs):
                leads[:, i] += ahead[a]
                leads[:, i] -= behind[b]
        blocks.append(leads / len(parts))
    return np.concatenate(blocks, axis=2)


def _swap_p(ground: Ground, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Two-sided p of each difference when the two predictions of a cell may be swapped; exact where they may.

    A cell that several repeats tested is swapped in all of them.
    """
    parts = _numbered(ground)
    observed = np.array([abs(ground.score(a) - ground.score(b)) for a, b in pairs])
    as_far = np.zeros(len(pairs))
    whole = [{name: part.hits_and_claims(name, np.ones((part.n_all, 1))) for name in ground.scores} for part in parts]
    for stream in _blocks(2, SWAPS):
        swapped = stream.integers(0, 2, size=(parts[0].n_all, BLOCK)).astype(float)
        apart = np.zeros((len(pairs), BLOCK))
        for part, counts in zip(parts, whole, strict=True):
            moved = {name: part.hits_and_claims(name, swapped) for name in ground.scores}
            for i, (a, b) in enumerate(pairs):
                change = moved[b] - moved[a]
                apart[i] += part.macro_f1(*(counts[a] + change)) - part.macro_f1(*(counts[b] - change))
        as_far += (np.abs(apart / len(parts)) >= observed[:, None] - NO_SPREAD).sum(axis=1)
    return [float(n + 1) / (SWAPS + 1) for n in as_far]


def _cell_tests(ground: Ground, pairs: Sequence[tuple[str, str]]) -> list[PairedTest]:
    """Swap test; no p is smaller than that of the drawn weights, so that it agrees with the interval.

    The near end of an interval is that of the lead drawn towards zero; the far end is of the leader's favour, so that
    the lead itself is always inside.
    """
    from scipy.stats import norm

    if not pairs:
        return []
    ordered = [(a, b) if ground.score(a) >= ground.score(b) else (b, a) for a, b in pairs]
    leads, farthest = _drawn_leads(ground, ordered)
    less = np.minimum((leads <= 0).sum(axis=1), (leads >= 0).sum(axis=1))
    unequal = np.maximum(holm(_swap_p(ground, pairs)), np.minimum(1.0, 2 * (less + 1) / (DRAWS + 1)))
    beyond = np.maximum((farthest >= RELEVANT).sum(axis=1), (leads <= -RELEVANT).sum(axis=1))
    equal = holm(((beyond + 1) / (DRAWS + 1)).tolist())
    exact = holm([mcnemar(**_only(ground, pair)) for pair in pairs])
    wider = float(norm.ppf(1 - ALPHA / 2 / len(pairs)) / norm.ppf(1 - ALPHA / 2))
    tests = []
    for i, (a, b) in enumerate(ordered):
        low, high = (float(end) for end in np.quantile(leads[i], [ALPHA / 2, 1 - ALPHA / 2]))
        highest = max(high, float(np.quantile(farthest[i], 1 - ALPHA / 2)))
        testable = 2.0 ** (1 - _n_differing(ground, a, b)) * len(pairs) < ALPHA
        p, detectable = (float(unequal[i]), (high - low) / 2 * wider) if testable else (None, None)
        found = (Interval(low, highest), p, equal[i], detectable)
        test = PairedTest(a, b, ground.score(a) - ground.score(b), *found, **_only(ground, (a, b)), mcnemar_p=exact[i])
        tests.append(test if (a, b) == pairs[i] else test.turned())
    return tests


def _n_differing(ground: Ground, a: str, b: str) -> int:
    """Cells whose predictions differ, and so can be swapped."""
    return len(
        {
            cell
            for part in ground.repeats
            for cell, differ in zip(part.cells, part.predictions[a] != part.predictions[b], strict=True)
            if differ
        }
    )


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
