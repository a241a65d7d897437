"""What is kept of a comparison to label other cells: a fitted strategy, its calibration, some of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.strategies.base import Strategy

if TYPE_CHECKING:
    from scipy import sparse

    from frostline.annotation.certificates import Certificate
    from frostline.annotation.hierarchies import Hierarchy
    from frostline.annotation.novelty import Centroids


@dataclass(frozen=True)
class Calibration:
    """What cross-fitted predictions of the labelled cells say about the confidence of a model."""

    temperature: float
    """Divides the logits; at least 1."""
    certificate: Certificate
    """The confidence from which answers hold the promised accuracy, or why there is none."""
    energies: NDArray[np.float64] = field(repr=False)
    """(n_calibration,) energy of each labelled cell under a model that had not seen it."""
    distances: NDArray[np.float64] = field(repr=False)
    """(n_calibration,) its distance to the nearest class."""
    centroids: Centroids = field(repr=False)
    """Classes in the representation of the kept model."""
    hierarchy: Hierarchy = field(repr=False)
    """Which classes may be answered together where one alone is not safe."""
    alpha: float = 0.05
    """Share of known cells that may be called unknown."""


@dataclass(frozen=True)
class Reference:
    """Some of the labelled cells, to fit again on the genes and the depth of a query."""

    values: sparse.csr_matrix = field(repr=False)
    """(n_cells, n_genes) counts, or what stands for them: not logged."""
    labels: NDArray[np.str_] = field(repr=False)
    groups: NDArray[np.str_] | None = field(repr=False)
    counted: bool
    """Whether the values are whole numbers, which can be thinned."""


@dataclass(frozen=True)
class Model:
    """A fitted strategy with all that labelling other cells needs."""

    strategy: Strategy
    genes: tuple[str, ...] = field(repr=False)
    """Names of the genes of the labelled cells, in the order of `Reference.values`."""
    ensembl: tuple[str, ...] = field(repr=False)
    """Ensembl id of each; empty where it is not known."""
    calibration: Calibration = field(repr=False)
    reference: Reference | None = field(repr=False)
    """None where the labelled cells were not to be kept."""
    card: Mapping[str, Any] = field(repr=False)
    """Where it is from: data set, label column, fingerprint, split, metrics, verdict, checkpoint, versions."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that it can answer, sorted."""
        return self.strategy.classes_
