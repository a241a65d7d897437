"""How sure the numbers are: intervals and paired tests over the independent unit of a comparison.

Over groups and splits the tests are Student's t with a term for the noise of training; over cells predictions are
swapped, and intervals are drawn with pseudo-cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from frostline.comparison.corrections import holm
from frostline.comparison.grounds import ALPHA, NO_SPREAD, RELEVANT, Ground, Interval, PairedTest, only_one_right
from frostline.comparison.resampling import cell_intervals, cell_tests


def score_intervals(ground: Ground) -> dict[str, Interval | None]:
    """95 % interval of every strategy's score; None where there is no spread to tell it from.

    Over groups and splits Student's t on the logit scale, so that it stays within 0 and 1. Over cells the cells get
    random weights (Bayesian bootstrap, Rubin 1981), with one wrong pseudo-cell in every class for the low end and one
    right one for the high end: Clopper and Pearson (1934) in every class, so that a rare class makes the interval wider
    and never narrower.

    Examples
    --------
    >>> from frostline.comparison.grounds import Repeat
    >>> labels = np.array(["B"] * 40 + ["NK"] * 5 + ["T"] * 2)
    >>> cut = Repeat([f"c{i}" for i in range(47)], labels, {"x": labels}, 100)
    >>> found = score_intervals(Ground.of("stratified", [cut]))["x"]
    >>> round(found.low, 1), round(found.high, 3)
    (0.6, 1.0)
    """
    if ground.unit == "none":
        return dict.fromkeys(ground.scores)
    if ground.unit == "cells":
        return cell_intervals(ground)
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
    >>> from frostline.comparison.grounds import Repeat
    >>> labels = np.array(["B", "T"] * 20)
    >>> said = {"x": labels, "y": np.array(["B"] * 40)}
    >>> test = paired_tests(Ground.of("stratified", [Repeat([f"c{i}" for i in range(40)], labels, said, 99)]))[0]
    >>> round(test.difference, 4), test.claim, test.first_only, test.mcnemar_p < 0.001
    (0.6667, 'better', 20, True)
    """
    pairs = list(combinations(ground.scores, 2))
    if ground.unit == "cells":
        return cell_tests(ground, pairs)
    if ground.unit == "none":
        return [
            PairedTest(*pair, ground.score(pair[0]) - ground.score(pair[1]), **only_one_right(ground, pair))
            for pair in pairs
        ]
    return _unit_tests(ground, pairs)


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
        tests.append(PairedTest(*pair, mean, *found, **only_one_right(ground, pair)))
    return tests
