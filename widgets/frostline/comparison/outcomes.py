"""What a job has made that can be compared, and what has failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.comparison.comparisons import Comparison
from frostline.errors import FrostlineError
from frostline.escaping import one_line
from frostline.records import Record
from frostline.strategies import Strategy


@dataclass(frozen=True)
class Ran:
    """What a job has made that can be compared, and what it was made of: `Job.ran`."""

    comparison: Comparison
    dataset: Dataset
    strategies: tuple[Strategy, ...]
    """Those that are compared."""
    splits: tuple[Split, ...]
    """Those that all of them have finished."""
    failures: Mapping[str, Exception] = field(default_factory=dict)
    """Strategies that were asked for and failed, and why."""
    changed: str = ""
    """What has been changed in the panel since, such as "seed"; empty when nothing."""
    unfinished: str = ""
    """What was asked for and is not finished, in words; empty when everything is."""

    @property
    def caption(self) -> tuple[str, ...]:
        """What the numbers are of: data, settings, and what has been changed or has failed since; a sentence each."""
        first = self.comparison.records[0]
        used = {str(r.parameters["checkpoint"]): None for r in self.comparison.records if "checkpoint" in r.parameters}
        facts = [
            f"{self.dataset.name}, labels in {first.label_key}",
            f"groups in {self.dataset.group_key}" if self.dataset.group_key else "no groups",
            f"profile {first.profile}, {first.split_kind} split, {len(self.splits)} repeat(s), seed {first.seed}",
            *(f"checkpoint {name}" for name in used),
        ]
        lines = [f"Run last: {'; '.join(facts)}."]
        lines += [f"Failed, and not compared: {name}. {reason(error)}" for name, error in self.failures.items()]
        if self.unfinished:
            lines.append(f"Partial: {self.unfinished}")
        if self.changed:
            lines.append(f"Changed in the panel since: {self.changed}. Press Run to bring this up to date.")
        return tuple(lines)

    def refuse_failures(self) -> None:
        """Do nothing where all strategies finished.

        Raises
        ------
        FrostlineError
            Some failed; says which, why, and that the others are kept.
        """
        if self.failures:
            said = "; ".join(f"{name}: {reason(error)}" for name, error in self.failures.items())
            n = len(self.failures) + len(self.strategies)
            raise FrostlineError(
                f"{len(self.failures)} of {n} strategies failed: {said}. The others are compared, and nothing of "
                "theirs is lost: run again with RESUME=True, and only what is missing is computed"
            )


def reason(error: Exception) -> str:
    """An error in one line."""
    return one_line(error) or type(error).__name__


def complete_records(records: Sequence[Record], failed: Collection[str] = ()) -> list[Record]:
    """Records that can be compared: of the repeats that all strategies have finished that finished any.

    Parameters
    ----------
    records
        Of full evaluations.
    failed
        Strategies that will not finish; left out, unless there is nothing else.

    Examples
    --------
    >>> complete_records([])
    []
    """
    by_strategy: dict[str, set[int]] = {}
    for record in records:
        by_strategy.setdefault(record.strategy, set()).add(record.repeat)
    counted = {name: found for name, found in by_strategy.items() if name not in failed} or by_strategy
    if not counted:
        return []
    repeats = set.intersection(*counted.values())
    return [record for record in records if record.strategy in counted and record.repeat in repeats]
