"""A kept model and cells that it labelled: what a run leaves of them, and the check that the one gives the other.

The model is a ZIP of its folder: unpacked, `frostline.load_model` reads it. The cells carry their labels, and the table
repeats these beside the labels that were known; pictures show what the labels promise. The check loads the model,
annotates the cells once more and compares.
"""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import promises
from frostline.annotation.annotating import Annotation, annotate
from frostline.annotation.folders import load_model
from frostline.annotation.models import UNKNOWN, Model
from frostline.annotation.outputs import names_of
from frostline.annotation.reports import Report
from frostline.artifacts import archive, pictures
from frostline.artifacts.manifests import Manifest
from frostline.cells.saving import refuse_unwritable_cells
from frostline.errors import ArtifactError, FrostlineError
from frostline.escaping import for_markdown
from frostline.hashes import file_sha256

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

STUDY = "annotation"
MODEL, CELLS, TABLE, REPORT = "model.zip", "labelled.h5ad", "labels.csv", "labels.md"
PICTURES = dict(
    zip(
        ("promise_error.png", "promise_unknown.png", "promise_coarser.png", "promise_likeness.png"),
        promises.PROMISES,
        strict=True,
    )
)
"""Of what the labels promise, by the heading that each has."""
FILES = (MODEL, CELLS, TABLE, REPORT, *PICTURES)
"""What is left, beside the files of the comparison that the model is the winner of."""
KEY = "frostline"
OPTIONS = f"{KEY}_options"
"""Entry of uns that says from which layer, values and gene column the labels were made."""
TRUE = "true_label"
COLUMNS = ("cell", TRUE, "label", "confidence", "second", "set", "p_known", "reason")
MOST = 2**31
"""Bytes that a model may have when it is unpacked."""
WHEN = (1980, 1, 1, 0, 0, 0)
"""Date of everything in the ZIP, so that the same model gives the same bytes."""
TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class Labelled:
    """A model, and cells that it labelled under the key `frostline`."""

    model: bytes
    """ZIP of its folder."""
    cells: AnnData
    """With their labels; those that were known stand in obs["true_label"]."""
    annotation: Annotation | None = None
    """What was said when they were labelled; None where they were read from files."""

    @property
    def table(self) -> pd.DataFrame:
        """Columns cell, true_label (empty where it is not known), and what was found."""
        import pandas as pd

        obs = self.cells.obs
        found = obs[list(names_of(KEY)["obs"])].reset_index(drop=True)
        found.columns = pd.Index(COLUMNS[2:])
        found.insert(0, TRUE, _texts(obs[TRUE]) if TRUE in obs else np.full(len(obs), ""))
        found.insert(0, "cell", obs.index.astype(str))
        return found.astype({name: str for name in COLUMNS if name not in ("confidence", "p_known")})

    @property
    def report(self) -> Report:
        """What was said of the query."""
        return Report(self.cells.uns[KEY])

    @property
    def measured(self) -> dict[str, float]:
        """Cells, those with a label, those without a doubt, and which shares of these are right where that is known."""
        table = self.table
        labelled, sure = table["label"] != UNKNOWN, (table["label"] != UNKNOWN) & (table["reason"] == "")
        numbers: dict[str, float] = {"cells": len(table), "labelled": int(labelled.sum()), "sure": int(sure.sum())}
        known = table[TRUE] != ""
        if known.any():
            numbers["known"] = int(known.sum())
            right = (table["label"] == table[TRUE])[known]
            for name, some in (("labelled", labelled), ("sure", sure)):
                numbers[f"right of {name}"] = float(right[some].mean()) if (some & known).any() else float("nan")
        return numbers


def collect(model: Model, cells: AnnData, annotation: Annotation, true: Any = None) -> Labelled:
    """Take a model and the cells that it has just labelled under the key `frostline`.

    Parameters
    ----------
    model
        What labelled them.
    cells
        As `annotate` left them.
    annotation
        What `annotate` returned.
    true
        (n_cells,) labels that are known, empty or NaN for a cell of which it is not; None where there are none.

    Raises
    ------
    FrostlineError
        The cells have no such labels, others than the annotation, or what no file can hold.
    """
    cells = cells.to_memory() if cells.isbacked else cells.copy()
    absent = [name for name in names_of(KEY)["obs"] if name not in cells.obs]
    if absent:
        raise FrostlineError(f"the cells have no obs[{absent[0]!r}]; label them first: model.annotate(cells)")
    if annotation.key != KEY or not cells.obs[list(annotation.obs)].equals(annotation.obs):
        raise FrostlineError(f"the labels in obs[{KEY!r}] are others than the annotation has; label the cells again")
    if true is not None:
        cells.obs[TRUE] = _texts(true)
    cells.uns[OPTIONS] = dict(annotation.options)
    refuse_unwritable_cells(cells)
    return Labelled(_packed(model), cells, annotation)


