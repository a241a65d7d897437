"""The place of a model's folder: tried before the work, and replaced whole, if it holds a model and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from frostline.annotation.facts import MODEL, read_facts, some
from frostline.errors import ModelError
from frostline.plain_files import entries, expanded
from frostline.scratch import scratch_folder


def refuse_bad_target(folder: str | Path) -> Path:
    """Say where a model will be kept, or refuse a folder before any work is done for it.

    Raises
    ------
    ModelError
        It holds something else than a model, is above the current folder, a file is in the way, or it cannot be
        written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     refuse_bad_target(Path(parent) / "model").name
    'model'
    """
    text = str(folder)
    if not text.strip():
        raise ModelError("name a folder for the model")
    try:
        place = expanded(text).resolve()
        if Path.cwd().is_relative_to(place):
            raise ModelError(f"model folder {place} is the current folder or one above it; name a folder in it")
        if os.path.lexists(place):
            _refuse_others(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        recover(place)
        with scratch_folder(place.parent) as scratch:
            (scratch / "tried").write_bytes(b"tried")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"model folder {text!r} cannot be written ({error}); name another one") from error
    return place


def _refuse_others(place: Path) -> None:
    """Refuse to replace anything but an empty folder, or one that holds a model and nothing else."""
    if not place.is_dir():
        raise ModelError(f"{place} is a file; name another folder for the model")
    present = {path.name for path in entries(place)}
    if not present:
        return
    try:
        known = {MODEL, *read_facts(place).files}
    except ModelError as error:
        raise ModelError(
            f"{place} holds {some(present)} and is not overwritten, since it is no model: {error}. Name another folder"
        ) from error
    if foreign := present - known:
        raise ModelError(f"{place} holds {some(foreign)} beside a model and is not overwritten; name another folder")


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.model-before")


def put_in_place(new: Path, place: Path) -> None:
    """Move a complete folder to its place; whenever that fails, the old one is where it was."""
    aside = _aside(place)
    if os.path.lexists(place):
        _refuse_others(place)  # by now
        os.rename(place, aside)
    try:
        os.rename(new, place)
    except OSError:
        if aside.is_dir():
            os.rename(aside, place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover(place: Path) -> None:
    """Bring back what stood aside when a process was killed, or remove it where the new one is in place."""
    aside = _aside(place)
    if aside.is_dir() and not os.path.lexists(place):
        os.rename(aside, place)
    elif aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
