"""Records of the same splits, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.errors import FrostlineError, unknown
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd

TABLE_STYLE = (
    ".frostline-leaderboard :is(th, td) {text-align: right !important; padding: 0.3em 0.8em; white-space: nowrap} "
    ".frostline-leaderboard :is(th, td):first-child {text-align: left !important}"
)
METRICS = ("accuracy", "macro_f1", "silhouette")
HEADINGS = {
    "strategy": "Strategy",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "silhouette": "Silhouette",
    "seconds": "Seconds",
    "trainable_parameters": "Trainable parameters",
}


@dataclass(frozen=True, repr=False)
class Comparison:
    """Records of several strategies on the same test cells; made by `compare`."""

    records: tuple[Record, ...]

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
        """Classes of the splits, sorted."""
        return self.records[0].classes

    @property
    def best(self) -> str:
        """Name of the first strategy of the leaderboard."""
        return str(self.leaderboard()["strategy"].iloc[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said beside the numbers."""
        return tuple(dict.fromkeys(note for record in self.records for note in record.notes))

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

    def leaderboard(self) -> pd.DataFrame:
        """One row a strategy, means over repeats, by macro-F1 and then accuracy.

        A mean is NA when one of its values is undefined.
        """
        import pandas as pd

        rows = [
            {
                "strategy": name,
                **{key: _mean([record.metrics[key] for record in self.of(name)]) for key in METRICS},
                "seconds": _mean([record.cost.total_seconds for record in self.of(name)]),
                "trainable_parameters": max(record.cost.trainable_parameters for record in self.of(name)),
            }
            for name in self.strategies
        ]
        table = pd.DataFrame(rows).astype(dict.fromkeys([*METRICS, "seconds"], "Float64"))
        return table.sort_values(["macro_f1", "accuracy"], ascending=False, kind="stable", ignore_index=True)

    def metrics(self) -> pd.DataFrame:
        """One row a strategy and repeat: every metric, every cost, the sizes of the split."""
        import pandas as pd

        rows = [
            {
                "strategy": record.strategy,
                "repeat": record.repeat,
                **record.metrics,
                **{f"{stage}_seconds": seconds for stage, seconds in record.cost.seconds.items()},
                "seconds": record.cost.total_seconds,
                "trainable_parameters": record.cost.trainable_parameters,
                "total_parameters": record.cost.total_parameters,
                **{f"n_{part}": size for part, size in record.sizes.items()},
            }
            for record in self.records
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(METRICS, "Float64"))

    def predictions(self) -> pd.DataFrame:
        """Every prediction, long: cell, label, strategy, repeat, predicted, one probability a class."""
        import pandas as pd

        parts = [
            pd.DataFrame(
                {
                    "cell": list(record.cells),
                    "label": list(record.labels),
                    "strategy": record.strategy,
                    "repeat": record.repeat,
                    "predicted": list(record.predicted),
                    **{f"p_{name}": record.probabilities[:, i] for i, name in enumerate(record.classes)},
                }
            )
            for record in self.records
        ]
        return pd.concat(parts, ignore_index=True)

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
        import pandas as pd

        board = self.leaderboard()
        formats = {
            **dict.fromkeys(METRICS, "{:.4f}".format),
            "seconds": "{:.1f}".format,
            "trainable_parameters": "{:,}".format,
        }
        text = {"strategy": list(board["strategy"])}
        for column, to_text in formats.items():
            text[column] = ["NA" if value is pd.NA else to_text(value) for value in board[column]]
        return pd.DataFrame(text).rename(columns=HEADINGS)

    def __repr__(self) -> str:
        return f"Comparison of {', '.join(self.strategies)}\n{self.table().to_string(index=False)}"

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, border=0, classes="frostline-leaderboard")
        return f'<div style="overflow-x:auto"><style>{TABLE_STYLE}</style>{table}</div>'


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def compare(records: Sequence[Record]) -> Comparison:
    """Put records side by side.

    Raises
    ------
    FrostlineError
        There is no record; two records are of the same strategy and repeat; strategies were evaluated on
        different test cells or different repeats.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cut = frostline.split(pbmc)
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, cut)
    >>> list(compare([record]).leaderboard().columns)[:3]
    ['strategy', 'accuracy', 'macro_f1']
    """
    if not records:
        raise FrostlineError("there is no record to compare")
    seen: dict[tuple[str, int], Record] = {}
    for record in records:
        if (record.strategy, record.repeat) in seen:
            raise FrostlineError(f"two records of {record.strategy!r}, repeat {record.repeat}")
        seen[record.strategy, record.repeat] = record
    repeats = {name: {r for s, r in seen if s == name} for name, _ in seen}
    if len({frozenset(found) for found in repeats.values()}) > 1:
        raise FrostlineError(f"strategies were evaluated on different repeats: {repeats}")
    for repeat in {r for _, r in seen}:
        ground = {(r.test_fingerprint, r.classes): r.strategy for r in records if r.repeat == repeat}
        if len(ground) > 1:
            raise FrostlineError(
                f"records of repeat {repeat} are of different test cells, labels or classes: "
                f"{', '.join(ground.values())}; only records of the same split can be compared"
            )
    return Comparison(tuple(records))
