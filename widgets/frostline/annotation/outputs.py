"""Where labels are written: into an AnnData, or into a copy of the file that was read; whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import shlex
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.saving import mending_line, said_by
from frostline.cells.stores import CellNames, are_named, is_store, opened_store
from frostline.errors import DatasetError, FrostlineError
from frostline.scratch import clear, scratch_path

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

COLUMNS = ("", "_confidence", "_second", "_set", "_p_known", "_reason")
"""Columns of obs, after the key."""
BLOCK = 2_048
"""Rows of an embedding that are copied at once."""


@contextlib.contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """Give a name to write a file under, which is moved to its place in the end; nothing is left where that fails.

    What killed processes left in the folder is cleared first.

    Raises
    ------
    FrostlineError
        It could not be written there.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_whole(Path(folder) / "page.html") as scratch:
    ...         _ = scratch.write_text("all of it")
    ...     [path.name for path in Path(folder).iterdir()]
    ['page.html']
    """
    clear(output.parent)
    scratch = scratch_path(output.parent, output.suffix)
    try:
        yield scratch
        scratch.replace(output)
    except OSError as error:
        raise FrostlineError(f"{output} could not be written ({error}); name a file in another folder") from error
    finally:
        with contextlib.suppress(OSError):  # the folder is none, or is gone
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def _in_temporary_folder() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FrostlineError(
            f"the labels could not be kept in the temporary folder {tempfile.gettempdir()} ({error}); set TMPDIR to a "
            "folder with more room"
        ) from error


@dataclass
class Spool:
    """Rows of a table as they come: in memory, or in a temporary file, so that memory does not grow with them."""

    width: int
    file: IO[bytes] | None = None
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    n: int = 0

    @classmethod
    def on_disk(cls, width: int) -> Spool:
        """Keep the rows in a file that is gone with the last one who reads it."""
        with _in_temporary_folder():
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it is to outlive this function
        spool = cls(width, file)
        weakref.finalize(spool, file.close)
        return spool

    def append(self, rows: NDArray[np.floating]) -> None:
        """Add (n, width) rows."""
        block = np.ascontiguousarray(rows, dtype=np.float32)
        self.n += len(block)
        if self.file is None:
            self.parts.append(block)
        else:
            with _in_temporary_folder():
                self.file.seek(0, 2)
                self.file.write(block.tobytes())
                self.file.flush()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All rows, in runs."""
        if self.file is None:
            yield from self.parts
            return
        size = 4 * self.width * BLOCK
        for start in range(0, self.n, BLOCK):
            self.file.seek(4 * self.width * start)
            yield np.frombuffer(self.file.read(size), dtype=np.float32).reshape(-1, self.width)

    def array(self) -> NDArray[np.float32]:
        """All rows, (n, width).

        Examples
        --------
        >>> spool = Spool.on_disk(2)
        >>> spool.append(np.ones((3, 2)))
        >>> spool.array().shape
        (3, 2)
        """
        return np.concatenate([np.empty((0, self.width), dtype=np.float32), *self.blocks()])


