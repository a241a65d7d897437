"""What a model says of each cell of a query: class, confidence, answer that is safe, how strange it is, and why.

A cell is computed together with the cells of its piece, 256 that follow each other in the query: the last bits of a
matrix product depend on what stands beside it. So the result depends neither on how many cells are read at once nor on
who reads which, as long as these are whole pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import novelty
from frostline.annotation.crossfitting import represented
from frostline.annotation.models import BETWEEN, UNKNOWN
from frostline.annotation.outputs import Outputs, Spool, names_of
from frostline.annotation.refitting import Reading
from frostline.annotation.shifts import MOST, Shift, compare
from frostline.cells.datasets import Dataset
from frostline.cells.queries import Query
from frostline.classes import over_all_classes
from frostline.evaluation.calibration import scale
from frostline.monitor import Monitor
from frostline.threads import one_blas_thread

if TYPE_CHECKING:
    import pandas as pd

REASONS = ("", "low confidence", "far from training", "too few genes")
SURE, LOW, FAR, FEW = range(4)
PIECE = 256
"""Cells that are computed together, and between two reports of progress."""


@dataclass(frozen=True)
class Landmarks:
    """Reference cells of a model, as it represents them for a query."""

    features: NDArray[np.floating] = field(repr=False)
    """(n_cells, d)."""
    labels: NDArray[np.str_] = field(repr=False)
    """(n_cells,) as they were given."""
    groups: NDArray[np.str_] | None = field(default=None, repr=False)
    """(n_cells,) donors, batches, studies; None without them."""


def landmarks_of(reading: Reading) -> Landmarks | None:
    """Some of the reference cells as the model represents them; None where it keeps none."""
    if reading.reference is None:
        return None
    known = reading.reference()
    some = watched_of(len(known))
    groups = None if known.groups is None else known.groups[some]
    return Landmarks(represented(reading.strategy.outcome(known, some)), known.labels[some], groups)


def watched_of(n: int) -> NDArray[np.int64]:
    """Rows, evenly spread over `n`, by which cells are compared with the reference cells."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(np.int64)) if n else np.empty(0, dtype=np.int64)


def width_of(reading: Reading) -> int:
    """Numbers by which a cell is represented."""
    return int(reading.calibration.centroids.means.shape[1])


