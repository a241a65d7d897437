"""The classical baseline: HVG, log-normalised values, PCA, logistic regression."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost
from frostline.splits import Split
from frostline.strategies.base import LinearProbe, Strategy, learned, probe_parameters


@dataclass(frozen=True)
class PcaLogistic(Strategy):
    """Principal components of highly variable genes, standardised, then logistic regression.

    HVGs (scanpy's Seurat flavour), components, scaling and coefficients are fitted on training cells; C is
    chosen on validation cells.

    Examples
    --------
    >>> PcaLogistic(n_components=20).parameters
    {'n_hvg': 2000, 'n_components': 20}
    """

    name: ClassVar[str] = "pca_logistic"
    title: ClassVar[str] = "PCA + logistic regression"
    trains: ClassVar[str] = "a logistic regression on principal components; no foundation model"

    n_hvg: int = 2000
    """Highly variable genes kept; all genes of the split when there are fewer."""
    n_components: int = 50
    """Principal components, at most one less than there are training cells or genes."""

    pca_mean_: NDArray[np.float32] = learned()
    components_: NDArray[np.float32] = learned()
    """(n_components, n_genes) loadings."""
    probe_: LinearProbe = learned()

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it; neither profile nor checkpoint matters to it."""
        return cls()

    def _components(self, split: Split) -> int:
        return min(self.n_components, len(split.train) - 1, min(self.n_hvg, len(split.genes)) - 1)

    def planned_parameters(self, split: Split) -> int:
        """Coefficients and intercepts of the logistic regression."""
        return probe_parameters(self._components(split), len(split.classes))

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Fit HVGs, PCA and regression on training cells."""
        from sklearn.decomposition import PCA

        monitor = monitor or Monitor()
        started = time.perf_counter()
        monitor.step(0.0, "highly variable genes and PCA")
        self._learn(genes=_highly_variable(dataset, split, self.n_hvg))
        train = dataset.expression(split.train, self.genes_).toarray()
        # the full solver has no randomness of its own
        pca = PCA(self._components(split), svd_solver="full").fit(train)
        self._learn(pca_mean=pca.mean_, components=np.ascontiguousarray(pca.components_))
        features = {part: self._project(dataset, getattr(split, part)) for part in ("train", "validation")}
        labels = {part: dataset.labels[getattr(split, part)] for part in ("train", "validation")}
        probe = LinearProbe.fit(features, labels, monitor.part(0.2, 1.0))
        self._learn(probe=probe, classes=tuple(np.unique(labels["train"]).tolist()))
        self._learn(seconds={"load": 0.0, "embed": 0.0, "fit": time.perf_counter() - started, "predict": 0.0})
        return self

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, n_components) principal components."""
        self._must_be_fitted()
        return self._project(dataset, cells)

    def _project(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        values = dataset.expression(cells, self.genes_).toarray()
        projected: NDArray[np.floating] = (values - self.pca_mean_) @ self.components_.T
        return projected

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""
        self._must_be_fitted()
        started = time.perf_counter()
        probabilities = self.probe_.predict_proba(self._project(dataset, cells))
        self.seconds_["predict"] = time.perf_counter() - started
        return probabilities

    def cost(self) -> Cost:
        """Coefficients are trainable; loadings and means are fitted without labels."""
        self._must_be_fitted()
        trainable = self.probe_.n_parameters
        unsupervised = self.components_.size + self.pca_mean_.size
        return Cost(dict(self.seconds_), trainable, trainable + unsupervised)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"pca_mean": self.pca_mean_, "components": self.components_, **self.probe_.arrays()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(
            pca_mean=arrays["pca_mean"],
            components=arrays["components"],
            probe=LinearProbe.from_arrays(arrays),
            seconds={"load": 0.0, "embed": 0.0, "fit": 0.0, "predict": 0.0},
        )


def _highly_variable(dataset: Dataset, split: Split, n_hvg: int) -> tuple[str, ...]:
    if len(split.genes) <= n_hvg:
        return split.genes
    import anndata
    import pandas as pd
    import scanpy as sc

    train = anndata.AnnData(dataset.expression(split.train, split.genes), var=pd.DataFrame(index=list(split.genes)))
    train = train[:, np.asarray((train.X > 0).sum(axis=0)).ravel() > 0].copy()
    found = sc.pp.highly_variable_genes(train, n_top_genes=min(n_hvg, train.n_vars), inplace=False)
    chosen = set(train.var_names[found["highly_variable"].to_numpy()])
    others = [gene for gene in split.genes if gene not in chosen]
    chosen |= set(others[: n_hvg - len(chosen)])  # genes that no training cell expresses fill up the list
    return tuple(gene for gene in split.genes if gene in chosen)
