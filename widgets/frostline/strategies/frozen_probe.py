"""Frozen scGPT embeddings and a linear probe: nothing of the encoder is trained."""

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
from frostline.strategies.base import trained_classes
from frostline.strategies.encoder import EncoderStrategy, known_genes
from frostline.strategies.probe import LinearProbe, OnProbe, probe_parameters


@dataclass(frozen=True)
class FrozenProbe(EncoderStrategy, OnProbe):
    """Logistic regression on standardised, L2-normalised `<cls>` embeddings of the frozen encoder.

    Examples
    --------
    >>> FrozenProbe().parameters
    {'checkpoint': 'mini', 'token_seed': 0, 'max_length': 1200}
    """

    name: ClassVar[str] = "frozen_probe"
    title: ClassVar[str] = "Frozen embedding + linear probe"
    trains: ClassVar[str] = "a logistic regression on the frozen embedding"

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it; nothing of the profile matters to it."""
        return cls(checkpoint=checkpoint)

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts of the probe."""
        from frostline.encoder.checkpoints import load_checkpoint

        return probe_parameters(load_checkpoint(self.checkpoint).config.d_model, trained_classes(split))

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Embed the training cells, fit the probe."""
        monitor = monitor or Monitor()
        self._learn(genes=known_genes(dataset, self._open()))
        states, embed_seconds = self._frozen(dataset, split.train, monitor.part(0.0, 0.8))
        started = time.perf_counter()
        self._fit_probe(_normalised(states), dataset, split, monitor.part(0.8, 1.0))
        self.seconds_.update(embed=embed_seconds, fit=time.perf_counter() - started)
        return self

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) L2-normalised frozen `<cls>` states."""
        self._must_be_fitted()
        return _normalised(self._frozen(dataset, cells)[0])

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""
        self._must_be_fitted()
        states, seconds = self._frozen(dataset, cells)
        started = time.perf_counter()
        probabilities = self.probe_.predict_proba(_normalised(states))
        self.seconds_["predict"] = seconds + time.perf_counter() - started
        return probabilities

    def cost(self) -> Cost:
        """The probe is trainable, the encoder is not."""
        self._must_be_fitted()
        trainable = self.probe_.n_parameters
        return self._cost(trainable, trainable + self.encoder_parameters_)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._encoder_arrays(), **self.probe_.arrays()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._restore_encoder(arrays)
        self._learn(probe=LinearProbe.from_arrays(arrays))


def _normalised(states: NDArray[np.float32]) -> NDArray[np.float32]:
    from frostline.encoder.embedding import normalise

    return normalise(states)
