"""Frozen scGPT embeddings and a linear probe: nothing of the encoder is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Genes, bounded
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import FrostlineError
from frostline.monitor import Monitor
from frostline.strategies.base import Workload, trained_classes
from frostline.strategies.encoder import EncoderStrategy, known_genes, variable_known_genes
from frostline.strategies.probe import OnProbe, probe_parameters

ALL = 1_000_000
"""More genes than any vocabulary has."""


@bounded
class FrozenProbe(EncoderStrategy, OnProbe):
    """Logistic regression on standardised, L2-normalised `<cls>` embeddings of the frozen encoder.

    With fewer genes than all its name says how many: `frozen_probe:500` is what `build` takes and what records hold. It
    reads the genes that strategies read which train inside the encoder, so that only the training differs.

    Examples
    --------
    >>> FrozenProbe(most_genes=500).name
    'frozen_probe:500'
    """

    name: ClassVar[str] = "frozen_probe"
    title: ClassVar[str] = "Frozen embedding + linear probe"
    trains: ClassVar[str] = "a logistic regression on the frozen embedding"

    most_genes: Genes = ALL
    """Genes that it reads at most: of those that the encoder knows, the ones of the largest variance in training."""

    def __post_init__(self) -> None:
        if self.most_genes != ALL:
            # the class keeps its plain name, by which a saved strategy is found again
            object.__setattr__(self, "name", f"frozen_probe:{self.most_genes}")

    def option(self, text: str) -> Self:
        """Take the number of genes: `frozen_probe:500`."""
        if not text.isdecimal():
            raise FrostlineError(f"give the number of genes after the colon, as in frozen_probe:500; got {text!r}")
        return replace(self, most_genes=int(text))

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also cells that express none of the genes that it reads."""
        super().ensure_applicable(dataset, split)
        self._refuse_unread(dataset, split, "most_genes")

    def workload(self, split: Split) -> Workload:
        """Every cell of the split is encoded once, with so many genes."""
        return replace(super().workload(split), genes=None if self.most_genes == ALL else self.most_genes)

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts of the probe."""
        return probe_parameters(load_checkpoint(self.checkpoint).config.d_model, trained_classes(split, dataset))

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        opened = self._open()
        known = known_genes(dataset, opened)
        few = len(known) > self.most_genes
        self._learn(genes=variable_known_genes(dataset, split.train, self.most_genes, opened) if few else known)
        states = self._frozen(dataset, split.train, monitor.part(0.0, 0.8))
        self._fit_probe(self._mapped(states), dataset, split, monitor.part(0.8, 1.0))

    def _charged(
        self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor | None = None
    ) -> tuple[NDArray[np.float32], float]:
        with self._of_few_genes("most_genes"):
            return super()._charged(dataset, cells, monitor)

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
