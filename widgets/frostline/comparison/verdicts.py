"""What to take, in words: one way from numbers to sentences, so that no two of them contradict each other.

A strategy is better than another where a test says so, and equivalent to it where two one-sided tests say so; all else
is undecided, and the words say which difference would have shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from frostline.comparison.grounds import MIN_CELLS, MIN_UNITS, RELEVANT, PairedTest
from frostline.evaluation.cases import listed
from frostline.records import kind_of

LONG = 10.0
"""Seconds above which they are worth a word: shorter times are other ones in every run."""
MARGIN = 2.0
"""Ratio of parameters and seconds from which on one strategy is cheaper than another, so that a rerun says the same."""
DEAR = 10.0
"""From this ratio of seconds on, the price of a winner is part of the verdict."""
ADVISED_SPLITS = 5
OPEN = ("undecided", "untestable")


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of."""

    macro_f1: Mapping[str, float]
    """Score by strategy, in the order of the leaderboard."""
    seconds: Mapping[str, float]
    trained: Mapping[str, int]
    """Trained parameters."""
    tests: Sequence[PairedTest]
    """Of every pair."""
    unit: str = "cells"
    """What is independent: `groups`, `splits`, `cells` or `none`."""
    n_units: int = 0
    group_key: str | None = None
    """Column of the groups."""
    train_groups: float | None = None
    """Groups that trained, mean over repeats; None where that is not known."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Classes that no split holds, and their cells."""
    small_groups: Sequence[str] = ()
    """Groups that do not count, for want of test cells."""
    genes_read: Mapping[str, int] = field(default_factory=dict)
    """Genes that each strategy reads."""
    probes: Mapping[str, str | None] = field(default_factory=dict)
    """What trains inside the encoder -> the frozen probe on the same genes; None where there are only others."""

    @property
    def best(self) -> str:
        """Strategy of the highest score; of equals the first of the leaderboard."""
        highest = max(self.macro_f1.values())
        return next(name for name, score in self.macro_f1.items() if score >= highest - 1e-9)

    def lead(self, first: str, second: str) -> PairedTest:
        """Test of two strategies, turned so that `first` comes first.

        Raises
        ------
        KeyError
            They were not tested against each other.
        """
        for test in self.tests:
            if (test.first, test.second) == (first, second):
                return test
            if (test.first, test.second) == (second, first):
                return test.turned()
        raise KeyError(f"{first} and {second} were not tested against each other")

    def against(self, strategy: str, *claims: str) -> list[str]:
        """Other strategies of which a strategy is claimed to be one of these, in the order of the leaderboard."""
        others = (name for name in self.macro_f1 if name != strategy)
        return [name for name in others if self.lead(strategy, name).claim in claims]

    def is_cheaper(self, first: str, second: str) -> bool:
        """Whether the first trains fewer parameters and takes fewer seconds, by a margin that a rerun keeps.

        Seconds up to `LONG` are none.

        Examples
        --------
        >>> evidence = Evidence({"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 90.0}, {"a": 9, "b": 99}, [])
        >>> evidence.is_cheaper("a", "b"), evidence.is_cheaper("b", "a")
        (True, False)
        """
        fewer = self.trained[first] < self.trained[second] and MARGIN * self.trained[first] <= self.trained[second]
        return fewer and (self.seconds[first] <= LONG or MARGIN * self.seconds[first] <= self.seconds[second])

    def times(self, dear: str, cheap: str) -> str:
        """How many times the seconds, to one digit; empty where it is not much, or the seconds are too few to say."""
        if min(self.seconds[dear], self.seconds[cheap]) <= LONG:
            return ""
        ratio = self.seconds[dear] / self.seconds[cheap]
        digits = -math.floor(math.log10(ratio))
        return f"{round(ratio, digits):,.0f} times the seconds" if ratio >= DEAR else ""


