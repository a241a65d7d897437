"""The unlabelled cells that an encoder is pre-trained on: counts of several sets, pooled.

Also what is computed from them before training (principal components, co-expression of genes), and the
random gene subsets that a training step shows.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from frostline.cells.matrices import canonical
from frostline.cells.reading import read_h5ad
from frostline.cells.symbols import read_symbols
from frostline.encoder.checkpoints import SPECIAL_TOKENS
from frostline.encoder.tokens import Tokens, tokenize
from frostline.errors import DatasetError
from frostline.hashes import file_sha256
from frostline.plain_files import expanded

N_SPECIAL = len(SPECIAL_TOKENS)  # gene ids follow the special tokens
PAD, CLS = SPECIAL_TOKENS.index("<pad>"), SPECIAL_TOKENS.index("<cls>")

_LISTED = 20  # rows that a line of code names one by one
_NEIGHBOR_SPACE = 50  # principal components in which the cells most like a cell are looked for


@dataclass(frozen=True)
class Corpus:
    """Unlabelled cells of several sets, on the union of their genes."""

    counts: sparse.csr_matrix
    """(n_cells, n_genes)"""
    genes: tuple[str, ...]
    """(n_genes,) sorted symbols; gene g has the vocabulary id g + 3: the special tokens come first."""
    set_of_cell: NDArray[np.int64]
    """(n_cells,) which file a cell came from."""
    measured: tuple[NDArray[np.int64], ...]
    """Per file the genes it has a column for, as indices."""
    files: tuple[dict[str, Any], ...]
    """Per file its name, sha256 and number of cells."""

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token -> id: the special tokens, then the genes."""
        return {token: i for i, token in enumerate((*SPECIAL_TOKENS, *self.genes))}

    def log_normalised(self) -> sparse.csr_matrix:
        """(n_cells, n_genes) log1p of counts per ten thousand."""
        totals = np.asarray(self.counts.sum(axis=1)).ravel()
        scale = np.repeat(1e4 / totals, np.diff(self.counts.indptr))
        values = np.log1p(self.counts.data * scale).astype(np.float32)
        return sparse.csr_matrix((values, self.counts.indices, self.counts.indptr), shape=self.counts.shape)

    def tokens(self, seed: int) -> Tokens:
        """Bins of every cell on all its genes; values that admit several bins are drawn per seed."""
        ids = np.arange(len(self.genes), dtype=np.int32) + np.int32(len(SPECIAL_TOKENS))
        return tokenize(self.counts, ids, seed=seed, max_length=len(ids) + 1)

    def statistics(self) -> GeneStatistics:
        """How the cells express each gene."""
        detected = np.zeros(len(self.genes))
        for i, file in enumerate(self.files):
            here = self.counts[self.set_of_cell == i].getnnz(axis=0) / file["cells"]
            detected = np.maximum(detected, here)
        totals = np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel()
        share = self.counts.T @ (1 / totals) / len(totals)
        return GeneStatistics(self.genes, detected, np.asarray(share, dtype=np.float64))

    def frequent(self, min_fraction: float) -> Corpus:
        """Keep the genes that at least this fraction of the cells of one set express.

        Raises
        ------
        DatasetError
            A cell expresses none of them; names its file and row.
        """
        keep = np.zeros(len(self.genes), dtype=bool)
        for i, file in enumerate(self.files):
            keep |= self.counts[self.set_of_cell == i].getnnz(axis=0) >= min_fraction * file["cells"]
        new = np.cumsum(keep) - 1
        measured = tuple(new[genes[keep[genes]]] for genes in self.measured)
        genes = tuple(self.genes[i] for i in np.flatnonzero(keep))
        counts = self.counts[:, keep]
        empty = counts.getnnz(axis=1) == 0
        for i, file in enumerate(self.files):
            rows = np.flatnonzero(empty[self.set_of_cell == i])
            if len(rows):
                left = f"adata = adata[np.setdiff1d(np.arange(adata.n_obs), {rows.tolist()})].copy()"
                raise DatasetError(
                    f"{file['file']}: {len(rows)} cell(s) express only genes that fewer than {min_fraction:.1%} of the "
                    f"cells of each set do, the first in row {rows[0]}; lower min_fraction, which is {min_fraction:g}"
                    + (f", or leave them out: {left}" if len(rows) <= _LISTED else "")
                )
        return Corpus(counts, genes, self.set_of_cell, measured, self.files)


@dataclass(frozen=True)
class GeneStatistics:
    """How the cells of a corpus express each gene."""

    genes: tuple[str, ...]
    detected: NDArray[np.float64]
    """(n_genes,) fraction of the cells that express it, the largest over the sets."""
    share: NDArray[np.float64]
    """(n_genes,) mean share of a cell's counts."""

    def write(self, path: Path) -> None:
        """Write one line a gene: detected in percent of the cells, mean counts per million."""
        rows = zip(self.genes, 100 * self.detected, 1e6 * self.share, strict=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("gene", "percent_of_cells", "mean_cpm"))
            writer.writerows((gene, f"{percent:.1f}", f"{mean:.2g}") for gene, percent, mean in rows)


