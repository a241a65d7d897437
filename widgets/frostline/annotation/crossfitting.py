"""Cross-fitted outcomes of labelled cells: what a strategy makes of each cell when it was fitted without it.

Confidence, energy and distance of cells that were fitted on look better than those of new cells ever will; what a model
promises is therefore calibrated on cells that it had not seen. Where cells come in groups, whole groups are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import novelty
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.cells.splits import repeats_of, split, split_nothing_off
from frostline.classes import class_numbers, over_all_classes
from frostline.errors import DatasetError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.strategies.base import Outcome, Strategy
from frostline.strategies.components import OnComponents
from frostline.strategies.encoder import EncoderStrategy

if TYPE_CHECKING:
    from frostline.annotation.novelty import Centroids

FOLDS = 5
"""Parts of the cells where there are no groups; with groups about a quarter of these at a time."""
SHRINKAGE, OF_ENCODERS = 0.1, 0.7
"""Of the covariance of features towards a multiple of the identity: of components, and of an encoder's states."""
LEADING = 10
"""Principal components in which distances are measured. Later ones follow the noise of the cells that they are fitted
on: in 50 of them 62 % of those cells are stranger than 95 % of cells that were left out, in 10 of them 11 %, on average
over 20 classes withheld from four data sets, whose AUROC is 0.80 in the place of 0.82."""
WIDEST = 1_024
"""Features beyond which distances are measured between scores: a covariance of thousands of genes says nothing."""


@dataclass(frozen=True)
class CrossFitted:
    """Every labelled cell as a fit saw it that was made without it."""

    rows: NDArray[np.int64] = field(repr=False)
    """(n_cells,) of the data set, ascending; cells of classes that are too small to be split are not among them."""
    labels: NDArray[np.str_] = field(repr=False)
    """(n_cells,)"""
    classes: tuple[str, ...]
    folds: NDArray[np.int64] = field(repr=False)
    """(n_cells,) in which fold each cell was left out."""
    probabilities: NDArray[np.float64] = field(repr=False)
    """(n_cells, n_classes); 0 for a class that the fit had no cell of."""
    energies: NDArray[np.float64] = field(repr=False)
    """(n_cells,) larger is stranger."""
    distances: NDArray[np.float64] = field(repr=False)
    """(n_cells,) to the nearest class of the fit's training cells."""
    groups: NDArray[np.str_] | None = field(default=None, repr=False)
    """(n_cells,) what was left out as a whole; None where single cells were."""

    @property
    def columns(self) -> NDArray[np.int64]:
        """(n_cells,) column of each cell's label."""
        return class_numbers(self.labels, self.classes)


def cells_stood_for(labels: NDArray[np.str_], classes: Mapping[str, int]) -> NDArray[np.float64]:
    """(n_cells,) how many of all labelled cells each of a sample stands for, by its class.

    Parameters
    ----------
    labels
        (n_cells,) of the sample.
    classes
        Labelled cells of each class.

    Examples
    --------
    >>> cells_stood_for(np.array(["B", "T", "T"]), {"B": 4, "T": 2, "NK": 9}).tolist()
    [4.0, 1.0, 1.0]
    """
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found: NDArray[np.float64] = np.array([classes[name] for name in names.tolist()])[place] / counts[place]
    return found


def kind_of_folds(dataset: Dataset) -> str:
    """Whether whole groups are left out, or cells.

    Raises
    ------
    DatasetError
        Two sets were joined that have no groups.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> kind_of_folds(load_dataset("pancreas")), kind_of_folds(load_dataset("pbmc68k-reduced"))
    ('group', 'stratified')
    """
    if dataset.group_key is not None:
        return "group"
    if dataset.sets:
        raise DatasetError(
            f"{dataset.name!r} was joined of two sets without groups, and a fit must be tried on groups that it has "
            "not seen; load both with group_key, or keep a comparison of one of them"
        )
    return "stratified"


def folds_of(dataset: Dataset, *, profile: Profile, seed: int) -> tuple[Split, ...]:
    """Draw splits of all cells that test each cell once.

    Raises
    ------
    DatasetError
        Fewer than two classes have three cells; there is one group only, or without some of the groups nothing can be
        trained.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.profiles import get_profile
    >>> [cut.groups["test"] for cut in folds_of(load_dataset("pancreas"), profile=get_profile("quickstart"), seed=42)]
    [('human1',), ('human4',), ('human2',), ('human3',)]
    """
    kind = kind_of_folds(dataset)
    whole = replace(profile, max_cells=max(profile.max_cells, len(dataset)), repeats=1)
    n = FOLDS if kind == "stratified" else repeats_of(dataset, kind=kind, profile=whole)
    dealt = FOLDS if kind == "stratified" else None
    try:
        return tuple(split(dataset, kind=kind, seed=seed, profile=whole, repeat=i, folds=dealt) for i in range(n))
    except DatasetError as error:
        if kind == "stratified":
            raise
        raise DatasetError(
            f"groups in {dataset.group_key!r} cannot be left out one after the other: {error}. Or load without "
            "group_key: what is promised then holds for other cells of the same groups only"
        ) from error