@dataclass(frozen=True)
class Outputs:
    """What is written: columns of obs, two arrays of obsm, one entry of uns."""

    key: str
    obs_names: pd.Index | CellNames = field(repr=False)
    """Of the cells."""
    columns: Mapping[str, Any] = field(repr=False)
    """(n_cells,) each: the six columns of obs, by name."""
    probabilities: Spool = field(repr=False)
    """(n_cells, n_classes)."""
    embedding: Spool = field(repr=False)
    """(n_cells, d)."""
    entry: Mapping[str, Any] = field(repr=False)

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """(n_cells, 6) columns of obs."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns), index=self.obs_names[:])

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Names that are written, by where."""
        return names_of(self.key)

    @property
    def _arrays(self) -> dict[str, Spool]:
        """What goes into obsm, by name."""
        return dict(zip(self.names["obsm"], (self.embedding, self.probabilities), strict=True))

    def write(self, adata: AnnData) -> None:
        """Write into an AnnData of the same cells, in place."""
        import warnings

        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a view, which is copied
            for name, column in self.columns.items():
                adata.obs[name] = column
            for name, spool in self._arrays.items():
                adata.obsm[name] = spool.array()
            adata.uns[self.key] = dict(self.entry)

    def save(self, source: Path, output: Path, adata: AnnData | None = None) -> None:
        """Copy the file that was read and write into the copy; the output is whole, or is not there.

        Parameters
        ----------
        source
            The .h5ad file that was read.
        output
            Another .h5ad file; replaced where it exists.
        adata
            Open on the file that was read, with the labels in it: all that it holds in memory is written instead.

        Raises
        ------
        FrostlineError
            The file that was read is gone, holds other cells by now, or the output could not be written.
        """
        refuse_folder(source)
        if not source.exists():
            raise FrostlineError(f"{source} is not there any more: put it back, or annotate the file where it is now")
        with written_whole(output) as scratch:
            if adata is None:
                self._copy(source, scratch)
            else:
                with naming_parts(adata):
                    _copy_backed(adata, source, scratch)

    def _copy(self, source: Path, scratch: Path) -> None:
        import anndata
        import h5py

        shutil.copyfile(source, scratch)
        with h5py.File(scratch, "r+") if h5py.is_hdf5(scratch) else contextlib.nullcontext({}) as file:
            if "obs" not in file:
                raise FrostlineError(_changed(source))
            if file["obs"].attrs.get("encoding-version") == "0.2.0":
                if not are_named(file["obs"], self.obs_names):
                    raise FrostlineError(_changed(source))
                self._write_into(file)
                return
        adata = anndata.read_h5ad(scratch)  # older layouts are written again
        if not adata.obs_names.equals(self.obs_names[:]):
            raise FrostlineError(_changed(source))
        self.write(adata)
        adata.write_h5ad(scratch)

    def _write_into(self, file: Any) -> None:
        """Write into an open file, and nothing of it but the new names."""
        from anndata.io import write_elem

        for place, names in self.names.items():
            if place not in file:
                write_elem(file, place, {})
            for name in names:
                if name in file[place]:
                    del file[place][name]
        for name, column in self.columns.items():
            write_elem(file["obs"], name, column)
        order = [str(name) for name in file["obs"].attrs["column-order"] if name not in self.names["obs"]]
        file["obs"].attrs["column-order"] = np.array([*order, *self.names["obs"]], dtype=object)
        for name, spool in self._arrays.items():
            write_elem(file["obsm"], name, np.empty((0, spool.width), dtype=np.float32))
            _fill(file["obsm"], name, spool)
        write_elem(file["uns"], self.key, dict(self.entry))


def refuse_folder(source: Path) -> None:
    """Refuse to make an .h5ad file of a zarr folder.

    Raises
    ------
    FrostlineError
        Says which command labels it.
    """
    if is_store(source):
        raise FrostlineError(
            f"{source} is a zarr folder, of which no labelled .h5ad file is made: frostline annotate MODEL "
            f"{shlex.quote(str(source))} -o OUT.zarr writes the labels into another folder"
        )


def refuse_little_room(source: Path, output: Path) -> None:
    """Refuse a place where a copy of a file has no room.

    Raises
    ------
    FrostlineError
        Says how much there is, and how much it takes.
    """
    taken, free = source.stat().st_size if source.is_file() else 0, shutil.disk_usage(output.parent).free
    if free < taken:
        raise FrostlineError(
            f"-o {output}: {free / 1e9:,.1f} GB are free there, and a copy of {source} takes {taken / 1e9:,.1f} GB; "
            "name a file in another folder"
        )


