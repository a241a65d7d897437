"""Kept models of a few cells, made without a comparison."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import asdict

import numpy as np

from frostline.annotation.adapting import fit_all
from frostline.annotation.models import Model
from frostline.annotation.references import reference_of
from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.totals import is_scaled
from frostline.profiles import get_profile
from frostline.strategies import PcaLogistic, Strategy


def model_of(dataset: Dataset, strategy: Strategy, *, reference_cells: int = 200, profile=None) -> Model:
    """Model of a strategy on all cells of a data set."""
    profile = profile or get_profile("quickstart")
    made = fit_all(strategy, dataset, profile=profile, seed=42)
    card = {
        "dataset": {
            "name": dataset.name,
            "label_key": dataset.label_key,
            "group_key": dataset.group_key,
            "values": dataset.values_name,
            "scaled": is_scaled(dataset.matrix),
            "sha256": dataset.fingerprint(),
            "cells": len(dataset),
            "classes": dict(Counter(dataset.labels.tolist())),
        },
        "fit": {"profile": asdict(profile), "seed": 42, "kind": made.split.kind, "folds": 4},
        "metrics": {"macro_f1": None, "accuracy": None},
        "verdict": "Made without a comparison.",
        "notes": [],
        "checkpoint": None,
        "kept": "2026-01-01T00:00:00+00:00",
    }
    reference = reference_of(dataset, np.arange(len(dataset)), reference_cells, seed=42)
    ensembl = ("",) * len(dataset.genes)
    return Model(made.strategy, dataset.genes, ensembl, made.calibration, reference, card, made.found)


@functools.cache
def islets() -> Dataset:
    """The 175 pancreas cells of four donors, as counts of the 2,000 genes of most counts."""
    whole = load_dataset("pancreas")
    most = np.argsort(-np.asarray(whole.adata.X.sum(axis=0)).ravel())[:2_000]
    return load_dataset(whole.adata[:, np.sort(most)].copy(), "cell_type", group_key="donor", name="islets")


@functools.cache
def islet_model() -> Model:
    """Of ten components of 300 of their genes."""
    return model_of(islets(), PcaLogistic(n_hvg=300, n_components=10))
