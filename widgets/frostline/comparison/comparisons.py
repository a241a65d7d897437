"""Records of the same splits, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.comparison import tables
from frostline.comparison.grounds import Ground, Interval, PairedTest, Repeat
from frostline.comparison.likeness import named_apart, refuse_gaps, refuse_other_parameters, refuse_unlike
from frostline.comparison.record_tables import (
    class_metrics_table,
    long_predictions,
    metrics_table,
    withheld_table,
)
from frostline.comparison.significance import paired_tests, score_intervals
from frostline.comparison.verdicts import Evidence, pair_verdict, verdict
from frostline.errors import FrostlineError, unknown
from frostline.evaluation.metrics import METRICS
from frostline.evaluation.prediction_sets import coverage_table
from frostline.records import SEVERITIES, Finding, Record, kind_of
from frostline.strategies import STRATEGIES
from frostline.strategies.tuning import EncoderTuning

if TYPE_CHECKING:
    import pandas as pd

CAUTIONED = {("little-vocabulary", "warning"), ("labels-from-clusters", "warning"), ("labels-from-clusters", "note")}
"""Findings that go into the verdict, as errors do."""
TILTS = {
    ("labels-from-clusters", "warning"): "which favours strategies on principal components and makes scores optimistic",
    ("labels-from-clusters", "note"): "which may favour strategies on principal components",
}
"""Which way such a finding tilts the comparison."""
TUNED = {name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderTuning)}
"""Strategies that train inside the encoder."""


def _tilt(finding: Finding) -> str:
    tilt = TILTS.get((finding.code, finding.severity))
    return f", {tilt}" if tilt else ""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Records of several strategies on the same test cells; made by `compare`."""

    records: tuple[Record, ...]
    """All labels, all classes: what the leaderboard and the tests are of."""
    budget_records: tuple[Record, ...] = ()
    """The same strategies and test cells with fewer labelled cells."""
    unseen_records: tuple[Record, ...] = ()
    """The same strategies and test cells, one class withheld from fitting."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names, in the order in which they were evaluated."""
        return tuple(dict.fromkeys(record.strategy for record in self.records))

    @property
    def repeats(self) -> tuple[int, ...]:
        """Numbers of the splits."""
        return tuple(sorted({record.repeat for record in self.records}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of all splits, sorted."""
        return tuple(sorted({name for record in self.records for name in record.classes}))

    @property
    def best(self) -> str:
        """Name of the first strategy of the leaderboard."""
        return str(self.leaderboard()["strategy"].iloc[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said beside the numbers."""
        return tuple(dict.fromkeys(note for record in self.records for note in record.notes))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks found in any split, each once, the gravest first."""
        found = dict.fromkeys(finding for record in self.records for finding in record.findings)
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

    def of(self, strategy: str) -> tuple[Record, ...]:
        """Records of one strategy, by repeat.

        Raises
        ------
        FrostlineError
            The strategy is not in this comparison; lists those that are.
        """
        found = [record for record in self.records if record.strategy == strategy]
        if not found:
            raise unknown("strategy", strategy, self.strategies)
        return tuple(sorted(found, key=lambda record: record.repeat))

    @cached_property
    def ground(self) -> Ground:
        """What was tested, what is independent in it, and so what the numbers are claims about."""
        return Ground.of(self.records[0].split_kind, [self._repeat(repeat) for repeat in self.repeats])

    def _repeat(self, repeat: int) -> Repeat:
        found = {record.strategy: record for record in self.records if record.repeat == repeat}
        first = next(iter(found.values()))
        return Repeat(
            first.cells,
            np.array(first.labels),
            {name: np.array(found[name].predicted) for name in self.strategies},
            first.sizes["train"],
            None if first.groups is None else np.array(first.groups),
            first.n_train_groups,
        )

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """95 % interval of each strategy's score; None where the design gives none."""
        return score_intervals(self.ground)

    @cached_property
    def tests(self) -> tuple[PairedTest, ...]:
        """Every pair of strategies on the same test cells, p-values adjusted for all pairs."""
        return tuple(paired_tests(self.ground))

    @cached_property
    def evidence(self) -> Evidence:
        """What the verdict is made of."""
        board = self.leaderboard().set_index("strategy")
        left_out = [record.left_out for record in self.records]
        return Evidence(
            macro_f1={str(name): self.ground.score(str(name)) for name in board.index},
            seconds={str(name): float(value) for name, value in board["seconds"].items()},
            trained={str(name): int(value) for name, value in board["trainable_parameters"].items()},
            tests=self.tests,
            unit=self.ground.unit,
            n_units=self.ground.n_units,
            group_key=self.records[0].group_key,
            train_groups=self.ground.train_groups,
            left_out={name: n for found in left_out for name, n in found.items()},
            small_groups=self.ground.small,
            genes_read={name: self.of(name)[0].genes_read or 0 for name in self.strategies},
            probes=self._like_probes(),
        )

    def _like_probes(self) -> dict[str, str | None]:
        """What trains inside the encoder -> the frozen probe on the same genes; None where there are only others."""
        probes = [name for name in self.strategies if kind_of(name) == "frozen_probe"]
        tuned = [name for name in self.strategies if kind_of(name) in TUNED and self.of(name)[0].genes_read]
        return {
            name: next((probe for probe in probes if self._read_alike(name, probe)), None) for name in tuned if probes
        }

    def _read_alike(self, first: str, second: str) -> bool:
        pairs = zip(self.of(first), self.of(second), strict=True)
        return all((a.genes_read, a.weights_sha256) == (b.genes_read, b.weights_sha256) for a, b in pairs)

    @property
    def verdict(self) -> str:
        """What to take, in words, from the tests and the costs; what makes the numbers wrong is said first."""
        return " ".join([*self.cautions, verdict(self.evidence)])

    @property
    def cautions(self) -> tuple[str, ...]:
        """A sentence for each kind of finding that no verdict may be read without, and the strategies concerned."""
        grave = [f for f in self.findings if f.severity == "error" or (f.code, f.severity) in CAUTIONED]
        first = {f.code: f for f in reversed(grave)}
        return tuple(
            f"{'Note' if f.severity == 'note' else 'Warning'}: {f.title}{self._concerned(f)}{_tilt(f)}."
            for f in grave
            if first[f.code] is f
        )

    def _concerned(self, finding: Finding) -> str:
        """Strategies that a finding is of, where it is not of all."""
        names = list(dict.fromkeys(record.strategy for record in self.records if finding in record.findings))
        return "" if len(names) == len(self.strategies) else f" ({', '.join(names)})"

    def leaderboard(self) -> pd.DataFrame:
        """One row a strategy, means over repeats, by macro-F1 and then accuracy.

        Where groups are the unit, macro-F1 is the mean over groups of the macro-F1 of their own cells, which interval
        and verdict are of; else the mean over repeats. A mean is NA when one of its values is undefined.
        """
        return self._leaderboard.copy()

    @cached_property
    def _leaderboard(self) -> pd.DataFrame:
        import pandas as pd

        keys = [key for key in METRICS if any(key in record.metrics for record in self.records)]
        rows = []
        for name in self.strategies:
            records = self.of(name)
            means = {key: _mean([record.metrics.get(key) for record in records]) for key in keys}
            pooled, interval = means.pop("macro_f1"), self.intervals[name]
            rows.append(
                {
                    "strategy": name,
                    "macro_f1": self.ground.score(name) if self.ground.unit == "groups" else pooled,
                    "macro_f1_low": None if interval is None else interval.low,
                    "macro_f1_high": None if interval is None else interval.high,
                    **means,
                    "seconds": _mean([record.cost.total_seconds for record in records]),
                    "trainable_parameters": max(record.cost.trainable_parameters for record in records),
                    "total_parameters": max(record.cost.total_parameters for record in records),
                    "peak_memory": _largest([record.cost.peak_memory for record in records]),
                    "device_memory": _largest([record.cost.device_memory for record in records]),
                    "saved_bytes": _largest([record.cost.saved_bytes for record in records]),
                }
            )
        table = pd.DataFrame(rows)
        whole = ("trainable_parameters", "total_parameters", "peak_memory", "device_memory", "saved_bytes")
        kinds = {key: "Int64" if key in whole else "Float64" for key in table.columns if key != "strategy"}
        table = table.astype(kinds)
        return table.sort_values(["macro_f1", "accuracy"], ascending=False, kind="stable", ignore_index=True)

    def metrics(self) -> pd.DataFrame:
        """One row a strategy and repeat: every metric, every cost, the sizes of the split."""
        return metrics_table(self.records)

    def class_metrics(self) -> pd.DataFrame:
        """One row a strategy, repeat and class: support, precision, recall, F1, AUROC; NA where undefined."""
        return self._class_metrics.copy()

    @cached_property
    def _class_metrics(self) -> pd.DataFrame:
        return class_metrics_table(self.records)

    def test_table(self) -> pd.DataFrame:
        """One row a pair: difference of macro-F1 with its interval, p-values after Holm's correction, what it means.

        `p_equivalent` is of a difference of 0.05 or more, `detectable` the smallest difference that would have been
        detected whatever the other pairs give, NA where a lead as large was not; `mcnemar_p` is of the accuracy in
        the first repeat. What cannot be tested is NA.
        """
        import pandas as pd

        rows = [
            {
                "first": test.first,
                "second": test.second,
                "difference": test.difference,
                "low": None if test.interval is None else test.interval.low,
                "high": None if test.interval is None else test.interval.high,
                "p_adjusted": test.p_adjusted,
                "p_equivalent": test.p_equivalent,
                "detectable": test.shown_from,
                "first_only": test.first_only,
                "second_only": test.second_only,
                "mcnemar_p": test.mcnemar_p,
                "claim": test.claim,
                "verdict": pair_verdict(self.evidence, test),
            }
            for test in self.tests
        ]
        numbers = ["difference", "low", "high", "p_adjusted", "p_equivalent", "detectable"]
        columns = ["first", "second", *numbers, "first_only", "second_only", "mcnemar_p", "claim", "verdict"]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys((*numbers, "mcnemar_p"), "Float64"))

    def prediction_sets(self) -> pd.DataFrame:
        """One row a strategy, repeat and group: how often sets hold the class of a test cell, and how large they are.

        Columns: strategy, repeat, group (NA without groups), cells, calibration_cells, calibration_groups, limit,
        coverage, size, singles; see `frostline.evaluation.prediction_sets`.
        """
        return coverage_table(self.records)

    def predictions(self) -> pd.DataFrame:
        """Every prediction of a test cell, long: cell, label, strategy, repeat, predicted, one probability a class."""
        return long_predictions(self.records, self.classes)

    def label_efficiency(self) -> pd.DataFrame:
        """Macro-F1 against labelled cells per class, with its interval; empty when it was not measured.

        Columns: strategy, budget (NA for all cells), labelled_cells (mean over repeats, validation included),
        macro_f1, low, high; the last two NA where the design gives no interval.
        """
        return self._label_efficiency.copy()

    @cached_property
    def _label_efficiency(self) -> pd.DataFrame:
        import pandas as pd

        columns = ["strategy", "budget", "labelled_cells", "macro_f1", "low", "high"]
        rows = []
        budgets = sorted({record.budget for record in self.budget_records if record.budget is not None})
        for budget in [*budgets, None] if budgets else []:
            records = self.records if budget is None else [r for r in self.budget_records if r.budget == budget]
            board = (self if budget is None else self._drawn_from_all(records)).leaderboard().set_index("strategy")
            for name in dict.fromkeys(record.strategy for record in records):
                sizes = [r.sizes["train"] + r.sizes["validation"] for r in records if r.strategy == name]
                numbers = board.loc[name, ["macro_f1", "macro_f1_low", "macro_f1_high"]]
                rows.append(dict(zip(columns, [name, budget, _mean(sizes), *numbers], strict=True)))
        kinds = {"budget": "Int64", **dict.fromkeys(columns[2:], "Float64")}
        table = pd.DataFrame(rows, columns=columns).astype(kinds)
        tried = {record.strategy for record in self.budget_records}
        return table[table["strategy"].isin(tried)].reset_index(drop=True)

    def _drawn_from_all(self, records: Sequence[Record]) -> Comparison:
        """Compare records of a budget by what their few cells were drawn from: what splits share is shared there."""
        drawn_from = {record.repeat: record.sizes["train"] for record in self.records}
        sizes = [{**record.sizes, "train": drawn_from.get(record.repeat, record.sizes["train"])} for record in records]
        return Comparison(tuple(replace(record, sizes=size) for record, size in zip(records, sizes, strict=True)))

    def unknown_cells(self) -> pd.DataFrame:
        """How well cells of a class that was withheld from fitting stand out; empty when it was not measured.

        Columns: strategy, unseen, repeat, n_unseen, n_known, and for 1 - confidence and for the distance to the
        training cells the AUROC and the false-positive rate at 95 % recall; NA without test cells of the class.
        """
        return withheld_table(self.unseen_records)

    def confusion(self, strategy: str) -> NDArray[np.int64]:
        """Cells by true class (rows) and predicted class (columns), (n_classes, n_classes), all repeats."""
        position = {name: i for i, name in enumerate(self.classes)}
        counts = np.zeros((len(position), len(position)), dtype=np.int64)
        for record in self.of(strategy):
            for label, predicted in zip(record.labels, record.predicted, strict=True):
                counts[position[label], position[predicted]] += 1
        return counts

    def table(self) -> pd.DataFrame:
        """Leaderboard as text for a reader: four decimals, NA where undefined."""
        return tables.leaderboard(self.leaderboard())

    def __repr__(self) -> str:
        table = self.table().to_string(index=False)
        return "\n".join([f"Comparison of {', '.join(self.strategies)}", *self._warnings(), self.verdict, table])

    def _repr_html_(self) -> str:
        return tables.with_words(self.table(), self.verdict, self._warnings())

    def _warnings(self) -> list[str]:
        """One line for each check that warned; repeats of other cells may warn in other numbers."""
        first = {f.code: f for f in reversed(self.findings) if f.severity != "note"}
        return [f"{f.severity}: {f.title}" for f in self.findings if first.get(f.code) is f]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def _largest(values: Sequence[int | None]) -> int | None:
    defined = [value for value in values if value is not None]
    return max(defined) if len(defined) == len(values) else None


def compare(records: Sequence[Record]) -> Comparison:
    """Put records side by side.

    Parameters
    ----------
    records
        Of full evaluations, and, in any order among them, of fewer labelled cells (`budget`) and of withheld
        classes (`unseen`). Where they began from several checkpoints, the names of the strategies say from which:
        `frozen_probe@mini`.

    Raises
    ------
    FrostlineError
        There is no record of a full evaluation; two records are of the same strategy and repeat; strategies were
        trained, validated or tested on different cells, or on different repeats; a strategy had other
        hyper-parameters in another repeat; data set, profile or seed differ; a record has both a budget and a
        withheld class.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cut = frostline.split(pbmc)
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, cut)
    >>> list(compare([record]).leaderboard().columns)[:3]
    ['strategy', 'macro_f1', 'macro_f1_low']
    """
    if not any(record.budget is None and record.unseen is None for record in records):
        raise FrostlineError("there is no record to compare")
    refuse_unlike(records)
    records = named_apart(records)
    refuse_gaps(records)
    refuse_other_parameters(records)
    plain = [record for record in records if record.budget is None and record.unseen is None]
    return Comparison(
        tuple(plain),
        tuple(record for record in records if record.budget is not None),
        tuple(record for record in records if record.unseen is not None),
    )