def _texts(labels: Any) -> NDArray[np.object_]:
    """Labels as text, empty where one is missing."""
    import pandas as pd

    found = pd.Series(np.asarray(labels, dtype=object))
    texts: NDArray[np.object_] = found.astype(str).where(found.notna(), "").to_numpy(dtype=object)
    return texts


def _packed(model: Model) -> bytes:
    """ZIP of the folder of a model, the same for the same model."""
    content = io.BytesIO()
    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        folder = model.save(Path(place) / "model")
        for path in sorted(folder.iterdir()):
            packed.writestr(zipfile.ZipInfo(path.name, WHEN), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _unpack(content: bytes, folder: Path) -> None:
    """Write the files of a ZIP into a folder; refused where they would be many, large or elsewhere."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            entries = packed.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names) or any(name != Path(name).name or not name.strip(".") for name in names):
                raise ArtifactError(f"{MODEL}: holds something else than the files of a model")
            if sum(entry.file_size for entry in entries) > MOST:
                raise ArtifactError(f"{MODEL}: is too large to be unpacked")
            for name in names:
                (folder / name).write_bytes(packed.read(name))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{MODEL}: cannot be unpacked ({error})") from error


def loaded(content: bytes) -> Model:
    """Load the model of a ZIP.

    Raises
    ------
    ArtifactError
        It is damaged, or holds something else.
    ModelError
        As of `load_model`.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        _unpack(content, folder)
        return load_model(folder)


def write(folder: Path, found: Labelled, name: str, source: str) -> None:
    """Write all files into a folder.

    Parameters
    ----------
    folder, found, name
        Where, what `collect` returned, and what the data set is called.
    source
        sha256 that the pictures carry.
    """
    if found.annotation is None:
        raise ArtifactError("labelled cells that were read from files are not written again; label them, and collect")
    write_data(folder, found)
    data = _sha256(folder)
    for picture in PICTURES:
        content = _drawn(found.annotation, picture, source)
        (folder / picture).write_bytes(content)
        pictures.remember(data, picture, content)
    again = read(folder)
    (folder / TABLE).write_bytes(_table_text(again).encode())
    (folder / REPORT).write_text(report_markdown(again, name), encoding="utf-8")


def write_data(folder: Path, found: Labelled) -> None:
    """Write what cannot be made from the rest: model and cells."""
    (folder / MODEL).write_bytes(found.model)
    try:
        found.cells.write_h5ad(folder / CELLS)
    except BaseException:
        (folder / CELLS).unlink(missing_ok=True)  # half a file
        raise


def _drawn(annotation: Annotation, picture: str, source: str) -> bytes:
    _, draw = promises.PROMISES[PICTURES[picture]]
    found = annotation.calibration
    assert found is not None
    return pictures.rendered(lambda: draw(found, annotation.shift, annotation.p_known), picture, source)


def _sha256(folder: Path) -> str:
    """Of the model and the cells, from which the pictures follow."""
    return file_sha256(folder / MODEL) + file_sha256(folder / CELLS)


def read(folder: Path) -> Labelled:
    """Read what `write` wrote.

    Raises
    ------
    ArtifactError
        A file is missing or damaged, or the cells have no labels.
    """
    import anndata

    try:
        model, cells = (folder / MODEL).read_bytes(), anndata.read_h5ad(folder / CELLS)
    except Exception as error:  # whatever a damaged file makes h5py raise
        raise ArtifactError(f"{folder} holds no labelled cells that can be read: {error}") from error
    absent = [name for name in names_of(KEY)["obs"] if name not in cells.obs]
    if absent or KEY not in cells.uns:
        raise ArtifactError(f"{CELLS}: has no obs[{absent[0]!r}]" if absent else f"{CELLS}: has no report in uns")
    return Labelled(model, cells)


def _table_text(found: Labelled) -> str:
    return str(found.table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, float_format="%.6g", lineterminator="\n"))


def report_markdown(found: Labelled, name: str) -> str:
    """labels.md: what was measured, then what the report of the cells says."""
    lines = [f"- **{what}**: {for_markdown(text)}" for what, text in found.report.lines]
    counts = [f"- {for_markdown(row.label)}: {row.cells:,}" for row in found.report.labels.itertuples()]
    said = "\n\n".join(map(for_markdown, described(found)))
    parts = (
        f"# Labels from a model of {for_markdown(name)}",
        said,
        "\n".join(lines),
        "Cells of each label:",
        "\n".join(counts),
        *(f"## {heading}\n\n![{promises.PROMISES[heading][0]}]({name})" for name, heading in PICTURES.items()),
    )
    return "\n\n".join(parts) + "\n"