def read_corpus(paths: Sequence[Path]) -> Corpus:
    """Read sets of counts and pool them.

    Raises
    ------
    DatasetError
        A file is missing, given twice or unreadable, or holds something other than counts of named genes.
    """
    sets = [_read_counts(expanded(path)) for path in paths]
    if not sets:
        raise DatasetError("the corpus is empty: give at least one .h5ad file of counts")
    files = tuple(
        {"file": path.name, "sha256": file_sha256(path), "cells": matrix.shape[0]}
        for path, (matrix, _) in zip(map(Path, paths), sets, strict=True)
    )
    if len({file["sha256"] for file in files}) < len(files):
        raise DatasetError("the corpus holds the same file more than once")
    genes = tuple(sorted({name for _, names in sets for name in names}))
    place = {name: i for i, name in enumerate(genes)}
    columns = [np.array([place[name] for name in names]) for _, names in sets]
    parts = []
    for (matrix, _), target in zip(sets, columns, strict=True):
        shape = (matrix.shape[0], len(genes))
        parts.append(sparse.csr_matrix((matrix.data, target[matrix.indices], matrix.indptr), shape=shape))
    counts = sparse.csr_matrix(sparse.vstack(parts))
    counts.sort_indices()
    set_of_cell = np.repeat(np.arange(len(files)), [file["cells"] for file in files])
    return Corpus(counts, genes, set_of_cell, tuple(np.sort(target) for target in columns), files)


def _read_counts(path: Path) -> tuple[sparse.csr_matrix, list[str]]:
    if not path.exists():
        raise DatasetError(f"{path} does not exist; the corpus is a list of .h5ad files of counts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # repeated names are refused below
        adata = read_h5ad(path)
    if adata.X is None or 0 in adata.shape:
        raise DatasetError(f"{path} holds no expression values (X is empty)")
    matrix = canonical(adata.X, adata.shape, f"X of {path}")
    _check_counts(matrix, path)
    try:
        symbols = read_symbols(adata.var, totals=lambda: np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel())
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    return matrix, list(symbols.names)


def _check_counts(matrix: sparse.csr_matrix, path: Path) -> None:
    values = matrix.data
    bad = values[~np.isfinite(values) | (values < 0) | (values != np.floor(values))]
    if len(bad):
        raise DatasetError(
            f"{path}: pre-training needs counts in X (whole numbers, none negative or missing); seen: {bad[0]:g}"
        )
    empty = np.flatnonzero(matrix.getnnz(axis=1) == 0)
    if len(empty):
        raise DatasetError(
            f"{path}: {len(empty)} cell(s) have no counts, the first in row {empty[0]}; "
            "leave them out, for example with scanpy.pp.filter_cells(adata, min_genes=200)"
        )


def principal_components(
    corpus: Corpus, n_components: int, seed: int, exponent: float, n_neighbors: int = 0
) -> NDArray[np.float32]:
    """(n_cells, n_components) scores: unit variance times singular value ^ exponent, mean square 1 in all.

    An exponent between 0 and 1 lets the leading components count for more without drowning the others. With
    neighbours there are as many columns again: the means over each cell's nearest cells, itself among them, which
    say what kind of cell it is with less of its own noise; each has the standard deviation of its component.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    logged = corpus.log_normalised()
    n = max(n_components, min(_NEIGHBOR_SPACE, min(logged.shape) - 1)) if n_neighbors else n_components
    pca = PCA(n, svd_solver="arpack", random_state=seed)
    raw = pca.fit_transform(logged)
    scores = raw[:, :n_components] / pca.singular_values_[:n_components] ** (1 - exponent)
    if n_neighbors:
        space = raw[:, :_NEIGHBOR_SPACE]
        nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(space).kneighbors(space, return_distance=False)
        means = scores[nearest].mean(axis=1)
        means -= means.mean(axis=0)
        scores = np.hstack([scores, means * (scores.std(axis=0) / means.std(axis=0))])
    return np.asarray(scores / np.sqrt(np.mean(scores**2)), dtype=np.float32)


def gene_vectors(corpus: Corpus, width: int, seed: int) -> NDArray[np.float32]:
    """(n_genes, width) co-expression embeddings, centred by how often a gene is expressed.

    Without the centring every cell's average of them is nearly the same vector.
    """
    from sklearn.decomposition import TruncatedSVD

    matrix = corpus.log_normalised()
    svd = TruncatedSVD(width, random_state=seed).fit(matrix)
    vectors = svd.components_.T * np.sqrt(svd.singular_values_)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    frequency = matrix.getnnz(axis=0) / matrix.nnz
    return np.asarray(vectors - frequency @ vectors, dtype=np.float32)


def draw_subset(
    tokens: Tokens, size: int, length: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(n, length) ids and bins of `<cls>` and up to `size` random genes of each of n cells, padded.

    Examples
    --------
    >>> cell = Tokens(np.array([7], np.int32), np.array([50], np.uint8), np.array([0, 1]))
    >>> ids, values = draw_subset(cell, 1, 3, np.random.default_rng(0))
    >>> ids.tolist(), values.tolist()
    ([[1, 7, 0]], [[-2.0, 50.0, -2.0]])
    """
    rows = np.repeat(np.arange(len(tokens)), tokens.lengths)
    order = np.argsort(rows + rng.random(len(rows)))  # shuffles inside each cell
    rank = np.arange(len(rows)) - tokens.offsets[rows]
    keep = rank < size
    rows, rank, order = rows[keep], rank[keep], order[keep]
    ids = np.full((len(tokens), length), PAD, dtype=np.int64)
    values = np.full((len(tokens), length), -2.0, dtype=np.float32)
    ids[:, 0] = CLS
    ids[rows, 1 + rank] = tokens.gene_ids[order]
    values[rows, 1 + rank] = tokens.bins[order]
    return ids, values
