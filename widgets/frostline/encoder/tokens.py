"""Cells as tokens: scGPT's value binning, ragged and compact, seeded per cell.

The official code bins the non-zero values of each cell by 50 quantiles of that cell, and where a value
equals several quantiles (ties, that is most values of count-like data) it draws one of the admissible
bins from a global random stream. Here the draw is a pure function of the seed, the set of genes that the
cell expresses and the gene: a cell's tokens depend neither on its neighbours nor on order, shards or
workers.

Source: scGPT `preprocess.binning` and `data_collator.DataCollator` (v0.2.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from frostline.bounds import LongCells, MaxLength, hold
from frostline.errors import DatasetError

N_BINS = 51
"""Bins of the official code: 0 is kept for zero, 1..50 hold the non-zero values."""
MAX_LENGTH = 1200
"""Longest sequence of the official embedding path, `<cls>` included."""

TOGETHER = 1_024
"""Cells, from the first on, that an encoder puts into batches together. What else is in its batch decides the last bits
of a cell's state: whoever embeds whole groups of so many, in whatever order, gets the states of all cells at once."""
BLOCK = 2**18
"""Values in one block of cells, or one cell; bounds the memory, not the result."""
_CHUNK = 2**15  # values that are binned at a time: the arrays stay in the processor's cache
_CHUNK_CELLS = 4_096
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Tokens:
    """Tokens of many cells, end to end; `<cls>` is added when a batch is made.

    Five bytes a token, plus one offset a cell.
    """

    gene_ids: NDArray[np.int32]
    """(n_tokens,) vocabulary ids."""
    bins: NDArray[np.uint8]
    """(n_tokens,) value bins, 1..50."""
    offsets: NDArray[np.int64]
    """(n_cells + 1,) cell i holds tokens offsets[i]:offsets[i + 1]."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n_cells,) tokens of each cell, without `<cls>`."""
        return np.diff(self.offsets)

    def take(self, cells: NDArray[np.integer]) -> Tokens:
        """Return the tokens of some cells, in the order asked for."""
        lengths = self.lengths[cells]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        where = np.repeat(self.offsets[:-1][cells] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Tokens(self.gene_ids[where], self.bins[where], offsets)

    def groups(self, n: int) -> Iterator[Tokens]:
        """Tokens of `n` cells, then of the next; the last may be fewer.

        Examples
        --------
        >>> of_five = Tokens(np.zeros(5, np.int32), np.ones(5, np.uint8), np.arange(6))
        >>> [len(group) for group in of_five.groups(2)]
        [2, 2, 1]
        """
        return (self.take(np.arange(start, min(start + n, len(self)))) for start in range(0, len(self), n))


@dataclass(frozen=True)
class TokenBlocks:
    """Tokens of many cells that are made a block of cells at a time, and not kept."""

    lengths: NDArray[np.int64] = field(repr=False)
    """(n_cells,) values of each, by which the blocks are cut."""
    make: Callable[[slice], Tokens] = field(repr=False)
    """Tokens of a run of cells."""

    def __len__(self) -> int:
        return len(self.lengths)

    def groups(self, n: int) -> Iterator[Tokens]:
        """Tokens of `n` cells, then of the next; the last may be fewer."""
        return (self._span(start, min(start + n, len(self))) for start in range(0, len(self), n))

    def all(self) -> Tokens:
        """Tokens of all cells, end to end."""
        return self._span(0, len(self))

    def _span(self, start: int, stop: int) -> Tokens:
        """Tokens of the cells from one to before another, made a block at a time."""
        blocks = runs(self.lengths[start:stop], BLOCK)
        return _joined([self.make(slice(start + block.start, start + block.stop)) for block in blocks])


def runs(lengths: NDArray[np.integer], most: int, most_cells: int | None = None) -> Iterator[slice]:
    """Cells in runs of at most so many values together (or one cell), and of at most so many cells.

    Examples
    --------
    >>> [(run.start, run.stop) for run in runs(np.array([4, 4, 9, 1, 1, 1]), 8)]
    [(0, 2), (2, 3), (3, 6)]
    """
    ends, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        stop = stop if most_cells is None else min(stop, start + most_cells)
        yield slice(start, stop)
        start = stop


def tokenize(
    matrix: sparse.csr_matrix,
    gene_ids: NDArray[np.int32],
    *,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    long_cells: str = "random",
) -> Tokens:
    """Turn expression values into tokens, without densifying.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) CSR of counts or of any strictly increasing per-cell transform of them.
    gene_ids
        (n_genes,) vocabulary id of every column, negative where the vocabulary lacks the gene.
    seed
        Of the draws among admissible bins, and of the sample of genes in cells that are too long.
    max_length
        Longest sequence with `<cls>`. Of longer cells max_length - 1 genes are kept, after binning.
    long_cells
        Which: `random` ones, drawn without replacement, as in the official code, or those of the `highest` bins, the
        same draw deciding among equals.

    Raises
    ------
    DatasetError
        Negative, infinite or missing values, or a cell without one expressed gene of the vocabulary.

    Examples
    --------
    >>> cells = sparse.csr_matrix(np.array([[0.0, 1.0, 3.0]], dtype=np.float32))
    >>> tokens = tokenize(cells, np.array([5, 6, 7], dtype=np.int32))
    >>> tokens.gene_ids.tolist(), tokens.bins.tolist()
    ([6, 7], [1, 50])
    """
    max_length, long_cells = hold(MaxLength, "max_length", max_length), hold(LongCells, "long_cells", long_cells)
    chunks = runs(np.diff(matrix.indptr), _CHUNK, _CHUNK_CELLS)
    return _joined([_tokenize_chunk(matrix[run], gene_ids, seed, max_length, long_cells, run.start) for run in chunks])


def _joined(parts: list[Tokens]) -> Tokens:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Tokens(np.empty(0, np.int32), np.empty(0, np.uint8), np.zeros(1, np.int64))
    lengths = np.concatenate([part.lengths for part in parts])
    return Tokens(
        np.concatenate([part.gene_ids for part in parts]),
        np.concatenate([part.bins for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def _tokenize_chunk(
    matrix: sparse.csr_matrix, gene_ids: NDArray[np.int32], seed: int, max_length: int, long_cells: str, first: int
) -> Tokens:
    ids, values, offsets = _matched_values(matrix, gene_ids, first)
    lo, hi = admissible_bins(values, offsets)
    hashes = _draws(ids, offsets, seed)
    # a bin uniform on {lo + 1, ..., hi}, from the upper 32 bits of the token's hash; hi where lo == hi
    width = (hi - lo).astype(np.uint64)
    bins = (hi - (((hashes >> np.uint64(32)) * width) >> np.uint64(32)).astype(np.int64)).astype(np.uint8)
    tokens = Tokens(ids, bins, offsets)
    return _shorten(tokens, hashes, max_length - 1, long_cells)


def _matched_values(
    matrix: sparse.csr_matrix, gene_ids: NDArray[np.int32], first: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Non-zero values of matched genes, end to end, with their gene ids and cell offsets."""
    values = matrix.data.astype(np.float32, copy=False)
    if len(values) and not (np.isfinite(values).all() and values.min() >= 0):
        raise DatasetError(
            "expression values must be finite and not negative (counts or log-normalised values); "
            f"seen: {_first_bad(values)}. Scaled or batch-corrected matrices cannot be binned."
        )
    ids = gene_ids[matrix.indices]
    keep = (ids >= 0) & (values > 0)
    lengths = np.diff(np.concatenate([[0], np.cumsum(keep)])[matrix.indptr])
    if (lengths == 0).any():
        rows = np.flatnonzero(lengths == 0)
        raise DatasetError(
            f"{len(rows)} cell(s) express no gene of the vocabulary, the first in row {first + rows[0]}; "
            "leave them out, for example with scanpy.pp.filter_cells(adata, min_genes=200)"
        )
    return ids[keep], values[keep], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _first_bad(values: NDArray[np.float32]) -> float:
    return float(values[~np.isfinite(values) | (values < 0)][0])


def admissible_bins(
    values: NDArray[np.float32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each value, how many quantile edges of its cell are below it (lo) and not above it (hi).

    The official code then takes hi where lo == hi, else any of lo + 1, ..., hi. The edges are computed
    with the arithmetic of `numpy.quantile`, to the last bit.

    Parameters
    ----------
    values
        (n_tokens,) positive values, cell after cell; at most 65,536 a cell and 65,536 cells.
    offsets
        (n_cells + 1,)

    Examples
    --------
    >>> lo, hi = admissible_bins(np.array([1, 1, 9], dtype=np.float32), np.array([0, 3]))
    >>> lo.tolist(), hi.tolist()
    ([0, 0, 49], [25, 25, 50])
    """
    lengths = np.diff(offsets)
    rows = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    starts = np.repeat(offsets[:-1], lengths)
    position = (np.arange(len(values)) - starts).astype(np.uint64)
    # one sort for all cells: cell, value (the bits of a positive float sort as it does), position
    sort_key = (rows << np.uint64(48)) | (values.view(np.uint32).astype(np.uint64) << np.uint64(16)) | position
    sort_key.sort()
    order = (sort_key & np.uint64(0xFFFF)).astype(np.int64) + starts
    ranked = sort_key >> np.uint64(16)  # cell and value
    first, after = _edge_positions(ranked, offsets)
    n_edges = N_BINS - 1
    before = np.repeat(np.arange(len(lengths)) * n_edges, lengths)  # edges of the cells in front
    lo, hi = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    hi[order] = np.cumsum(np.bincount(first, minlength=len(values) + 1))[:-1] - before
    lo[order] = np.cumsum(np.bincount(after, minlength=len(values) + 1))[:-1] - before
    return lo, hi


def _edge_positions(
    ranked: NDArray[np.uint64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions, among the sorted values, of the first value >= and > each edge, (n_cells * 50,)."""
    lengths = np.diff(offsets)
    values = ranked.astype(np.uint32).view(np.float32)  # the lower 32 bits are the value
    virtual = (lengths[:, None] - 1) * np.linspace(0, 1, N_BINS - 1)  # (n_cells, 50), as numpy.quantile
    previous = np.floor(virtual).astype(np.int64)
    following = np.minimum(previous + 1, lengths[:, None] - 1)
    gamma = virtual - previous
    previous, following = previous + offsets[:-1, None], following + offsets[:-1, None]
    a, b = values[previous], values[following]
    difference = b - a
    edges = np.where(gamma < 0.5, a + difference * gamma, b - difference * (1 - gamma))

    new = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    group = np.cumsum(new) - 1
    bounds = np.concatenate([np.flatnonzero(new), [len(ranked)]])
    at_a, at_b = edges == a, edges == b
    tied = group[np.where(at_a, previous, following)]
    first = np.where(at_a | at_b, bounds[tied], following)
    after = np.where(at_a | at_b, bounds[tied + 1], following)
    return first.ravel(), after.ravel()


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64 (Steele et al. 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _draws(ids: NDArray[np.int32], offsets: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """One 64-bit hash a token, of (seed, the set of genes of its cell, its gene)."""
    genes = _mix((ids.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(genes, dtype=np.uint64)])
    cells = total[offsets[1:]] - total[offsets[:-1]]  # wraps around: a sum knows no order
    salt = _mix(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)
    return _mix(genes ^ np.repeat(_mix(cells ^ salt), np.diff(offsets)))


def _shorten(tokens: Tokens, hashes: NDArray[np.uint64], longest: int, which: str) -> Tokens:
    """Keep, in cells that are too long, the genes with the smallest second hash, or with the highest bins before."""
    if not (tokens.lengths > longest).any():
        return tokens
    keep = np.ones(len(tokens.gene_ids), dtype=bool)
    for cell in np.flatnonzero(tokens.lengths > longest):
        span = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        drawn: NDArray[np.integer] = _mix(hashes[span] ^ _GOLDEN)
        if which == "highest":
            drawn = np.argsort(np.lexsort((drawn, -tokens.bins[span].astype(np.int64))))  # rank of each
        dropped = np.argpartition(drawn, longest)[longest:]
        keep[tokens.offsets[cell] + dropped] = False
    lengths = np.minimum(tokens.lengths, longest)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(tokens.gene_ids[keep], tokens.bins[keep], offsets)
