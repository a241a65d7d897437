"""Matrices of cells x genes as anndata, scipy and HDF5 permit them, made into one kind: canonical CSR of float32.

Every matrix comes in through `canonical`. It looks at row pointers and column numbers before any compiled routine of
scipy does, which trusts them and reads or writes outside its arrays where they are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import DatasetError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

NO_X = "this AnnData has no X; name a layer (layer=...), or set adata.X = adata.layers[...]"
BLOCK = 2**24
"""Values of a dense matrix that are looked at at once; bounds the memory, not the result."""
_PART = 2**20
_ZEROS = 8  # numbers of a dense matrix for one that is not zero, about


def in_memory(adata: AnnData) -> AnnData:
    """Return an AnnData whose matrices and tables are in memory: itself, or what its file holds.

    Raises
    ------
    DatasetError
        It is backed by a file that cannot be read any more.
    """
    import pandas as pd

    if not adata.isbacked and isinstance(adata.obs, pd.DataFrame):
        return adata
    try:
        return adata.to_memory()
    except Exception as error:  # its file is closed, gone or damaged
        raise DatasetError(_unreadable("this AnnData", error)) from error


def _unreadable(what: str, error: Exception) -> str:
    return (
        f"{what} lies in a file and cannot be read ({error}); open the file again and call "
        "adata = adata.to_memory() before it is closed"
    )


def values_of(adata: AnnData, layer: str | None = None, *, shared: bool = False) -> sparse.csr_matrix:
    """Take X, `raw` or a layer out of an AnnData, canonical and independent of it.

    Where it may be `shared`, the numbers of columns and rows (not the values) are those of the AnnData, if they are in
    order.

    Raises
    ------
    DatasetError
        There is no such layer, or it is damaged or holds no numbers.

    Examples
    --------
    >>> import anndata
    >>> values_of(anndata.AnnData(np.eye(3, dtype=np.float32))).nnz
    3
    """
    name = layer or "X"
    if name == "raw":
        if adata.raw is None:
            raise DatasetError(f"layer 'raw' was asked for, but this AnnData has no .raw; it has: {_listed(adata)}")
        return canonical(adata.raw.X, (adata.n_obs, adata.raw.n_vars), "raw.X", shared=shared)
    if name != "X" and name not in adata.layers:
        raise DatasetError(f"layer {name!r} does not exist; this AnnData has: {_listed(adata)}")
    whole = getattr(adata, "_adata_ref", None) if adata.is_view else None
    for whose in (whole, adata):  # a view would slice a damaged matrix before anyone has looked at it
        matrix = None if whose is None else whose.X if name == "X" else whose.layers[name]
        if whose is whole is not None:
            refuse_broken(matrix, name)
    if matrix is None:
        raise DatasetError(NO_X)
    return canonical(matrix, adata.shape, name if name == "X" else f"layer {name!r}", shared=shared)


def spans_of(adata: AnnData) -> tuple[NDArray[np.int64], Callable[[slice], sparse.csr_matrix]]:
    """Read X in runs of cells: (n_cells,) about how many values each has, and what makes a run of them canonical.

    Rows are read where they lie, if X is CSR or dense; of another form a canonical copy is made by `values_of`.

    Raises
    ------
    DatasetError
        There is no X, or it is damaged or holds no numbers.

    Examples
    --------
    >>> import anndata
    >>> lengths, read = spans_of(anndata.AnnData(np.eye(3, dtype=np.float32)))
    >>> lengths.tolist(), read(slice(1, 3)).nnz
    ([1, 1, 1], 2)
    """
    n_cells, n_genes = adata.shape
    whole: Any = None if adata.is_view or adata.isbacked else adata.X
    dense = type(whole) is np.ndarray
    if not dense and not (getattr(whole, "format", None) == "csr" and hasattr(whole, "nnz")):
        copied = values_of(adata)
        return np.diff(copied.indptr).astype(np.int64), lambda run: copied[run]
    refuse_broken(whole, "X")
    lengths = np.full(n_cells, -(-n_genes // _ZEROS)) if dense else np.diff(whole.indptr).astype(np.int64)
    return lengths, lambda run: canonical(whole[run], (run.stop - run.start, n_genes), "X")


def layer_names(adata: AnnData) -> tuple[str, ...]:
    """`X`, `raw` where there is one, and the names of layers but those two, by which no layer is found."""
    own = (name for name in map(str, adata.layers) if name not in ("X", "raw"))
    return ("X", *(["raw"] if adata.raw is not None else []), *own)


def _listed(adata: AnnData) -> str:
    return ", ".join(layer_names(adata))


def canonical(matrix: Any, shape: tuple[int, int], what: str, *, shared: bool = False) -> sparse.csr_matrix:
    """Make CSR float32 of any matrix: entries that stand twice summed, columns in order, no stored zeros.

    Parameters
    ----------
    matrix
        Sparse of any format, dense, or in a file; it is not changed and shares no memory with the result.
    shared
        Whether the numbers of columns and rows may be shared after all, as `values_of` says.
    shape
        (n_cells, n_genes) that it must have.
    what
        Its name in errors.

    Raises
    ------
    DatasetError
        It is damaged, cannot be read, or holds something else than real numbers.

    Examples
    --------
    >>> from scipy import sparse
    >>> twice = sparse.csr_matrix(([1, 2, 3], [2, 0, 2], [0, 3]), shape=(1, 3))
    >>> canonical(twice, (1, 3), "X").toarray().tolist()
    [[2.0, 0.0, 4.0]]
    """
    try:
        matrix = _loaded(matrix)
        taken = _sharing(matrix, what) if shared else None
        csr = _as_csr(matrix, what) if taken is None else taken
    except DatasetError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:  # what files and lazy arrays raise
        raise DatasetError(_unreadable(what, error)) from error
    if csr.shape != tuple(shape):
        raise DatasetError(f"{what} has the shape {csr.shape}, but there are {shape[0]} cells and {shape[1]} genes")
    csr.sum_duplicates()
    csr.eliminate_zeros()
    return csr


def _loaded(matrix: Any) -> Any:
    """The matrix itself, or what a sparse matrix in a file (anndata) or a lazy one (dask) stands for."""
    for method in ("to_memory", "compute"):
        if hasattr(matrix, method):
            return getattr(matrix, method)()
    return matrix


def _sharing(matrix: Any, what: str) -> sparse.csr_matrix | None:
    """CSR on the numbers of columns and rows of a matrix; None where they are not in order."""
    from scipy import sparse

    if getattr(matrix, "format", None) != "csr" or not hasattr(matrix, "nnz"):
        return None
    refuse_broken(matrix, what)
    csr = sparse.csr_matrix((_numbers(matrix.data, what), matrix.indices, matrix.indptr), shape=matrix.shape)
    if len(matrix.data) != matrix.nnz or not csr.has_canonical_format or not csr.data.all():
        return None
    return csr


def _as_csr(matrix: Any, what: str) -> sparse.csr_matrix:
    from scipy import sparse

    if not sparse.issparse(matrix):
        return _from_dense(matrix, what)
    refuse_broken(matrix, what)
    if matrix.format in ("csr", "csc", "bsr"):
        kind = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "bsr": sparse.bsr_matrix}[matrix.format]
        n = int(matrix.indptr[-1])  # arrays may be longer than what is used of them
        parts = (_numbers(matrix.data[:n], what), matrix.indices[:n].copy(), matrix.indptr.copy())
        return kind(parts, shape=matrix.shape).tocsr()
    if matrix.format in ("lil", "dok"):
        matrix = matrix.tocoo()
        refuse_broken(matrix, what)
    if matrix.format == "dia":
        matrix = sparse.dia_matrix((_numbers(matrix.data, what), matrix.offsets), shape=matrix.shape).tocoo()
    return sparse.coo_matrix((_numbers(matrix.data, what), matrix.coords), shape=matrix.shape).tocsr()


def _from_dense(matrix: Any, what: str) -> sparse.csr_matrix:
    from scipy import sparse

    if not hasattr(matrix, "shape") or hasattr(matrix, "iloc"):  # a table, or a list
        matrix = np.asarray(matrix)
    if len(matrix.shape) != 2:
        raise DatasetError(f"{what} has {len(matrix.shape)} dimension(s), but cells x genes are two")
    step = max(1, BLOCK // max(1, matrix.shape[1]))
    parts = [
        sparse.csr_matrix(_numbers(matrix[start : start + step], what)) for start in range(0, matrix.shape[0], step)
    ]
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(matrix.shape, dtype=np.float32)


def _numbers(values: Any, what: str) -> NDArray[np.float32]:
    """A new array of float32; what is masked is missing."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    found = np.asarray(values)
    if found.dtype.kind not in "biufO":
        raise DatasetError(f"{what} holds {found.dtype} values; real numbers are needed: counts or log-values")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite is refused by `refuse_bad_values`
            return found.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{what} holds something that is no number: {error}") from error


