"""The folder of a sweep: one sweep at a time is at work on it, and nothing that somebody wrote is lost.

`sweep.json` marks it, and holds the sha256 of each result; one that was edited since is kept under another name. While
results are replaced it holds those of both, so that none is taken for edited after a process was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from frostline import scratch
from frostline.errors import FrostlineError
from frostline.hashes import file_sha256
from frostline.plain_files import entries, strict_json
from frostline.sweeps.plans import RUNS

MARK = "sweep.json"
LOCK = ".lock"
RESULTS = "results"
"""Folder of the tables and the page, in that of the sweep."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a sweep, and mark it as one.

    Raises
    ------
    FrostlineError
        It holds something else, cannot be written, or another sweep is at work on it.
    """
    from filelock import FileLock, Timeout

    others = [path for path in entries(folder) if not _is_own(path)] if folder.is_dir() else []
    if others and not (folder / MARK).is_file():
        raise FrostlineError(
            f"{folder} holds {others[0].name} and is not the folder of a sweep; name another one with -o"
        )
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise FrostlineError(
            f"another sweep is at work on {folder}; wait until it has ended, or name another folder"
        ) from None
    except OSError as error:
        raise FrostlineError(
            f"{folder} cannot be written ({error.strerror or error}); name another one with -o"
        ) from error
    try:
        if not (folder / MARK).is_file():
            _mark(folder, {}, {})
        yield
    finally:
        lock.release()


def put(folder: Path, contents: Mapping[Path, bytes]) -> list[Path]:
    """Put results in the place of earlier ones.

    Parameters
    ----------
    folder
        Of the sweep.
    contents
        Content of each file; paths are relative to the current folder.

    Returns
    -------
    list
        Where earlier ones are kept that somebody has edited since, or that no sweep wrote.
    """
    (written, begun), kept = _marked(folder), []
    for path in contents:
        if path.is_file() and (found := file_sha256(path)) == begun.get(path.as_posix()):
            written[path.as_posix()] = found  # by a process that was killed before it could say so
    coming = {path.as_posix(): hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    _mark(folder, written, coming)
    for path, content in contents.items():
        if path.exists() and file_sha256(path) != written.get(path.as_posix()):
            kept.append(path.rename(_free(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.clear(path.parent)
        new = scratch.scratch_path(path.parent, path.suffix)
        new.write_bytes(content)
        new.replace(path)
    _mark(folder, written | coming, {})
    return kept


def _is_own(path: Path) -> bool:
    """Whether a sweep that was killed at its beginning may have left it, or a workflow."""
    return path.name in (RUNS, LOCK) or path.name.startswith(".frostline-")


def _free(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(1))
    return next(name for name in names if not name.exists())


def _mark(folder: Path, files: Mapping[str, str], coming: Mapping[str, str]) -> None:
    new = scratch.scratch_path(folder, ".json")
    content = {"format": 1, "files": dict(files), "coming": dict(coming)}
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    new.replace(folder / MARK)


def _marked(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """sha256 of results that were written, and of those that were to come."""
    try:
        found = strict_json((folder / MARK).read_text(encoding="utf-8"))
        return dict(found["files"]), dict(found.get("coming", {}))
    except (OSError, ValueError, TypeError, KeyError):
        return {}, {}
