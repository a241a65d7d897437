"""What a run leaves behind, and the check of it: of content, not of existence.

Files are written to a temporary folder and moved into place when all of them are complete. `check` opens
every file, recomputes every metric from the saved predictions, writes every table and sentence and draws every
picture again. What a folder may hold to be replaced is in `frostline.artifacts.folders`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frostline.artifacts import folders, kinds, manifests, runs
from frostline.artifacts.checking import check, versions
from frostline.artifacts.clusters import Clusters
from frostline.artifacts.kinds import Kind, T
from frostline.artifacts.labelled import Labelled
from frostline.artifacts.manifests import MANIFEST, Manifest
from frostline.cells.datasets import Dataset
from frostline.comparison.comparisons import Comparison
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256
from frostline.scratch import scratch_folder
from frostline.settings import RunSettings

__all__ = [
    "MANIFEST",
    "Run",
    "begin",
    "export",
    "save",
    "save_annotation",
    "save_clusters",
]

EXPORT = "panel"
"""What stands for the tutorial where a comparison was exported by itself."""


@dataclass(frozen=True)
class Run:
    """A run that has begun: where its artifacts will go, and since when; made by `begin`."""

    id: str
    """32 hexadecimal digits; printed, and in the manifest."""
    settings: RunSettings
    folder: Path
    tutorial: str
    started: datetime
    notebook_sha256: str | None
    """Of the notebook's file; None when it is not where the kernel runs."""
    found: str | None = None
    """Hash of the manifest that was in the folder when it began."""


def begin(settings: RunSettings, tutorial: str) -> Run:
    """Note the start of a run, say which one it is, and try and hold the folder that it will write.

    The folder is held until `save`, or until this process ends: no other process can begin a run in it. It is
    replaced when it is empty or holds exactly what its manifest lists. Artifacts of another tutorial, data set, label
    column or profile are not lost then: they are kept beside it under another name.

    Raises
    ------
    ArtifactError
        The folder cannot be written, holds anything else, or another run is at work on it.
    """
    run, _ = _begin(settings, tutorial)
    print(runs.line_of(run.id, tutorial, run.started, settings.output_dir))
    return run


def _begin(settings: RunSettings, tutorial: str) -> tuple[Run, bool]:
    """Begin, and say whether the folder was not held by this process before."""
    folder = folders.whole_path(settings.output_dir)
    taken = folders.take(folder)
    digest, found = _notebook_sha256(f"{tutorial}.ipynb"), folders.state_of(folder)
    return Run(runs.new_run(), settings, folder, tutorial, datetime.now(UTC), digest, found), taken


def _notebook_sha256(name: str) -> str | None:
    if runs.SOURCE in os.environ:
        return os.environ[runs.SOURCE]
    for path in (Path(name), Path("notebooks") / name):
        if path.is_file():
            return file_sha256(path)
    return None


def save(run: Run, comparison: Comparison, dataset: Dataset) -> Path:
    """Write all artifacts of a run and move them into place.

    Returns
    -------
    Path
        The folder; what an earlier run left in it has been replaced, or is kept under another name, see `begin`. Its
        manifest has the parameters of what was run, also where these were changed in a panel after the run began.

    Raises
    ------
    ArtifactError
        Something could not be written, the check of what was written fails, or the folder holds something else by
        now. Earlier artifacts stay as they were; the message says where the results are.
    """
    run = replace(run, settings=run.settings.of_dataset(dataset))
    return _save(run, dataset, kinds.COMPARISON, comparison)


def export(folder: str | Path, comparison: Comparison, dataset: Dataset | None = None) -> Path:
    """Write a comparison into a folder as `save` does, without the settings of a notebook.

    Parameters
    ----------
    folder
        New, empty, or of artifacts already, which are replaced (those of another data set, label column or profile
        are kept under another name).
    comparison
        As `compare` made it.
    dataset
        What it was made on; its sha256 goes into the manifest. None where it is not at hand: its name and label
        column alone tell it from others then.

    Raises
    ------
    ArtifactError
        The folder holds something else, or the check of what was written fails.

    Examples
    --------
    >>> import tempfile, frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check(export(folder, frostline.compare([record]), pbmc)).passed
    True
    """
    settings = RunSettings.model_construct(dataset=comparison.records[0].dataset, output_dir=str(folder))
    run, taken = _begin(settings, EXPORT)
    try:
        return _save(run, dataset, kinds.COMPARISON, comparison)
    finally:
        if taken:
            runs.let_go(run.folder)


def save_clusters(run: Run, found: Clusters, dataset: Dataset) -> Path:
    """Write all artifacts of a study of clusters and move them into place, as `save` does.

    Raises
    ------
    ArtifactError
        As of `save`.
    """
    return _save(run, dataset, kinds.CLUSTERS, found)


