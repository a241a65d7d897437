"""The result of a sweep: a row for each run and strategy, and what the data sets say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.artifacts import kinds
from frostline.artifacts.manifests import read_manifest
from frostline.comparison.across import Across
from frostline.comparison.comparisons import Comparison, compare
from frostline.comparison.likeness import named_apart
from frostline.errors import FrostlineError
from frostline.escaping import one_line
from frostline.records import Record
from frostline.sweeps.grids import AXES
from frostline.sweeps.outcomes import DONE, FAILED, RunOutcome
from frostline.sweeps.plans import Plan, PlannedRun
from frostline.sweeps.queues import WAITING, Standing, standing_of

if TYPE_CHECKING:
    import pandas as pd

ALL = "all runs"
"""Setting of a grid that varies nothing but data sets, strategies, checkpoints and seeds."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found; made by `collect`."""

    plan: Plan
    standing: Standing
    table: pd.DataFrame
    """A row for each run and strategy: state, reason, parameters, scores, costs, folder."""
    across: Mapping[str, Across]
    """By setting (what varies beside data sets, strategies, checkpoints and seeds), its comparisons by data set."""
    notes: tuple[str, ...] = ()
    """What could not be compared, and why."""

    @property
    def failures(self) -> dict[str, str]:
        """Runs that failed, and why."""
        states = self.standing.states
        return {name: self.standing.outcomes[name].said for name, state in states.items() if state == FAILED}

    @property
    def missing(self) -> list[str]:
        """Runs that have not come to an end."""
        return [name for name, state in self.standing.states.items() if state not in (DONE, FAILED)]

    def __str__(self) -> str:
        return self.standing.words()


def collect(plan: Plan, standing: Standing | None = None) -> SweepResult:
    """Read what the runs of a plan have left; nothing is run.

    Parameters
    ----------
    plan
        Of the sweep.
    standing
        Where its runs stand; looked up if None.
    """
    import pandas as pd

    standing = standing or standing_of(plan)
    records, rows, notes = _records(plan, standing), [], []
    for run in plan.runs:
        about = _about(plan, run, standing)
        try:
            rows += [about | row for row in _scores(records.get(run.name, ()))] or [about]
        except FrostlineError as error:  # records that no comparison is made of
            rows.append(about)
            notes.append(f"{run.name} is done and cannot be compared: {one_line(error)}")
    across, more = _across(plan, records)
    return SweepResult(plan, standing, pd.DataFrame(rows).convert_dtypes(), across, (*notes, *more))


def _records(plan: Plan, standing: Standing) -> dict[str, tuple[Record, ...]]:
    """Full evaluations of the runs that are done, named apart where they are of several checkpoints."""
    found: dict[str, tuple[Record, ...]] = {}
    for run in plan.runs:
        if standing.states[run.name] == DONE:
            kind = kinds.of(read_manifest(run.artifacts).studies)
            if kind in (kinds.COMPARISON, kinds.ANNOTATION):
                read = kind.read(run.artifacts)
                found[run.name] = (read if isinstance(read, Comparison) else read[0]).records
    named = iter(named_apart([record for records in found.values() for record in records]))
    return {name: tuple(next(named) for _ in records) for name, records in found.items()}


def _about(plan: Plan, run: PlannedRun, standing: Standing) -> dict[str, Any]:
    """Columns that every run has."""
    outcome = standing.outcomes.get(run.name, RunOutcome(key=run.key, state="stopped"))
    parameters = {
        name.lower(): ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in run.values.items()
        if name in (*AXES.values(), *plan.grid.places)
    }
    state = standing.states[run.name]
    return {
        "run": run.name,
        "state": "not run" if state == WAITING else state,
        "reason": outcome.said or None,
        **parameters,
        "run_seconds": outcome.seconds or None,
        "folder": run.folder.as_posix(),
        "strategy": parameters.get(AXES["strategies"].lower()),
    }


def _scores(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Rows of the leaderboard of one run."""
    if not records:
        return []
    rows: list[dict[str, Any]] = compare(records).leaderboard().to_dict("records")
    return rows


def _across(plan: Plan, records: Mapping[str, Sequence[Record]]) -> tuple[dict[str, Across], list[str]]:
    """Compare what ran on the same splits, by setting and data set."""
    parts: dict[tuple[str, str, str], list[Record]] = {}
    setting_of, dataset_of = _labels(plan)
    for run in plan.runs:
        place = (setting_of[run.name], dataset_of[run.name], str(run.values.get(AXES["seeds"], "")))
        parts.setdefault(place, []).extend(records.get(run.name, ()))
    found: dict[str, dict[str, list[Comparison]]] = {}
    notes = []
    for (setting, dataset, seed), some in parts.items():
        if some:
            try:
                found.setdefault(setting, {}).setdefault(dataset, []).append(compare(_once(some)))
            except FrostlineError as error:
                notes.append(f"{dataset}, seed {seed}: runs cannot be compared with each other: {one_line(error)}")
    kept = {setting: {name: each for name, each in sets.items() if each} for setting, sets in found.items()}
    across = {}
    for setting, sets in ((setting, sets) for setting, sets in kept.items() if sets):
        more = _beside(sets, [run.values.get(AXES["strategies"]) for run in plan.runs])
        across[setting] = Across(sets, tuple(more))
        notes += [
            f"{name} was evaluated beside what the sweep names, on {', '.join(some)} alone: it has no rank"
            for name, some in more.items()
        ]
    return across, notes


def _beside(sets: Mapping[str, Sequence[Comparison]], named: Sequence[Any]) -> dict[str, list[str]]:
    """Strategies that runs added to those named, and not on all data sets, with the data sets that have them.

    Ranks are of data sets that have all strategies, and one with few genes has no probe on as many as the tuned read.
    """
    if None in named:  # the notebook says by itself what it compares
        return {}
    asked = {name for names in named for name in names}
    has = {data: {name for one in each for name in one.strategies} for data, each in sets.items()}
    added = {name for names in has.values() for name in names if not {name, name.split("@")[0]} & asked}
    some = {name: [data for data, names in has.items() if name in names] for name in sorted(added)}
    return {name: datasets for name, datasets in some.items() if len(datasets) < len(has)}


def _once(records: Sequence[Record]) -> list[Record]:
    """The first record of each strategy and repeat: several runs may have the same strategy."""
    first = {(record.strategy, record.repeat): record for record in reversed(records)}
    return list(reversed(first.values()))


def _labels(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Setting and data set of each run, in words that tell them apart."""
    of_data = {AXES["datasets"], *(name for each in plan.grid.datasets for name in each)}
    inner = {AXES["strategies"], AXES["checkpoints"], AXES["seeds"]}
    varied = [name for name in plan.grid.places if len({str(run.values[name]) for run in plan.runs}) > 1]
    ways: dict[str, set[str]] = {}
    for run in plan.runs:
        ways.setdefault(_data(run), set()).add(_pairs(run, sorted(of_data)))
    settings, datasets = {}, {}
    for run in plan.runs:
        more = _pairs(run, [name for name in varied if name in of_data and name != AXES["datasets"]])
        settings[run.name] = _pairs(run, [name for name in varied if name not in of_data | inner]) or ALL
        datasets[run.name] = f"{_data(run)} ({more})" if len(ways[_data(run)]) > 1 else _data(run)
    return settings, datasets


def _pairs(run: PlannedRun, names: Sequence[str]) -> str:
    return ", ".join(f"{name}={run.values.get(name, '')}" for name in names)


def _data(run: PlannedRun) -> str:
    return str(run.values.get(AXES["datasets"], "the notebook's own data"))
