"""What a manifest says of a comparison; whether the records of a folder are of that, and of the splits they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from frostline.artifacts import archive
from frostline.artifacts.manifests import Manifest
from frostline.artifacts.pictures import MAPS
from frostline.comparison.comparisons import Comparison
from frostline.records import Record, fingerprint_of, kind_of
from frostline.settings import RunSettings

MAPPED = {kind for kinds in MAPS.values() for kind in kinds}
"""Strategies that classify from many dimensions, so that there is a map."""
FEWEST_MAPPED = 5
"""Test cells from which on there is a map."""


def studies(comparison: Comparison) -> list[str]:
    """Name what was measured in addition to the full evaluations."""
    found = {"label_efficiency": comparison.budget_records, "unknown_cells": comparison.unseen_records}
    return [name for name, records in found.items() if records]


def checkpoints(comparison: Comparison) -> dict[str, str]:
    """Label of every checkpoint that a strategy began from -> sha256 of its weights."""
    found = {str(r.parameters.get("checkpoint")): r.weights_sha256 for r in all_records(comparison)}
    return {name: digest for name, digest in sorted(found.items()) if digest is not None}


def all_records(comparison: Comparison) -> tuple[Record, ...]:
    """Records of the full evaluations and of every study."""
    return (*comparison.records, *comparison.budget_records, *comparison.unseen_records)


def facts(comparison: Comparison, settings: RunSettings) -> dict[str, Any]:
    """What the manifest says of a comparison; a panel may have run something else than its settings say."""
    first, used = comparison.records[0], checkpoints(comparison)
    ran = {
        "profile": first.profile,
        "label_key": first.label_key,
        "group_key": first.group_key or "",
        "split": first.split_kind,
        "checkpoint": ", ".join(used),
        "strategies": list(comparison.strategies),
        "seed": first.seed,
        "repeats": len(comparison.repeats),
    }
    return {
        "parameters": settings.model_copy(update=ran).model_dump(),
        "seed": first.seed,
        "strategies": list(comparison.strategies),
        "repeats": list(comparison.repeats),
        "studies": studies(comparison),
        "splits": {str(record.repeat): record.fingerprint for record in comparison.records},
        "checkpoints": used,
    }


def problems(comparison: Comparison, manifest: Manifest) -> list[str]:
    """Name everything in which records and manifest disagree, or a record with itself."""
    found = [
        f"{archive.RECORDS}: {name} are {seen}, the manifest says {wanted}"
        for name, seen, wanted in _pairs(comparison, manifest)
        if seen != wanted
    ]
    found += [f"manifest.json: {problem}" for problem in _size_problems(comparison, manifest)]
    for record in all_records(comparison):
        found += [f"{archive.RECORDS}: {named(record)}: {problem}" for problem in _own_problems(record)]
    return found


def named(record: Record) -> str:
    """Which record it is, in words."""
    text = f"{record.strategy}, repeat {record.repeat}"
    text += f", budget {record.budget}" if record.budget is not None else ""
    return text + (f", {record.unseen} withheld" if record.unseen is not None else "")


def _pairs(comparison: Comparison, manifest: Manifest) -> Iterator[tuple[str, object, object]]:
    """What is said of the whole run -> by the records, by the manifest."""
    records, first, said = all_records(comparison), comparison.records[0], manifest.parameters
    yield "strategies", sorted(comparison.strategies), sorted(manifest.strategies)
    yield "repeats", list(comparison.repeats), sorted(manifest.repeats)
    yield "seeds", sorted({record.seed for record in records}), [manifest.seed]
    yield "studies", studies(comparison), sorted(manifest.studies)
    yield "data sets", sorted({record.dataset for record in records}), [manifest.dataset.name]
    yield "label columns", sorted({record.label_key for record in records}), [manifest.dataset.label_key]
    yield "splits", {str(r.repeat): r.fingerprint for r in comparison.records}, manifest.splits
    if manifest.checkpoints is not None:
        yield "checkpoints", checkpoints(comparison), manifest.checkpoints
    if manifest.run is None:  # of a version that wrote what was asked for, not what was run
        return
    yield "profiles", first.profile, said.get("profile")
    yield "seeds", first.seed, said.get("seed")
    yield "label columns", first.label_key, said.get("label_key")
    yield "group columns", first.group_key or "", said.get("group_key")
    yield "kinds of split", first.split_kind, said.get("split")
    yield "numbers of repeats", len(comparison.repeats), said.get("repeats")
    yield "strategies", list(comparison.strategies), said.get("strategies")
    yield "checkpoints", ", ".join(checkpoints(comparison)), said.get("checkpoint")
    if manifest.dataset.sha256 is not None and None not in (data := {record.data_sha256 for record in records}):
        yield "data", sorted(map(str, data)), [manifest.dataset.sha256]


def _size_problems(comparison: Comparison, manifest: Manifest) -> Iterator[str]:
    """Whether the data set is at least as large as what was split of it, and the versions name what computed."""
    for record in comparison.records:
        split = sum(record.sizes.get(part, 0) for part in ("train", "validation", "test"))
        for what, size, least in (
            ("cells", manifest.dataset.cells, split),
            ("genes", manifest.dataset.genes, record.sizes.get("genes", 0)),
        ):
            if size is not None and size < least:
                yield f"the data set has {size} {what}, and {named(record)} is on {least}"
    if manifest.run is not None and (absent := {"python", "frostline"} - set(manifest.versions)):
        yield f"versions lack {', '.join(sorted(absent))}"


def _own_problems(record: Record) -> Iterator[str]:
    if fingerprint_of(record.cells, record.labels) != record.test_fingerprint:
        yield "the test cells and labels are not those of its fingerprint"
    if shared := set(record.cells) & set(record.validation_cells):
        yield f"{len(shared)} validation cells are test cells, such as {min(shared)}"
    if len(set(record.validation_cells)) < len(record.validation_cells):
        yield "a validation cell appears twice"
    if record.validation_cells and record.sizes.get("validation") != len(record.validation_cells):
        yield f"{record.sizes.get('validation')} validation cells, not {len(record.validation_cells)}"
    if record.sizes.get("test") != len(record.cells):
        yield f"{record.sizes.get('test')} test cells, not {len(record.cells)}"
    if other := {*record.labels, *record.validation_labels} - set(record.classes):
        yield f"label {min(other)} is none of its classes"
    if record.distances is not None and not (np.isfinite(record.distances) & (record.distances >= 0)).all():
        yield "a distance is negative or not finite"
    is_plain = record.budget is None and record.unseen is None
    if is_plain and record.umap is None and kind_of(record.strategy) in MAPPED and len(record.cells) >= FEWEST_MAPPED:
        yield f"its map is missing in {archive.UMAP}"
