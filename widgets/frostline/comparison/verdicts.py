"""What to take, in words: from the paired tests and the costs, with the reasons; it may be "take the cheaper one"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frostline.comparison.significance import CONFIDENCE, PairedTest

ALPHA = 1 - CONFIDENCE
RELEVANT = 0.05
"""A difference in macro-F1 that would change most readers' choice; tests that cannot exclude it are inconclusive."""
DEAR = 10.0
"""From this ratio of seconds on, the price of a winner is part of the verdict."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of."""

    macro_f1: Mapping[str, float]
    """Mean over repeats, by strategy."""
    seconds: Mapping[str, float]
    trained: Mapping[str, int]
    """Trained parameters."""
    tests: Sequence[PairedTest]
    n_cells: int
    """Test cells of the first repeat."""
    n_groups: int | None = None
    """Groups that were resampled; None where cells were."""

    @property
    def best(self) -> str:
        """Strategy of the highest macro-F1; the first of equals."""
        return max(self.macro_f1, key=lambda name: self.macro_f1[name])

    @property
    def ground(self) -> str:
        """Name what was tested on."""
        return f"{self.n_cells:,} test cells" if self.n_groups is None else f"{self.n_groups} groups of test cells"

    def lead(self, first: str, second: str) -> tuple[float, float, float, float]:
        """Difference of first and second, the ends of its interval, adjusted p; whichever way it was tested."""
        for test in self.tests:
            low, high = test.interval.low, test.interval.high
            if (test.first, test.second) == (first, second):
                return test.difference, low, high, test.p_adjusted
            if (test.first, test.second) == (second, first):
                return -test.difference, -high, -low, test.p_adjusted
        raise KeyError(f"{first} and {second} were not tested against each other")

    def cheapest(self, names: Sequence[str]) -> str:
        """Least seconds, then fewest trained parameters."""
        return min(names, key=lambda name: (self.seconds[name], self.trained[name]))


def pair_verdict(evidence: Evidence, test: PairedTest) -> str:
    """Say what one paired test means.

    Examples
    --------
    >>> from frostline.comparison.significance import Interval
    >>> test = PairedTest("a", "b", 0.1, Interval(0.05, 0.15), 0.001, 0.001, 9, 1, 0.02, 0.02)
    >>> evidence = Evidence({"a": 0.9, "b": 0.8}, {"a": 30.0, "b": 1.0}, {"a": 9, "b": 3}, [test], 100)
    >>> pair_verdict(evidence, test)
    'a is better than b by 0.100 (0.050 to 0.150), at 30 times its seconds.'
    """
    winner, loser = (test.first, test.second) if test.difference >= 0 else (test.second, test.first)
    difference, low, high, p = evidence.lead(winner, loser)
    if p < ALPHA:
        ratio = evidence.seconds[winner] / max(evidence.seconds[loser], 1e-9)
        price = f", at {ratio:,.0f} times its seconds" if ratio >= DEAR else ""
        return f"{winner} is better than {loser} by {difference:.3f} ({low:.3f} to {high:.3f}){price}."
    if max(-low, high) <= RELEVANT:
        cheaper = evidence.cheapest([test.first, test.second])
        return f"No detectable difference, and none above {RELEVANT:g} is likely: take the cheaper, {cheaper}."
    if low > 0:
        few = f"{evidence.ground} are too few"
        return f"Undecided: {winner} is ahead by {difference:.3f} ({low:.3f} to {high:.3f}); {few}."
    return f"Undecided: {winner} may be better by up to {high:.3f}, or worse by up to {-low:.3f}."


def verdict(evidence: Evidence) -> str:
    """Say what to take, and why.

    The cheapest of the strategies that cannot be told apart from the best one; where the tests leave room for a
    difference of more than `RELEVANT`, that more test cells (or groups) are needed to say so.

    Examples
    --------
    >>> verdict(Evidence({"head": 0.9}, {"head": 2.0}, {"head": 10}, [], 50))
    'Only head was evaluated: there is nothing to choose from.'
    """
    best, names = evidence.best, list(evidence.macro_f1)
    if len(names) == 1:
        return f"Only {best} was evaluated: there is nothing to choose from."
    others = [name for name in names if name != best]
    if _too_few_groups(evidence):
        return _provisional(evidence, best, others)
    equals = [name for name in others if evidence.lead(best, name)[3] >= ALPHA]
    if not equals:
        return _winner(evidence, best, others)
    take = evidence.cheapest([best, *equals])
    if take == "majority":
        return f"On the {evidence.ground} no strategy is detectably better than always naming the most common class."
    text = f"No detectable difference between {best} and {_listed(equals)}"
    price = f"{take} ({evidence.seconds[take]:.1f} s, {evidence.trained[take]:,} trained parameters)"
    room = max(evidence.lead(best, name)[2] for name in equals) if take == best else evidence.lead(best, take)[2]
    if room <= RELEVANT:
        return f"{text}: take the cheapest of them, {price}."
    if take == best:
        return f"{text} on the {evidence.ground}; {best} is also the cheapest of them: take {price}."
    return (
        f"{text}: take the cheapest of them, {price}. The {evidence.ground} are too few to exclude that {best} is "
        f"better by up to {room:.3f}; more would decide it."
    )


def _winner(evidence: Evidence, best: str, others: Sequence[str]) -> str:
    nearest = min(others, key=lambda name: evidence.lead(best, name)[0])
    difference, low, high, _ = evidence.lead(best, nearest)
    text = f"Take {best}: it is detectably better than every other; than the nearest, {nearest}, by {difference:.3f} "
    text += f"({low:.3f} to {high:.3f})."
    ratio = evidence.seconds[best] / max(evidence.seconds[nearest], 1e-9)
    if ratio < DEAR:
        return text
    return (
        f"{text} It takes {ratio:,.0f} times the seconds of {nearest} ({evidence.seconds[best]:.1f} s against "
        f"{evidence.seconds[nearest]:.1f} s): where {difference:.3f} of macro-F1 is not worth that, take {nearest}."
    )


def _too_few_groups(evidence: Evidence) -> bool:
    """Few groups can agree by chance: then no test can detect anything, whatever the difference."""
    return evidence.n_groups is not None and 2.0 ** (1 - evidence.n_groups) >= ALPHA


def _provisional(evidence: Evidence, best: str, others: Sequence[str]) -> str:
    """Go by the intervals alone, and say that they are of few groups."""
    text = (
        f"With {evidence.n_groups} groups no test can detect a difference, however large; for now, by the intervals "
        "alone, which so few groups make too narrow: "
    )
    behind = [name for name in others if evidence.lead(best, name)[1] > 0]
    level = [name for name in others if name not in behind]
    take = evidence.cheapest([best, *level])
    found = [f"{best} is ahead of {_listed(behind, 'and')}"] if behind else []
    found += [f"{'it' if behind else best} cannot be told apart from {_listed(level)}"] if level else []
    price = f"{take} ({evidence.seconds[take]:.1f} s, {evidence.trained[take]:,} trained parameters)"
    return f"{text}{'; '.join(found)}. Take {price}; more groups would decide it."


def _listed(names: Sequence[str], word: str = "or") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
