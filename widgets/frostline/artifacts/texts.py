"""What a comparison says in tables and words: which files there are, and what each of them holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from frostline.comparison import report
from frostline.comparison.comparisons import Comparison

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.md"
ALWAYS: dict[str, Callable[[Comparison], pd.DataFrame]] = {
    "report.csv": lambda comparison: comparison.leaderboard(),
    "strategy_metrics.csv": lambda comparison: comparison.metrics(),
    "class_metrics.csv": lambda comparison: comparison.class_metrics(),
    "paired_tests.csv": lambda comparison: comparison.test_table(),
    "prediction_sets.csv": lambda comparison: comparison.prediction_sets(),
}
OF_STUDIES: dict[str, Callable[[Comparison], pd.DataFrame]] = {
    "label_efficiency.csv": lambda comparison: comparison.label_efficiency(),
    "unknown_cells.csv": lambda comparison: comparison.unknown_cells(),
}


def names_of(studies: Sequence[str] = ()) -> list[str]:
    """Names of the tables and the report of a comparison with these studies.

    Examples
    --------
    >>> names_of(["label_efficiency"])[-2:]
    ['label_efficiency.csv', 'report.md']
    """
    return [*ALWAYS, *(f"{study}.csv" for study in studies), REPORT]


def text_of(comparison: Comparison, name: str) -> str:
    """Text of one of `names_of`.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> text_of(frostline.compare([record]), "class_metrics.csv").split(",")[:2]
    ['strategy', 'repeat']
    """
    if name == REPORT:
        return report.report_markdown(comparison)
    table = {**ALWAYS, **OF_STUDIES}[name](comparison)
    text: str = table.to_csv(index=False, na_rep="NA", lineterminator="\n")
    return text
