"""The same linear probe on an embedding that the data set brings along: scVI, Harmony, Geneformer, ..."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import numpy as np
from annotated_types import Unit
from numpy.typing import NDArray

from frostline.bounds import Text, bounded
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.errors import DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.strategies.base import trained_classes
from frostline.strategies.probe import OnProbe, probe_parameters


@bounded
class ProbeObsm(OnProbe):
    """Logistic regression on the standardised columns of `adata.obsm[obsm_key]`, C by inner cross-validation.

    Its name tells the key when that is not the default one: `probe_obsm:X_scVI` is what `build` takes and what
    records hold.

    Examples
    --------
    >>> ProbeObsm("X_scVI").name
    'probe_obsm:X_scVI'
    """

    name: ClassVar[str] = "probe_obsm"
    title: ClassVar[str] = "Embedding in obsm + linear probe"
    trains: ClassVar[str] = "a logistic regression on an embedding that the data set brings along"
    reference: ClassVar[str] = "Alain & Bengio 2016, https://doi.org/10.48550/arXiv.1610.01644"

    obsm_key: Annotated[Text, Unit("key of obsm")] = "X_pca"
    """Where the embedding is: a key of `adata.obsm`."""

    def __post_init__(self) -> None:
        if self.obsm_key != "X_pca":
            # the class keeps its plain name, by which a saved strategy is found again
            object.__setattr__(self, "name", f"probe_obsm:{self.obsm_key}")

    def option(self, text: str) -> Self:
        """Take the key: `probe_obsm:X_scVI`."""
        if not text:
            raise FrostlineError("name the key of obsm after the colon, as in probe_obsm:X_scVI")
        return replace(self, obsm_key=text)

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also a key that is not there, and what is no table of finite numbers."""
        super().ensure_applicable(dataset, split)
        self._features(dataset, np.concatenate([split.train, split.validation, split.test]))

    def notes(self, dataset: Dataset) -> tuple[str, ...]:
        """That frostline does not know how the embedding came about."""
        return (
            f"The embedding {self.obsm_key} was computed outside frostline, perhaps on test cells or their labels "
            "too: leakage is for its maker to exclude, and its costs are not counted.",
        )

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts of the probe; the width of the embedding takes a data set to know."""
        if dataset is None:
            raise DatasetError(f"pass the data set, too: the width of {self.obsm_key!r} is not in the split")
        return probe_parameters(self._features(dataset, split.train[:1]).shape[1], trained_classes(split, dataset))

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        self._fit_probe(self._features(dataset, split.train), dataset, split, monitor)

    def _classify(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        fitted = len(self.probe_.mean)
        if features.shape[1] != fitted:
            raise DatasetError(
                f"embedding {self.obsm_key!r} has {features.shape[1]:,} columns here, and the strategy was fitted on "
                f"{fitted:,}; store the embedding of these cells by the same model there"
            )
        return super()._classify(features)

    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, d) rows of the embedding, finite."""
        values = self._rows(dataset, cells)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            dense = ".toarray()" if hasattr(dataset.adata.obsm[self.obsm_key], "toarray") else ""
            raise DatasetError(
                f"embedding {self.obsm_key!r} is missing or infinite in {len(bad):,} cell(s), for example "
                f"{dataset.cells[cells[bad[0]]]}; leave them out: "
                f"adata[np.isfinite(np.asarray(adata.obsm[{self.obsm_key!r}]{dense}, dtype=float)).all(axis=1)]"
            )
        return values

    def _rows(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        obsm = dataset.same_cells().obsm
        if self.obsm_key not in obsm:
            known = ", ".join(obsm) or "nothing; compute one and store it there"
            raise DatasetError(f"embedding {self.obsm_key!r} is not in obsm, which has: {known}")
        found = obsm[self.obsm_key]
        found = found.iloc[cells].to_numpy() if hasattr(found, "iloc") else found[cells]
        found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        if found.ndim != 2 or not found.shape[1] or not np.issubdtype(found.dtype, np.number) or np.iscomplexobj(found):
            raise DatasetError(
                f"embedding {self.obsm_key!r} must hold a row of real numbers for each cell, not "
                f"{found.dtype} of shape {found.shape}; store an array of floats there, of shape ({len(dataset)}, d)"
            )
        values: NDArray[np.float64] = found.astype(np.float64)
        return values

    def embedding_sha256(self, dataset: Dataset) -> str:
        """Return the sha256 of the embedding of all cells: computed again it gives other results.

        Raises
        ------
        DatasetError
            There is none under this key.
        """
        values = self._rows(dataset, np.arange(len(dataset)))
        return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()