def save_annotation(run: Run, comparison: Comparison, labelled: Labelled, dataset: Dataset) -> Path:
    """Write a comparison, a model of it and the cells that this labelled, and move them into place, as `save` does.

    Parameters
    ----------
    run, comparison, labelled
        What `begin`, `compare` and `labelled.collect` returned.
    dataset
        What was compared on, and what the model was made of.

    Raises
    ------
    ArtifactError
        As of `save`.
    """
    run = replace(run, settings=run.settings.of_dataset(dataset))
    return _save(run, dataset, kinds.ANNOTATION, (comparison, labelled))


def _save(run: Run, dataset: Dataset | None, kind: Kind[T], found: T) -> Path:
    """Write, check and move into place; what was computed is kept whenever that fails."""
    try:
        runs.hold(run.folder)  # by whoever saves again without a new beginning
        with scratch_folder(run.folder.parent) as staging:
            kind.write(staging, found, run.settings.dataset if dataset is None else dataset.name)
            _write_manifest(staging, run, dataset, kind.facts(found, run.settings))
            result = check(staging)
            if result.problems:
                raise ArtifactError("the artifacts just written fail their own check: " + "; ".join(result.problems))
            staging.chmod(0o755)
            _put_in_place(run, staging)
    except Exception as error:  # a full disk, a picture that cannot be drawn: none may cost what was computed
        raise _kept(run, lambda folder: kind.rescue(folder, found), kind.remedy, error) from error
    finally:
        runs.let_go(run.folder)
    return run.folder


def _put_in_place(run: Run, staging: Path) -> None:
    def is_expected(folder: Path) -> bool:
        return folders.state_of(folder) == run.found or manifests.read_manifest(folder).run == run.id

    new = manifests.read_manifest(staging)
    try:
        kept = folders.replace(run.folder, staging, is_expected, lambda old: _is_of_something_else(old, new))
    except (ArtifactError, OSError) as error:
        beside = folders.move_beside(staging, run.folder)
        raise _Beside(f"{error}. The new results are complete and checked, in {beside}") from error
    if kept is not None:
        # no path: what a notebook prints may be published, and a page must not name a folder of the machine
        print(f"{run.folder.name} held artifacts of something else; they are kept beside it, as {kept.name}")


class _Beside(ArtifactError):
    """The results are complete, under another name."""


def _is_of_something_else(old: Path, new: Manifest) -> bool:
    """Whether it is of another tutorial, data set, label column or profile: nobody asked to replace those.

    A name is that of many data sets (every AnnData is called so): where both are known, the sha256 decide.
    """
    if folders.state_of(old) is None:
        return False
    before = manifests.read_manifest(old)
    known = before.dataset.sha256 and new.dataset.sha256
    return _subject(before) != _subject(new) or bool(known and before.dataset.sha256 != new.dataset.sha256)


def _subject(manifest: Manifest) -> tuple[object, ...]:
    parameters = (manifest.parameters.get(name) for name in ("profile", "dataset", "test_dataset"))
    return (manifest.tutorial, manifest.dataset.name, manifest.dataset.label_key, *map(str, parameters))


def _kept(run: Run, rescue: Callable[[Path], None], remedy: str, error: Exception) -> ArtifactError:
    """What is raised when saving fails: why, and where the results are."""
    if isinstance(error, _Beside):
        return ArtifactError(str(error))
    said = str(error) if isinstance(error, ArtifactError) else f"{type(error).__name__}: {error}"
    said = f"{run.folder} was not written: {said}. Earlier artifacts are as they were"
    try:
        kept, lacking = folders.rescue(run.folder, rescue)
    except OSError as second:
        return ArtifactError(f"{said}. The results are nowhere but in this process, nothing could be written: {second}")
    if lacking is not None:
        there = ", ".join(path.name for path in sorted(kept.iterdir())) or "nothing"
        why = f"the rest could not be written ({type(lacking).__name__}: {lacking})"
        return ArtifactError(f"{said}. Of what was computed, {kept} holds {there}; {why}; read it with {remedy}")
    return ArtifactError(f"{said}. What was computed is in {kept}; read it with {remedy}")


def _write_manifest(folder: Path, run: Run, dataset: Dataset | None, facts: dict[str, Any]) -> None:
    files, parameters = sorted(folder.iterdir()), facts["parameters"]
    about: dict[str, Any] = {"name": parameters["dataset"], "label_key": parameters["label_key"]}
    if dataset is not None:
        about = {
            "name": dataset.name,
            "label_key": dataset.label_key,
            "values": dataset.values_name,
            "cells": len(dataset),
            "genes": len(dataset.genes),
            "sha256": dataset.fingerprint(),
        }
    ended = max(run.started, datetime.now(UTC))  # clocks are set back
    said = {
        "format": 1,
        "run": run.id,
        "tutorial": run.tutorial,
        "started": run.started.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        **facts,
        "dataset": about,
        "notebook": {"name": f"{run.tutorial}.ipynb", "sha256": run.notebook_sha256},
        "versions": versions(),
        "files": {file.name: {"sha256": file_sha256(file), "bytes": file.stat().st_size} for file in files},
    }
    (folder / MANIFEST).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
