"""Records: what one strategy did on one split with one seed, the only thing that is ever saved.

Tables, figures, reports and panels are drawn from records; nothing recomputes a number that a record holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEVERITIES = ("error", "warning", "note")
_ARRAYS = ("probabilities", "umap", "validation_probabilities", "distances")
_TUPLES = (
    "classes",
    "cells",
    "labels",
    "history",
    "notes",
    "groups",
    "untrained",
    "validation_cells",
    "validation_labels",
    "validation_groups",
)


@dataclass(frozen=True)
class Finding:
    """What a named check found about a data set, a split or a checkpoint."""

    code: str
    """Name of the check, such as `shared-group`."""
    severity: str
    """`error`, `warning` or `note`."""
    title: str
    """What was found, in one line."""
    explanation: str
    """Why it matters to a reader of the results."""
    remedy: str
    """What to do about it."""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is none of {', '.join(SEVERITIES)}")


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
    peak_memory: int | None = None
    """Bytes above what was in use before the strategy began; None where it cannot be measured."""
    saved_bytes: int | None = None
    """Bytes that the fitted strategy takes on disk."""
    device_memory: int | None = None
    """Bytes on the GPU, measured like those of the host; None where the strategy computes on none."""

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
    searched: str = ""
    """What was tried to choose hyper-parameters, or the moment to stop."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """Hyper-parameters that the search chose, by name."""
    split_kind: str = "stratified"
    """`stratified`, `group` or `cross`."""
    group_key: str | None = None
    """Column of the groups (donors, batches, studies); None without groups."""
    groups: tuple[str, ...] | None = None
    """Group of each test cell; None without groups."""
    untrained: tuple[str, ...] = ()
    """Classes that have test cells and no training cell: every strategy errs on them."""
    validation_cells: tuple[str, ...] = ()
    """Ids of the validation cells."""
    validation_labels: tuple[str, ...] = ()
    """Their true labels."""
    validation_probabilities: NDArray[np.float64] | None = None
    """(n_validation, n_classes), rows sum to 1; temperature, thresholds and sets are chosen on them."""
    validation_groups: tuple[str, ...] | None = None
    """Group of each validation cell; None without groups, and in records of earlier versions."""
    findings: tuple[Finding, ...] = ()
    """What the checks of data set, split and checkpoint found before the training."""
    budget: int | None = None
    """Labelled cells per class that fitting was allowed, validation included; None for all."""
    unseen: str | None = None
    """Class that was withheld from fitting to measure how its cells stand out; None for none."""
    distances: NDArray[np.float64] | None = None
    """(n_test,) distance of each test cell to the training cells in the strategy's representation."""
    training_fingerprint: str | None = None
    """Of the training and validation cells, their labels and the genes in use; None in records of earlier versions."""
    weights_sha256: str | None = None
    """Of the checkpoint; None without one, and in records of earlier versions."""
    data_sha256: str | None = None
    """Of the data set: cells, labels, genes, values; None in records of earlier versions."""
    n_train_groups: int | None = None
    """Groups that trained; None without groups, and in records of earlier versions."""
    genes_read: int | None = None
    """Genes that the strategy reads; None where it reads none, and in records of earlier versions."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Classes that no part of the split holds, and their cells; empty in records of earlier versions."""

    def __post_init__(self) -> None:
        _refuse_misfit("test", self.cells, self.labels, self.classes, self.probabilities)
        if self.validation_probabilities is not None:
            _refuse_misfit(
                "validation",
                self.validation_cells,
                self.validation_labels,
                self.classes,
                self.validation_probabilities,
            )
        for name, values, cells in (
            ("groups", self.groups, self.cells),
            ("distances", self.distances, self.cells),
            ("validation groups", self.validation_groups, self.validation_cells),
        ):
            if values is not None and len(values) != len(cells):
                raise ValueError(f"{len(values)} {name} for {len(cells)} cells")

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable class of each test cell; the first of equals."""
        return tuple(self.classes[i] for i in self.probabilities.argmax(axis=1))

    def to_json(self, *, without: Collection[str] = ()) -> str:
        """Write the record as JSON, every number to the last bit.

        Parameters
        ----------
        without
            Fields that are left out; `from_json` wants them all.

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
        content = {key: value for key, value in vars(self).items() if key not in without}
        for key in _ARRAYS:
            if content.get(key) is not None:
                content[key] = content[key].tolist()
        content["cost"] = dict(vars(self.cost))
        content["findings"] = [dict(vars(finding)) for finding in self.findings]
        return json.dumps(content, allow_nan=False, default=_plain)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote."""
        content = json.loads(text)
        for key in _ARRAYS:
            content[key] = None if content[key] is None else np.array(content[key], dtype=np.float64)
        content["cost"] = Cost(**content["cost"])
        content["findings"] = tuple(Finding(**finding) for finding in content["findings"])
        for key in _TUPLES:
            content[key] = None if content.get(key) is None else tuple(content[key])
        return cls(**content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


def kind_of(strategy: str) -> str:
    """Kind of a strategy, of whose name a key or a checkpoint may be a part.

    Examples
    --------
    >>> kind_of("frozen_probe@mini"), kind_of("probe_obsm:X_pca"), kind_of("lora")
    ('frozen_probe', 'probe_obsm', 'lora')
    """
    return re.split("[:@]", strategy, maxsplit=1)[0]


def fingerprint_of(cells: Iterable[str], labels: Iterable[str]) -> str:
    """Hash (sha256) of cells and their labels, in this order.

    Examples
    --------
    >>> fingerprint_of(["c1"], ["B"])[:8]
    '01e46818'
    """
    digest = hashlib.sha256()
    for cell, label in zip(cells, labels, strict=True):
        digest.update(f"{cell}\t{label}\n".encode())
    digest.update(b"\0")
    return digest.hexdigest()


def _refuse_misfit(
    part: str, cells: Sequence[str], labels: Sequence[str], classes: Sequence[str], found: NDArray[np.float64]
) -> None:
    shape = (len(cells), len(classes))
    if found.shape != shape:
        raise ValueError(f"{part} probabilities are {found.shape}, not {shape}")
    if len(labels) != len(cells):
        raise ValueError(f"{len(labels)} labels for {len(cells)} {part} cells")


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