def described(found: Labelled) -> list[str]:
    """What was found in sentences: how many labels, how many are right where that is known, and what was stated."""
    measured = found.measured
    n, labelled, sure = (int(measured[name]) for name in ("cells", "labelled", "sure"))
    words = f"{labelled:,} of {n:,} cells got a label, {sure:,} of them without a doubt"
    if "right of sure" in measured:
        among = "" if measured["known"] == n else f"of the {int(measured['known']):,} whose label is known, "
        words += (
            f"; {among}right are {_percent(measured['right of labelled'])} of the labels, and "
            f"{_percent(measured['right of sure'])} of those without a doubt"
        )
    lines = dict(found.report.lines)
    return [f"{words}.", str(lines["stated error"]), str(lines["like the training data?"])]


def _percent(share: float) -> str:
    return "NA" if np.isnan(share) else f"{100 * share:.1f} %"


def problems(folder: Path, manifest: Manifest, draws: bool = False) -> tuple[int, list[str]]:
    """Load the model, label the cells again, and hold the files to that and to each other.

    Parameters
    ----------
    folder, manifest
        What was written, and what it says of itself.
    draws
        Whether the pictures are drawn again, where the labels are the same to the last bit.

    Returns
    -------
    tuple
        How many numbers were recomputed, and a sentence for everything that is wrong.
    """
    try:
        found = read(folder)
        model = loaded(found.model)
    except FrostlineError as error:
        return 0, [str(error) if str(error).startswith((MODEL, CELLS)) else f"{MODEL}: {error}"]
    again = _annotated(model, found, manifest.parameters)
    wrong = [*_model_problems(model, manifest), *_label_problems(found, again)]
    for name, wanted in ((TABLE, _table_text(found)), (REPORT, report_markdown(found, manifest.dataset.name))):
        if (folder / name).read_bytes() != wanted.encode():
            wrong.append(f"{name}: is not what {CELLS} gives")
    listed = manifest.files.get(archive.PREDICTIONS)
    if draws and not wrong and listed is not None and again.obs.equals(found.cells.obs[list(again.obs)]):
        source = str(listed.sha256)
        wrong += pictures.redrawn_problems(folder, PICTURES, _sha256(folder), lambda name: _drawn(again, name, source))
    return 2 * len(found.cells) + len(found.measured), wrong


def _model_problems(model: Model, manifest: Manifest) -> list[str]:
    said = model.card["dataset"]
    pairs = (
        ("data set", said["name"], manifest.dataset.name),
        ("label column", said["label_key"], manifest.dataset.label_key),
        ("data", said["sha256"], manifest.dataset.sha256),
    )
    wrong = [f"{MODEL}: its {what} is {a}, the manifest says {b}" for what, a, b in pairs if a != b]
    if model.strategy.name not in manifest.strategies:
        wrong.append(f"{MODEL}: its strategy {model.strategy.name} is none that was compared")
    return wrong


def _annotated(model: Model, found: Labelled, parameters: Mapping[str, Any]) -> Annotation:
    """Label the cells again."""
    cells, names = found.cells.copy(), names_of(KEY)
    cells.obs = cells.obs.drop(columns=list(names["obs"]))
    for name in names["obsm"]:
        cells.obsm.pop(name, None)
    cells.uns.pop(KEY)
    given = cells.uns.get(OPTIONS, parameters)  # those of the training data in files of earlier versions
    layer, values, gene_column = (given.get(name) or None for name in ("layer", "values", "gene_column"))
    return annotate(model, cells, KEY, layer=layer, values=values, gene_column=gene_column)


def _label_problems(found: Labelled, again: Annotation) -> list[str]:
    """Whether the model gives the cells the labels that they carry."""
    wrong = []
    for name in names_of(KEY)["obs"]:
        seen, wanted = found.cells.obs[name], again.obs[name]
        if name.endswith(("_confidence", "_p_known")):
            same = np.allclose(seen.to_numpy(float), wanted.to_numpy(float), atol=TOLERANCE, rtol=0, equal_nan=True)
        else:
            same = seen.astype(str).tolist() == wanted.astype(str).tolist()
        if not same:
            wrong.append(f"{CELLS}: obs[{name!r}] is not what {MODEL} gives these cells")
    return wrong
