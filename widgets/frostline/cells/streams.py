"""Values of cells in runs of rows, so that a file larger than memory is read a part at a time.

Rows of a dense matrix and of CSR are read where they lie. CSC keeps them gene by gene: one pass sorts its entries into
a temporary folder, by runs of cells, which is slow, and said.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.matrices import canonical
from frostline.cells.values import SAMPLE
from frostline.errors import DatasetError
from frostline.scratch import scratch_folder

if TYPE_CHECKING:
    from scipy import sparse

ENTRIES = 2**21
"""Entries of a CSC matrix that are sorted at once, and about as many as one run of its cells has; bounds the memory."""
SAMPLED, PROBED = 2**18, 100
"""Entries that a sample of rows has, about; rows that it has in any case, and that show how many entries a row has."""
_ENTRY = np.dtype([("row", "<i8"), ("column", "<i4"), ("value", "<f4")])


@dataclass(frozen=True)
class Rows:
    """A matrix of cells x genes that is read in runs of rows."""

    shape: tuple[int, int]
    span: Callable[[int, int], sparse.csr_matrix] = field(repr=False)
    """Rows from one to before another, (n, n_genes) canonical CSR float32."""
    hold: NDArray[np.bool_] = field(repr=False)
    """(n_cells,) whether a row may hold a value."""
    note: str = ""
    """What must be said about reading it."""

    @property
    def filled(self) -> NDArray[np.int64]:
        """Rows that may hold a value."""
        return np.flatnonzero(self.hold).astype(np.int64, copy=False)

    def take(self, rows: NDArray[np.integer]) -> sparse.csr_matrix:
        """Some rows, in rising order; (n, n_genes) canonical CSR float32."""
        from scipy import sparse

        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        parts = [self.span(int(run[0]), int(run[-1]) + 1) for run in runs]
        return sparse.vstack(parts, format="csr") if parts else self.span(0, 0)

    def spread(self, n: int) -> NDArray[np.int64]:
        """At most `n` rows that may hold a value, evenly spread; fewer where these hold many, to bound the memory.

        Examples
        --------
        >>> from scipy import sparse
        >>> in_memory(sparse.eye(9, format="csr", dtype="f4")).spread(3).tolist()
        [0, 4, 8]
        """
        if n > PROBED:
            probed = self._evenly(PROBED)
            entries = self.take(probed).nnz / max(1, len(probed))
            n = min(n, max(PROBED, int(SAMPLED / max(1.0, entries))))
        return self._evenly(n)

    @functools.cached_property
    def sample(self) -> tuple[NDArray[np.int64], sparse.csr_matrix]:
        """Rows that `spread` chooses of 2,000, and their values, which are read once and not to be changed."""
        rows = self.spread(SAMPLE)
        return rows, self.take(rows)

    def forget(self) -> None:
        """Let the sample go, which is read again when it is asked for."""
        vars(self).pop("sample", None)

    def _evenly(self, n: int) -> NDArray[np.int64]:
        filled = self.filled
        places = np.linspace(0, len(filled) - 1, min(n, len(filled)))
        return filled[np.unique(places.astype(np.int64))]

    def chunks(self, size: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """(first row, rows) of all, `size` at a time."""
        for start in range(0, self.shape[0], size):
            yield start, self.span(start, min(start + size, self.shape[0]))


def in_memory(matrix: sparse.csr_matrix) -> Rows:
    """Rows of a canonical matrix."""
    return Rows(matrix.shape, lambda start, stop: matrix[start:stop], np.diff(matrix.indptr) > 0)


def in_file(part: Any, shape: tuple[int, int], what: str, stack: ExitStack) -> Rows:
    """Rows of a matrix in an open .h5ad file or zarr store.

    Parameters
    ----------
    part
        The array or the group.
    shape
        (n_cells, n_genes) that it must have.
    what
        Its name in errors.
    stack
        Keeps what was sorted until it is closed.

    Raises
    ------
    DatasetError
        It is damaged, or of another shape.
    """
    kind = _kind(part)
    if kind == "dense":
        _refuse_other_shape(part.shape, shape, what)
        every = np.ones(shape[0], dtype=bool)
        return Rows(shape, lambda start, stop: canonical(part[start:stop], (stop - start, shape[1]), what), every)
    found = part.attrs["shape"] if "shape" in part.attrs else part.attrs.get("h5sparse_shape", ())
    _refuse_other_shape(tuple(map(int, found)), shape, what)
    pointers = _pointers(part, shape[0 if kind == "csr" else 1], what)
    return _by_rows(part, pointers, shape, what) if kind == "csr" else _by_columns(part, pointers, shape, what, stack)


def in_range(part: Any, shape: tuple[int, int], what: str, start: int, stop: int) -> sparse.csr_matrix:
    """Rows from one to before another of a matrix in an open file; nothing of the others is read, nor where they are.

    Parameters
    ----------
    part, shape, what
        As for `in_file`.
    start, stop
        The rows.

    Raises
    ------
    DatasetError
        It is damaged, or stored gene by gene (CSC), where a row is everywhere.
    """
    from scipy import sparse

    refuse_by_gene(part, what)
    here = (stop - start, shape[1])
    if _kind(part) == "dense":
        return canonical(part[start:stop], here, what)
    pointers = np.asarray(part["indptr"][start : stop + 1]).astype(np.int64)
    there = slice(int(pointers[0]), int(pointers[-1]))
    parts = part["data"][there], part["indices"][there], pointers - pointers[0]
    return canonical(sparse.csr_matrix(parts, shape=here), here, what)


def refuse_by_gene(part: Any, what: str) -> None:
    """Refuse a matrix in an open file in which each cell is everywhere.

    Raises
    ------
    DatasetError
        Holds the line that writes it otherwise.
    """
    if _kind(part) == "csc":
        raise DatasetError(
            f"{what} is stored gene by gene (CSC), where a part of the cells cannot be read by itself; write it as "
            "CSR: adata.X = adata.X.tocsr(); adata.write_h5ad(...)"
        )


def _kind(part: Any) -> str:
    """`dense`, `csr` or `csc`."""
    if not hasattr(part, "keys"):
        return "dense"
    said = str(part.attrs.get("encoding-type", part.attrs.get("h5sparse_format", "")))
    kind = said.removesuffix("_matrix")
    if kind not in ("csr", "csc"):
        raise DatasetError(f"{part.name} holds {said or 'an unnamed kind of'} data; a dense, CSR or CSC matrix is read")
    return kind


def _refuse_other_shape(found: tuple[int, ...], shape: tuple[int, int], what: str) -> None:
    if found != shape:
        raise DatasetError(f"{what} has the shape {found}, but there are {shape[0]} cells and {shape[1]} genes")


def _pointers(part: Any, n: int, what: str) -> NDArray[np.int64]:
    """(n + 1,) where the entries of each row or column begin; they rise within what is there."""
    found, entries = np.asarray(part["indptr"][:]).astype(np.int64, copy=False), part["data"].shape[0]
    sound = found.shape == (n + 1,) and found[0] == 0 and (np.diff(found) >= 0).all() and found[-1] <= entries
    if not sound or part["indices"].shape[0] != entries:
        raise DatasetError(
            f"{what} is damaged: its {len(found):,} pointers do not lead through {entries:,} values and "
            f"{part['indices'].shape[0]:,} indices. Take the file from its source again"
        )
    return found


def _by_rows(part: Any, pointers: NDArray[np.int64], shape: tuple[int, int], what: str) -> Rows:
    from scipy import sparse

    data, indices = part["data"], part["indices"]  # to find them takes as long as to read a row

    def span(start: int, stop: int) -> sparse.csr_matrix:
        there = slice(int(pointers[start]), int(pointers[stop]))
        parts = data[there], indices[there], pointers[start : stop + 1] - pointers[start]
        return canonical(sparse.csr_matrix(parts, shape=(stop - start, shape[1])), (stop - start, shape[1]), what)

    return Rows(shape, span, np.diff(pointers) > 0)


def _by_columns(part: Any, pointers: NDArray[np.int64], shape: tuple[int, int], what: str, stack: ExitStack) -> Rows:
    """Sort the entries by runs of cells into files, and read those."""
    folder = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
    run = max(1, shape[0] * ENTRIES // max(ENTRIES, int(pointers[-1])))  # cells in one file
    lengths = np.zeros(shape[0], dtype=np.int64)
    for start in range(0, int(pointers[-1]), ENTRIES):
        block = _block(part, pointers, slice(start, min(start + ENTRIES, int(pointers[-1]))), shape, what)
        lengths += np.diff(block.indptr)
        _sort_in(block, folder, run)
    held: dict[int, sparse.csr_matrix] = {}

    def one(number: int) -> sparse.csr_matrix:
        if number not in held:
            held.clear()
            held[number] = _read_run(folder / str(number), number * run, min(run, shape[0] - number * run), shape[1])
        return held[number]

    def span(start: int, stop: int) -> sparse.csr_matrix:
        from scipy import sparse

        parts = [
            one(number)[max(start - number * run, 0) : stop - number * run]
            for number in range(start // run, -(-stop // run))
        ]
        return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, shape[1]), dtype=np.float32)

    note = (
        f"{what} is stored gene by gene (CSC): its {int(pointers[-1]):,} values were sorted by cells first, which is "
        "slow; written as CSR (adata.X = adata.X.tocsr()) it is read at once."
    )
    return Rows(shape, span, lengths > 0, note)


def _block(
    part: Any, pointers: NDArray[np.int64], there: slice, shape: tuple[int, int], what: str
) -> sparse.csr_matrix:
    """Some entries of a CSC matrix as CSR."""
    from scipy import sparse

    columns = np.searchsorted(pointers, np.arange(there.start, there.stop), side="right") - 1
    rows = part["indices"][there]
    outside = (rows < 0) | (rows >= shape[0])
    if outside.any():
        raise DatasetError(
            f"{what} is damaged: it has a value of cell {int(rows[outside][0]):,}, and there are {shape[0]:,}. "
            "Take the file from its source again"
        )
    return canonical(sparse.coo_matrix((part["data"][there], (rows, columns)), shape=shape), shape, what)


def _sort_in(block: sparse.csr_matrix, folder: Path, run: int) -> None:
    """Append the entries of each run of cells to its file."""
    entries = np.empty(block.nnz, dtype=_ENTRY)
    entries["row"] = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    entries["column"], entries["value"] = block.indices, block.data
    for number, start in enumerate(range(0, block.shape[0], run)):
        part = entries[block.indptr[start] : block.indptr[min(start + run, block.shape[0])]]
        if len(part):
            with (folder / str(number)).open("ab") as file:
                part.tofile(file)


def _read_run(path: Path, first: int, n: int, n_genes: int) -> sparse.csr_matrix:
    from scipy import sparse

    entries = np.fromfile(path, dtype=_ENTRY) if path.exists() else np.empty(0, dtype=_ENTRY)
    places = entries["row"] - first, entries["column"]
    found = sparse.coo_matrix((entries["value"], places), shape=(n, n_genes)).tocsr()
    found.sort_indices()
    return found
