"""Reference cells: some of the labelled cells, kept so that a model can be fitted again on the genes of a query."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.models import Reference
from frostline.cells.datasets import Dataset
from frostline.cells.draws import seeded_order
from frostline.cells.matrices import canonical, refuse_bad_values, values_of
from frostline.cells.values import describe, log_normalise
from frostline.errors import DatasetError, ModelError

if TYPE_CHECKING:
    from scipy import sparse

LARGEST = 2**32
"""Bytes that reference cells unpack to, at most."""


def reference_of(dataset: Dataset, cells: NDArray[np.integer], per_class: int, *, seed: int) -> Reference | None:
    """Draw so many cells of each class, evenly from its groups.

    Parameters
    ----------
    dataset
        What `load_dataset` returned.
    cells
        Rows that may be drawn.
    per_class
        Cells of each class at most; 0 for none.
    seed
        Of the draw.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> pancreas = load_dataset("pancreas")
    >>> reference_of(pancreas, np.arange(175), 8, seed=42).values.shape
    (40, 12474)
    """
    if not per_class:
        return None
    rows = _drawn(dataset, cells, per_class, seed)
    counts = _counts(dataset, rows)
    values = dataset.matrix[rows] if counts is None else counts
    if counts is None:
        values.data = np.expm1(values.data)
    groups = None if dataset.groups is None else dataset.groups[rows]
    return Reference(values, dataset.labels[rows], groups, counted=counts is not None)


def _drawn(dataset: Dataset, cells: NDArray[np.integer], per_class: int, seed: int) -> NDArray[np.integer]:
    """Rows, ascending: of each class the first ones of every group, then the second ones, and so on."""
    import pandas as pd

    rows = cells[seeded_order(dataset.cells[cells], f"{seed}/reference")]
    table = pd.DataFrame({"row": rows, "label": dataset.labels[rows]})
    table["group"] = "" if dataset.groups is None else dataset.groups[rows]
    table["turn"] = table.groupby(["label", "group"]).cumcount()
    chosen = table.sort_values("turn", kind="stable").groupby("label").head(per_class)
    return np.sort(chosen["row"].to_numpy())


def _counts(dataset: Dataset, rows: NDArray[np.integer]) -> sparse.csr_matrix | None:
    """Counts of some cells as they were loaded; None where there are none, or the AnnData holds others by now."""
    if dataset.sets:  # each had a matrix of its own
        return None
    try:
        matrix = values_of(dataset.adata, dataset.given.get("layer") or None)
        if matrix.shape != dataset.matrix.shape or matrix.nnz != dataset.matrix.nnz:
            return None
        refuse_bad_values(matrix, dataset.genes, dataset.cells)
        found = describe(matrix, dataset.given.get("values") or None)
    except DatasetError:  # its values were changed in place since
        return None
    if not found.whole:
        return None
    counts = matrix[rows]
    again = counts.copy()
    log_normalise(again, found)
    if not _alike(again, dataset.matrix[rows]):
        return None
    counts.data = np.rint(found.transform.undo(counts.data.astype(np.float64))).astype(np.float32)
    return counts


def _alike(one: sparse.csr_matrix, other: sparse.csr_matrix) -> bool:
    """Whether canonical matrices hold the same values, but for rounding."""
    same = np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)
    return same and np.allclose(one.data, other.data, rtol=1e-4, atol=1e-6)


def packed(reference: Reference) -> bytes:
    """Content of an .npz file: plain arrays, as small as they can be without loss."""
    values = reference.values
    arrays: dict[str, NDArray[Any]] = {
        "data": values.data.astype(np.uint32) if reference.counted else values.data,
        "indices": values.indices,
        "indptr": values.indptr,
        "shape": np.array(values.shape),
        "counted": np.array(reference.counted, dtype=np.uint8),
    }
    for name, texts in (("labels", reference.labels), ("groups", reference.groups)):
        if texts is not None:
            arrays[f"{name}_names"], arrays[name] = np.unique(texts, return_inverse=True)
    file = io.BytesIO()
    np.savez_compressed(file, **{name: _smallest(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return file.getvalue()


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in fewer bytes; anything else as it is."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    return array.astype(np.min_scalar_type(int(array.max())))


def unpacked(content: bytes, name: str, n_genes: int) -> Reference:
    """Rebuild what `packed` returned.

    Parameters
    ----------
    content, name
        Of the file.
    n_genes
        Genes of the model.

    Raises
    ------
    ModelError
        The file holds anything else; an array of Python objects is not read.
    """
    try:
        arrays = _arrays(content)
        shape = tuple(int(n) for n in arrays["shape"])
        if len(shape) != 2 or shape[1] != n_genes:
            raise ValueError(f"the values are of shape {shape}, and the model has {n_genes:,} genes")
        values = _csr(arrays, (shape[0], shape[1]))
        texts = {key: _texts(arrays, key, shape[0]) for key in ("labels", "groups")}
    except (ValueError, KeyError, IndexError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name} holds no reference cells that can be read: {error}; keep the model again") from error
    if texts["labels"] is None:
        raise ModelError(f"{name} holds reference cells without labels; keep the model again")
    return Reference(values, texts["labels"], texts["groups"], counted=bool(arrays["counted"]))


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > LARGEST:
        raise ValueError(f"it unpacks to {size:,} bytes, at most {LARGEST:,} are read")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _csr(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> sparse.csr_matrix:
    from scipy import sparse

    parts = arrays["data"].astype(np.float32), arrays["indices"].astype(np.int64), arrays["indptr"].astype(np.int64)
    if not np.isfinite(parts[0]).all() or (parts[0] < 0).any():
        raise ValueError("values are negative or not finite")
    return canonical(sparse.csr_matrix(parts, shape=shape), shape, "the values")


def _texts(arrays: Mapping[str, NDArray[Any]], key: str, n: int) -> NDArray[np.str_] | None:
    if key not in arrays:
        return None
    texts = arrays[f"{key}_names"].astype(str)[arrays[key]]
    if texts.shape != (n,):
        raise ValueError(f"{len(texts)} {key} for {n} cells")
    return np.asarray(texts, dtype=str)