def refuse_broken(matrix: Any, what: str) -> None:
    """Refuse a sparse matrix whose pointers or column numbers lead outside it.

    Raises
    ------
    DatasetError
        Says what is wrong.
    """
    kind = getattr(matrix, "format", None)
    if not hasattr(matrix, "nnz"):  # dense, or still in its file
        return
    problem = None
    if kind in ("csr", "csc", "bsr"):
        problem = _broken_pointers(matrix)
    elif kind == "coo":
        problem = _broken_coordinates(matrix)
    if problem is not None:
        raise DatasetError(f"{what} is damaged: {problem}. Take the file, or the matrix, from its source again")


def _broken_pointers(matrix: Any) -> str | None:
    height, width = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    rows, columns = matrix.shape[0] // height, matrix.shape[1] // width
    if matrix.format == "csc":
        rows, columns = columns, rows
    indptr, indices = np.asarray(matrix.indptr), np.asarray(matrix.indices)
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu":
        return f"its indptr and indices are {indptr.dtype} and {indices.dtype}, not integers"
    if indptr.shape != (rows + 1,):
        return f"its indptr has {indptr.size:,} numbers instead of {rows + 1:,}"
    if len(indices) != len(matrix.data):
        return f"it has {len(matrix.data):,} values and {len(indices):,} indices"
    steps = np.diff(indptr.astype(np.int64))
    if indptr[0] != 0 or (steps < 0).any() or indptr[-1] > len(indices):
        return f"its indptr does not rise from 0 to at most {len(indices):,}"
    return _outside(indices[: indptr[-1]], columns, "indices")


