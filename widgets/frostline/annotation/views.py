"""What is shown of an annotation beside its report: a map among the labelled cells, and the unknown cells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.annotating import Annotation
from frostline.annotation.labelling import REASONS
from frostline.annotation.models import UNKNOWN
from frostline.bounds import Seed, hold
from frostline.comparison import palette
from frostline.comparison.drawing import DPI, scatter_kinds
from frostline.comparison.lettering import Legend, title
from frostline.errors import unknown
from frostline.escaping import for_figure
from frostline.evaluation import maps
from frostline.evaluation.islands import narrowed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5_000
"""Cells of the query that are mapped; of more, these lie evenly."""
COLOURINGS = ("label", "confidence", "reason")
"""What the cells of `map_figure` may be coloured by."""
STRANGE = {"color": palette.DARK, "marker": "X"}
SAID = {"": "none: the label stands"}
"""What a figure calls a reason that is empty."""
DOUBTS = tuple(palette.style(i) for i in (0, 11, 22))
"""Colour and marker of each of `REASONS` that a cell on the map may have."""


@dataclass(frozen=True)
class Placed:
    """Cells of a query and reference cells of the model, on one plane."""

    rows: NDArray[np.int64] = field(repr=False)
    """(n_shown,) which cells of the query."""
    query: NDArray[np.float64] = field(repr=False)
    """(n_shown, 2)."""
    reference: NDArray[np.float64] = field(repr=False)
    """(n_reference, 2); none where the model keeps no cells."""


def map_cells(annotation: Annotation, *, seed: int = 0) -> Placed | None:
    """UMAP of a query's cells and the reference cells together, as the model represents them.

    Parameters
    ----------
    annotation
        What `annotate` returned.
    seed
        Of the UMAP.

    Returns
    -------
    Placed or None
        None where there are too few cells for a map. Cells that express too few genes are on none.

    Examples
    --------
    >>> import frostline
    >>> from frostline.annotation.annotating import annotate
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> model = frostline.annotation.keep(frostline.compare([record]), pbmc)
    >>> found = map_cells(annotate(model, pbmc))
    >>> found.query.shape, found.reference.shape
    ((700, 2), (660, 2))
    """
    seed = hold(Seed, "seed", seed)
    features = annotation.embedding
    rows = np.flatnonzero(np.isfinite(features).all(axis=1))
    if len(rows) > MOST:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).astype(np.int64))]
    landmarks = annotation.landmarks
    known = np.empty((0, features.shape[1])) if landmarks is None else landmarks.features
    placed = maps.umap_of(np.concatenate([known, features[rows]]), seed=seed)
    return None if placed is None else Placed(rows, placed[len(known) :], placed[: len(known)])


def map_figure(annotation: Annotation, found: Placed | None, colour: str = "label") -> Figure:
    """Draw the map of a query: by label beside the reference cells, or by confidence or reason before them.

    Wide gaps are narrowed, those between cells of the query and reference cells, too.

    Parameters
    ----------
    annotation, found
        What `annotate` and `map_cells` returned.
    colour
        One of `COLOURINGS`. Markers tell labels and reasons, too.

    Raises
    ------
    FrostlineError
        The colouring is unknown.
    """
    from matplotlib.figure import Figure

    if colour not in COLOURINGS:
        raise unknown("colouring", colour, COLOURINGS)
    if found is None:
        figure = Figure(figsize=(5.4, 1.2), dpi=DPI)
        figure.text(0.5, 0.4, title("NA: these cells are too few for a map", 5.0, 10), ha="center")
        return figure
    found = _nearer(found)
    pair = colour == "label" and annotation.landmarks is not None
    figure = Figure(figsize=(8.4 if pair else 5.0, 4.0), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, 2 if pair else 1, squeeze=False, sharex=True, sharey=True).ravel()
    query = grid[-1]
    _background(query, found.reference)
    if colour == "confidence":
        _by_confidence(query, annotation, found)
    elif colour == "reason":
        reasons = np.array([SAID.get(text, text) for text in _column(annotation, "_reason", found)])
        names = [SAID.get(text, text) for text in REASONS[:-1]]  # cells of too few genes are on no map
        scatter_kinds(query, found.query, reasons, names, _size(found), looks=DOUBTS.__getitem__, rasterized=True)
    else:
        _by_label(grid, annotation, found)
    _furnish(query, f"{len(found.rows):,} cells of {annotation.report.facts['query']['name']}")
    Legend.of(*grid).beside(figure)
    return figure


def _nearer(found: Placed) -> Placed:
    """The same cells with wide gaps narrowed, in one map: both axes of a figure share its coordinates."""
    n = len(found.reference)
    points = narrowed(np.concatenate([found.reference, found.query]))
    return replace(found, reference=points[:n], query=points[n:])


def _column(annotation: Annotation, ending: str, found: Placed) -> NDArray[Any]:
    return np.asarray(annotation.obs[f"{annotation.key}{ending}"])[found.rows]


def _size(found: Placed) -> float:
    return float(np.clip(8_000 / max(1, len(found.query) + len(found.reference)), 3, 30))


def _background(axes: Axes, points: NDArray[np.float64]) -> None:
    if len(points):
        axes.scatter(
            points[:, 0], points[:, 1], s=6, c=palette.GREY, linewidths=0, rasterized=True, label="reference cells"
        )


def _by_label(grid: NDArray[Any], annotation: Annotation, found: Placed) -> None:
    """Reference cells by the label that was given to them on the left, the query by what was found on the right."""
    classes, size = annotation.classes, _size(found)

    labels = np.asarray(_column(annotation, "", found), dtype=str)
    looks = [*palette.styles([int((labels == name).sum()) for name in classes]), STRANGE].__getitem__
    scatter_kinds(grid[-1], found.query, labels, [*classes, UNKNOWN], size, looks=looks, counted=False, rasterized=True)
    if len(grid) > 1 and annotation.landmarks is not None:
        given = annotation.landmarks.labels
        scatter_kinds(grid[0], found.reference, given, classes, size, looks=looks, counted=False, rasterized=True)
        _furnish(grid[0], f"{len(given):,} reference cells, by given label")


def _by_confidence(axes: Axes, annotation: Annotation, found: Placed) -> None:
    confidence = _column(annotation, "_confidence", found)
    order = np.argsort(-confidence, kind="stable")  # the doubtful ones on top
    points = found.query[order]
    drawn = axes.scatter(
        points[:, 0], points[:, 1], s=_size(found), c=confidence[order], cmap=palette.RAMP, vmin=0, vmax=1,
        linewidths=0, rasterized=True,
    )  # fmt: skip
    axes.figure.colorbar(drawn, ax=axes, label="confidence of the label", shrink=0.8)


def _furnish(axes: Axes, said: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel("UMAP 1", fontsize=8)
    axes.set_ylabel("UMAP 2", fontsize=8)
    axes.set_title(title(for_figure(said), 3.8, 10), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def unknown_cells(annotation: Annotation, n: int | None = None) -> pd.DataFrame:
    """Table of the cells that got no label, the strangest first.

    Parameters
    ----------
    annotation
        What `annotate` returned.
    n
        How many at most; None for all.

    Returns
    -------
    pandas.DataFrame
        cell, reason, p_known (how often a known cell is as strange), most_like and confidence (what would have been
        answered); NA where a cell expresses too few genes. Those come last.
    """
    import pandas as pd

    obs, key = annotation.obs, annotation.key
    rows = np.flatnonzero(np.asarray(obs[key] == UNKNOWN))
    p_known = obs[f"{key}_p_known"].to_numpy(dtype=float)[rows]
    order = rows[np.argsort(np.where(np.isnan(p_known), np.inf, p_known), kind="stable")][:n]
    probabilities = annotation.probabilities[order]
    finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    best = np.where(finite[:, None], probabilities, 0).argmax(axis=1)
    return pd.DataFrame(
        {
            "cell": obs.index[order].astype(str),
            "reason": obs[f"{key}_reason"].astype(str).to_numpy()[order],
            "p_known": obs[f"{key}_p_known"].to_numpy()[order],
            "most_like": [annotation.classes[i] if known else None for i, known in zip(best, finite, strict=True)],
            "confidence": obs[f"{key}_confidence"].to_numpy()[order],
        }
    )
