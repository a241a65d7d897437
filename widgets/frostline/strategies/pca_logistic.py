"""The classical baseline: HVG, log-normalised values, PCA, logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from frostline.bounds import bounded
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.monitor import Monitor
from frostline.strategies.base import trained_classes
from frostline.strategies.components import OnComponents
from frostline.strategies.probe import LinearProbe, OnProbe, probe_parameters


@bounded
class PcaLogistic(OnComponents, OnProbe):
    """Principal components, standardised, then logistic regression whose C inner cross-validation chose.

    Examples
    --------
    >>> PcaLogistic(n_components=20).parameters
    {'n_hvg': 2000, 'n_components': 20}
    >>> PcaLogistic().search
    'C of 0.001, 0.01, 0.1, 1, 10, 100 by cross-validation on training cells, at most 5 folds'
    """

    name: ClassVar[str] = "pca_logistic"
    title: ClassVar[str] = "PCA + logistic regression"
    trains: ClassVar[str] = "a logistic regression on principal components; no foundation model"

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts of the logistic regression."""
        return probe_parameters(self._planned_components(split), trained_classes(split, dataset))

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        refit = self._fit_components(dataset, split, monitor)
        self._fit_probe(self._features(dataset, split.train), dataset, split, monitor.part(0.2, 1.0), refit)

    def _sizes(self) -> tuple[int, int]:
        """Coefficients are trainable; loadings and means are fitted without labels."""
        return self.probe_.n_parameters, self.probe_.n_parameters + self._unsupervised

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**super()._arrays(), **self.probe_.arrays()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(arrays)
        self._learn(probe=LinearProbe.from_arrays(arrays))