def _broken_coordinates(matrix: Any) -> str | None:
    for axis, places in enumerate(matrix.coords):
        if len(places) != len(matrix.data):
            return f"it has {len(matrix.data):,} values and {len(places):,} coordinates"
        problem = _outside(np.asarray(places), matrix.shape[axis], "coordinates")
        if problem is not None:
            return problem
    return None


def _outside(places: NDArray[Any], size: int, name: str) -> str | None:
    if places.dtype.kind not in "iu":
        return f"its {name} are {places.dtype}, not integers"
    low, high = (int(places.min()), int(places.max())) if places.size else (0, -1)
    return f"its {name} go from {low:,} to {high:,}, outside 0 to {size - 1:,}" if low < 0 or high >= size else None


def parts_of(array: NDArray[Any]) -> Iterator[slice]:
    """Parts of an array that are worked on one at a time; bounds the memory, not the result.

    Examples
    --------
    >>> [part.stop for part in parts_of(np.zeros(3 * 2**20))] == [2**20, 2 * 2**20, 3 * 2**20]
    True
    """
    return (slice(start, min(start + _PART, len(array))) for start in range(0, len(array), _PART))


def refuse_bad_values(csr: sparse.csr_matrix, genes: Any, cells: Any) -> None:
    """Refuse values that are missing, infinite or negative; names the first cell and gene.

    Raises
    ------
    DatasetError
        There is such a value.
    """
    n_bad, first = 0, 0
    for part in parts_of(csr.data):
        bad = np.flatnonzero(~(np.isfinite(csr.data[part]) & (csr.data[part] >= 0)))
        first = part.start + int(bad[0]) if len(bad) and not n_bad else first
        n_bad += len(bad)
    if n_bad:
        cell = cells[np.searchsorted(csr.indptr, first, side="right") - 1]
        gene = genes[csr.indices[first]]
        raise DatasetError(
            f"{n_bad:,} values are missing, infinite (or above 3.4e38) or negative, the first is "
            f"{csr.data[first]} in cell {str(cell)!r}, gene {str(gene)!r}; counts or log-normalised values are needed",
            values="partly missing, infinite or negative",
        )
