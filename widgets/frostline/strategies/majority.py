"""The floor: every cell gets the class shares of the training cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.monitor import Monitor
from frostline.strategies.base import Strategy, trained_classes


@bounded
class Majority(Strategy):
    """Predicts the most frequent training class for every cell, whatever the cell.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cut = frostline.split(pbmc)
    >>> majority = Majority().fit(pbmc, cut)
    >>> majority.classes_[majority.predict_proba(pbmc, cut.test)[0].argmax()]
    'Dendritic'
    """

    name: ClassVar[str] = "majority"
    title: ClassVar[str] = "Majority class"
    trains: ClassVar[str] = "class shares; the floor that every other strategy must leave"
    reference: ClassVar[str] = "Holte 1993, https://doi.org/10.1023/A:1022631118932"
    on_embedding: ClassVar[bool] = True

    shares_: NDArray[np.float64] = learned()
    """Share of each class among the training cells."""

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """One share a class."""
        return trained_classes(split, dataset)

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        """Count the classes of the training cells."""
        monitor.step(0.0, "class shares")
        counts = np.unique(dataset.labels[split.train], return_counts=True)[1]
        self._learn(shares=counts / counts.sum())

    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, 1) zeros: it looks at nothing of a cell."""
        return np.zeros((len(cells), 1))

    def _classify(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The same for every cell."""
        return np.tile(self.shares_, (len(features), 1))

    def _sizes(self) -> tuple[int, int]:
        return self.shares_.size, self.shares_.size

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"shares": self.shares_}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(shares=arrays["shares"])