def recommended(evidence: Evidence) -> str | None:
    """Name the strategy to take; None where what was measured supports no choice.

    The best, or one that is cheaper and equivalent to it or, where that is undecided, behind by less than `RELEVANT`:
    of these the best than which none is cheaper. Never one that another beats, nor one that is not shown to be better
    than the most common class; and none as long as a cheaper one is farther behind and not shown to be worse.

    Examples
    --------
    >>> test = PairedTest("pca", "lora", -0.01, p_adjusted=0.4, p_equivalent=0.01)
    >>> evidence = Evidence({"lora": 0.9, "pca": 0.89}, {"lora": 90.0, "pca": 1.0}, {"lora": 900, "pca": 9}, [test])
    >>> recommended(evidence)
    'pca'
    """
    best, unsettled = evidence.best, evidence.against(evidence.best, *OPEN)
    if evidence.unit == "none" or len(evidence.macro_f1) == 1 or not _has_learned(evidence, best):
        return None
    able = [
        name
        for name in evidence.against(best, "equivalent", *OPEN)
        if _has_learned(evidence, name) and not evidence.against(name, "worse")
    ]
    far = {name for name in unsettled if evidence.lead(best, name).difference >= RELEVANT}
    candidates = [best, *(name for name in able if name not in far and evidence.is_cheaper(name, best))]
    take = next(name for name in candidates if not any(evidence.is_cheaper(other, name) for other in candidates))
    return None if any(evidence.is_cheaper(name, take) for name in able if name in far) else take


def to_keep(evidence: Evidence) -> str | None:
    """Name the strategy to keep: the recommended one; where none is, that of the highest score, of equals the cheapest.

    None where none scores higher than the most common class.

    Examples
    --------
    >>> to_keep(Evidence({"head": 0.9}, {"head": 2.0}, {"head": 10}, []))
    'head'
    """
    found = recommended(evidence)
    if found is not None:
        return found
    highest = max(evidence.macro_f1.values())
    equal = [name for name, score in evidence.macro_f1.items() if score >= highest - 1e-9]
    if any(map(_is_majority, equal)):
        return None
    return min(equal, key=lambda name: (evidence.trained[name], evidence.seconds[name]))


def _has_learned(evidence: Evidence, name: str) -> bool:
    """Whether it is shown to be better than the most common class, where that was evaluated."""
    if _is_majority(name):
        return False
    return not any(map(_is_majority, evidence.against(name, "worse", "equivalent", *OPEN)))


def _is_majority(name: str) -> bool:
    return kind_of(name) == "majority"


def spanned(low: float, high: float, sign: str = "") -> str:
    """Ends of an interval to three decimals, rounded outwards: what is not certain is never shown as 1.000.

    Examples
    --------
    >>> spanned(0.99996, 1.0), spanned(-0.0104, 0.0207, "+")
    ('0.999 to 1.000', '-0.011 to +0.021')
    """
    ends = math.floor(1000 * low + 1e-6) / 1000, math.ceil(1000 * high - 1e-6) / 1000
    return " to ".join(f"{end:{sign}.3f}" for end in ends)


def pair_verdict(evidence: Evidence, test: PairedTest) -> str:
    """Say what one paired test means.

    Examples
    --------
    >>> from frostline.comparison.grounds import Interval
    >>> test = PairedTest("a", "b", 0.1, Interval(0.05, 0.15), 0.001, 0.9, 0.06)
    >>> evidence = Evidence({"a": 0.9, "b": 0.8}, {"a": 700.0, "b": 20.0}, {"a": 9, "b": 3}, [test])
    >>> pair_verdict(evidence, test)
    'a is better than b by 0.100 (0.050 to 0.150), at 40 times the seconds.'
    """
    turned = test if test.difference >= 0 else test.turned()
    ahead, behind = turned.first, turned.second
    lead = f"{ahead} leads by {turned.difference:.3f}" if turned.difference else "their scores are the same"
    between = f"{lead}{_interval(turned)}"
    if turned.claim == "better":
        times = evidence.times(ahead, behind)
        return f"{ahead} is better than {behind} by {_by(turned)}{f', at {times}' if times else ''}."
    if turned.claim == "equivalent":
        return f"Equivalent: {between}; no difference is detected, and none above {RELEVANT:g} is likely."
    if turned.claim == "undecided":
        return f"Undecided: {'; '.join([between, *_would_have_shown(turned)])}."
    return f"Cannot be tested, {_why_untestable(evidence)}: {between}."


