"""The folder of a sweep: one sweep at a time is at work on it, and nothing that somebody wrote is lost.

`sweep.json` marks it, and holds the sha256 of each result; one that was edited since is kept under another name.
"""

from __future__ import annotations

import contextlib
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

    others = [path for path in entries(folder) if path.name != RUNS] if folder.is_dir() else []
    if others and not (folder / MARK).is_file():
        raise FrostlineError(
            f"{folder} holds {others[0].name} and is not the folder of a sweep; name another one with -o"
        )
    lock = FileLock(folder / ".lock", timeout=0)
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
            _mark(folder, {})
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
    written, kept = _marked(folder), []
    for path, content in contents.items():
        name = path.as_posix()
        if path.exists() and file_sha256(path) != written.get(name):
            kept.append(path.rename(_free(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        new = scratch.scratch_path(path.parent, path.suffix)
        new.write_bytes(content)
        new.replace(path)
        written[name] = file_sha256(path)
        _mark(folder, written)
    return kept


def _free(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(1))
    return next(name for name in names if not name.exists())


def _mark(folder: Path, files: Mapping[str, str]) -> None:
    new = scratch.scratch_path(folder, ".json")
    new.write_text(json.dumps({"format": 1, "files": dict(files)}, indent=1) + "\n", encoding="utf-8")
    new.replace(folder / MARK)


def _marked(folder: Path) -> dict[str, str]:
    try:
        return dict(strict_json((folder / MARK).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
