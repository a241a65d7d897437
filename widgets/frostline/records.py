"""Records: what one strategy did on one split with one seed, the only thing that is ever saved.

Tables, figures, reports and panels are drawn from records; nothing recomputes a number that a record holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cost:
    """What a strategy would cost if it were run alone.

    An embedding that several strategies share is computed once and charged to each of them.
    """

    seconds: Mapping[str, float]
    """Seconds of `load` (the checkpoint), `embed`, `fit` and `predict`."""
    trainable_parameters: int
    """Numbers that the labels decide: weights, and the coefficients of a probe."""
    total_parameters: int
    """Trainable ones and those of the encoder."""

    @property
    def total_seconds(self) -> float:
        """Sum over all stages."""
        return float(sum(self.seconds.values()))


@dataclass(frozen=True)
class Record:
    """The outcome of one strategy on one split."""

    strategy: str
    parameters: Mapping[str, Any]
    """Hyper-parameters of the strategy."""
    dataset: str
    label_key: str
    profile: str
    seed: int
    repeat: int
    fingerprint: str
    """Of the whole split: cells, labels, parts."""
    test_fingerprint: str
    """Of the test cells and their labels: only records that share it can be compared."""
    sizes: Mapping[str, int]
    """Cells that `train`, `validation` and `test` hold, and `genes` in use."""
    classes: tuple[str, ...]
    cells: tuple[str, ...]
    """Ids of the test cells."""
    labels: tuple[str, ...]
    """Their true labels."""
    probabilities: NDArray[np.float64]
    """(n_test, n_classes), rows sum to 1."""
    metrics: Mapping[str, float | None]
    """None where a metric is undefined."""
    cost: Cost
    umap: NDArray[np.float64] | None = None
    """(n_test, 2) map of the representation that the strategy classifies from; None below 5 test cells."""
    history: tuple[Mapping[str, float], ...] = ()
    """One entry an epoch, for strategies that train."""
    notes: tuple[str, ...] = field(default=())
    """What a reader must know before believing the numbers."""

    def __post_init__(self) -> None:
        shape = (len(self.cells), len(self.classes))
        if self.probabilities.shape != shape:
            raise ValueError(f"probabilities are {self.probabilities.shape}, not {shape}")
        if len(self.labels) != len(self.cells):
            raise ValueError(f"{len(self.labels)} labels for {len(self.cells)} cells")

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable class of each test cell; the first of equals."""
        return tuple(self.classes[i] for i in self.probabilities.argmax(axis=1))

    def to_json(self) -> str:
        """Write the record as JSON, every number to the last bit.

        Examples
        --------
        >>> cost = Cost({"fit": 0.5}, 3, 3)
        >>> names = {"dataset": "d", "label_key": "l", "profile": "p", "fingerprint": "f", "test_fingerprint": "t"}
        >>> cells = {"classes": ("B", "T"), "cells": ("c1",), "labels": ("B",)}
        >>> record = Record(
        ...     "head", {}, seed=1, repeat=0, sizes={}, probabilities=np.array([[0.75, 0.25]]), metrics={}, cost=cost,
        ...     **names, **cells
        ... )
        >>> Record.from_json(record.to_json()) == record
        True
        """
        content = dict(vars(self))
        content["probabilities"] = self.probabilities.tolist()
        content["umap"] = None if self.umap is None else self.umap.tolist()
        content["cost"] = dict(vars(self.cost))
        return json.dumps(content, allow_nan=False, default=_plain)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote."""
        content = json.loads(text)
        content["probabilities"] = np.array(content["probabilities"], dtype=np.float64)
        content["umap"] = None if content["umap"] is None else np.array(content["umap"], dtype=np.float64)
        content["cost"] = Cost(**content["cost"])
        for key in ("classes", "cells", "labels", "history", "notes"):
            content[key] = tuple(content[key])
        return cls(**content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def save_records(records: list[Record], path: Path) -> None:
    """Write records, one a line (JSON lines)."""
    path.write_text("".join(record.to_json() + "\n" for record in records), encoding="utf-8")


def load_records(path: Path) -> list[Record]:
    """Read what `save_records` wrote."""
    return [Record.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
