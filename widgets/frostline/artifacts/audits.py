"""Whether what a run says follows from what it saved: predictions, metrics, every table, every sentence.

Numbers are recomputed from the saved predictions with code of its own where that is short (`recompute`), the text
files are written again from the saved records and must be the same to the last character.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frostline.artifacts import archive, pictures, plans, texts
from frostline.artifacts.manifests import Manifest
from frostline.comparison.comparisons import Comparison
from frostline.errors import ArtifactError
from frostline.evaluation.metrics import REPRESENTED, chosen_metrics, prediction_metrics
from frostline.hashes import file_sha256
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
SHOWN = 160  # characters of a differing line


def problems(folder: Path, manifest: Manifest, draws: bool = False) -> tuple[int, list[str]]:
    """Hold a folder's numbers, words and pictures to its predictions, and its records to its manifest.

    Parameters
    ----------
    folder, manifest
        What was written, and what it says of itself.
    draws
        Whether pictures are drawn again, if nothing else is wrong.

    Returns
    -------
    tuple
        How many reported numbers were recomputed, and a sentence for everything that is wrong.
    """
    found: list[str] = []
    tables: dict[str, pd.DataFrame] = {}
    for name in (archive.PREDICTIONS, archive.VALIDATION, archive.STUDIES, archive.UMAP):
        if (folder / name).is_file():
            found += _read_problems(folder, name, tables)
    if found:
        return 0, found
    try:
        comparison = archive.read(folder)
    except ArtifactError as error:
        return 0, [str(error)]
    found += plans.problems(comparison, manifest)
    numbers, wrong = _metric_problems(comparison, tables[archive.PREDICTIONS])
    found += wrong
    for name in texts.names_of(plans.studies(comparison)):
        if (folder / name).is_file():
            found += _text_problems(name, (folder / name).read_bytes(), texts.text_of(comparison, name))
    if draws and not found:
        source = file_sha256(folder / archive.PREDICTIONS)
        names = pictures.names_of(manifest.strategies, manifest.studies)
        data = archive.data_sha256(folder)
        found += pictures.redrawn_problems(folder, names, data, lambda name: pictures.draw(comparison, name, source))
    return numbers, found


def _read_problems(folder: Path, name: str, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Read one table into `tables`; whatever a damaged file makes pandas or pyarrow raise is a problem of the file."""
    try:
        tables[name] = archive.read_table(folder / name)
        check = _map_problems if name == archive.UMAP else _table_problems
        return [f"{name}: {problem}" for problem in check(name, tables[name])]
    except Exception as error:
        return [f"{name}: cannot be read ({type(error).__name__}: {error})"]


def _map_problems(_name: str, table: pd.DataFrame) -> list[str]:
    columns = ["cell", "strategy", "repeat", "umap_1", "umap_2"]
    if list(table.columns) != columns:
        return [f"columns are {list(table.columns)}, not {columns}"]
    if not np.isfinite(table[["umap_1", "umap_2"]].to_numpy(dtype=float)).all():
        return ["a coordinate is missing or not finite"]
    return ["a cell appears twice"] if table.duplicated(["cell", "strategy", "repeat"]).any() else []


