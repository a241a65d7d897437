"""What the strategies of a panel will cost: parameters, seconds on this machine, the time that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.comparison.jobs import Progress
from frostline.errors import FrostlineError
from frostline.evaluation.estimates import Estimate, duration, estimate
from frostline.panels.wording import for_panel
from frostline.strategies import Strategy

TIMES = (
    "<div class='frostline-quiet'>Times are estimates for this machine, from a few of your cells; a map of the test "
    "cells comes on top. Strategies on one frozen embedding share the time that it takes.</div>"
)


class Costs:
    """Estimates by strategy; what has been timed once is not timed again.

    Examples
    --------
    >>> Costs().seconds("head", 4) is None
    True
    """

    def __init__(self) -> None:
        self._found: dict[str, Estimate | str] = {}
        self._timed: dict[tuple[Any, ...], Estimate] = {}

    def forget(self) -> None:
        """Know nothing of strategies that cannot be built; what was timed stays."""
        self._found = {}

    def work_out(self, strategy: Strategy, dataset: Dataset, cuts: Sequence[Split]) -> None:
        """Time a few cells."""
        key = (repr(strategy), cuts[0].fingerprint, cuts[0].profile, id(dataset))
        try:
            if key not in self._timed:  # a tick of another box changes nothing about this one
                self._timed[key] = estimate(strategy, dataset, cuts[0])
            self._found[strategy.name] = self._timed[key]
        except FrostlineError as error:
            self._found[strategy.name] = str(error)

    def words(self, strategy: Strategy, dataset: Dataset, cuts: Sequence[Split]) -> str:
        """What is known of a strategy, for a reader."""
        try:
            words = [f"{strategy.planned_parameters(cuts[0], dataset):,} trained parameters."]
        except FrostlineError:  # of a checkpoint that is not here, as the estimate says
            words = []
        found = self._found.get(strategy.name)
        if isinstance(found, Estimate):
            total = Estimate(found.seconds * len(cuts), found.at_most)
            times = f" for {len(cuts)} repeats" if len(cuts) > 1 else ""
            words.append(f"{str(total).capitalize()}{times}.")
        elif found:
            words.append(f"Cannot run: {for_panel(found)}")
        return " ".join(words)

    def seconds(self, name: str, repeats: int) -> float | None:
        """Estimate of all repeats; None where there is none."""
        found = self._found.get(name)
        return found.seconds * repeats if isinstance(found, Estimate) else None

    def left(self, progress: Mapping[str, Progress], repeats: int) -> str:
        """Time that all strategies still need, by what they were estimated and how fast they have been."""
        seconds = 0.0
        for name, each in progress.items():
            if each.state not in ("waiting", "running"):
                continue
            expected = self.seconds(name, repeats)
            if each.state == "running" and each.fraction > 0.1:
                seconds += each.seconds * (1 - each.fraction) / each.fraction
            elif expected is not None:
                seconds += expected * (1 - each.fraction)
            else:
                return ""
        return duration(seconds)
