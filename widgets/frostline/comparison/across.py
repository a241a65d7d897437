"""Several data sets, one comparison each: mean ranks, wins and losses, and what may be claimed of other data sets.

The independent unit is the data set, however many seeds, splits and cells each was compared on. Demšar (2006,
https://jmlr.org/papers/v7/demsar06a.html) ranks strategies within each data set and tests pairs by Wilcoxon's signed
ranks; Benavoli et al. (2016, https://jmlr.org/papers/v17/benavoli16a.html) say why pairs are not tested by mean ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.comparison.comparisons import Comparison
from frostline.comparison.corrections import holm
from frostline.comparison.grounds import ALPHA, NO_SPREAD, Interval, PairedTest

if TYPE_CHECKING:
    import pandas as pd

LEAST = 6
"""Data sets that all differ in one direction have a two-sided p of 2^(1 - n): below 0.05 from six on."""
DIGITS = 12
"""Of a score: what differs beyond them is the order of a sum."""
EXACT = 13
"""Data sets up to which the p of Wilcoxon's test is counted over all signs, ties included."""


@dataclass(frozen=True)
class Rank:
    """How one strategy stands over the data sets that all strategies finished."""

    strategy: str
    mean: float | None
    """Of its ranks by macro-F1, 1 the best; None where there is no such data set."""
    interval: Interval | None
    """95 %, over data sets; None below `LEAST` of them, or where all ranks are the same."""
    wins: int
    """Paired tests, within single comparisons, that it is better in."""
    ties: int
    """Those that show no difference."""
    losses: int
    equivalent: int
    """Ties that were shown to differ by less than 0.05."""


