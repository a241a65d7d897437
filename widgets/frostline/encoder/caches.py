"""Frozen states on disk: what an encoder gave for the same values, genes and weights is not computed again.

One file holds the states of one data set under one encoder, of the cells that are known; its name is a hash of all
that decides them. Files are written under another name and moved into place, so that several processes may write the
same one: the later one keeps what the earlier one had found. The folder is bounded: the files that were not used for
longest go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline import scratch
from frostline.cells.matrices import parts_of
from frostline.encoder.catalogue import cache_folder
from frostline.errors import FrostlineError

if TYPE_CHECKING:
    from scipy import sparse

LIMIT = "FROSTLINE_EMBEDDINGS_MB"
"""Variable of the environment: megabytes that the folder may take; 0 keeps nothing and reads nothing."""
USUAL_LIMIT = 2_048
VERSION = 2
"""Of the encoder's code and of the files: raised when equal tokens give other states, or files hold other arrays."""
WORTH = 1.0
"""Seconds of computing below which nothing is written."""


@dataclass
class Kept:
    """States of the cells of one data set, as far as they are known."""

    states: NDArray[np.float32]
    """(n_cells, d)"""
    seconds: NDArray[np.float64]
    """(n_cells,) what computing each took; NaN where it was not computed."""
    peak: int | None = None
    """Highest memory, in bytes, of computing them; None where it is not known."""
    device_peak: int | None = None
    """Highest memory on the GPU; None where none computed them."""

    @property
    def done(self) -> NDArray[np.bool_]:
        """(n_cells,) which are known."""
        return ~np.isnan(self.seconds)


def folder() -> Path:
    """Return the folder of the files, which need not exist.

    Examples
    --------
    >>> folder().name
    'embeddings'
    """
    return cache_folder("embeddings")


def limit() -> int:
    """Return how many bytes the folder may take.

    Raises
    ------
    FrostlineError
        The variable of the environment holds no number.
    """
    text = os.environ.get(LIMIT, str(USUAL_LIMIT))
    if not text.strip().isdecimal():
        raise FrostlineError(f"{LIMIT} is {text!r}, and must be a number of megabytes, 0 to keep no embeddings")
    return int(text) * 1_000_000


def digest(matrix: sparse.csr_matrix, genes: Sequence[str]) -> str:
    """Hash (sha256) of values and names of their columns.

    Examples
    --------
    >>> from scipy import sparse
    >>> digest(sparse.csr_matrix(np.eye(2, dtype="f4")), ["CD3D", "LYZ"])[:8]
    '9cbea687'
    """
    found = hashlib.sha256("\n".join(genes).encode())
    for array, kind in ((matrix.indptr, np.int64), (matrix.indices, np.int64), (matrix.data, matrix.dtype)):
        found.update(b"\0")
        for part in parts_of(array):
            found.update(np.ascontiguousarray(array[part], dtype=kind).data)
    return found.hexdigest()


def key_of(values: str, *how: object) -> str:
    """Name of the file of values (by their `digest`) under an encoder and a way to make tokens."""
    return hashlib.sha256("\n".join(map(repr, (VERSION, values, *how))).encode()).hexdigest()[:40]


def read(key: str, shape: tuple[int, int]) -> Kept | None:
    """Return what was kept under a key; None where nothing was, or the file is damaged.

    Parameters
    ----------
    key
        What `key_of` returned.
    shape
        (n_cells, d)
    """
    if not limit():
        return None
    path = _path(key)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            peaks = (int(file[name]) or None for name in ("peak", "device_peak"))
            kept = Kept(np.empty(shape, np.float32), np.full(shape[0], np.nan), *peaks)
            kept.states[file["cells"]], kept.seconds[file["cells"]] = file["states"], file["seconds"]
        with contextlib.suppress(OSError):  # another user's file, or a file system that cannot be written
            os.utime(path)
    except Exception:  # NumPy and zipfile have many for a damaged file
        return None
    return kept if np.isfinite(kept.states[kept.done]).all() else None


def write(key: str, kept: Kept) -> None:
    """Keep the states that are known, with those that another process kept meanwhile; then shrink the folder.

    Warns
    -----
    UserWarning
        The folder cannot be written: nothing is lost but the time of computing again.
    """
    most = limit()
    other = read(key, (kept.states.shape[0], kept.states.shape[1]))
    states, seconds = kept.states, kept.seconds
    if other is not None and (new := other.done & ~kept.done).any():
        states, seconds = np.where(new[:, None], other.states, states), np.where(new, other.seconds, seconds)
    cells = np.flatnonzero(~np.isnan(seconds))
    states, seconds = states[cells], seconds[cells]
    if states.nbytes > most:
        return
    place = folder()
    path = scratch.scratch_path(place, ".npz")
    try:
        place.mkdir(parents=True, exist_ok=True)
        scratch.clear(place)  # what a killed process left
        peak, device_peak = kept.peak or 0, kept.device_peak or 0
        np.savez(path, cells=cells, states=states, seconds=seconds, peak=peak, device_peak=device_peak)
        path.replace(_path(key))
        _shrink(most)
    except OSError as error:
        warnings.warn(
            f"the embedding could not be kept in {place} ({error}); set FROSTLINE_CACHE to another folder, or "
            f"{LIMIT}=0",
            stacklevel=2,
        )
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # there only where it was not moved to its place


def entries() -> list[tuple[Path, int]]:
    """Files of the folder and their bytes, last used first."""
    found = sorted(_present("[0-9a-f]*.npz"), key=lambda each: -each[1].st_mtime_ns)
    return [(path, about.st_size) for path, about in found]


def clear() -> int:
    """Forget all embeddings that were kept, and what killed processes left beside them; downloaded checkpoints stay.

    Returns
    -------
    int
        Bytes that this freed.
    """
    left = dict(_present(".frostline-*"))
    freed = sum(left[path].st_size for path in scratch.clear(folder()) if path in left)
    for path, size in entries():
        path.unlink(missing_ok=True)
        freed += size
    return freed


def _path(key: str) -> Path:
    return folder() / f"{key}.npz"


def _present(pattern: str) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder().glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            found.append((path, path.stat()))
    return found


def _shrink(most: int) -> None:
    total = 0
    for path, size in entries():
        total += size
        if total > most:
            path.unlink(missing_ok=True)