def all_labelled(dataset: Dataset, strategy: Strategy, *, profile: Profile, seed: int) -> Split:
    """Split to fit on all labelled cells; 15 % are kept aside for a strategy that stops early, to choose when.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.profiles import get_profile
    >>> from frostline.strategies import HeadTuning, PcaLogistic
    >>> pbmc, profile = load_dataset("pbmc68k-reduced"), get_profile("quickstart")
    >>> [all_labelled(pbmc, s, profile=profile, seed=42).sizes["train"] for s in (HeadTuning(), PcaLogistic())]
    [596, 700]
    """
    cut = split_nothing_off(dataset, kind=kind_of_folds(dataset), seed=seed, profile=profile)
    return trained_as_asked(dataset, strategy, cut)


def trained_as_asked(dataset: Dataset, strategy: Strategy, cut: Split) -> Split:
    """Return the split itself, or with its validation cells trained where a strategy does not look at them."""
    return cut if strategy.stops_early else cut.with_validation_trained(dataset)


def represented(found: Outcome) -> NDArray[np.floating]:
    """(n_cells, d) in which distances are measured: the features, or the scores where those are too many.

    Examples
    --------
    >>> wide = Outcome(np.zeros((1, 5_000)), np.zeros((1, 3)), np.full((1, 3), 1 / 3))
    >>> represented(wide).shape
    (1, 3)
    """
    return found.features if found.features.shape[1] <= WIDEST else found.scores


def centroids_of(strategy: Strategy, dataset: Dataset, cells: NDArray[np.integer]) -> Centroids:
    """Classes of some cells, where a fitted strategy places them."""
    shrinkage = OF_ENCODERS if isinstance(strategy, EncoderStrategy) else SHRINKAGE
    leading = LEADING if isinstance(strategy, OnComponents) else None
    features = represented(strategy.outcome(dataset, cells))
    return novelty.Centroids.fit(features, dataset.labels[cells], shrinkage=shrinkage, leading=leading)


def cross_fit(
    strategy: Strategy, dataset: Dataset, folds: Sequence[Split], *, monitor: Monitor | None = None
) -> CrossFitted:
    """Fit a strategy once a fold, and predict the cells that were left out.

    Parameters
    ----------
    strategy
        Hyper-parameters; fresh copies are fitted.
    dataset, folds
        As for `folds_of`, and what it returned.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.profiles import get_profile
    >>> from frostline.strategies import PcaKnn
    >>> pbmc = load_dataset("pbmc68k-reduced")
    >>> found = cross_fit(PcaKnn(), pbmc, folds_of(pbmc, profile=get_profile("quickstart"), seed=42))
    >>> found.probabilities.shape, np.bincount(found.folds).tolist()
    ((700, 10), [140, 140, 140, 140, 140])
    """
    monitor, n = monitor or Monitor(), len(folds)
    rows = np.concatenate([cut.test for cut in folds])
    classes = folds[0].classes
    parts = []
    for i, cut in enumerate(folds):
        part = monitor.part(i / n, (i + 1) / n, f"fold {i + 1} of {n}: ")
        parts.append(_left_out(strategy, dataset, trained_as_asked(dataset, strategy, cut), classes, part))
    probabilities, energies, distances = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(rows)
    return CrossFitted(
        rows=rows[order],
        labels=dataset.labels[rows[order]],
        classes=classes,
        folds=np.repeat(np.arange(n), [len(cut.test) for cut in folds])[order],
        probabilities=probabilities[order],
        energies=energies[order],
        distances=distances[order],
        groups=dataset.groups[rows[order]] if dataset.groups is not None else None,
    )


def _left_out(
    strategy: Strategy, dataset: Dataset, cut: Split, classes: Sequence[str], monitor: Monitor
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities, energies and distances of the cells of one fold."""
    fitted = replace(strategy).fit(dataset, cut, monitor.part(0.0, 0.8))
    monitor.step(0.8, "predicting the cells that were left out")
    found = fitted.outcome(dataset, cut.test)
    distances = centroids_of(fitted, dataset, cut.train).distances(represented(found))
    probabilities = over_all_classes(found.probabilities, fitted.classes_, classes)
    return probabilities, novelty.energies(found.scores), distances
