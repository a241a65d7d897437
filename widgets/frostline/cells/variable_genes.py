"""Genes whose expression varies more between training cells than their mean explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.draws import (
    Rows,
)

if TYPE_CHECKING:
    from scipy import sparse


def variable_genes(dataset: Dataset, train: Rows, max_genes: int) -> tuple[str, ...]:
    """Names of the genes with the largest variance over the training cells, in the data set's order.

    Parameters
    ----------
    dataset, train
        The data set and the rows of its training cells.
    max_genes
        How many at most.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> pbmc = load_dataset("pbmc68k-reduced")
    >>> variable_genes(pbmc, np.arange(100), 3)
    ('HLA-DRA', 'LYZ', 'CST3')
    """
    if len(dataset.genes) <= max_genes:
        return dataset.genes
    return tuple(dataset.genes[i] for i in most_variable(dataset.matrix[train], max_genes))


def most_variable(values: sparse.csr_matrix, n: int) -> NDArray[np.int64]:
    """Columns of the largest variance, at most `n`, ascending.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> most_variable(csr_matrix([[0.0, 1.0, 4.0], [3.0, 1.0, 0.0]]), 2).tolist()
    [0, 2]
    """
    return np.sort(by_variance(values)[:n])


def by_variance(values: sparse.csr_matrix) -> NDArray[np.int64]:
    """Columns, that of the largest variance first.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> by_variance(csr_matrix([[0.0, 1.0, 4.0], [3.0, 1.0, 0.0]])).tolist()
    [2, 0, 1]
    """
    matrix = values.astype(np.float64)
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    variance = np.asarray(matrix.power(2).mean(axis=0)).ravel() - mean**2
    return np.argsort(-variance, kind="stable")
