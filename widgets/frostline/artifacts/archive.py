"""A Comparison on disk: one table for each kind of thing that is there once a cell, and one line a record.

Files: predictions.parquet, validation_predictions.parquet, umap.parquet, study_predictions.parquet (of records
with a budget or a withheld class) and records.jsonl, which holds everything else. Each number is there once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from frostline.comparison.comparisons import Comparison, compare
from frostline.comparison.record_tables import long_predictions
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256
from frostline.plain_files import Digest, expanded, is_plain_file, strict_json
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
    "validation_groups",
)


Count = Annotated[int, Field(ge=0, le=2**53)]
LARGEST = 500_000_000
"""Values of a table; what a file of some kilobytes can be made to unpack to ends here."""


class _Cost(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    seconds: dict[str, Annotated[FiniteFloat, Field(ge=0)]]
    trainable_parameters: Count
    total_parameters: Count
    peak_memory: Count | None
    saved_bytes: Count | None
    device_memory: Count | None = None  # runs from before have none


class _Sizes(BaseModel):
    model_config = ConfigDict(strict=True)

    train: Count
    validation: Count
    test: Count
    genes: Count


class _Finding(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    code: str
    severity: Literal["error", "warning", "note"]
    title: str
    explanation: str
    remedy: str


class _Line(BaseModel):
    """A line of the records: what each entry must be. Others are for `Record` to refuse."""

    model_config = ConfigDict(strict=True)

    strategy: str
    parameters: dict[str, Any]
    dataset: str
    label_key: str
    profile: str
    seed: int
    repeat: Count
    fingerprint: str
    test_fingerprint: str
    sizes: _Sizes
    classes: Annotated[list[str], Field(min_length=1)]
    metrics: dict[str, FiniteFloat | None]
    cost: _Cost
    history: list[dict[str, FiniteFloat]]
    notes: list[str]
    searched: str
    chosen: dict[str, FiniteFloat]
    split_kind: Literal["stratified", "group", "cross"]
    group_key: str | None
    untrained: list[str]
    findings: list[_Finding]
    budget: Annotated[int, Field(ge=1)] | None
    unseen: str | None
    training_fingerprint: Digest | None = None
    weights_sha256: Digest | None = None
    data_sha256: Digest | None = None
    n_train_groups: Count | None = None
    genes_read: Count | None = None
    left_out: dict[str, Count] = Field(default_factory=dict)


def data_sha256(folder: Path) -> str:
    """Hash of the files that hold a comparison: what every table, sentence and picture follows from."""
    digest = hashlib.sha256()
    for name in (*FILES, STUDIES):
        path = folder / name
        digest.update(f"{name}={file_sha256(path) if is_plain_file(path) else ''}\n".encode())
    return digest.hexdigest()


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
    lines = [record.to_json(without=_PER_CELL) for record in (*comparison.records, *studies)]
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
    try:
        contents = _read_lines(folder / RECORDS)
        tables = {name: read_table(folder / name) for name in (PREDICTIONS, VALIDATION, UMAP)}
        if any(_is_study(content) for content in contents):
            tables[STUDIES] = read_table(folder / STUDIES)
        parts = {name: dict(tuple(table.groupby(_keys(name), dropna=False))) for name, table in tables.items()}
        records = [_whole(content, parts) for content in contents]
        left = {name: len(found) for name, found in parts.items() if found}
        if left:
            raise ValueError(f"predictions without a record in {', '.join(left)}")
        return compare(records)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, StopIteration) as error:
        said = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError | OSError) else error
        raise ArtifactError(f"{folder} holds no comparison that can be read: {said}") from error


def _read_lines(path: Path) -> list[dict[str, Any]]:
    contents = []
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: is no text ({error})") from error
    for i, line in enumerate(lines, start=1):
        try:
            content = strict_json(line)
            _Line.model_validate(content)
        except ValidationError as error:
            said = (f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
            raise ValueError(f"{path.name}: line {i}: {'; '.join(said)}") from error
        except ValueError as error:
            raise ValueError(f"{path.name}: line {i}: {error}") from error
        contents.append(content)
    return contents


def read_table(path: Path) -> pd.DataFrame:
    """Read a table, unless it unpacks to more than any comparison holds.

    Raises
    ------
    OSError, ValueError
        It is no Parquet file, or too large.
    """
    import pandas as pd
    from pyarrow import parquet

    about = parquet.read_metadata(path)
    if about.num_rows * max(1, about.num_columns) > LARGEST:
        raise ValueError(f"{path.name} holds {about.num_rows:,} rows of {about.num_columns:,} columns")
    return pd.read_parquet(path)


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
    return read(expanded(folder))


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
            groups=record.validation_groups,
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
            content["validation_groups"] = _groups(known)
        if mapped is not None:
            if mapped["cell"].tolist() != rows["cell"].tolist():
                raise ValueError(f"{UMAP} and {PREDICTIONS} are of different cells for {key}")
            content["umap"] = mapped[["umap_1", "umap_2"]].to_numpy().tolist()
    content["cells"], content["labels"] = rows["cell"].tolist(), rows["label"].tolist()
    content["probabilities"] = rows[columns].to_numpy(dtype=float).tolist()
    content["groups"] = _groups(rows)
    if content["unseen"] is not None:
        content["distances"] = rows["distance"].tolist()
    absent: dict[str, Any] = {"umap": None, "distances": None, "validation_probabilities": None}
    absent |= {"validation_cells": (), "validation_labels": ()}
    return Record.from_json(json.dumps({**absent, **content}))


def _groups(rows: pd.DataFrame) -> list[str] | None:
    return rows["group"].tolist() if "group" in rows and rows["group"].notna().all() else None


def _same(key: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    import pandas as pd

    return all((pd.isna(a) and b is None) or (not pd.isna(a) and a == b) for a, b in zip(key, wanted, strict=True))
