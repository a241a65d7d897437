"""Principal components of highly variable genes, which two baselines share."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval, Unit
from numpy.typing import NDArray

from frostline.bounds import Genes, Whole, bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.errors import DatasetError
from frostline.monitor import Monitor
from frostline.strategies.base import Strategy
from frostline.strategies.selection import Features
from frostline.threads import one_blas_thread

if TYPE_CHECKING:
    from scipy import sparse


BLOCK = 4_096
"""Cells that are made dense at a time."""
LARGE = 4_096
"""Genes, or cells where these are fewer, from which several threads decompose a matrix: beside another busy program
they take ten to a hundred times as long as one (book/decisions/0018-one-thread-decomposes.md)."""
SMALLEST = 1e-4
"""Standard deviation of a component, relative to that of the first, at or below which it is rounding error: cells or
genes that repeat each other leave 1e-7 in single precision, and components of measured values lie far above. Divided
by it, the value of a new cell would be a million and more."""


@bounded
class OnComponents(Strategy):
    """A strategy on principal components of log-normalised, highly variable genes.

    Genes (scanpy's Seurat flavour), means and loadings are fitted on training cells, without labels. The inner
    cross-validation keeps the genes and fits means and loadings again beside every fold: components that held-out
    cells took part in set these apart from all others, the more the fewer cells there are.
    """

    reference: ClassVar[str] = "Abdelaal et al. 2019, https://doi.org/10.1186/s13059-019-1795-z"
    on_embedding: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("sklearn.decomposition",)

    n_hvg: Genes = 2000
    """Highly variable genes kept; all genes of the split when there are fewer."""
    n_components: Annotated[Whole, Interval(ge=1, le=10_000), Unit("components")] = 50
    """Principal components, at most one less than there are training cells or genes, and none without variance."""

    pca_mean_: NDArray[np.float32] = learned()
    components_: NDArray[np.float32] = learned()
    """(n_components, n_genes) loadings."""

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Import scanpy, too, where genes are to be chosen; refuse a single gene, which has no components."""
        super().ensure_applicable(dataset, split)
        if len(split.genes) < 2:
            raise DatasetError(
                f"strategy {self.name!r} needs two genes for a principal component, and the split has "
                f"{len(split.genes)}; keep more genes of the data set, or leave this strategy out"
            )
        if len(split.genes) > self.n_hvg:
            import scanpy  # noqa: F401

    def _planned_components(self, split: Split) -> int:
        return min(self.n_components, len(split.train) - 1, min(self.n_hvg, len(split.genes)) - 1)

    def _fit_components(self, dataset: Dataset, split: Split, monitor: Monitor) -> Features:
        """Choose genes, fit components; return what fits them again for the inner cross-validation."""
        monitor.step(0.0, "highly variable genes and PCA")
        self._learn(genes=_highly_variable(dataset, split, self.n_hvg))
        values = dataset.expression(split.train, self.genes_)
        mean, loadings = _principal(values, self.n_components)
        self._learn(pca_mean=mean, components=loadings)

        def refit(rows: NDArray[np.intp], held_out: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
            fitted = _principal(values[rows], self.n_components)
            return _projected(values[rows], *fitted), _projected(values[held_out], *fitted)

        return refit

    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float32]:
        """(n_cells, n_components) principal components."""
        return _projected(dataset.expression(cells, self.genes_), self.pca_mean_, self.components_)

    @property
    def _unsupervised(self) -> int:
        """Numbers that were fitted without labels."""
        return int(self.components_.size + self.pca_mean_.size)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"pca_mean": self.pca_mean_, "components": self.components_}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(pca_mean=arrays["pca_mean"], components=arrays["components"])


def _principal(values: sparse.csr_matrix, n_components: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means and loadings, (n_components, n_genes); at most one component less than there are cells or genes.

    Components without variance are left out, all but the first: `SMALLEST`. Neither way has randomness of its own.
    For more cells than genes the covariance of the genes is summed over blocks of cells and decomposed, so that no
    dense matrix of all cells is made.
    """
    n_cells, n_genes = values.shape
    n_components = min(n_components, n_cells - 1, n_genes - 1)
    threads = one_blas_thread() if min(n_cells, n_genes) < LARGE else nullcontext()
    if n_cells <= n_genes:
        from sklearn.decomposition import PCA

        with threads:
            pca = PCA(n_components, svd_solver="full").fit(values.toarray())
        return pca.mean_, np.ascontiguousarray(pca.components_[_with_variance(pca.singular_values_)])
    from scipy.linalg import eigh
    from sklearn.utils.extmath import svd_flip

    mean = np.asarray(values.mean(axis=0, dtype=np.float64)).ravel().astype(np.float32)
    scatter = np.zeros((n_genes, n_genes))
    for start in range(0, n_cells, BLOCK):
        block = values[start : start + BLOCK].toarray() - mean
        scatter += block.T @ block
    with threads:
        squares, vectors = eigh(scatter, subset_by_index=(n_genes - n_components, n_genes - 1))
    loadings = svd_flip(None, vectors.T[::-1], u_based_decision=False)[1]
    kept = _with_variance(np.sqrt(np.maximum(squares[::-1], 0)))
    return mean, np.ascontiguousarray(loadings[kept], dtype=np.float32)


def _with_variance(spread: NDArray[np.floating]) -> slice:
    """Which components, of the largest spread first, are more than rounding error; at least one."""
    return slice(max(1, int((spread > SMALLEST * spread[0]).sum())))


def _projected(
    values: sparse.csr_matrix, mean: NDArray[np.float32], loadings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n_cells, n_components), without a dense matrix of cells and genes."""
    projected: NDArray[np.float32] = values @ loadings.T - mean @ loadings.T
    return projected


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
