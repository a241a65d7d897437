"""Tables of records, whatever they are compared with: predictions, metrics and costs, classes, withheld classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from frostline.evaluation.metrics import METRICS, class_auroc, class_table, false_positive_rate, separation
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


def metrics_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record: every metric, every cost, the sizes of the split; NA where undefined."""
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
            "peak_memory": record.cost.peak_memory,
            "device_memory": record.cost.device_memory,
            "saved_bytes": record.cost.saved_bytes,
            **{f"n_{part}": size for part, size in record.sizes.items()},
        }
        for record in records
    ]
    table = pd.DataFrame(rows)
    measured = ("peak_memory", "device_memory", "saved_bytes")
    kinds = {key: "Float64" for key in METRICS if key in table} | dict.fromkeys(measured, "Int64")
    return table.astype(kinds)


def class_metrics_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record and class: support, precision, recall, F1, AUROC; NA where undefined."""
    import pandas as pd

    parts = []
    for record in records:
        table = class_table(record.labels, record.predicted, record.classes)
        table["auroc"] = pd.array(class_auroc(record.labels, record.probabilities, record.classes), dtype="Float64")
        table.insert(0, "repeat", record.repeat)
        table.insert(0, "strategy", record.strategy)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def withheld_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record of a withheld class: how well its cells stand out; see `Comparison.unknown_cells`."""
    import pandas as pd

    rows = []
    for record in records:
        hidden = np.array(record.labels) == record.unseen
        doubt = 1 - record.probabilities.max(axis=1)
        row: dict[str, object] = {
            "strategy": record.strategy,
            "unseen": record.unseen,
            "repeat": record.repeat,
            "n_unseen": int(hidden.sum()),
            "n_known": int((~hidden).sum()),
        }
        for name, score in (("confidence", doubt), ("distance", record.distances)):
            row[f"auroc_{name}"] = None if score is None else separation(score, hidden)
            row[f"fpr95_{name}"] = None if score is None else false_positive_rate(score, hidden)
        rows.append(row)
    numbers = ["auroc_confidence", "fpr95_confidence", "auroc_distance", "fpr95_distance"]
    columns = ["strategy", "unseen", "repeat", "n_unseen", "n_known", *numbers]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, "Float64"))
