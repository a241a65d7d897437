"""k nearest neighbours on principal components: the baseline without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.monitor import Monitor
from frostline.strategies.components import OnComponents
from frostline.strategies.selection import choose, cross_validated, inner_folds


@bounded
class PcaKnn(OnComponents):
    """Votes of the k nearest training cells on the principal components of `pca_logistic`.

    Distances are Euclidean and the components unscaled, as in scanpy's neighbour graph. Each neighbour has
    one vote, and one vote more is shared out as the classes are among the training cells: (votes + share) /
    (k + 1), so that rows sum to 1 and no trained class is called impossible.

    Examples
    --------
    >>> PcaKnn().search
    'k of 30, 15, 5 by cross-validation on training cells, at most 5 folds'
    """

    name: ClassVar[str] = "pca_knn"
    title: ClassVar[str] = "PCA + k nearest neighbours"
    trains: ClassVar[str] = "nothing but k: training cells vote for their neighbours; no foundation model"
    libraries: ClassVar[tuple[str, ...]] = ("sklearn.neighbors",)

    GRID: ClassVar[tuple[int, ...]] = (30, 15, 5)
    FOLDS: ClassVar[int] = 5

    reference_: NDArray[np.float32] = learned()
    """(n_train, n_components) of the cells that vote."""
    votes_: NDArray[np.int64] = learned()
    """(n_train,) class number of each."""
    k_: int = learned()

    @property
    def search(self) -> str:
        """Every k, and the folds."""
        return cross_validated("k", self.GRID, self.FOLDS)

    def _chosen(self) -> dict[str, float]:
        return {"k": self.k_}

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """One label for every training cell."""
        return len(split.train)

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        refit = self._fit_components(dataset, split, monitor)
        labels = dataset.labels[split.train]

        def candidates(rows: NDArray[np.intp], held_out: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
            votes = np.unique(labels[rows], return_inverse=True)[1]
            near = _nearest(*refit(rows, held_out), max(self.GRID))
            for k in self.GRID:
                yield _shares(votes, near[:, :k])

        folds = inner_folds(dataset, split, self.FOLDS)
        k = choose(self.GRID, labels, folds, candidates, monitor.part(0.2, 1.0))
        votes = np.unique(labels, return_inverse=True)[1]
        self._learn(reference=self._features(dataset, split.train), votes=votes, k=int(k))

    def _classify(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return _shares(self.votes_, _nearest(self.reference_, features, self.k_))

    def _sizes(self) -> tuple[int, int]:
        """Labels of the training cells; their components, loadings and means come without labels."""
        return self.votes_.size, self.votes_.size + self.reference_.size + self._unsupervised

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {"reference": self.reference_, "votes": self.votes_, "k": np.array(self.k_)}
        return super()._arrays() | own

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(arrays)
        self._learn(reference=arrays["reference"], votes=arrays["votes"], k=int(arrays["k"].item()))


def _nearest(reference: NDArray[np.float32], cells: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Rows of the reference that are nearest to each cell, nearest first; (n_cells, at most k)."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(k, len(reference)), algorithm="brute").fit(reference.astype(np.float64))
    near: NDArray[np.intp] = index.kneighbors(cells.astype(np.float64), return_distance=False)
    return near


def _shares(votes: NDArray[np.int64], near: NDArray[np.intp]) -> NDArray[np.float64]:
    """(n_cells, n_classes) of the neighbours' votes and one more, shared out as the classes are."""
    counts = np.stack([(votes[near] == i).sum(axis=1) for i in range(votes.max() + 1)], axis=1)
    shares: NDArray[np.float64] = (counts + np.bincount(votes) / len(votes)) / (near.shape[1] + 1)
    return shares
