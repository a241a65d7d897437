"""The card of a model: where it is from, as plain values that JSON holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from frostline.annotation.crossfitting import CrossFitted
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.cells.totals import is_scaled
from frostline.comparison.comparisons import Comparison
from frostline.comparison.verdicts import recommended
from frostline.encoder.checkpoints import Checkpoint
from frostline.evaluation.metrics import prediction_metrics
from frostline.strategies.base import Strategy

PACKAGES = (
    "frostline",
    "torch",
    "scikit-learn",
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "scanpy",
    "peft",
    "safetensors",
)


@dataclass(frozen=True)
class Origin:
    """What a card tells of."""

    strategy: Strategy
    """Fitted on all labelled cells."""
    dataset: Dataset
    split: Split
    """That it was fitted on."""
    found: CrossFitted
    comparison: Comparison
    name: str
    """Of the strategy, in the comparison."""


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a model predicts.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['anndata', 'frostline', 'numpy']
    """
    return {name: version(name) for name in PACKAGES}


def card_of(origin: Origin) -> dict[str, Any]:
    """Return the card of a model.

    Returns
    -------
    dict
        `dataset` (name, columns, cells, genes, classes with their cells, what was left out, sha256), `fit` (profile,
        seed, kind and number of folds, cells that trained and that decided when to stop), `metrics` of the cross-fitted
        predictions, `verdict`, `recommended`, `scores`, `checkpoint`, `notes`, `kept`.
    """
    strategy, cut, found = origin.strategy, origin.split, origin.found
    opened: Checkpoint | None = getattr(strategy, "opened_", None)
    metrics = prediction_metrics(found.labels.tolist(), found.probabilities, found.classes)
    return {
        "strategy": strategy.name,
        "chosen": {name: float(value) for name, value in strategy.chosen.items()},
        "dataset": _data(origin.dataset, found, cut),
        "fit": {
            "profile": asdict(cut.profile),
            "seed": cut.seed,
            "kind": cut.kind,
            "folds": int(found.folds.max()) + 1,
            "trained": len(cut.train),
            "aside": len(cut.validation),
        },
        "metrics": {name: None if value is None else float(value) for name, value in metrics.items()},
        "verdict": origin.comparison.verdict,
        "recommended": recommended(origin.comparison.evidence),
        "scores": {name: float(score) for name, score in origin.comparison.evidence.macro_f1.items()},
        "checkpoint": None if opened is None else {"name": opened.label, "weights_sha256": opened.weights_sha256},
        "notes": list(_notes(origin)),
        "kept": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(dataset: Dataset, found: CrossFitted, cut: Split) -> dict[str, Any]:
    names, counts = np.unique(found.labels, return_counts=True)
    return {
        "name": dataset.name,
        "label_key": dataset.label_key,
        "group_key": dataset.group_key,
        "values": dataset.values_name,
        "scaled": is_scaled(dataset.matrix),
        "cells": len(found.rows),
        "genes": len(dataset.genes),
        "groups": None if found.groups is None else len(np.unique(found.groups)),
        "classes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "left_out": dict(cut.left_out),
        "sha256": dataset.fingerprint(),
    }


def _notes(origin: Origin) -> Sequence[str]:
    """What must be said of the model."""
    name, cut = origin.name, origin.split
    notes = [*cut.notes, *(note for record in origin.comparison.of(name) for note in record.notes)]
    take = recommended(origin.comparison.evidence)
    if take is None:
        notes.insert(0, f"The verdict supports no choice yet; {name} was kept.")
    elif take != name:
        notes.insert(0, f"The verdict recommends {take}; {name} was kept, as was asked for.")
    if len(cut.validation):
        notes.append(
            f"{name} stops early: {len(cut.validation):,} of {len(cut.validation) + len(cut.train):,} labelled cells "
            "(15 % of each class) were kept aside to tell when."
        )
    return tuple(dict.fromkeys(notes))
