"""What a CellMap shows of a comparison, an AnnData or an annotation: cells, where they lie, what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.annotating import Annotation
from frostline.annotation.labelling import REASONS
from frostline.annotation.models import UNKNOWN
from frostline.annotation.views import Placed
from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.previews import preview
from frostline.classes import class_numbers, over_all_classes
from frostline.comparison.comparisons import Comparison
from frostline.comparison.verdicts import to_keep
from frostline.errors import FrostlineError, unknown
from frostline.evaluation.islands import Islands, islands_of
from frostline.records import Record

if TYPE_CHECKING:
    from anndata import AnnData

TOP = 3
"""Classes of a cell whose probabilities are shown."""
NOTE = "Distances between clusters mean little."
DISTORTED = ("umap", "tsne")
"""Parts of the names of keys of obsm whose wide gaps mean nothing, and may be narrowed."""
FIRST_PLACES = ("X_umap", "X_tsne", "X_scGPT", "X_pca")
"""Keys of obsm that are mapped first."""


@dataclass(frozen=True)
class MapColumn:
    """What is known of each cell by name: its class, its group."""

    key: str
    title: str
    names: tuple[str, ...]
    codes: NDArray[np.int64] = field(repr=False)
    """(n_cells,) positions among the names; -1 where it is not known."""
    strange: str = ""
    """The name that stands for no kind, such as Unknown; it is shown by a grey cross."""

    @classmethod
    def of(cls, key: str, title: str, values: Iterable[Any], names: Sequence[str] | None = None) -> MapColumn:
        """Take the names as they come, sorted, or in an order that is given; a missing value is no name.

        Examples
        --------
        >>> MapColumn.of("label", "kind", [1.0, np.nan, 0.0])
        MapColumn(key='label', title='kind', names=('0', '1'), strange='')
        """
        texts = _texts(values)
        there = np.array([text is not None for text in texts], dtype=bool)
        found = [text for text in texts if text is not None]
        known = tuple(sorted(set(found)) if names is None else names)
        codes = np.full(len(texts), -1)
        codes[there] = class_numbers(found, known)
        return cls(key, title, known, codes)


def _texts(values: Iterable[Any]) -> list[str | None]:
    """Values as text, None where one is missing; floats that are all whole, as whole numbers with a gap become."""
    import pandas as pd

    given = pd.Series(values if isinstance(values, pd.Series) else list(values), dtype=object)
    there = given.notna()
    if all(isinstance(value, float | np.floating) and value.is_integer() for value in given[there]):
        given[there] = [int(value) for value in given[there]]
    return [str(value) if known else None for value, known in zip(given, there, strict=True)]


@dataclass(frozen=True)
class View:
    """One of the maps: where the cells lie, and what was predicted."""

    name: str
    """Of what was predicted; maps of the same name have the same predictions, which are listed once."""
    title: str
    points: NDArray[np.floating] | None = field(repr=False)
    """(n_cells, 2), NaN where a cell is on no map; None where there is no map."""
    best: NDArray[np.int64] | None = field(default=None, repr=False)
    """(n_cells, k) positions of the likeliest classes, -1 where none is known; None without predictions."""
    chances: NDArray[np.floating] | None = field(default=None, repr=False)
    """(n_cells, k) their probabilities, NaN where they are not known."""
    front: NDArray[np.bool_] | None = field(default=None, repr=False)
    """(n_cells,) those that are shown before the others, which stay grey; None for all."""
    islands: Islands | None = field(default=None, repr=False)
    """Parts of the map that are drawn nearer to each other; None where all is drawn as it is."""


@dataclass(frozen=True)
class Mapped:
    """Cells with one map or two."""

    title: str
    names: tuple[str, ...] = field(repr=False)
    """(n_cells,) names."""
    views: tuple[View, ...]
    columns: tuple[MapColumn, ...]
    classes: tuple[str, ...]
    """What the positions in `View.best` mean."""
    truth: bool = False
    """Whether the column `label` is what a prediction is held against."""
    same_plane: bool = False
    """Whether both maps have the same coordinates, and so the same zoom."""
    narrow: bool = False
    """Whether wide gaps are narrowed at first; a reader may change that."""
    note: str = NOTE

    @property
    def colourings(self) -> list[tuple[str, str]]:
        """Key and words of everything that the cells can be coloured by."""
        known = [(column.key, column.title) for column in self.columns]
        predicted = any(view.best is not None for view in self.views)
        if predicted and any(view.chances is not None and np.isfinite(view.chances).any() for view in self.views):
            known.insert(1, ("confidence", "confidence"))
        if predicted and (self.truth or all(column.key != "label" for column in self.columns)):
            known[1:1] = [("prediction", "predicted class")]
        if predicted and self.truth:
            known.insert(2, ("correct", "right or wrong"))
        return known

    def wrong(self) -> NDArray[np.bool_]:
        """(n_cells, n_views) whether a map predicts a cell wrong."""
        truth = next((column.codes for column in self.columns if column.key == "label"), None)
        out = np.zeros((len(self.names), len(self.views)), dtype=bool)
        for i, view in enumerate(self.views):
            if self.truth and truth is not None and view.best is not None:
                predicted = view.best[:, 0]
                out[:, i] = (predicted >= 0) & (truth >= 0) & (predicted != truth)
        return out


# ---------------------------------------------------------------- what is shown of what


def of_comparison(comparison: Comparison, left: str | None = None, right: str | None = None) -> Mapped:
    """Test cells of the first split as two strategies represent and predict them.

    Parameters
    ----------
    comparison
        Its records have the maps.
    left, right
        Strategies; by default those of `default_pair`.

    Raises
    ------
    FrostlineError
        A strategy is not among those compared.
    """
    first, second = default_pair(comparison)
    left = left or (first if right != first else second)
    right = right or (second if left != second else first)
    records = [comparison.of(name)[0] for name in dict.fromkeys([left, right])]
    one = records[0]
    columns = [MapColumn.of("label", "true class", one.labels, comparison.classes)]
    if one.groups is not None:
        columns.append(MapColumn.of("group", one.group_key or "group", one.groups))
    return Mapped(
        f"{len(one.cells):,} test cells of {one.dataset}",
        one.cells,
        tuple(_view_of(comparison, record) for record in records),
        tuple(columns),
        comparison.classes,
        truth=True,
        narrow=True,
        note=f"Test cells of the first split, each map in what its strategy classifies from. {NOTE}",
    )


def _view_of(comparison: Comparison, record: Record) -> View:
    best, chances = top_classes(over_all_classes(record.probabilities, record.classes, comparison.classes))
    return View(record.strategy, record.strategy, record.umap, best, chances, islands=_islands(record.umap))


def _islands(points: NDArray[np.floating] | None) -> Islands | None:
    """Those of a map, where moving them makes a difference."""
    found = None if points is None else islands_of(points)
    return found if found is not None and found.move else None


def default_pair(comparison: Comparison) -> tuple[str, str]:
    """Name the strategies that are mapped first: the one to take, and the best that starts from an encoder.

    Where the one to take is that itself, the best one that does not start from an encoder, or else the next best.
    Without a recommendation, the one to take is that of the best mean.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> default_pair(frostline.compare([record]))
    ('pca_logistic', 'pca_logistic')
    """
    ranked = [str(name) for name in comparison.leaderboard()["strategy"]]
    first = to_keep(comparison.evidence) or ranked[0]
    encoded = {name for name in ranked if comparison.of(name)[0].weights_sha256 is not None}
    others = [name for name in ranked if name != first]
    wanted = [name for name in others if (name in encoded) != (first in encoded)]
    return first, next(iter(wanted or others), first)


def of_adata(
    adata: AnnData | Dataset,
    left: str | None = None,
    right: str | None = None,
    *,
    label_key: str | None = None,
    predicted_key: str | None = None,
    confidence_key: str | None = None,
    group_key: str | None = None,
) -> Mapped:
    """Cells of an AnnData by what is in its obsm and obs.

    Parameters
    ----------
    adata
        With coordinates in obsm, of which the first two are mapped.
    left, right
        Keys of obsm; by default a UMAP, and what else there is.
    label_key, predicted_key, confidence_key, group_key
        Columns of obs: class, predicted class, its probability, and group. By default the likeliest columns of classes
        and groups, those of the Dataset, and no predictions.

    Raises
    ------
    FrostlineError
        There are no coordinates, a key is not there, or a confidence is no probability.
    """
    if isinstance(adata, Dataset):
        label_key, group_key = label_key or adata.label_key, group_key or adata.group_key
        adata = adata.adata
    obs, found = columns_of(adata.obs), preview(adata)
    label_key = label_key or (found.label_key if label_key is None else None)
    group_key = group_key or next(iter(found.groups), None)
    columns = [
        MapColumn.of(key, name, _known(obs, name))
        for key, name in (("label", label_key), ("group", group_key))
        if name is not None
    ]
    classes: tuple[str, ...] = ()
    best, chances = None, None
    if predicted_key is not None:
        predicted = MapColumn.of("prediction", predicted_key, _known(obs, predicted_key))
        given = columns[0].names if label_key is not None else ()
        classes = tuple(sorted({*predicted.names, *given}))
        best = MapColumn.of("prediction", predicted_key, obs[predicted_key], classes).codes[:, None]
        chances = np.full(best.shape, np.nan)
        if confidence_key is not None:
            chances[:, 0] = np.where(best[:, 0] < 0, np.nan, _probabilities(obs, confidence_key))
        if label_key is not None:
            columns[0] = MapColumn.of("label", label_key, _known(obs, label_key), classes)
    views = tuple(_view_of_key(adata, key, predicted_key, best, chances) for key in _places(adata, left, right))
    if not columns and predicted_key is None:
        raise FrostlineError("no column of obs can colour these cells; name one, such as label_key='cell_type'")
    return Mapped(
        f"{adata.n_obs:,} cells", tuple(map(str, adata.obs_names)), views, tuple(columns), classes,
        truth=label_key is not None and predicted_key is not None,
    )  # fmt: skip


def _known(obs: dict[str, Any], name: str) -> Any:
    if name not in obs:
        raise unknown("column of obs", name, obs)
    return obs[name]


def _probabilities(obs: dict[str, Any], key: str) -> NDArray[np.float64]:
    import pandas as pd

    given = _known(obs, key).astype(object)
    found = pd.to_numeric(given, errors="coerce").astype(float)
    wrong = given[given.notna() & ~found.between(0, 1)]
    if len(wrong):
        raise FrostlineError(
            f"column {key!r} holds {wrong.iloc[0]!r}, and a confidence is a probability from 0 to 1; name another "
            "column as confidence_key, or leave it out"
        )
    numbers: NDArray[np.float64] = found.to_numpy()
    return numbers


def _places(adata: AnnData, left: str | None, right: str | None) -> list[str]:
    """Keys of obsm to map."""
    able = [str(key) for key, value in adata.obsm.items() if np.ndim(value) == 2 and value.shape[1] >= 2]
    for key in (left, right):
        if key is not None and key not in able:
            raise unknown("key of obsm with two columns or more", key, able)
    if not able:
        raise FrostlineError("obsm holds no coordinates to map; make some, such as with scanpy.tl.umap(adata)")
    ranked = [*(key for key in FIRST_PLACES if key in able), *(key for key in able if key not in FIRST_PLACES)]
    first = left or next((key for key in ranked if key != right), ranked[0])
    second = right or next((key for key in ranked if key != first), first)
    return list(dict.fromkeys([first, second]))


def _view_of_key(
    adata: AnnData, key: str, predicted_key: str | None, best: NDArray[Any] | None, chances: NDArray[Any] | None
) -> View:
    points = _plane(adata, key)
    islands = _islands(points) if any(word in key.lower().replace("-", "") for word in DISTORTED) else None
    return View(predicted_key or key, key, points, best, chances, islands=islands)


def _plane(adata: AnnData, key: str) -> NDArray[np.floating]:
    value = adata.obsm[key]
    value = value.iloc[:, :2] if hasattr(value, "iloc") else value[:, :2]
    value = value.toarray() if hasattr(value, "toarray") else value
    return np.asarray(value, dtype=float)


def of_annotation(annotation: Annotation, placed: Placed | None) -> Mapped:
    """Cells that were annotated, and the labelled cells that the model keeps, on one plane.

    Parameters
    ----------
    annotation, placed
        What `annotate` and `frostline.annotation.views.map_cells` returned.
    """
    rows = np.arange(len(annotation)) if placed is None else placed.rows
    known = annotation.landmarks if placed is not None else None
    n_known, n = 0 if known is None else len(known.labels), len(rows)
    obs, key = annotation.obs.iloc[rows], annotation.key
    given = [] if known is None else known.labels.tolist()
    classes = (*annotation.classes, UNKNOWN)
    labels = replace(MapColumn.of("label", "label", [*given, *obs[key].astype(str)], classes), strange=UNKNOWN)
    reasons = MapColumn.of("reason", "reason", [*[""] * n_known, *obs[f"{key}_reason"].astype(str)], REASONS)
    reasons.codes[:n_known] = -1
    reasons = replace(reasons, names=("the label stands", *REASONS[1:]))
    best, chances = top_classes(annotation.probabilities[rows])
    width = best.shape[1]
    best = np.concatenate([np.full((n_known, width), -1), best])
    chances = np.concatenate([np.full((n_known, width), np.nan), chances])
    points = None if placed is None else np.concatenate([placed.reference, placed.query])
    query, islands = np.arange(n_known + n) >= n_known, _islands(points)
    name = annotation.report.facts["query"]["name"]
    views = [
        View("likeliest class", f"{n:,} cells of {name}", points, best, chances, query if n_known else None, islands)
    ]
    columns = [labels, reasons]
    if known is not None:
        views.insert(
            0, View("labelled", f"{n_known:,} labelled cells of the model", points, front=~query, islands=islands)
        )
        if known.groups is not None:
            columns.append(_groups(known.groups, n))
    names = [*(f"labelled cell {i + 1}" for i in range(n_known)), *map(str, obs.index)]
    words = "" if known is not None else " The model keeps no labelled cells to show beside them."
    return Mapped(
        f"{n:,} cells of {name}", tuple(names), tuple(views), tuple(columns), classes, same_plane=True,
        narrow=True, note=NOTE + words,
    )  # fmt: skip


def _groups(groups: NDArray[np.str_], n_query: int) -> MapColumn:
    """Groups of the labelled cells; those of the query are not known."""
    found = MapColumn.of("group", "group of the labelled cells", groups)
    return replace(found, codes=np.concatenate([found.codes, np.full(n_query, -1)]))


def top_classes(probabilities: NDArray[np.floating], k: int = TOP) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Positions and probabilities of the likeliest classes of each cell, the first of equals first.

    Returns
    -------
    best, chances
        (n_cells, k) each, or fewer columns where there are fewer classes; -1 and NaN where a row has no probabilities.

    Examples
    --------
    >>> best, chances = top_classes(np.array([[0.25, 0.25, 0.5], [np.nan, np.nan, np.nan]]), 2)
    >>> best.tolist(), chances.tolist()
    ([[2, 0], [-1, -1]], [[0.5, 0.25], [nan, nan]])
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    chances = np.take_along_axis(np.asarray(probabilities, dtype=float), order, axis=1)
    return np.where(np.isnan(chances), -1, order), chances
