"""The floor: every cell gets the class shares of the training cells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost
from frostline.strategies.base import Strategy, learned, trained_classes


@dataclass(frozen=True)
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
    on_embedding: ClassVar[bool] = True

    shares_: NDArray[np.float64] = learned()
    """Share of each class among the training cells."""

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it; neither profile nor checkpoint matters to it."""
        return cls()

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """One share a class."""
        return trained_classes(split)

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Count the classes of the training cells."""
        started = time.perf_counter()
        (monitor or Monitor()).step(0.0, "class shares")
        classes, counts = np.unique(dataset.labels[split.train], return_counts=True)
        self._learn(classes=tuple(classes.tolist()), shares=counts / counts.sum())
        self._learn(seconds={**self._no_seconds(), "fit": time.perf_counter() - started})
        return self

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, 1) zeros: it looks at nothing of a cell."""
        self._must_be_fitted()
        return np.zeros((len(cells), 1))

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities, the same for every cell."""
        self._must_be_fitted()
        return np.tile(self.shares_, (len(cells), 1))

    def cost(self) -> Cost:
        """Its shares."""
        self._must_be_fitted()
        return self._cost(self.shares_.size, self.shares_.size)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"shares": self.shares_}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(shares=arrays["shares"], seconds=self._no_seconds())