def _copy_backed(adata: AnnData, source: Path, scratch: Path) -> None:
    """Copy X and raw of a file as they are, beside all that its AnnData holds in memory."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(source, "r") as old:
        if old["obs"].attrs.get("encoding-version") != "0.2.0":  # older layouts are written again
            adata.to_memory().write_h5ad(scratch)
            return
        with h5py.File(scratch, "w") as new:
            new.attrs.update(old.attrs)
            for name in ("X", *(["raw"] if adata.raw is not None else [])):
                old.copy(name, new)
            for name in ("obs", "var"):
                write_elem(new, name, getattr(adata, name))
            for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
                write_elem(new, name, dict(getattr(adata, name)))


@contextlib.contextmanager
def naming_parts(adata: AnnData) -> Iterator[None]:
    """Name the part of an AnnData that cannot be written, and the line that mends it.

    Raises
    ------
    DatasetError
        anndata refuses to write a part of it.
    """
    try:
        yield
    except (OSError, FrostlineError):
        raise
    except Exception as error:  # anndata has many; each names the part
        raise DatasetError(
            f"anndata refuses to write these cells: {said_by(error)}. Mend them ({mending_line(adata, error)}), and "
            "save again"
        ) from error


def _changed(source: Path) -> str:
    return f"{source} has been written again since, with other cells or in another order; annotate it again"


def _fill(group: Any, name: str, spool: Spool) -> None:
    """Put all rows into an array, in runs, under the attributes that anndata gave to an empty one."""
    said = dict(group[name].attrs)
    del group[name]
    array = group.create_dataset(name, shape=(spool.n, spool.width), dtype=np.float32)
    array.attrs.update(said)
    start = 0
    for block in spool.blocks():
        array[start : start + len(block)] = block
        start += len(block)


def refuse_bad_output(path: Path, own: Path | None, *, overwrite: bool) -> None:
    """Refuse a name under which labelled cells cannot be written; `own` is the file that was read.

    Raises
    ------
    FrostlineError
        Says what is wrong with it, and what to name instead.
    """
    if path.suffix != ".h5ad":
        raise FrostlineError(f"{str(path)!r} does not end in .h5ad; name a file such as labelled.h5ad")
    if not path.parent.is_dir():
        raise FrostlineError(f"there is no folder {path.parent}; make it, or name a file in another folder")
    if not path.exists():
        return
    if path.is_dir():
        raise FrostlineError(f"{path} is a folder; name a file in it, such as {path.name}/labelled.h5ad")
    if own is not None and own.exists() and path.samefile(own):
        raise FrostlineError(f"{path} is the file that was read, which stays as it is; name another file")
    if not overwrite:
        raise FrostlineError(f"{path} is there already; name another file, or let it be replaced (overwrite=True)")


def names_of(key: str) -> dict[str, tuple[str, ...]]:
    """Names that are written under a key, by where.

    Examples
    --------
    >>> names_of("type")["obsm"]
    ('X_type', 'type_probabilities')
    """
    return {
        "obs": tuple(f"{key}{ending}" for ending in COLUMNS),
        "obsm": (f"X_{key}", f"{key}_probabilities"),
        "uns": (key,),
    }


def refuse_taken(source: Any, key: str, *, overwrite: bool = False) -> None:
    """Refuse a key that cannot be written, cells that cannot, or a key under which something stands already.

    Parameters
    ----------
    source
        An AnnData, a data set, or the path of an .h5ad file; whatever else is not written to.
    key
        Under which labels are written.
    overwrite
        Whether what stands there may be replaced.

    Raises
    ------
    DatasetError
        Names what stands there, and another key; the names of the cells are never replaced.
    """
    if not key.strip() or key != key.strip() or "/" in key or "\0" in key or key.startswith("_"):
        raise DatasetError(
            f"key {key!r} cannot be the name of columns in obs: give one without '/', blanks at its ends or '_' in "
            "front, such as 'frostline'"
        )
    if hasattr(source, "isbacked") and source.isbacked and source.is_view:
        raise DatasetError(
            "these cells are a part of an AnnData in a file, into which no labels can be written; load them first "
            "(adata = adata.to_memory()), or annotate the file"
        )
    there, index = _there(source)
    if index in names_of(key)["obs"]:
        raise DatasetError(
            f"obs holds the names of the cells under {index!r}, which a column of this key would replace; write under "
            f"another key (key={f'{key}_2'!r}, --key {key}_2)"
        )
    if overwrite:
        return
    taken = [f"{place}[{name!r}]" for place, names in names_of(key).items() for name in names if name in there[place]]
    if taken:
        raise DatasetError(
            f"{', '.join(taken)} stands there already; write under another key (key={f'{key}_2'!r}, --key {key}_2), or "
            "replace it (overwrite=True, --overwrite)"
        )


def _there(source: Any) -> tuple[dict[str, set[str]], str]:
    """Names in obs, obsm and uns, and that of the index of obs."""
    from anndata import AnnData

    places: dict[str, set[str]] = {place: set() for place in ("obs", "obsm", "uns")}
    if isinstance(source, Path):
        with opened_store(source) as file:
            for place in places.keys() & set(file):
                part = file[place]
                places[place] = set(map(str, part if hasattr(part, "keys") else part.dtype.names or ()))
            return places, str(file["obs"].attrs.get("_index", ""))
    if isinstance(source, AnnData):
        found: dict[str, Any] = {"obs": source.obs.columns, "obsm": source.obsm, "uns": source.uns}
        places = {place: set(map(str, names)) for place, names in found.items()}
    return places, str(source.obs.index.name or "") if isinstance(source, AnnData | Dataset) else ""
