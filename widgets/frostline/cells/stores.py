"""Files of cells of both kinds that anndata writes, opened alike: .h5ad, and folders of zarr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells import reading
from frostline.cells.reading import opened, problem
from frostline.errors import Cancelled, DatasetError, FrostlineError

if TYPE_CHECKING:
    import pandas as pd

MARKS = (".zgroup", "zarr.json", ".zattrs")
"""Files by which a folder is known to be of zarr."""
BLOCK = 8_192
"""Names of cells that are read at once."""


@dataclass(frozen=True)
class CellNames:
    """Names of cells in a fraction of the memory that Python's strings take; runs and selections of them are an Index.

    Examples
    --------
    >>> names = CellNames(np.array(["a", "b", "c"], dtype=np.dtypes.StringDType()), "barcode")
    >>> names[1:], names.is_unique
    (Index(['b', 'c'], dtype='object', name='barcode'), True)
    """

    texts: NDArray[Any] = field(repr=False)
    """(n_cells,) of numpy's `StringDType`."""
    name: str | None = None
    """Of the index."""

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> pd.Index:
        import pandas as pd

        return pd.Index(self.texts[rows].astype(object), name=self.name)

    @property
    def is_unique(self) -> bool:
        """Whether no name stands twice: no two hashes are the same, or else no two names."""
        from pandas.util import hash_array

        hashes = np.empty(len(self), dtype=np.uint64)
        for start in range(0, len(self), BLOCK):
            block = self.texts[start : start + BLOCK].astype(object)
            hashes[start : start + BLOCK] = hash_array(block, categorize=False)
        hashes.sort()
        return not (hashes[1:] == hashes[:-1]).any() or bool(self[:].is_unique)


def is_store(path: Path) -> bool:
    """Whether a path is a folder of zarr.

    Examples
    --------
    >>> is_store(Path("cells.h5ad"))
    False
    """
    return any((path / name).exists() for name in MARKS)


@contextmanager
def opened_store(path: Path) -> Iterator[Any]:
    """Open an .h5ad file or a folder of zarr for reading; whatever cannot be read inside becomes one DatasetError.

    Parameters
    ----------
    path
        Of the file or folder.

    Raises
    ------
    DatasetError
        As of `opened`; the folder holds no AnnData.
    FrostlineError
        It is a folder of zarr, and zarr is not installed.
    """
    if not is_store(path):
        with opened(path) as file:
            yield file
        return
    try:
        import zarr
    except ImportError as error:
        raise FrostlineError(f"{path} is a zarr folder: pip install 'frostline[cluster]' to read it") from error
    with as_dataset_error(path):
        store = zarr.open_group(path, mode="r")
        missing = [name for name in ("obs", "var") if name not in store]
        if missing:
            raise DatasetError(f"{path} cannot be read as a zarr folder of anndata: it has no {' and '.join(missing)}")
        yield store


@contextmanager
def as_dataset_error(path: Path) -> Iterator[None]:
    """Say plainly what is wrong with an .h5ad file or a folder of zarr, whatever is raised while it is read.

    Raises
    ------
    DatasetError
        It cannot be read.
    """
    if not is_store(path):
        with reading.as_dataset_error(path):
            yield
        return
    try:
        yield
    except (FrostlineError, Cancelled):
        raise
    except Exception as error:  # zarr and anndata have many; to the reader they are one
        raise DatasetError(f"{path} cannot be read as a zarr folder of anndata: {error}") from error


def refuse_no_store(path: Path) -> None:
    """Refuse a path that is neither, by its first bytes.

    Raises
    ------
    DatasetError
        Says what it is, and how to make an .h5ad file of it.
    """
    said = "" if is_store(path) else problem(path)
    if said:
        raise DatasetError(said)


def names_in(table: Any) -> pd.Index | CellNames:
    """Names of the rows of a table in an open file, of which nothing else is read."""
    import h5py
    import pandas as pd
    from anndata.io import read_elem

    key = str(table.attrs["_index"])
    name = None if key == "_index" else key
    column = table[key]
    if not isinstance(column, h5py.Dataset) or h5py.check_string_dtype(column.dtype) is None:
        return pd.Index(read_elem(column), name=name)
    names = np.empty(len(column), dtype=np.dtypes.StringDType())
    for start in range(0, len(names), BLOCK):  # of a long column at once, h5py holds every name twice
        names[start : start + BLOCK] = column.asstr()[start : start + BLOCK]
    return CellNames(names, name)


def are_named(table: Any, names: pd.Index | CellNames) -> bool:
    """Whether the rows of a table in an open file have these names in this order; a run of them is read at a time."""
    import h5py

    column = table[str(table.attrs["_index"])]
    if not isinstance(column, h5py.Dataset) or h5py.check_string_dtype(column.dtype) is None:
        return bool(names_in(table)[:].equals(names[:]))
    runs = (slice(start, start + BLOCK) for start in range(0, len(names), BLOCK))
    return len(column) == len(names) and all((column.asstr()[run] == names[run].to_numpy()).all() for run in runs)
