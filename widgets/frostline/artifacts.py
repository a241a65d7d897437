"""What a run leaves behind, and the check of it: of content, not of existence.

Files are written to a temporary folder and moved into place when all of them are complete. `check` opens
every file and recomputes every reported accuracy and macro-F1 from predictions.parquet.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ValidationError

from frostline import report
from frostline.comparison import HEADINGS, METRICS, Comparison
from frostline.datasets import Dataset
from frostline.errors import ArtifactError
from frostline.settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
PREDICTIONS = "predictions.parquet"
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


def declared(strategies: Sequence[str]) -> tuple[str, ...]:
    """Files that a run of these strategies leaves, the manifest aside.

    Examples
    --------
    >>> "lora_embedding_umap.png" in declared(["pca_logistic"])
    False
    """
    files = [
        "report.md",
        "report.csv",
        "strategy_metrics.csv",
        PREDICTIONS,
        "best_strategy_confusion_matrix.png",
    ]
    if {"frozen_probe", "head"} & set(strategies):
        files.append("frozen_embedding_umap.png")
    if "lora" in strategies:
        files.append("lora_embedding_umap.png")
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
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{run.folder.name}-", dir=run.folder.parent))
    try:
        _write_files(staging, comparison)
        _write_manifest(staging, run, comparison, dataset)
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
    comparison.predictions().to_parquet(folder / PREDICTIONS, index=False)
    comparison.leaderboard().to_csv(folder / "report.csv", index=False, na_rep="NA")
    comparison.metrics().to_csv(folder / "strategy_metrics.csv", index=False, na_rep="NA")
    (folder / "report.md").write_text(report.report_markdown(comparison), encoding="utf-8")
    figures = {"best_strategy_confusion_matrix.png": report.confusion_figure(comparison, comparison.best)}
    frozen = next((name for name in ("frozen_probe", "head") if name in comparison.strategies), None)
    if frozen is not None:
        figures["frozen_embedding_umap.png"] = report.umap_figure(comparison, frozen)
    if "lora" in comparison.strategies:
        figures["lora_embedding_umap.png"] = report.umap_figure(comparison, "lora")
    for name, figure in figures.items():
        (folder / name).write_bytes(report.png(figure))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _write_manifest(folder: Path, run: Run, comparison: Comparison, dataset: Dataset) -> None:
    from frostline.checkpoints import load_checkpoint

    files = sorted(folder.iterdir())
    content = {
        "format": 1,
        "tutorial": run.tutorial,
        "started": run.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": run.settings.model_dump(),
        "seed": run.settings.seed,
        "strategies": list(comparison.strategies),
        "repeats": list(comparison.repeats),
        "dataset": {
            "name": dataset.name,
            "label_key": dataset.label_key,
            "values": dataset.values,
            "cells": len(dataset),
            "genes": len(dataset.genes),
            "sha256": dataset.fingerprint(),
        },
        "notebook": {"name": f"{run.tutorial}.ipynb", "sha256": run.notebook_sha256},
        "checkpoint": {
            "name": run.settings.checkpoint,
            "weights_sha256": load_checkpoint(run.settings.checkpoint).weights_sha256,
        },
        "splits": {str(r.repeat): r.fingerprint for r in comparison.records},
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

    The files are exactly those declared, each with the sha256 of the manifest; all of them open; every
    accuracy and macro-F1 in a table or report equals the one recomputed from predictions.parquet.

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
    expected = set(declared(manifest["strategies"]))
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
            result.problems += [f"{name}: {problem}" for problem in _picture_problems(folder / name)]
    if PREDICTIONS in expected & present:
        _check_numbers(folder, manifest, present, result)
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


def _picture_problems(path: Path) -> list[str]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            size, colours = image.size, image.convert("RGB").getcolors(maxcolors=1_000_000)
            kind = image.format
    except (OSError, SyntaxError, ValueError) as error:
        return [f"is no readable picture ({error})"]
    problems = [] if kind == "PNG" else [f"is {kind}, not PNG"]
    if min(size) < 200:
        problems.append(f"is only {size[0]} x {size[1]} pixels")
    if colours is not None and len(colours) < 2:
        problems.append("is blank")
    return problems


def _check_numbers(folder: Path, manifest: dict[str, Any], present: set[str], result: CheckResult) -> None:
    import pandas as pd

    try:
        predictions = pd.read_parquet(folder / PREDICTIONS)
    except (OSError, ValueError) as error:
        result.problems.append(f"{PREDICTIONS}: cannot be read ({error})")
        return
    problems = _prediction_problems(predictions, manifest)
    result.problems += [f"{PREDICTIONS}: {problem}" for problem in problems]
    if problems:
        return
    truth = recompute(predictions)
    if {"report.md", "report.csv"} <= present:
        _check_words(folder, predictions, result)
    for name, reader in (
        ("strategy_metrics.csv", _metrics_rows),
        ("report.csv", _report_rows),
        ("report.md", _markdown_rows),
    ):
        if name in present:
            try:
                rows = reader(folder / name)
                _compare_rows(name, rows, truth, result)
            except (ValueError, KeyError, OSError) as error:
                result.problems.append(f"{name}: cannot be read as the table it should be ({error})")


def _prediction_problems(predictions: pd.DataFrame, manifest: dict[str, Any]) -> list[str]:
    columns = ["cell", "label", "strategy", "repeat", "predicted"]
    if list(predictions.columns[:5]) != columns:
        return [f"columns are {list(predictions.columns[:5])}, not {columns}"]
    probabilities = predictions.iloc[:, 5:]
    classes = np.array([str(name).removeprefix("p_") for name in probabilities.columns])
    try:
        values = probabilities.to_numpy(dtype=float)
    except ValueError as error:
        return [f"a probability is no number ({error})"]
    problems = []
    if not len(predictions):
        return ["is empty"]
    if not np.isfinite(values).all() or (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-6):
        problems.append("probabilities are not all finite, positive and of sum 1")
    elif (classes[values.argmax(axis=1)] != predictions["predicted"].to_numpy()).any():
        problems.append("a predicted class is not the most probable one")
    if set(predictions["strategy"]) != set(manifest["strategies"]):
        problems.append(f"strategies are {sorted(set(predictions['strategy']))}, not {sorted(manifest['strategies'])}")
    if set(predictions["repeat"]) != set(manifest["repeats"]):
        problems.append(f"repeats are {sorted(set(predictions['repeat']))}, not {sorted(manifest['repeats'])}")
    for repeat, rows in predictions.groupby("repeat"):
        grounds = {tuple(zip(part["cell"], part["label"], strict=True)) for _, part in rows.groupby("strategy")}
        if len(grounds) > 1:
            problems.append(f"strategies of repeat {repeat} were not tested on the same cells and labels")
        if len(rows) != len(set(zip(rows["cell"], rows["strategy"], strict=True))):
            problems.append(f"a cell appears twice in repeat {repeat}")
    return problems


def recompute(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and macro-F1 of every strategy and repeat, from the predictions alone.

    Returns
    -------
    DataFrame
        Indexed by (strategy, repeat), columns accuracy, macro_f1 and n_test. Written with plain counts, apart from
        the code that computed the numbers in the first place.
    """
    import pandas as pd

    rows = {}
    for key, part in predictions.groupby(["strategy", "repeat"]):
        label, predicted = part["label"].to_numpy(), part["predicted"].to_numpy()
        f1 = []
        for name in np.unique(label):
            hits = int(((label == name) & (predicted == name)).sum())
            f1.append(2 * hits / int((label == name).sum() + (predicted == name).sum()))
        rows[key] = {
            "accuracy": float((label == predicted).mean()),
            "macro_f1": float(np.mean(f1)),
            "n_test": float(len(part)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["strategy", "repeat"])


Rows = list[tuple[str, int | None, dict[str, float], float]]
"""(strategy, repeat or None for the mean, the numbers stated, their rounding) of each row of a table."""


def _check_words(folder: Path, predictions: pd.DataFrame, result: CheckResult) -> None:
    """Hold the paragraph of report.md to the leaderboard beside it and to the predictions."""
    import pandas as pd

    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    parts = {str(name): part for name, part in first.groupby("strategy", sort=False)}
    labels = next(iter(parts.values()))["label"].tolist()
    predicted = {name: part["predicted"].tolist() for name, part in parts.items()}
    try:
        board = pd.read_csv(folder / "report.csv")
        wanted = report.reading_of(board, labels, predicted, predictions["repeat"].nunique())
        if wanted not in (folder / "report.md").read_text(encoding="utf-8").splitlines():
            result.problems.append(f"report.md: its reading is not what report.csv and the predictions give: {wanted}")
    except (ValueError, LookupError, OSError, TypeError) as error:
        result.problems.append(f"report.md: its reading cannot be held against report.csv ({error})")


def _metrics_rows(path: Path) -> Rows:
    import pandas as pd

    table = pd.read_csv(path)
    return [
        (str(row["strategy"]), int(row["repeat"]), {**_stated(row), "n_test": float(row["n_test"])}, 1e-9)
        for _, row in table.iterrows()
    ]


def _report_rows(path: Path) -> Rows:
    import pandas as pd

    return [(str(row["strategy"]), None, _stated(row), 1e-9) for _, row in pd.read_csv(path).iterrows()]


def _stated(row: Any) -> dict[str, float]:
    return {key: float(row[key]) for key in METRICS[:2]}


def _markdown_rows(path: Path) -> Rows:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    if len(cells) < 3:
        raise ValueError("there is no leaderboard")
    where = {key: cells[0].index(HEADINGS[key]) for key in ("strategy", *METRICS[:2])}
    return [
        (row[where["strategy"]], None, {key: float(row[where[key]]) for key in METRICS[:2]}, 5.1e-5)
        for row in cells[2:]
    ]


def _compare_rows(name: str, rows: Rows, truth: pd.DataFrame, result: CheckResult) -> None:
    means = truth.groupby(level="strategy").mean()
    wanted = set(truth.index) if name == "strategy_metrics.csv" else {(key, None) for key in means.index}
    found = [(strategy, repeat) for strategy, repeat, _, _ in rows]
    if set(found) != wanted or len(found) != len(wanted):
        result.problems.append(f"{name}: its rows are not exactly the strategies and repeats of the predictions")
        return
    for strategy, repeat, stated, tolerance in rows:
        actual = means.loc[strategy] if repeat is None else truth.loc[(strategy, repeat)]
        for key, value in stated.items():
            result.numbers += key in METRICS
            if not abs(value - actual[key]) <= tolerance:
                result.problems.append(
                    f"{name}: {key} of {strategy} is given as {value}, the predictions give {actual[key]:.6f}"
                )
    if name != "strategy_metrics.csv":
        order = [(-means.loc[s, "macro_f1"], -means.loc[s, "accuracy"]) for s, _ in found]
        if order != sorted(order):
            result.problems.append(f"{name}: its rows are not sorted by macro-F1, then accuracy")