def _interval(test: PairedTest) -> str:
    return "" if test.interval is None else f" ({spanned(test.interval.low, test.interval.high)})"


def _by(test: PairedTest) -> str:
    return f"{test.difference:.3f}{_interval(test)}"


def _would_have_shown(*tests: PairedTest) -> list[str]:
    """Say which difference would have been detected in each of these pairs; nothing where a lead as large was not."""
    found = [test.shown_from for test in tests if test.shown_from is not None]
    if not found:
        return []
    if max(found) >= 1:
        return ["no possible difference would have shown"]
    return [f"{math.ceil(1000 * max(found)) / 1000:.3f} or more would have shown"]


def _why_untestable(evidence: Evidence) -> str:
    return {
        "none": f"with fewer than {MIN_UNITS} groups",
        "cells": "too few cells are predicted differently",
    }.get(evidence.unit, f"all {evidence.unit} differ alike")


def verdict(evidence: Evidence) -> str:
    """Say what to take, of what that is a claim, why, and what was left out.

    Examples
    --------
    >>> verdict(Evidence({"head": 0.9}, {"head": 2.0}, {"head": 10}, []))
    'Only head was evaluated: there is nothing to choose from.'
    """
    return " ".join([*_choice(evidence), *_left_out(evidence)])


def _choice(evidence: Evidence) -> list[str]:
    best = evidence.best
    if len(evidence.macro_f1) == 1:
        return [f"Only {best} was evaluated: there is nothing to choose from."]
    if evidence.unit == "none":
        return _numbers_alone(evidence)
    take, beaten = recommended(evidence), evidence.against(best, "better")
    equal, unsettled = evidence.against(best, "equivalent"), evidence.against(best, *OPEN)
    sentences = [f"{_claim(evidence)}: {_taken(evidence, take)}."]
    if beaten and (equal or unsettled):
        sentences.append(f"{best} is better than {_listed(beaten, 'and')}.")
    elif beaten:
        nearest = min(beaten, key=lambda name: evidence.lead(best, name).difference)
        others = "every other; than the nearest, " if len(beaten) > 1 else ""
        sentences.append(
            f"{best} is better than {others}{nearest}{',' if others else ''} by {_by(evidence.lead(best, nearest))}."
        )
        times = evidence.times(best, nearest)
        if times:
            sentences.append(f"It takes {times} of {nearest}: where that difference is not worth it, take {nearest}.")
    if equal:
        sentences.append(f"{best} and {_listed(equal, 'and')} differ by less than {RELEVANT:g}, which was tested.")
    sentences += _undecided(evidence, unsettled)
    sentences += [_tuning(evidence, tuned, probe) for tuned, probe in evidence.probes.items()]
    if not _has_learned(evidence, best):
        sentences.append("That anything was learned beyond the most common class is not shown.")
    if not evidence.against(best, "undecided"):  # of each of which it was said
        shown = _would_have_shown(*(evidence.lead(best, name) for name in equal))
        sentences += [f"Of a difference, {words}." for words in shown]
    return sentences


def _claim(evidence: Evidence) -> str:
    """Of what the verdict is a claim."""
    if evidence.unit == "groups":
        trained = "" if evidence.train_groups is None else f", trained on {evidence.train_groups:.3g}"
        models = "these fitted models" if evidence.train_groups is None else "these strategies"
        return f"Of {models} on new groups ({evidence.group_key}; {evidence.n_units} tested{trained})"
    if evidence.unit == "splits":
        few = f"; {ADVISED_SPLITS} are advised" if evidence.n_units < ADVISED_SPLITS else ""
        return f"Of these strategies on new cells of the same origin ({evidence.n_units} random splits{few})"
    return f"Of these fitted models on more such cells ({evidence.n_units:,} tested; trained again they may differ)"


