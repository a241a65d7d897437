"""Inner cross-validation on training cells: how a strategy chooses one number, such as C, without other cells.

Nested inside the split, as Cawley & Talbot (2010, JMLR 11:2079) ask for: validation and test cells take no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.draws import seeded_order
from frostline.cells.partitions import Split
from frostline.monitor import Monitor

Features = Callable[[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[Any], NDArray[Any]]]
"""Features of some rows and of others, fitted on the former alone."""
Candidates = Callable[[NDArray[np.intp], NDArray[np.intp]], Iterable[NDArray[np.float64]]]
"""Fits on some rows and gives the probabilities of others, (n, n_classes), once for every value of the grid."""


def inner_folds(dataset: Dataset, split: Split, n_folds: int) -> NDArray[np.int64]:
    """Fold of every training cell: whole groups where the split holds groups out, else stratified by class.

    A function of the split's training seed, the cell ids, and the labels or groups; the order of the rows
    does not matter. With groups there are at most as many folds as groups; the largest group is placed first,
    always into the smallest fold.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> np.bincount(inner_folds(pbmc, frostline.split(pbmc), 5))
    array([84, 84, 84, 84, 84])
    """
    order = seeded_order(dataset.cells[split.train], str(split.training_seed))
    groups = _groups(dataset, split)
    return _stratified(dataset.labels[split.train], order, n_folds) if groups is None else _whole(groups, n_folds)


def _groups(dataset: Dataset, split: Split) -> NDArray[np.str_] | None:
    """Group of every training cell; None when the split holds none out or only one trains."""
    groups: NDArray[np.str_] | None = getattr(dataset, "groups", None)
    if groups is None or getattr(split, "kind", "stratified") == "stratified":
        return None
    groups = np.asarray(groups)[split.train]
    return groups if len(np.unique(groups)) > 1 else None


def _stratified(labels: NDArray[np.str_], order: NDArray[np.intp], n_folds: int) -> NDArray[np.int64]:
    """Deal the cells out class by class; the next class goes on where the last one stopped."""
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % min(n_folds, len(labels))
    return folds


def _whole(groups: NDArray[np.str_], n_folds: int) -> NDArray[np.int64]:
    names, position, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of, filled = np.empty(len(names), dtype=np.int64), np.zeros(min(n_folds, len(names)), dtype=np.int64)
    for i in np.argsort(-sizes, kind="stable"):
        fold_of[i] = filled.argmin()
        filled[fold_of[i]] += sizes[i]
    folds: NDArray[np.int64] = fold_of[position]
    return folds


def single_fold(folds: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Hold out one fold only, the one nearest in size to one of so many equal ones: 0, and -1 for the other cells.

    Examples
    --------
    >>> single_fold(np.array([0, 0, 0, 0, 1, 1, 2]), 3)
    array([-1, -1, -1, -1,  0,  0, -1])
    """
    nearest = np.abs(np.bincount(folds) - len(folds) / n_folds).argmin()
    return np.where(folds == nearest, 0, -1)


def choose(
    grid: Sequence[float],
    labels: NDArray[np.str_],
    folds: NDArray[np.int64],
    candidates: Candidates,
    monitor: Monitor,
) -> float:
    """Return the value of the grid with the lowest mean log loss of held-out training cells.

    The mean is over cells. Cells of a class that the other folds lack are passed over, and so is a fold
    beside which fewer than two classes are left. Among equals the first value wins: grids begin with
    the strongest regularisation. When no fold can be scored, the middle of the grid is taken. With a single
    fold the search ends once the loss has risen twice in a row.

    Examples
    --------
    >>> labels, folds = np.array(["B", "T", "B", "T"]), np.array([0, 0, 1, 1])
    >>> def candidates(rows, held_out):
    ...     for sure in (0.5, 0.8):
    ...         yield np.where(labels[held_out][:, None] == ["B", "T"], sure, 1 - sure)
    >>> choose([0.1, 1.0], labels, folds, candidates, Monitor())
    1.0
    """
    losses, n_folds = np.zeros(len(grid)), int(folds.max()) + 1
    scored = 0
    for fold in range(n_folds):
        rows = np.flatnonzero(folds != fold)
        classes = np.unique(labels[rows])
        held_out = np.flatnonzero((folds == fold) & np.isin(labels, classes))
        if len(classes) < 2 or not len(held_out):
            continue
        truth = np.searchsorted(classes, labels[held_out])
        for i, probabilities in enumerate(candidates(rows, held_out)):
            monitor.step((fold + i / len(grid)) / n_folds, f"inner fold {fold + 1} of {n_folds}")
            losses[i] -= np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-15, None)).sum()
            if n_folds == 1 and i > 1 and losses[i] > losses[i - 1] > losses[i - 2]:
                losses[i + 1 :] = np.inf
                break
        scored += len(held_out)
    return grid[int(losses.argmin())] if scored else grid[len(grid) // 2]


def cross_validated(name: str, grid: Sequence[float], n_folds: int) -> str:
    """Say what was tried.

    Examples
    --------
    >>> cross_validated("k", (30, 15, 5), 5)
    'k of 30, 15, 5 by cross-validation on training cells, at most 5 folds'
    """
    values = ", ".join(f"{value:g}" for value in grid)
    return f"{name} of {values} by cross-validation on training cells, at most {n_folds} folds"
