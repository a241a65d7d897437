"""Intervals and paired tests over test cells: random weights, swapped predictions, pseudo-cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.comparison.corrections import holm, mcnemar
from frostline.comparison.grounds import ALPHA, NO_SPREAD, RELEVANT, Ground, Interval, PairedTest, only_one_right

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SWAPS = 10_000
"""Random swaps of predictions: a p of 0.0001 is left below 0.05 by Holm's correction over 190 pairs."""
DRAWS = 4_000
"""Draws of weights of cells: a hundred are beyond either end of an interval."""
BLOCK = 200  # draws at a time, to bound the memory


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


def cell_intervals(ground: Ground) -> dict[str, Interval | None]:
    """95 % interval of every strategy's macro-F1 over test cells, see `significance.score_intervals`.

    Examples
    --------
    >>> from frostline.comparison.grounds import Repeat
    >>> labels = np.array(["B", "T"] * 20)
    >>> part = Repeat([f"c{i}" for i in range(40)], labels, {"x": labels}, 99)
    >>> found = cell_intervals(Ground.of("stratified", [part]))["x"]
    >>> round(found.low, 1), round(found.high, 1)
    (0.9, 1.0)
    """
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


def cell_tests(ground: Ground, pairs: Sequence[tuple[str, str]]) -> list[PairedTest]:
    """Swap test; no p is smaller than that of the drawn weights, so that it agrees with the interval.

    The near end of an interval is that of the lead drawn towards zero; the far end is of the leader's favour, so that
    the lead itself is always inside.

    Examples
    --------
    >>> from frostline.comparison.grounds import Repeat
    >>> labels = np.array(["B", "T"] * 20)
    >>> said = {"x": labels, "y": np.array(["B"] * 40)}
    >>> ground = Ground.of("stratified", [Repeat([f"c{i}" for i in range(40)], labels, said, 99)])
    >>> cell_tests(ground, [("x", "y")])[0].claim
    'better'
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
    exact = holm([mcnemar(**only_one_right(ground, pair)) for pair in pairs])
    wider = float(norm.ppf(1 - ALPHA / 2 / len(pairs)) / norm.ppf(1 - ALPHA / 2))
    tests = []
    for i, (a, b) in enumerate(ordered):
        low, high = (float(end) for end in np.quantile(leads[i], [ALPHA / 2, 1 - ALPHA / 2]))
        highest = max(high, float(np.quantile(farthest[i], 1 - ALPHA / 2)))
        testable = 2.0 ** (1 - _n_differing(ground, a, b)) * len(pairs) < ALPHA
        p, detectable = (float(unequal[i]), (high - low) / 2 * wider) if testable else (None, None)
        found = (Interval(low, highest), p, equal[i], detectable)
        test = PairedTest(
            a, b, ground.score(a) - ground.score(b), *found, **only_one_right(ground, (a, b)), mcnemar_p=exact[i]
        )
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
