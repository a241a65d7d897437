"""Where an embedding of cells is written: what can fail is tried before the cells are embedded, and nothing is lost."""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import DatasetError, FrostlineError
from frostline.scratch import clear, scratch_path

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "X_scGPT"
"""Key of obsm in an .h5ad file that is written."""


def refuse_bad_target(
    source: Path, output: Path, endings: Sequence[str] = (".npy", ".h5ad"), option: str = "-o"
) -> None:
    """Refuse a place where an embedding, or labels, cannot be written, before anything is read.

    Parameters
    ----------
    source, output
        What is read, and where the result is to be.
    endings
        That the name of the output may have.
    option
        By which it was named, for messages.

    Raises
    ------
    FrostlineError
        The name, or the folder; says which.
    """
    said, place = f"{option} {output}", shlex.quote(str(output.parent))
    if output.suffix not in endings:
        raise FrostlineError(f"{said}: the name must end in {' or '.join(endings)}")
    if not output.parent.is_dir():
        raise FrostlineError(f"{said}: there is no folder {output.parent}; make it first (mkdir -p {place})")
    if output.is_dir():
        raise FrostlineError(f"{said} is a folder: name a file")
    if output.exists() and source.exists() and output.samefile(source):
        raise FrostlineError(f"{said} is the file that is read: choose another name")
    if output.suffix == ".h5ad" and output.exists() and not _is_of_frostline(output):
        raise FrostlineError(
            f"{said} is there already, and no result of frostline: choose another name, or move it away"
        )
    try:
        clear(output.parent)
        trial = scratch_path(output.parent, output.suffix)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise FrostlineError(
            f"{said}: the folder {output.parent} cannot be written to ({error}); name another one"
        ) from error


def _is_of_frostline(path: Path) -> bool:
    """Whether cells in a file have an embedding or labels that a command wrote."""
    import h5py

    try:
        with h5py.File(path) as file:
            return any(name == KEY or name.endswith("_probabilities") for name in file.get("obsm", ()))
    except OSError:
        return False


def refuse_unwritable(adata: AnnData, output: Path) -> None:
    """Write everything of an AnnData but its matrices into a scratch file, to see whether that is possible.

    Raises
    ------
    DatasetError
        anndata refuses to write a part of it; names the part and the remedy.
    """
    if output.suffix != ".h5ad":
        return
    error = _error_of_writing(adata, output.parent)
    if error is not None:
        npy, line = output.with_suffix(".npy"), mending_line(adata, error)
        raise DatasetError(
            f"-o {output}: anndata can read this file and refuses to write it: "
            f"{said_by(error)}. In Python: adata = anndata.read_h5ad(...); {line}; "
            f"adata.write_h5ad('mended.h5ad'). Or write the embedding alone: -o {shlex.quote(str(npy))}"
        ) from error


def refuse_unwritable_cells(adata: AnnData) -> None:
    """Do as `refuse_unwritable` for cells in memory.

    Raises
    ------
    DatasetError
        anndata refuses to write a part of them; names the line that mends it.
    """
    with tempfile.TemporaryDirectory() as folder:
        error = _error_of_writing(adata, Path(folder))
    if error is not None and not isinstance(error, OSError):  # of the disk, not of the cells
        line = mending_line(adata, error)
        raise DatasetError(
            f"anndata refuses to write these cells: {said_by(error)}. With adata for these cells, run first: {line}",
            line=line,
        ) from error


def _error_of_writing(adata: AnnData, folder: Path) -> Exception | None:
    try:
        _write(lambda path: _without_matrices(adata).write_h5ad(path), scratch_path(folder, ".h5ad"))
    except Exception as error:  # anndata has many; each names the part
        return error
    return None


