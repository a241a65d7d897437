"""A data set that was opened to be looked at: its tables at once, its matrices when they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells import streams
from frostline.cells.catalogue import DATASETS, DatasetSpec
from frostline.cells.datasets import Dataset, refuse_unknown_source
from frostline.cells.matrices import NO_X, canonical, in_memory, refuse_broken, values_of
from frostline.cells.reading import opened, read_h5ad
from frostline.errors import DatasetError
from frostline.plain_files import expanded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

Rows = NDArray[np.int64] | None
"""Rows to read; None for all."""


@dataclass(frozen=True)
class Source:
    """Tables of an AnnData or a file, and a way to its matrices."""

    name: str
    obs: pd.DataFrame = field(repr=False)
    var: pd.DataFrame = field(repr=False)
    raw: Any = field(repr=False)
    """Has `var` and `n_vars`; None where there is no raw."""
    layers: Mapping[str, Any] = field(repr=False)
    """Only its names are of use."""
    read: Callable[[str, Rows], sparse.csr_matrix] = field(repr=False)
    """Canonical CSR float32 of X, raw or a layer, of some rows or all."""
    storage: Callable[[str], tuple[str, int] | None] = field(repr=False)
    """How a matrix is stored (CSR float32 ...), and the bytes that it takes in memory; None where there is none."""
    path: Path | None = None
    """The file; None for what is in memory."""
    spec: DatasetSpec | None = None
    """Of a registered data set."""

    @property
    def n_obs(self) -> int:
        """Cells."""
        return len(self.obs)

    @property
    def n_vars(self) -> int:
        """Genes of X and of the layers."""
        return len(self.var)

    def genes_of(self, layer: str) -> pd.DataFrame:
        """Table of the genes of X, raw or a layer."""
        table: pd.DataFrame = self.raw.var if layer == "raw" and self.raw is not None else self.var
        return table


def open_source(source: str | Path | AnnData | Dataset) -> Source:
    """Open what `load_dataset` takes, or what it made, and read no more than the tables of cells and genes.

    Raises
    ------
    DatasetError
        There is no such data set or file, or it cannot be read as .h5ad; says what was seen.

    Examples
    --------
    >>> pancreas = open_source("pancreas")
    >>> pancreas.n_obs, pancreas.n_vars, pancreas.storage("X")[0]
    (175, 12474, 'CSR float32')
    """
    if isinstance(source, Dataset):
        return _of_memory(source.adata, source.name)
    if isinstance(source, str) and source in DATASETS:
        spec = DATASETS[source]
        return _of_memory(spec.load(), spec.name, spec=spec)
    if not isinstance(source, str | Path):
        return _of_memory(_anndata(source), "adata")
    refuse_unknown_source(source)
    path = expanded(source)
    with opened(path) as file:
        return _of_file(file, path)


def _anndata(source: Any) -> AnnData:
    from anndata import AnnData

    if not isinstance(source, AnnData):
        kind = type(source).__name__
        raise DatasetError(f"a {kind} is no data set: give a name, the path of an .h5ad file, or an AnnData")
    return source


def _of_memory(adata: AnnData, name: str, *, path: Path | None = None, spec: DatasetSpec | None = None) -> Source:
    def read(layer: str, rows: Rows) -> sparse.csr_matrix:
        here = in_memory(adata)
        whole = here._adata_ref if here.is_view else here
        if rows is None or _matrix_of(whole, layer) is None:
            return values_of(here, layer)
        refuse_broken(_matrix_of(whole, layer), layer)
        matrix = _matrix_of(here, layer)
        return canonical(matrix[rows], (len(rows), matrix.shape[1]), layer)

    def storage(layer: str) -> tuple[str, int] | None:
        matrix = _matrix_of(adata._adata_ref if adata.is_view else adata, layer)  # a view would slice it
        return None if matrix is None else _in_memory(matrix)

    return Source(name, adata.obs, adata.var, adata.raw, dict.fromkeys(adata.layers), read, storage, path, spec)


def _matrix_of(adata: AnnData, layer: str) -> Any:
    return adata.raw.X if layer == "raw" else adata.X if layer == "X" else adata.layers[layer]


def _in_memory(matrix: Any) -> tuple[str, int]:
    kind = str(getattr(matrix, "format", "dense"))
    kind = kind if kind == "dense" else kind.upper()
    dtype = np.dtype(getattr(matrix, "dtype", object))
    n = int(matrix.nnz) if hasattr(matrix, "nnz") else int(np.prod(matrix.shape))
    return f"{kind} {dtype}", n * (dtype.itemsize + (0 if kind == "dense" else 4))


def _of_file(file: Any, path: Path) -> Source:
    import h5py
    from anndata.io import read_elem

    if not isinstance(file["obs"], h5py.Group):  # older than anndata 0.7, as loading will say
        with warnings.catch_warnings(action="ignore"):
            adata = read_h5ad(path)
        return _of_memory(adata, path.stem, path=path)
    tables = {key: read_elem(file[key]) for key in ("obs", "var", "raw/var") if key in file}
    raw_var = tables.get("raw/var")
    raw = None if raw_var is None else SimpleNamespace(var=raw_var, n_vars=len(raw_var))
    places = {"X": "X", "raw": "raw/X"} | {name: f"layers/{name}" for name in file.get("layers", ())}
    stored = {layer: _in_file(file[place]) for layer, place in places.items() if place in file}

    def read(layer: str, rows: Rows) -> sparse.csr_matrix:
        if layer not in stored:
            raise DatasetError(NO_X if layer == "X" else f"{path.name} has no values of layer {layer!r}")
        shape = (len(tables["obs"]), len(tables["raw/var" if layer == "raw" else "var"]))
        return _read(path, places[layer], layer, shape, rows)

    layers = dict.fromkeys(file.get("layers", ()))
    return Source(path.stem, tables["obs"], tables["var"], raw, layers, read, stored.get, path)


def _read(path: Path, place: str, layer: str, shape: tuple[int, int], rows: Rows) -> sparse.csr_matrix:
    from anndata.io import read_elem

    what = {"X": "X", "raw": "raw.X"}.get(layer, f"layer {layer!r}")
    with opened(path) as file, ExitStack() as stack:
        if rows is None:
            return canonical(read_elem(file[place]), shape, what)
        return streams.in_file(file[place], shape, what, stack).take(rows)


def _in_file(item: Any) -> tuple[str, int]:
    kind = "dense" if not hasattr(item, "keys") else str(item.attrs.get("encoding-type", "")).split("_")[0].upper()
    values = item if kind == "dense" else item["data"]
    dtype = np.dtype(values.dtype)
    return f"{kind} {dtype}", int(np.prod(values.shape)) * (dtype.itemsize + (0 if kind == "dense" else 4))
