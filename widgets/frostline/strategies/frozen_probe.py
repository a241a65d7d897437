"""Frozen scGPT embeddings and a linear probe: nothing of the encoder is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import bounded
from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.encoder.checkpoints import load_checkpoint
from frostline.monitor import Monitor
from frostline.strategies.base import trained_classes
from frostline.strategies.encoder import EncoderStrategy, known_genes
from frostline.strategies.probe import OnProbe, probe_parameters


@bounded
class FrozenProbe(EncoderStrategy, OnProbe):
    """Logistic regression on standardised, L2-normalised `<cls>` embeddings of the frozen encoder.

    Examples
    --------
    >>> FrozenProbe().parameters
    {'checkpoint': 'mini', 'token_seed': 0, 'max_length': 1200, 'device': 'auto', 'precision': 'fp32'}
    """

    name: ClassVar[str] = "frozen_probe"
    title: ClassVar[str] = "Frozen embedding + linear probe"
    trains: ClassVar[str] = "a logistic regression on the frozen embedding"

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts of the probe."""
        return probe_parameters(load_checkpoint(self.checkpoint).config.d_model, trained_classes(split))

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        self._learn(genes=known_genes(dataset, self._open()))
        states = self._frozen(dataset, split.train, monitor.part(0.0, 0.8))
        self._fit_probe(self._mapped(states), dataset, split, monitor.part(0.8, 1.0))

    def _classify(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return super()._classify(self._mapped(features))

    def _scores(self, features: NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return super()._scores(self._mapped(features), probabilities)

    def _sizes(self) -> tuple[int, int]:
        """The probe is trainable, the encoder is not."""
        return self.probe_.n_parameters, self.probe_.n_parameters + self.encoder_parameters_

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._encoder_arrays(), **super()._arrays()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._restore_encoder(arrays)
        super()._restore(arrays)