@dataclass(frozen=True)
class Found:
    """What was found of each cell of a query, or of whole pieces of one, filled run by run."""

    classes: tuple[str, ...]
    embedding: Spool
    """(n_cells, d)."""
    probabilities: Spool
    """(n_cells, n_classes)."""
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
    """Rows that are compared with the reference cells."""
    seen: NDArray[np.float64] = field(repr=False)
    """(n_watched, d) representation of those."""

    @classmethod
    def of(
        cls,
        reading: Reading,
        query: Query,
        watched: NDArray[np.int64],
        spool: Callable[[int], Spool] = Spool,
        chunk: int = PIECE,
        monitor: Monitor | None = None,
    ) -> Found:
        """Annotate all cells of a query, so many at once, rounded up to whole pieces; `spool` makes tables by width."""
        n, width, monitor = len(query), width_of(reading), monitor or Monitor()
        classes = reading.calibration.hierarchy.classes
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
            watched,
            np.empty((len(watched), width)),
        )
        with one_blas_thread():  # how a product is divided decides its last bits, too
            for start, cells in query.chunks(-(-chunk // PIECE) * PIECE):
                mapped = reading.read(cells)
                del cells  # in its own genes, while an encoder reads those that it shares with the model
                features, p = np.full((len(mapped), width), np.nan), np.full((len(mapped), len(classes)), np.nan)
                for piece in _pieces(np.flatnonzero(reading.readable(mapped))):
                    monitor.step((start + piece[0]) / n, f"{start + piece[0]:,} of {n:,} cells annotated")
                    features[piece], p[piece] = found._fill(reading, mapped, piece, start)
                found.embedding.append(features)
                found.probabilities.append(p)
                here = (watched >= start) & (watched < start + len(mapped))
                found.seen[here] = features[watched[here] - start]
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

    @property
    def watch(self) -> dict[str, NDArray[Any]]:
        """Of the watched rows what `shift_of` needs."""
        rows = self.watched
        return {"features": self.seen, "reasons": self.reasons[rows], "best": self.best[rows, 0]}

    @property
    def places(self) -> dict[str, NDArray[np.integer]]:
        """(n_cells,) places in the names that `names_in` gives, by ending of the column; -1 stands for the last."""
        far, few = self.reasons >= FAR, self.reasons == FEW
        return {
            "": np.where(far, -1, self.best[:, 0]),
            "_second": np.where(few, -1, self.best[:, 1]),
            "_set": np.where(far, -1, self.sets),
            "_reason": self.reasons,
        }

    def summary(self, alpha: float) -> dict[str, Any]:
        """Cells of each label and each reason."""
        return summary_of(self.classes, {end: counted(each) for end, each in self.places.items()}, alpha)

    def outputs(self, key: str, query: Query, facts: dict[str, Any]) -> Outputs:
        """All of it, under a key."""
        names, places = names_in(self.classes, self.answers), self.places
        columns = {end: _named(names[end], places[end]) for end in names}
        columns |= {"_confidence": self.confidence, "_p_known": self.p_known}
        ordered = {name: columns[name.removeprefix(key)] for name in names_of(key)["obs"]}
        return Outputs(key, query.obs_names, ordered, self.probabilities, self.embedding, facts)


def names_in(classes: Sequence[str], answers: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """Names that a column may hold, by its ending; those of a place -1 last.

    Examples
    --------
    >>> names_in(["B", "T"], [("B", "T"), ("B",)])["_set"]
    ['Unknown', 'B', 'Unknown']
    """
    sets = [UNKNOWN if len(answer) == len(classes) else BETWEEN.join(answer) for answer in answers]
    return {
        "": [*classes, UNKNOWN],
        "_second": [*classes, ""],
        "_set": [*sets, UNKNOWN],
        "_reason": list(REASONS),
    }


def counted(places: NDArray[np.integer]) -> dict[int, int]:
    """Cells of each place."""
    found, cells = np.unique(places, return_counts=True)
    return dict(zip(map(int, found), map(int, cells), strict=True))


def summary_of(classes: Sequence[str], counts: Mapping[str, Mapping[int, int]], alpha: float) -> dict[str, Any]:
    """Cells of each label, most first, and of each reason, for a report.

    Parameters
    ----------
    classes
        That a label may be.
    counts
        Cells of each place, by ending of the column.
    alpha
        Share of known cells that may be called unknown.
    """
    labels = dict.fromkeys((*classes, UNKNOWN), 0)
    for place, cells in counts[""].items():
        labels[UNKNOWN if place < 0 else classes[place]] += cells
    ranked = sorted((name for name, cells in labels.items() if cells), key=lambda name: -labels[name])
    return {
        "alpha": alpha,
        "classes": list(classes),
        "labels": ranked,
        "cells": [labels[name] for name in ranked],
        "reasons": {name: counts["_reason"].get(place, 0) for place, name in enumerate(REASONS) if name},
    }


def shift_of(classes: Sequence[str], watch: Mapping[str, NDArray[Any]], known: Landmarks | None) -> Shift | None:
    """Whether a query differs from the reference cells, by its watched cells; None where the model keeps none."""
    if known is None:
        return None
    annotated = watch["reasons"] != FEW
    said = np.array(classes)[watch["best"][annotated]]
    return compare(known.features, watch["features"][annotated], kinds=(known.labels, said), groups=known.groups)


def _pieces(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows of each piece that has any."""
    return iter(np.split(rows, np.flatnonzero(np.diff(rows // PIECE)) + 1) if len(rows) else ())


def unique_names(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Names, each once, and the place of each given one among them."""
    unique = list(dict.fromkeys(names))
    return unique, np.array([unique.index(name) for name in names], dtype=np.int64)


def _named(names: Sequence[str], places: NDArray[np.integer]) -> pd.Categorical:
    """Texts by place; names that stand twice become one, and unused ones are left out."""
    import pandas as pd

    unique, place = unique_names(names)
    return pd.Categorical.from_codes(place[places], categories=unique).remove_unused_categories()
