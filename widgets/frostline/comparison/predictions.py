"""Predictions of all repeats as one long table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd


def long_predictions(records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """One row a record and test cell, in the order of both.

    Parameters
    ----------
    records
        Any records.
    classes
        One column `p_` each; a class that a split lacks has probability 0 in it.

    Returns
    -------
    DataFrame
        Columns cell, label, strategy, repeat, predicted, `group` where any cells come in groups, the probabilities.
    """
    import pandas as pd

    grouped = any(record.groups is not None for record in records)
    parts = []
    for record in records:
        column = {name: i for i, name in enumerate(record.classes)}
        part: dict[str, object] = {
            "cell": list(record.cells),
            "label": list(record.labels),
            "strategy": record.strategy,
            "repeat": record.repeat,
            "predicted": list(record.predicted),
        }
        if grouped:
            part["group"] = list(record.groups or [None] * len(record.cells))
        for name in classes:
            part[f"p_{name}"] = record.probabilities[:, column[name]] if name in column else 0.0
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)
