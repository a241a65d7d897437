"""What a run leaves behind, and the check of it: of content, not of existence.

Files are written to a temporary folder and moved into place when all of them are complete. `check` opens
every file, recomputes every metric from the saved predictions and writes every table and sentence again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from frostline import archive, audits, clusters, figures
from frostline.clusters import Clusters
from frostline.comparison import Comparison
from frostline.datasets import Dataset
from frostline.errors import ArtifactError
from frostline.settings import RunSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST = "manifest.json"
EXPORT = "panel"
"""What stands for the tutorial where a comparison was exported by itself."""
CLUSTERS = "clusters"
"""The study that is of an embedding alone."""
TABLES = ("report.md", "report.csv", "strategy_metrics.csv", "class_metrics.csv", "paired_tests.csv")
PICTURES = ("best_strategy_confusion_matrix.png", "macro_f1_intervals.png", "reliability.png", "risk_coverage.png")
PACKAGES = (
    "frostline",
    "torch",
    "scanpy",
    "anndata",
    "scikit-learn",
    "numpy",
    "pandas",
    "peft",
    "umap-learn",
)


def declared(strategies: Sequence[str], studies: Sequence[str] = ()) -> tuple[str, ...]:
    """Files that a comparison of these strategies leaves, the manifest aside.

    Parameters
    ----------
    strategies
        Names.
    studies
        What was measured besides: `label_efficiency`, `unknown_cells`; `clusters` stands alone, without strategies.

    Examples
    --------
    >>> "lora_embedding_umap.png" in declared(["pca_logistic"])
    False
    """
    if CLUSTERS in studies:
        return tuple(sorted(clusters.FILES))
    files = [*TABLES, *archive.FILES, *PICTURES]
    if {"frozen_probe", "head"} & set(strategies):
        files.append("frozen_embedding_umap.png")
    if "lora" in strategies:
        files.append("lora_embedding_umap.png")
    for study in studies:
        files += [f"{study}.csv", f"{study}.png"]
    if studies:
        files.append(archive.STUDIES)
    return tuple(sorted(files))


@dataclass(frozen=True)
class Run:
    """A run that has begun: where its artifacts will go, and since when; made by `begin`."""

    settings: RunSettings
    folder: Path
    tutorial: str
    started: datetime
    notebook_sha256: str | None
    """Of the notebook's file; None when it is not where the kernel runs."""


def begin(settings: RunSettings, tutorial: str) -> Run:
    """Note the start of a run, and refuse a folder that it must not replace.

    Raises
    ------
    ArtifactError
        The folder exists and holds something other than artifacts.
    """
    folder = Path(settings.output_dir).resolve()
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"OUTPUT_DIR {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and _manifest_problems(folder / MANIFEST):
        raise ArtifactError(
            f"OUTPUT_DIR {folder} holds files but no {MANIFEST} of a run: it is no folder of artifacts, and would be "
            "replaced; name another one"
        )
    return Run(settings, folder, tutorial, datetime.now(UTC), _notebook_sha256(f"{tutorial}.ipynb"))


def _notebook_sha256(name: str) -> str | None:
    for path in (Path(name), Path("notebooks") / name):
        if path.is_file():
            return sha256(path)
    return None


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(run: Run, comparison: Comparison, dataset: Dataset) -> Path:
    """Write all artifacts of a run and move them into place.

    Returns
    -------
    Path
        The folder; whatever an earlier run left in it has been replaced.

    Raises
    ------
    ArtifactError
        The check of what was written fails; earlier artifacts stay as they were.
    """
    return _save(run, dataset, lambda folder: _write_files(folder, comparison), _facts(comparison))