def _taken(evidence: Evidence, take: str | None) -> str:
    best = evidence.best
    if take is None and _is_majority(best):
        return f"none scores higher than {best}, which learns nothing but the most common class"
    if take is None:
        return f"no choice is supported yet; {best} has the highest macro-F1, {evidence.macro_f1[best]:.3f}"
    for_now = "for now " if evidence.against(best, *OPEN) else ""
    if take == best:
        return f"{for_now}take {take}"
    below = f"{evidence.macro_f1[best] - evidence.macro_f1[take]:.3f} below {best}"
    return f"{for_now}take {take}, cheaper ({evidence.trained[take]:,} trained parameters) and only {below}"


def _undecided(evidence: Evidence, unsettled: Sequence[str]) -> list[str]:
    best, sentences = evidence.best, []
    tests = {name: evidence.lead(best, name) for name in unsettled}
    undecided = [name for name in unsettled if tests[name].claim == "undecided"]
    if undecided:
        leads = "; ".join(
            ", ".join([f"{name} by {_by(tests[name])}", *_would_have_shown(tests[name])]) for name in undecided
        )
        sentences.append(f"Undecided: {best} leads {leads}. More {evidence.unit} would decide it.")
    untestable = [name for name in unsettled if tests[name].claim == "untestable"]
    if untestable:
        leads = _listed([f"{name} (ahead by {tests[name].difference:.3f})" for name in untestable], "and")
        sentences.append(f"{best} cannot be tested against {leads}: {_why_untestable(evidence)}.")
    return sentences


def _tuning(evidence: Evidence, tuned: str, probe: str | None) -> str:
    """Say whether training inside the encoder helps, of a frozen probe that reads the same genes."""
    genes = f"{evidence.genes_read[tuned]:,} genes"
    if probe is None:
        return (
            f"Whether training inside the encoder helps is not shown: {tuned} reads {genes}, and no frozen probe the "
            f"same; frozen_probe:{evidence.genes_read[tuned]} does."
        )
    test = evidence.lead(tuned, probe)
    if test.claim == "better":
        return f"On the same {genes} training helps: {tuned} is better than {probe} by {_by(test)}."
    if test.claim == "worse":
        return f"On the same {genes} training harms: {probe} is better than {tuned} by {_by(test.turned())}."
    if test.claim == "equivalent":
        return f"On the same {genes} training changes little: {tuned} and {probe} differ by less than {RELEVANT:g}."
    ahead = test if test.difference >= 0 else test.turned()
    return f"Whether training helps on the same {genes} is open: {ahead.first} leads {ahead.second} by {_by(ahead)}."


def _numbers_alone(evidence: Evidence) -> list[str]:
    """With fewer than three groups: what was measured, without interval, test or choice."""
    few = ("No group of {} has", "Only one group of {} has", "Only two groups of {} have")[evidence.n_units]
    scores = sorted(evidence.macro_f1.items(), key=lambda item: -item[1])
    return [
        f"{few.format(evidence.group_key)} {MIN_CELLS} test cells or more, which says nothing about other groups: no "
        "interval, no test, no choice.",
        f"Macro-F1 here: {', '.join(f'{name} {score:.3f}' for name, score in scores)}.",
        f"{MIN_UNITS} groups or more must test, each held out in turn, before a strategy can be chosen.",
    ]


def _left_out(evidence: Evidence) -> list[str]:
    sentences = []
    if evidence.small_groups:
        sentences.append(f"Not counted, with fewer than {MIN_CELLS} test cells: {listed(evidence.small_groups)}.")
    if evidence.left_out:
        counted = listed([f"{name} ({n})" for name, n in evidence.left_out.items()])
        sentences.append(f"Classes left out of all splits, with their cells: {counted}.")
    return sentences


def _listed(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
