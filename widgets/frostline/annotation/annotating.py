"""From a kept model and a query to labels, and what is to be thought of each.

A cell's label depends on the cell alone, and on what was decided once about its file: which genes it has, what its
values are, how deep it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Interval, Unit
from numpy.typing import NDArray

from frostline.annotation import novelty
from frostline.annotation.crossfitting import represented
from frostline.annotation.models import Calibration, Model
from frostline.annotation.outputs import Outputs, Spool, names_of, refuse_taken
from frostline.annotation.refitting import Reading, read_query
from frostline.annotation.reports import Report, facts_of
from frostline.annotation.shifts import MOST, Shift, compare
from frostline.bounds import Whole, hold
from frostline.cells.datasets import DATASETS, Dataset
from frostline.cells.queries import Query, open_cells
from frostline.cells.reading import expanded
from frostline.classes import over_all_classes
from frostline.errors import FrostlineError
from frostline.evaluation.calibration import scale
from frostline.monitor import Monitor

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

UNKNOWN = "Unknown"
REASONS = ("", "low confidence", "far from training", "too few genes")
SURE, LOW, FAR, FEW = range(4)
BETWEEN = " | "
"""Between the classes of a coarser answer."""
PIECE = 256
"""Cells that are annotated at once, and between two reports of progress."""
Chunk = Annotated[Whole, Interval(ge=1, le=10_000_000), Unit("cells")]


@dataclass(frozen=True)
class Landmarks:
    """Reference cells of a model, as it represents them for a query."""

    features: NDArray[np.floating] = field(repr=False)
    """(n_cells, d)."""
    labels: NDArray[np.str_] = field(repr=False)
    """(n_cells,) as they were given."""
    groups: NDArray[np.str_] | None = field(default=None, repr=False)
    """(n_cells,) donors, batches, studies; None without them."""


@dataclass(frozen=True)
class Annotation:
    """Labels of the cells of a query."""

    report: Report
    outputs: Outputs = field(repr=False)
    classes: tuple[str, ...]
    """Of the columns of `probabilities`."""
    source: Path | None = None
    """File that was read; None where the cells were in memory."""
    landmarks: Landmarks | None = None
    """Labelled cells to compare with; None where the model keeps none."""
    calibration: Calibration | None = field(default=None, repr=False)
    """What the confidence of the model meant for these cells; after a refit, that of the refit."""
    shift: Shift | None = field(default=None, repr=False)
    """Whether they differ from the labelled cells; None where the model keeps none."""

    @property
    def key(self) -> str:
        """Name of the columns."""
        return self.outputs.key

    @property
    def obs(self) -> pd.DataFrame:
        """(n_cells, 6) label, confidence, second label, set, p_known and reason of each cell."""
        return self.outputs.table

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(n_cells, n_classes) after temperature scaling; NaN where too few genes are expressed."""
        return self.outputs.probabilities.array()

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(n_cells, d) that the model classifies from, or its scores where that are genes; NaN as above."""
        return self.outputs.embedding.array()

    def save(self, output: str | Path) -> Path:
        """Write a copy of the file that was read, with the labels in it.

        Parameters
        ----------
        output
            An .h5ad file, which is replaced where it exists; not the one that was read.

        Raises
        ------
        FrostlineError
            The cells were in memory, the output is the file that was read, or cannot be written.
        """
        path = expanded(output)
        if self.source is None:
            raise FrostlineError(
                "these cells were in memory: an AnnData has the labels now, write that (adata.write_h5ad(...)); for a "
                "labelled copy of a file annotate its path"
            )
        if path.exists() and path.samefile(self.source):
            raise FrostlineError(f"{path} is the file that was read: choose another name")
        self.outputs.save(self.source, path)
        return path

    def __len__(self) -> int:
        return len(self.obs)

    def __str__(self) -> str:
        return str(self.report)

    def _repr_html_(self) -> str:
        from frostline.annotation.views import promises_html  # by the door: views are of annotations

        return self.report._repr_html_() + promises_html(self)


def annotate(
    model: Model,
    query: str | Path | AnnData | Dataset,
    key: str = "frostline",
    *,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    chunk: int = 256,
    overwrite: bool = False,
    monitor: Monitor | None = None,
) -> Annotation:
    """Label cells with a kept model, and say which are unknown, of which the label is unsure, and why.

    An AnnData gets the labels in place; of a file a labelled copy is written with `Annotation.save`. Under `key` stand
    in obs: the label, or "Unknown" where the cell is unlike the labelled ones or expresses too few genes;
    `_confidence`, `_second` (the next label), `_set` (the label where it is safe, else several, else "Unknown"),
    `_p_known` (how often a known cell is as strange) and `_reason`; in obsm `X_` + key and `_probabilities`; in uns
    the report.

    Parameters
    ----------
    model
        What `adapt` or `load_model` returned.
    query
        Cells, labelled or not: an AnnData, the path of an .h5ad file, or a data set. A file is read in runs of cells.
    key
        Name of the columns.
    layer, values, gene_column
        As for `load_dataset`.
    chunk
        Cells that are read at once; the result does not depend on it.
    overwrite
        Whether what stands under the key may be replaced.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`; nothing is written then.

    Raises
    ------
    DatasetError
        As of `load_cells`; too few genes are those of the model, or of another species; the model must be fitted again
        and has no reference cells; something stands under the key already.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> model = frostline.annotation.keep(frostline.compare([record]), pbmc)
    >>> query = pbmc.adata.raw.to_adata()
    >>> annotate(model, query).classes == model.classes, list(query.obs)[-6:][:2]
    (True, ['frostline', 'frostline_confidence'])
    """
    from anndata import AnnData

    chunk, monitor = hold(Chunk, "chunk", chunk), monitor or Monitor()
    path = _file_of(query)
    refuse_taken(query if path is None else path, key, overwrite=overwrite)
    with open_cells(query, layer=layer, values=values, gene_column=gene_column) as cells:
        monitor.step(0.0, "genes and values")
        reading = read_query(model, cells, monitor.part(0.0, 0.2, "fitting again: "))
        found = _Found.of(reading, cells, chunk, in_file=path is not None, monitor=monitor.part(0.2, 0.95))
        monitor.step(0.95, "comparing with the reference cells")
        landmarks = _landmarks(reading)
        shift = found.shift(landmarks)
        facts = facts_of(model, cells, reading, shift, found.summary(model.calibration.alpha))
    outputs = found.outputs(key, cells, facts)
    if isinstance(query, AnnData):
        outputs.write(query)
    monitor.progress(1.0, "done")  # it is too late to stop
    return Annotation(Report(facts), outputs, found.classes, path, landmarks, reading.calibration, shift)


def _landmarks(reading: Reading) -> Landmarks | None:
    known = reading.reference
    if known is None:
        return None
    some = np.unique(np.linspace(0, len(known) - 1, min(len(known), MOST)).astype(np.int64))
    groups = None if known.groups is None else known.groups[some]
    return Landmarks(represented(reading.strategy.outcome(known, some)), known.labels[some], groups)


def _file_of(query: str | Path | AnnData | Dataset) -> Path | None:
    if isinstance(query, Path) or (isinstance(query, str) and query not in DATASETS):
        return expanded(query)
    return None


@dataclass(frozen=True)
class _Found:
    """What was found of each cell, filled run by run."""

    classes: tuple[str, ...]
    embedding: Spool
    probabilities: Spool
    p_known: NDArray[np.float64]
    reasons: NDArray[np.int8]
    """(n_cells,) places in `REASONS`."""
    best: NDArray[np.int16]
    """(n_cells, 2) classes of the largest and the second largest probability; -1 where none was given."""
    confidence: NDArray[np.float64]
    sets: NDArray[np.int16]
    """(n_cells,) places in `answers`."""
    answers: dict[tuple[str, ...], int]
    watched: NDArray[np.int64]
    """Rows, evenly spread, that are compared with the reference cells."""
    seen: list[NDArray[np.floating]]
    """Representation of those, run by run."""

    @classmethod
    def of(cls, reading: Reading, query: Query, chunk: int, *, in_file: bool, monitor: Monitor) -> _Found:
        """Annotate all cells."""
        n, width = len(query), reading.calibration.centroids.means.shape[1]
        classes = reading.calibration.hierarchy.classes
        spool = Spool.on_disk if in_file else Spool
        found = cls(
            classes,
            spool(width),
            spool(len(classes)),
            np.full(n, np.nan),
            np.full(n, FEW, dtype=np.int8),
            np.full((n, 2), -1, dtype=np.int16),
            np.full(n, np.nan),
            np.zeros(n, dtype=np.int16),
            {classes: 0},
            np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(np.int64)) if n else np.empty(0, dtype=np.int64),
            [np.empty((0, width))],
        )
        for start, cells in query.chunks(chunk):
            mapped = reading.read(cells)
            features, p = np.full((len(cells), width), np.nan), np.full((len(cells), len(classes)), np.nan)
            for piece in _pieces(np.flatnonzero(reading.readable(mapped))):
                monitor.step((start + piece[0]) / n, f"{start + piece[0]:,} of {n:,} cells annotated")
                features[piece], p[piece] = found._fill(reading, mapped, piece, start)
            found.embedding.append(features)
            found.probabilities.append(p)
            here = found.watched[(found.watched >= start) & (found.watched < start + len(cells))]
            found.seen.append(features[here - start])
        return found

    def _fill(
        self, reading: Reading, cells: Dataset, rows: NDArray[np.int64], start: int
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Annotate some cells of a run that begins at `start`; return their representation and probabilities."""
        made, into, old = reading.strategy.outcome(cells, rows), start + rows, reading.calibration
        p = over_all_classes(scale(made.probabilities, old.temperature), reading.strategy.classes_, self.classes)
        features = represented(made)
        strange = novelty.energies(made.scores), old.centroids.distances(features)
        self.p_known[into] = novelty.p_known(old.energies, old.distances, *strange)
        self.best[into] = np.argsort(-p, axis=1, kind="stable")[:, :2]
        self.confidence[into] = p.max(axis=1)
        answers = old.hierarchy.answers(p, old.certificate.threshold)
        self.sets[into] = [self.answers.setdefault(answer, len(self.answers)) for answer in answers]
        least = -np.inf if old.certificate.threshold is None else old.certificate.threshold
        unsure = np.where(self.confidence[into] < least, LOW, SURE)
        self.reasons[into] = np.where(self.p_known[into] < old.alpha, FAR, unsure)
        return features, p

    def shift(self, known: Landmarks | None) -> Shift | None:
        """Whether the query differs from the reference cells; None where the model keeps none."""
        if known is None:
            return None
        annotated = self.reasons[self.watched] != FEW
        said = np.array(self.classes)[self.best[self.watched[annotated], 0]]
        query = np.concatenate(self.seen)[annotated]
        return compare(known.features, query, kinds=(known.labels, said), groups=known.groups)

    def labels(self) -> pd.Categorical:
        """(n_cells,) label, or Unknown."""
        unknown = self.reasons >= FAR
        return _named([*self.classes, UNKNOWN], np.where(unknown, len(self.classes), self.best[:, 0]))

    def summary(self, alpha: float) -> dict[str, Any]:
        """Cells of each label and each reason."""
        labels = self.labels().value_counts()
        reasons = np.bincount(self.reasons, minlength=len(REASONS))
        return {
            "alpha": alpha,
            "classes": list(self.classes),
            "labels": [str(name) for name in labels.index],
            "cells": [int(n) for n in labels],
            "reasons": dict(zip(REASONS[1:], map(int, reasons[1:]), strict=True)),
        }

    def outputs(self, key: str, query: Query, facts: dict[str, Any]) -> Outputs:
        """All of it, under a key."""
        import pandas as pd

        few, far = self.reasons == FEW, self.reasons >= FAR
        sets = [UNKNOWN if len(answer) == len(self.classes) else BETWEEN.join(answer) for answer in self.answers]
        columns = (
            self.labels(),
            self.confidence,
            _named([*self.classes, ""], np.where(few, len(self.classes), self.best[:, 1])),
            _named([*sets, UNKNOWN], np.where(far, len(sets), self.sets)),
            self.p_known,
            _named(REASONS, self.reasons),
        )
        table = pd.DataFrame(dict(zip(names_of(key)["obs"], columns, strict=True)), index=query.obs_names)
        return Outputs(key, table, self.probabilities, self.embedding, facts)


def _pieces(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), PIECE):
        yield rows[start : start + PIECE]


def _named(names: Any, places: NDArray[np.integer]) -> pd.Categorical:
    """Texts by place; names that stand twice become one, and unused ones are left out."""
    import pandas as pd

    unique = list(dict.fromkeys(names))
    codes = np.array([unique.index(name) for name in names])[places] if len(places) else np.empty(0, dtype=int)
    return pd.Categorical.from_codes(codes, categories=unique).remove_unused_categories()
