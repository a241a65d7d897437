"""Files of cells of both kinds that anndata writes, opened alike: .h5ad, and folders of zarr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.reading import opened, problem
from frostline.errors import Cancelled, DatasetError, FrostlineError

if TYPE_CHECKING:
    import pandas as pd

MARKS = (".zgroup", "zarr.json", ".zattrs")
"""Files by which a folder is known to be of zarr."""
BLOCK = 8_192
"""Names of cells that are read at once."""


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
    try:
        store = zarr.open_group(path, mode="r")
        missing = [name for name in ("obs", "var") if name not in store]
        if missing:
            raise DatasetError(f"{path} cannot be read as a zarr folder of anndata: it has no {' and '.join(missing)}")
        yield store
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


def names_in(table: Any) -> pd.Index:
    """Names of the rows of a table in an open file, of which nothing else is read."""
    import h5py
    import pandas as pd
    from anndata.io import read_elem

    key = str(table.attrs["_index"])
    name = None if key == "_index" else key
    column = table[key]
    if not isinstance(column, h5py.Dataset) or h5py.check_string_dtype(column.dtype) is None:
        return pd.Index(read_elem(column), name=name)
    names = np.empty(len(column), dtype=object)
    for start in range(0, len(names), BLOCK):  # of a long column at once, h5py holds every name twice
        names[start : start + BLOCK] = column.asstr()[start : start + BLOCK]
    return pd.Index(names, name=name)