def export(folder: str | Path, comparison: Comparison, dataset: Dataset | None = None) -> Path:
    """Write a comparison into a folder as `save` does, without the settings of a notebook.

    Parameters
    ----------
    folder
        New, empty, or of artifacts already, which are replaced.
    comparison
        As `compare` made it.
    dataset
        What it was made on; its sha256 goes into the manifest. None where it is not at hand.

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
    first = comparison.records[0]
    used = {str(r.parameters["checkpoint"]) for r in comparison.records if "checkpoint" in r.parameters}
    settings = RunSettings.model_construct(
        profile=first.profile,
        dataset=first.dataset,
        label_key=first.label_key,
        group_key=first.group_key or "",
        split=first.split_kind,
        checkpoint=", ".join(sorted(used)),
        strategies=list(comparison.strategies),
        seed=first.seed,
        repeats=len(comparison.repeats),
        output_dir=str(folder),
    )
    run = begin(settings, EXPORT)
    return _save(run, dataset, lambda staging: _write_files(staging, comparison), _facts(comparison))


def save_clusters(run: Run, found: Clusters, dataset: Dataset) -> Path:
    """Write all artifacts of a study of clusters and move them into place, as `save` does.

    Raises
    ------
    ArtifactError
        The check of what was written fails; earlier artifacts stay as they were.
    """
    facts = {"strategies": [], "repeats": [], "studies": [CLUSTERS], "splits": {}}
    return _save(run, dataset, lambda folder: clusters.write(folder, found, dataset.name), facts)


def _save(run: Run, dataset: Dataset | None, write: Callable[[Path], None], facts: Mapping[str, Any]) -> Path:
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{run.folder.name}-", dir=run.folder.parent))
    try:
        write(staging)
        _write_manifest(staging, run, dataset, facts)
        result = check(staging)
        if result.problems:
            raise ArtifactError("the artifacts just written fail their own check: " + "; ".join(result.problems))
        staging.chmod(0o755)
        _replace(run.folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return run.folder


def _replace(folder: Path, staging: Path) -> None:
    """Put the new folder in the place of the old one; the old one comes back when that fails."""
    if not folder.exists():
        os.replace(staging, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        os.replace(folder, aside / folder.name)
        try:
            os.replace(staging, folder)
        except BaseException:
            (aside / folder.name).rename(folder)
            raise
    finally:
        shutil.rmtree(aside)


def _write_files(folder: Path, comparison: Comparison) -> None:
    archive.write(folder, comparison)
    for name, text in audits.text_files(comparison).items():
        (folder / name).write_bytes(text.encode())
    source = sha256(folder / archive.PREDICTIONS)
    for name, figure in _pictures(comparison).items():
        (folder / name).write_bytes(figures.png(figure, Title=name, Source=source))


def _pictures(comparison: Comparison) -> dict[str, Figure]:
    drawn = {
        "best_strategy_confusion_matrix.png": figures.confusion_figure(comparison, comparison.best),
        "macro_f1_intervals.png": figures.interval_figure(comparison),
        "reliability.png": figures.reliability_figure(comparison),
        "risk_coverage.png": figures.risk_coverage_figure(comparison),
    }
    frozen = next((name for name in ("frozen_probe", "head") if name in comparison.strategies), None)
    if frozen is not None:
        drawn["frozen_embedding_umap.png"] = figures.umap_figure(comparison, frozen)
    if "lora" in comparison.strategies:
        drawn["lora_embedding_umap.png"] = figures.umap_figure(comparison, "lora")
    if comparison.budget_records:
        drawn["label_efficiency.png"] = figures.label_efficiency_figure(comparison)
    if comparison.unseen_records:
        drawn["unknown_cells.png"] = figures.unknown_cells_figure(comparison)
    return drawn


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _facts(comparison: Comparison) -> dict[str, Any]:
    return {
        "strategies": list(comparison.strategies),
        "repeats": list(comparison.repeats),
        "studies": audits.studies(comparison),
        "splits": {str(r.repeat): r.fingerprint for r in comparison.records},
    }


def _write_manifest(folder: Path, run: Run, dataset: Dataset | None, facts: Mapping[str, Any]) -> None:
    from frostline.checkpoints import load_checkpoint

    files = sorted(folder.iterdir())
    used = run.settings.used_checkpoint
    weights = load_checkpoint(used).weights_sha256 if used else None
    about: dict[str, Any] = {"name": run.settings.dataset, "label_key": run.settings.label_key}
    if dataset is not None:
        about = {
            "name": dataset.name,
            "label_key": dataset.label_key,
            "values": dataset.values,
            "cells": len(dataset),
            "genes": len(dataset.genes),
            "sha256": dataset.fingerprint(),
        }
    content = {
        "format": 1,
        "tutorial": run.tutorial,
        "started": run.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": run.settings.model_dump(),
        "seed": run.settings.seed,
        **facts,
        "dataset": about,
        "notebook": {"name": f"{run.tutorial}.ipynb", "sha256": run.notebook_sha256},
        "checkpoint": {
            "name": run.settings.checkpoint,
            "weights_sha256": weights,
        },
        "versions": versions(),
        "files": {file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in files},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@dataclass
class CheckResult:
    """What the check of a folder found."""

    files: int = 0
    """Files opened."""
    numbers: int = 0
    """Reported numbers recomputed from the predictions."""
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        if self.problems:
            return "failed: " + "; ".join(self.problems)
        return f"passed: {self.files} files opened, {self.numbers} numbers recomputed"


def check(folder: str | Path) -> CheckResult:
    """Check a folder of artifacts by its content.

    The files are exactly those declared, each with the sha256 of the manifest; all pictures open; every
    metric equals the one recomputed from the saved predictions, and every table and report what they give.

    Returns
    -------
    CheckResult
        With one sentence for everything that is wrong, naming the file.
    """
    folder, result = Path(folder), CheckResult()
    problems = _manifest_problems(folder / MANIFEST)
    result.problems += [f"{MANIFEST}: {problem}" for problem in problems]
    if problems:
        return result
    result.files += 1
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    expected = set(declared(manifest["strategies"], manifest["studies"]))
    present = {file.name for file in folder.iterdir()} - {MANIFEST}
    result.problems += [f"{name}: missing" for name in sorted(expected - present)]
    result.problems += [f"{name}: unexpected, no artifact of this run" for name in sorted(present - expected)]
    result.problems += [f"{name}: is no file" for name in sorted(expected & present) if not (folder / name).is_file()]
    present = {name for name in present if (folder / name).is_file()}
    for name in sorted(expected & present):
        result.files += 1
        recorded = manifest["files"].get(name, {}).get("sha256")
        if recorded != sha256(folder / name):
            result.problems.append(f"{name}: altered since the run (sha256 differs from the manifest)")
    for name in sorted(expected & present):
        if name.endswith(".png"):
            drawn_from = clusters.CELLS if CLUSTERS in manifest["studies"] else archive.PREDICTIONS
            source = manifest["files"].get(drawn_from, {}).get("sha256")
            result.problems += [f"{name}: {problem}" for problem in _picture_problems(folder / name, source)]
    if expected <= present:
        audit = clusters.problems if CLUSTERS in manifest["studies"] else audits.problems
        result.numbers, wrong = audit(folder, manifest)
        result.problems += wrong
    return result


class _File(BaseModel):
    sha256: str


class _Manifest(BaseModel):
    """What the check reads of a manifest."""

    tutorial: str
    started: AwareDatetime
    ended: AwareDatetime
    parameters: dict[str, Any]
    seed: int
    strategies: list[str]
    repeats: list[int]
    studies: list[str]
    dataset: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, _File]


def _manifest_problems(path: Path) -> list[str]:
    if not path.is_file():
        return [f"missing in {path.parent}"]
    try:
        manifest = _Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            return [f"no JSON object ({error.errors()[0]['msg']})"]
        return [
            f"lacks {e['loc'][0]}" if e["type"] == "missing" else f"{'.'.join(map(str, e['loc'])) or 'is'} {e['msg']}"
            for e in error.errors()
        ]
    return ["the run ended before it started"] if manifest.ended < manifest.started else []


def _picture_problems(path: Path, source: str | None) -> list[str]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            size, colours = image.size, image.convert("RGB").getcolors(maxcolors=1_000_000)
            kind, facts = image.format, image.info
    except (OSError, SyntaxError, ValueError) as error:
        return [f"is no readable picture ({error})"]
    problems = [] if kind == "PNG" else [f"is {kind}, not PNG"]
    if min(size) < 200:
        problems.append(f"is only {size[0]} x {size[1]} pixels")
    if colours is not None and len(colours) < 2:
        problems.append("is blank")
    if facts.get("Title") != path.name:
        problems.append(f"says that it is {facts.get('Title', 'nothing')}")
    if facts.get("Source") != source:
        problems.append("was drawn from other predictions")
    return problems