def _table_problems(name: str, table: pd.DataFrame) -> list[str]:
    import pandas as pd

    columns = ["cell", "label", "strategy", "repeat"]
    columns += ["budget", "unseen", "distance", "predicted"] if name == archive.STUDIES else ["predicted"]
    if list(table.columns[: len(columns)]) != columns:
        return [f"columns are {list(table.columns[: len(columns)])}, not {columns}"]
    if not len(table):
        return [] if name == archive.VALIDATION else ["is empty"]
    probabilities = table[[key for key in table.columns if str(key).startswith("p_")]]
    classes = np.array([str(key).removeprefix("p_") for key in probabilities.columns])
    if not classes.size or len(set(table.columns)) < len(table.columns):
        return ["has no column of probabilities, or one twice"]
    texts = table[["cell", "label", "strategy", "predicted"]]
    if not texts.map(lambda value: isinstance(value, str)).all(axis=None):
        return ["a cell, label, strategy or predicted class is missing or no text"]
    if not pd.api.types.is_integer_dtype(table["repeat"]) or table["repeat"].isna().any():
        return ["a repeat is no whole number"]
    try:
        values = probabilities.to_numpy(dtype=float)
    except ValueError as error:
        return [f"a probability is no number ({error})"]
    found = []
    if not np.isfinite(values).all() or (values < 0).any() or not np.allclose(values.sum(axis=1), 1.0, atol=1e-6):
        found.append("probabilities are not all finite, positive and of sum 1")
    elif (classes[values.argmax(axis=1)] != table["predicted"].to_numpy()).any():
        found.append("a predicted class is not the most probable one")
    if name != archive.STUDIES:
        found += _ground_problems(table)
    return found


def _ground_problems(table: pd.DataFrame) -> list[str]:
    found = []
    for repeat, rows in table.groupby("repeat"):
        grounds = {tuple(zip(part["cell"], part["label"], strict=True)) for _, part in rows.groupby("strategy")}
        if len(grounds) > 1:
            found.append(f"strategies of repeat {repeat} were not tested on the same cells and labels")
        if len(rows) != len(set(zip(rows["cell"], rows["strategy"], strict=True))):
            found.append(f"a cell appears twice in repeat {repeat}")
    return found


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


def _metric_problems(comparison: Comparison, predictions: pd.DataFrame) -> tuple[int, list[str]]:
    """Hold every metric of every record to its predictions; those of a representation to their range only."""
    plain, numbers, found = recompute(predictions), 0, []
    for record in plans.all_records(comparison):
        truth, which = _again(record), f"{archive.RECORDS}: {plans.named(record)}"
        if record.budget is None and record.unseen is None:
            counted = plain.loc[(record.strategy, record.repeat)]
            truth |= {"accuracy": float(counted["accuracy"]), "macro_f1": float(counted["macro_f1"])}
            if record.sizes["test"] != counted["n_test"]:
                found.append(f"{which}: {record.sizes['test']} test cells, not {counted['n_test']:.0f}")
        for key, value in record.metrics.items():
            if key in REPRESENTED:
                low = -1.0 if key == "silhouette" else 0.0
                wrong = value is not None and not low <= value <= 1.0
                actual: float | None = None
            else:
                numbers += 1
                actual = truth.get(key)
                wrong = (value is None) != (actual is None) or (
                    value is not None and actual is not None and not abs(value - actual) <= TOLERANCE
                )
            if wrong:
                found.append(f"{which}: {key} is given as {_say(value)}, the predictions give {_say(actual)}")
    return numbers, found


def _again(record: Record) -> dict[str, float | None]:
    truth = prediction_metrics(record.labels, record.probabilities, record.classes)
    if record.validation_probabilities is None:
        return truth
    return truth | chosen_metrics(
        record.labels,
        record.probabilities,
        record.validation_labels,
        record.validation_probabilities,
        record.classes,
        record.validation_groups,
    )


def _say(value: float | None) -> str:
    return "NA" if value is None else f"{value:.6f}"


def _text_problems(name: str, content: bytes, wanted: str) -> list[str]:
    """Name the first line that is not what the records give."""
    try:
        found = content.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name}: is no text"]
    if found == wanted:
        return []
    seen, expected = found.split("\n"), wanted.split("\n")
    for i, (a, b) in enumerate(zip(seen, expected, strict=False)):
        if a != b:
            return [f"{name}: line {i + 1} is {_cut(a, b)!r}, the saved records give {_cut(b, a)!r}"]
    return [f"{name}: has {len(seen)} lines, the saved records give {len(expected)}"]


def _cut(line: str, other: str) -> str:
    """Part of a long line around the place where it differs from another."""
    same = next((i for i, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), min(len(line), len(other)))
    start = max(0, same - SHOWN // 2)
    return line[start : start + SHOWN]
