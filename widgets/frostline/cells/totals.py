"""Totals of log-normalised cells: whether they agree, how they are brought to one again, the counts behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.cells.values import AGREEING, TARGET, TOLERANCE, TRANSFORMS, Values, are_multiples, log_normalise

if TYPE_CHECKING:
    from scipy import sparse


def renormalise(matrix: sparse.csr_matrix) -> None:
    """Bring log-normalised cells to counts per ten thousand of the genes that are left, in place.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) canonical CSR float32 of log1p of what adds up.

    Examples
    --------
    >>> from scipy import sparse
    >>> cells = sparse.csr_matrix(np.log1p(np.array([[2500.0, 2500.0]], dtype="f4")))
    >>> renormalise(cells)
    >>> np.expm1(cells.toarray()).round().tolist()
    [[5000.0, 5000.0]]
    """
    matrix.data = np.expm1(matrix.data.astype(np.float64)).astype(np.float32)
    log_normalise(matrix, Values(TRANSFORMS["linear"], "", ""))


def is_scaled(matrix: sparse.csr_matrix) -> bool:
    """Whether log-normalised cells sum to ten thousand over their genes; not so if genes were taken away since.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) CSR of log1p of what adds up.

    Examples
    --------
    >>> from scipy import sparse
    >>> cells = sparse.csr_matrix(np.log1p(np.full((9, 4), 2500.0)))
    >>> is_scaled(cells), is_scaled(cells[:, :3])
    (True, False)
    """
    undone = matrix.astype(np.float64)
    undone.data = np.expm1(undone.data)
    totals = np.asarray(undone.sum(axis=1)).ravel()
    near = np.abs(totals[totals > 0] / TARGET - 1) <= TOLERANCE
    return not len(near) or bool(near.mean() >= AGREEING)


def as_counts(matrix: sparse.csr_matrix) -> sparse.csr_matrix | None:
    """Counts behind log-normalised values, where these are whole multiples of the smallest of a cell; else None.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) canonical CSR of log1p of counts times a factor per cell.

    Examples
    --------
    >>> from scipy import sparse
    >>> from frostline.cells.values import describe
    >>> counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 40)).astype("f4"))
    >>> cells = counts.copy()
    >>> log_normalise(cells, describe(cells))
    >>> (as_counts(cells) != counts).nnz
    0
    """
    lengths = np.diff(matrix.indptr)
    filled = matrix[np.flatnonzero(lengths)].astype(np.float64)
    undone = np.expm1(filled.data)
    if not filled.nnz or not are_multiples(filled, undone):
        return None
    smallest = np.minimum.reduceat(undone, filled.indptr[:-1])
    counts = matrix.copy()
    counts.data = np.rint(undone / np.repeat(smallest, lengths[lengths > 0])).astype(matrix.dtype)
    return counts
