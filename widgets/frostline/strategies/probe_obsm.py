"""The same linear probe on an embedding that the data set brings along: scVI, Harmony, Geneformer, ..."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Text, bounded
from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.errors import DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost
from frostline.strategies.base import trained_classes
from frostline.strategies.probe import LinearProbe, OnProbe, probe_parameters


@dataclass(frozen=True)
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

    obsm_key: str = bounded(Text("key of obsm"), "X_pca")
    """Where the embedding is: a key of `adata.obsm`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.obsm_key != "X_pca":
            # the class keeps its plain name, by which a saved strategy is found again
            object.__setattr__(self, "name", f"probe_obsm:{self.obsm_key}")

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it; neither profile nor checkpoint matters to it."""
        return cls()

    def option(self, text: str) -> Self:
        """Take the key: `probe_obsm:X_scVI`."""
        if not text:
            raise FrostlineError("name the key of obsm after the colon, as in probe_obsm:X_scVI")
        return replace(self, obsm_key=text)

    def check(self, dataset: Dataset, split: Split) -> None:
        """Refuse also a key that is not there, and what is no table of finite numbers."""
        super().check(dataset, split)
        self._values(dataset, np.concatenate([split.train, split.validation, split.test]))

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
        return probe_parameters(self._values(dataset, split.train[:1]).shape[1], trained_classes(split))

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Fit the probe on the training cells' rows."""
        started = time.perf_counter()
        self._fit_probe(self._values(dataset, split.train), dataset, split, monitor or Monitor())
        self._learn(seconds={**self._no_seconds(), "fit": time.perf_counter() - started})
        return self

    def _values(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
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
        obsm = dataset.adata.obsm
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
        """Return the sha256 of the embedding of all cells: whoever computes it anew gets other results.

        Raises
        ------
        DatasetError
            There is none under this key.
        """
        values = self._rows(dataset, np.arange(len(dataset)))
        return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) rows of the embedding."""
        self._must_be_fitted()
        return self._values(dataset, cells)

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""
        self._must_be_fitted()
        started = time.perf_counter()
        probabilities = self.probe_.predict_proba(self._values(dataset, cells))
        self.seconds_["predict"] = time.perf_counter() - started
        return probabilities

    def cost(self) -> Cost:
        """The probe alone; what the embedding cost is not known here."""
        self._must_be_fitted()
        return self._cost(self.probe_.n_parameters, self.probe_.n_parameters)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.probe_.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(probe=LinearProbe.from_arrays(arrays), seconds=self._no_seconds())