def _without_matrices(adata: AnnData) -> AnnData:
    """The same AnnData, with matrices of their kinds that hold nothing."""
    from anndata import AnnData
    from scipy import sparse

    light = AnnData(
        obs=adata.obs.copy(), var=adata.var.copy(), uns=dict(adata.uns), obsm=dict(adata.obsm), varm=dict(adata.varm)
    )
    for ours, theirs in ((light.layers, adata.layers), (light.obsp, adata.obsp), (light.varp, adata.varp)):
        ours.update({name: _empty(matrix) for name, matrix in theirs.items() if _may_fail(matrix)})
    if adata.raw is not None:
        nothing = sparse.csr_matrix(adata.raw.shape, dtype=np.float32)
        light.raw = AnnData(nothing, obs=adata.obs[[]].copy(), var=adata.raw.var.copy(), varm=dict(adata.raw.varm))
    if adata.X is not None and _may_fail(adata.X):
        light.X = _empty(adata.X)
    return light


def _may_fail(matrix: Any) -> bool:
    """Whether it is anything else than a dense matrix of numbers, which can always be written."""
    return not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "biuf"


def _empty(matrix: Any) -> Any:
    """A sparse matrix of the same kind without values; others as they are."""
    from scipy import sparse

    return type(matrix)(matrix.shape, dtype=matrix.dtype) if sparse.issparse(matrix) else matrix


def said_by(error: BaseException) -> str:
    """What an error says, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(dict.fromkeys(lines)).rstrip(".") or type(error).__name__


def mending_line(adata: AnnData, error: BaseException) -> str:
    """Line of code that mends the part that cannot be written, as far as the message names it."""
    tables = {"obs": adata.obs, "var": adata.var, "raw.var": None if adata.raw is None else adata.raw.var}
    reserved = next((name for name, table in tables.items() if table is not None and "_index" in table.columns), None)
    words = " ".join([str(error), *getattr(error, "__notes__", ())])
    found = re.search(r"writing key '([^']*)' of <class [^>]*> to (/[^\n]*)", words)
    key, place = (found[1], found[2].strip().strip("/")) if found else ("", "")
    table = place.replace("/", ".")
    if reserved is not None:
        return f"adata.{reserved}.rename(columns={{'_index': 'index_'}}, inplace=True)"
    if table in tables:
        return f"adata.{table}[{key!r}] = adata.{table}[{key!r}].astype(str)"
    if key in tables and not place:
        return f"adata.{key}.columns = anndata.utils.make_index_unique(adata.{key}.columns.astype(str))"
    if place:
        first, *inner = place.split("/")
        return f"del adata.{first}{''.join(f'[{name!r}]' for name in (*inner, key))}"
    return "take that part away"


def save(embedding: NDArray[np.float32], adata: AnnData, output: Path) -> None:
    """Write an embedding into a .npy file, or with its cells into an .h5ad file; whole or not at all.

    Raises
    ------
    FrostlineError
        It could not be written there; the embedding is kept elsewhere, and the message says where.
    """

    def write(path: Path) -> None:
        if output.suffix == ".npy":
            np.save(path, embedding)
        else:
            adata.obsm[KEY] = embedding
            adata.write_h5ad(path)

    try:
        _write(write, scratch_path(output.parent, output.suffix), output)
    except Exception as error:
        kept = keep(lambda path: np.save(path, embedding), output, "embedding", ".npy")
        where = f"is kept: np.load({str(kept)!r})" if kept else "could not be kept either"
        raise FrostlineError(f"{output} could not be written ({said_by(error)}); the embedding {where}") from error


def _write(write: Callable[[Path], None], scratch: Path, output: Path | None = None) -> None:
    """Write a scratch file, and move it to its place if it has one; nothing of it is left otherwise."""
    try:
        write(scratch)
        if output is not None:
            scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)


def keep(write: Callable[[Path], None], output: Path, kind: str, ending: str) -> Path | None:
    """Write what cost much work under a name that nobody has, beside an output that failed or in a temporary folder.

    Parameters
    ----------
    write
        Writes a file.
    output
        What could not be written.
    kind, ending
        Of the name.

    Returns
    -------
    Path or None
        The file; None where neither folder takes it.
    """
    for folder in (output.parent, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            names = (f"{output.stem}.{kind}{f'-{n}' if n else ''}{ending}" for n in range(10_000))
            kept = next(folder / name for name in names if not (folder / name).exists())
            _write(write, scratch_path(folder, ending), kept)
            return kept
    return None
