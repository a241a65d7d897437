"""A Comparison on disk: one table for each kind of thing that is there once a cell, and one line a record.

Files: predictions.parquet, validation_predictions.parquet, umap.parquet, study_predictions.parquet (of records
with a budget or a withheld class) and records.jsonl, which holds everything else. Each number is there once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.comparison import Comparison, compare, long_predictions
from frostline.errors import ArtifactError
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.jsonl"
PREDICTIONS = "predictions.parquet"
VALIDATION = "validation_predictions.parquet"
UMAP = "umap.parquet"
STUDIES = "study_predictions.parquet"
FILES = (RECORDS, PREDICTIONS, VALIDATION, UMAP)
"""What every comparison leaves; STUDIES where there are any."""
_PER_CELL = (
    "cells",
    "labels",
    "groups",
    "probabilities",
    "umap",
    "distances",
    "validation_cells",
    "validation_labels",
    "validation_probabilities",
)


def write(folder: Path, comparison: Comparison) -> None:
    """Write a comparison into a folder.

    Examples
    --------
    >>> import tempfile, frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder), frostline.compare([record]))
    ...     read(Path(folder)).records[0] == record
    True
    """
    studies = (*comparison.budget_records, *comparison.unseen_records)
    lines = [_bare(record) for record in (*comparison.records, *studies)]
    (folder / RECORDS).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    comparison.predictions().to_parquet(folder / PREDICTIONS, index=False)
    _validation(comparison).to_parquet(folder / VALIDATION, index=False)
    _umap(comparison.records).to_parquet(folder / UMAP, index=False)
    if studies:
        _studies(studies, comparison.classes).to_parquet(folder / STUDIES, index=False)


def read(folder: Path) -> Comparison:
    """Read what `write` wrote, to the last bit.

    Raises
    ------
    ArtifactError
        A file is missing or damaged, or the files do not fit together.
    """
    import pandas as pd

    try:
        lines = (folder / RECORDS).read_text(encoding="utf-8").splitlines()
        contents: list[dict[str, Any]] = [json.loads(line) for line in lines]
        tables = {name: pd.read_parquet(folder / name) for name in (PREDICTIONS, VALIDATION, UMAP)}
        if any(_is_study(content) for content in contents):
            tables[STUDIES] = pd.read_parquet(folder / STUDIES)
        parts = {name: dict(tuple(table.groupby(_keys(name), dropna=False))) for name, table in tables.items()}
        records = [_whole(content, parts) for content in contents]
        left = {name: len(found) for name, found in parts.items() if found}
        if left:
            raise ValueError(f"predictions without a record in {', '.join(left)}")
        return compare(records)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no comparison that can be read: {error}") from error


def load_comparison(folder: str | Path) -> Comparison:
    """Load the comparison that a folder of artifacts holds.

    Raises
    ------
    ArtifactError
        A file is missing or damaged, or the files do not fit together.

    Examples
    --------
    >>> load_comparison("no-such-folder")
    Traceback (most recent call last):
    ...
    frostline.errors.ArtifactError: no-such-folder holds no comparison that can be read: ...
    """
    return read(Path(folder))


def _bare(record: Record) -> str:
    """Record as a line of JSON, without what is there once a cell."""
    content = json.loads(dataclasses.replace(record, umap=None, distances=None).to_json())
    return json.dumps({key: value for key, value in content.items() if key not in _PER_CELL}, allow_nan=False)


def _is_study(content: dict[str, Any]) -> bool:
    return content["budget"] is not None or content["unseen"] is not None


def _keys(name: str) -> list[str]:
    return ["strategy", "repeat", *(["budget", "unseen"] if name == STUDIES else [])]


def _validation(comparison: Comparison) -> pd.DataFrame:
    records = [
        dataclasses.replace(
            record,
            cells=record.validation_cells,
            labels=record.validation_labels,
            probabilities=record.validation_probabilities,
            groups=None,
            umap=None,
            distances=None,
        )
        for record in comparison.records
        if record.validation_probabilities is not None
    ]
    return long_predictions(records, comparison.classes) if records else comparison.predictions().iloc[:0]


def _umap(records: Sequence[Record]) -> pd.DataFrame:
    import pandas as pd

    columns = ["cell", "strategy", "repeat", "umap_1", "umap_2"]
    parts = [
        pd.DataFrame(
            {
                "cell": list(record.cells),
                "strategy": record.strategy,
                "repeat": record.repeat,
                "umap_1": record.umap[:, 0],
                "umap_2": record.umap[:, 1],
            }
        )
        for record in records
        if record.umap is not None
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _studies(records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    table = long_predictions(records, classes)
    sizes = [len(record.cells) for record in records]
    empty = [np.full(size, np.nan) for size in sizes]
    distances = [r.distances if r.distances is not None else blank for r, blank in zip(records, empty, strict=True)]
    table.insert(4, "budget", pd.array(np.repeat([_or_na(r.budget) for r in records], sizes), dtype="Int64"))
    table.insert(5, "unseen", pd.array(np.repeat([_or_na(r.unseen) for r in records], sizes), dtype="string"))
    table.insert(6, "distance", np.concatenate(distances))
    return table


def _or_na(value: Any) -> Any:
    import pandas as pd

    return pd.NA if value is None else value


def _whole(content: dict[str, Any], parts: dict[str, dict[Any, pd.DataFrame]]) -> Record:
    """Put a record together again, and take what was used out of `parts`."""
    key = (content["strategy"], content["repeat"])
    columns = [f"p_{name}" for name in content["classes"]]
    if _is_study(content):
        found = parts[STUDIES]
        wanted = (*key, content["budget"], content["unseen"])
        rows = found.pop(next(k for k in found if _same(k, wanted)))
    else:
        rows = parts[PREDICTIONS].pop(key)
        known, mapped = parts[VALIDATION].pop(key, None), parts[UMAP].pop(key, None)
        if known is not None:
            content["validation_cells"] = known["cell"].tolist()
            content["validation_labels"] = known["label"].tolist()
            content["validation_probabilities"] = known[columns].to_numpy(dtype=float).tolist()
        if mapped is not None:
            if mapped["cell"].tolist() != rows["cell"].tolist():
                raise ValueError(f"{UMAP} and {PREDICTIONS} are of different cells for {key}")
            content["umap"] = mapped[["umap_1", "umap_2"]].to_numpy().tolist()
    content["cells"], content["labels"] = rows["cell"].tolist(), rows["label"].tolist()
    content["probabilities"] = rows[columns].to_numpy(dtype=float).tolist()
    if "group" in rows and rows["group"].notna().all():
        content["groups"] = rows["group"].tolist()
    if content["unseen"] is not None:
        content["distances"] = rows["distance"].tolist()
    absent: dict[str, Any] = {"groups": None, "umap": None, "distances": None, "validation_probabilities": None}
    absent |= {"validation_cells": (), "validation_labels": ()}
    return Record.from_json(json.dumps({**absent, **content}))


def _same(key: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    import pandas as pd

    return all((pd.isna(a) and b is None) or (not pd.isna(a) and a == b) for a, b in zip(key, wanted, strict=True))