@dataclass(frozen=True)
class PairAcross:
    """Two strategies over all data sets that both finished."""

    first: str
    second: str
    n: int
    """Data sets."""
    n_differing: int
    """Those whose scores differ, and so can be tested."""
    wins: int
    ties: int
    losses: int
    difference: float | None
    """Median over data sets of the first's score minus the second's."""
    leaning: int
    """Sign of the sum of signed ranks, which the p is of: 1 where the first's gains weigh more than its losses."""
    p: float | None
    """Wilcoxon's signed-rank test; None where no result could have been below 0.05 after Holm's correction."""
    p_adjusted: float | None
    needed: int
    """Differing data sets from which on it is tested, with so many pairs."""

    @property
    def claim(self) -> str:
        """Of the first, on other data sets: `better`, `worse`, `undecided` or `untestable`."""
        if self.p_adjusted is None or self.difference is None:
            return "untestable"
        if self.p_adjusted >= ALPHA or self.difference * self.leaning <= 0:  # of ranks and median, one says otherwise
            return "undecided"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Across:
    """Comparisons of the same strategies on several data sets.

    Parameters
    ----------
    comparisons
        By data set, those of its seeds or plans of splits.
    left_out
        Strategies that are not ranked.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cut = frostline.split(pbmc)
    >>> strategies = frostline.strategies.build(["majority", "pca_logistic"])
    >>> compared = frostline.compare([frostline.evaluate(s, pbmc, cut) for s in strategies])
    >>> [(rank.strategy, rank.mean, rank.wins) for rank in Across({"pbmc68k-reduced": [compared]}).ranks]
    [('pca_logistic', 1.0, 1), ('majority', 2.0, 0)]
    """

    comparisons: Mapping[str, Sequence[Comparison]]
    left_out: tuple[str, ...] = ()

    @cached_property
    def strategies(self) -> tuple[str, ...]:
        """All others that any comparison has, in their order."""
        found = (name for each in self.comparisons.values() for one in each for name in one.strategies)
        return tuple(name for name in dict.fromkeys(found) if name not in self.left_out)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Macro-F1 (n_datasets, n_strategies), mean over the comparisons of a data set; NA where one lacks it."""
        import pandas as pd

        rows = {
            dataset: {
                name: round(float(np.mean([one.ground.score(name) for one in each])), DIGITS)
                for name in self.strategies
                if all(name in one.strategies for one in each)
            }
            for dataset, each in self.comparisons.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(self.strategies), dtype="Float64")

    @cached_property
    def complete(self) -> tuple[str, ...]:
        """Data sets that all strategies finished: what ranks are of."""
        return tuple(self.scores.dropna().index)

    @cached_property
    def ranks(self) -> tuple[Rank, ...]:
        """Every strategy, the best mean rank first."""
        from scipy.stats import rankdata

        table = self.scores.loc[list(self.complete)].to_numpy(dtype=float)
        ranks = rankdata(-table, axis=1) if len(table) else np.empty((0, len(self.strategies)))
        found = [self._rank(name, ranks[:, i]) for i, name in enumerate(self.strategies)]
        return tuple(sorted(found, key=lambda rank: np.inf if rank.mean is None else rank.mean))

    def _rank(self, strategy: str, ranks: NDArray[np.float64]) -> Rank:
        claims = [claim for other in self.strategies if other != strategy for claim in self._claims(strategy, other)]
        wins, losses = claims.count("better"), claims.count("worse")
        mean = float(ranks.mean()) if len(ranks) else None
        interval = _rank_interval(ranks, len(self.strategies))
        return Rank(strategy, mean, interval, wins, len(claims) - wins - losses, losses, claims.count("equivalent"))

    def _claims(self, first: str, second: str) -> list[str]:
        """What the paired test of each comparison that has both says of the first."""
        return [
            _claim(test, first)
            for each in self.comparisons.values()
            for one in each
            for test in one.tests
            if {test.first, test.second} == {first, second}
        ]

    @cached_property
    def pairs(self) -> tuple[PairAcross, ...]:
        """Every pair of strategies, in their order; p-values are adjusted for all that are tested."""
        pairs = list(combinations(self.strategies, 2))
        needed = _needed(len(pairs))
        apart = [
            self.scores[[a, b]].dropna().astype(float).pipe(lambda t, a=a, b=b: t[a] - t[b]).to_numpy()
            for a, b in pairs
        ]
        p_values = [_wilcoxon(each[each != 0]) if (each != 0).sum() >= needed else None for each in apart]
        tested = iter(holm([p for p in p_values if p is not None]))
        found = []
        for (a, b), each, p in zip(pairs, apart, p_values, strict=True):
            claims = self._claims(a, b)
            wins, losses = claims.count("better"), claims.count("worse")
            found.append(
                PairAcross(
                    a, b, len(each), int((each != 0).sum()), wins, len(claims) - wins - losses, losses,
                    float(np.median(each)) if len(each) else None, _leaning(each), p,
                    None if p is None else next(tested), needed,
                )
            )  # fmt: skip
        return tuple(found)


def _claim(test: PairedTest, first: str) -> str:
    return test.claim if test.first == first else test.turned().claim


def _needed(n_pairs: int) -> int:
    """Fewest data sets whose smallest p, 2^(1 - n), is below 0.05 for the first of so many pairs."""
    n = LEAST
    while n_pairs * 2.0 ** (1 - n) >= ALPHA:
        n += 1
    return n


def _leaning(differences: NDArray[np.float64]) -> int:
    from scipy.stats import rankdata

    differing = differences[differences != 0]
    return int(np.sign((np.sign(differing) * rankdata(np.abs(differing))).sum()))


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    """Two-sided p of a median of zero; counted over all signs where that is quick."""
    from scipy.stats import PermutationMethod, wilcoxon

    method = PermutationMethod(n_resamples=np.inf) if len(differences) <= EXACT else "auto"
    return float(wilcoxon(differences, method=method).pvalue)


def _rank_interval(ranks: NDArray[np.float64], n_strategies: int) -> Interval | None:
    """Student's t over data sets, cut to the ranks that there are."""
    from scipy.stats import t

    if len(ranks) < LEAST or ranks.std(ddof=1) < NO_SPREAD:
        return None
    half = t.ppf(1 - ALPHA / 2, len(ranks) - 1) * ranks.std(ddof=1) / np.sqrt(len(ranks))
    return Interval(float(max(1.0, ranks.mean() - half)), float(min(n_strategies, ranks.mean() + half)))


def verdict(found: Across) -> str:
    """Say in words what the data sets together show, and what they do not."""
    n, pairs = len(found.comparisons), found.pairs
    if not pairs:
        return f"{n} data set(s), and one strategy: there is nothing to compare."
    claims = [pair for pair in pairs if pair.claim in ("better", "worse")]
    said = [_sentence(pair) for pair in claims]
    if all(pair.p is None for pair in pairs):
        said.append(
            f"{n} data set(s) support no claim about others: with {len(pairs)} pair(s) of strategies at least "
            f"{pairs[0].needed} data sets are needed on which the two differ. Ranks, wins and losses are of these data "
            "sets alone."
        )
    elif not claims:
        said.append(f"Over {n} data sets no strategy is shown to be better than another.")
    return " ".join(said)


def _sentence(pair: PairAcross) -> str:
    better, worse = (pair.first, pair.second) if pair.claim == "better" else (pair.second, pair.first)
    return (
        f"Over {pair.n} data sets {better} is better than {worse} (median difference of macro-F1 "
        f"{abs(pair.difference or 0):.3f}, p = {pair.p_adjusted:.2g} after Holm's correction)."
    )
