"""What a run was made from, as hashes: the same inputs need no new run, other ones make a page stale.

The source notebook is hashed by itself. The rest is frostline's code, the installed packages, and the files
that parameters name. Nothing here imports the code that computes.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from frostline.hashes import file_sha256
from frostline.plain_files import SYSTEM_FOLDERS, entries, expanded, is_system_file

PACKAGE = Path(__file__).resolve().parents[1]
LOCK = "constraints.txt"
TUTORIALS = PACKAGE / "data" / "tutorials"
"""Notebooks that come with the installed package; the one that is run is hashed by itself."""
WRITTEN = "OUTPUT_DIR"
"""The parameter that names what a run writes, not what it reads."""


def inputs_of(parameters: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Hashes of what a run with these parameters reads, the source notebook aside.

    Parameters
    ----------
    parameters
        All parameters of the notebook.
    root
        Folder of the project, which the paths among the parameters are relative to.

    Returns
    -------
    dict
        `code` and `lock`, and under `data` a hash for each file or folder that a parameter names.

    Examples
    --------
    >>> sorted(inputs_of({"DATASET": "pbmc68k-reduced"}, Path(".")))
    ['code', 'data', 'lock']
    """
    return {"code": code_sha256(), "lock": lock_sha256(root), "data": dict(_data(parameters, root))}


def changed_inputs(recorded: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Say which of the inputs of a run, as `inputs_of` recorded them, are others now.

    Examples
    --------
    >>> then = inputs_of({}, Path(".")) | {"code": "of an earlier version"}
    >>> list(changed_inputs(then, Path(".")))
    ["frostline's code has changed since"]
    """
    if recorded["code"] != code_sha256():
        yield "frostline's code has changed since"
    if recorded["lock"] != lock_sha256(root):
        yield "the versions of the packages have changed since"
    for name, digest in sorted(recorded["data"].items()):
        path = root / expanded(name)
        if not path.exists():
            yield f"{name} is no longer there"
        elif tree_sha256(path) != digest:
            yield f"{name} has changed since"


@functools.cache
def code_sha256() -> str:
    """Hash of the installed package with its data; the book's own look, in `book/`, computes nothing."""
    parts = [path for path in entries(PACKAGE) if path.name not in {"book", "__pycache__"}]
    return _joined((path.relative_to(PACKAGE).as_posix(), tree_sha256(path)) for path in parts)


def lock_sha256(root: Path) -> str:
    """Hash of the project's `constraints.txt`, or without one of the versions of what frostline requires."""
    lock = root / LOCK
    return file_sha256(lock) if lock.is_file() else _joined(_installed())


def tree_sha256(path: Path) -> str:
    """Hash of a file, or of all files below a folder (a .zarr, a checkpoint) with their names, system files aside."""
    if path.is_file():
        return file_sha256(path)
    aside = {"__pycache__", *SYSTEM_FOLDERS}
    files = sorted(p for p in path.rglob("*") if p.is_file() and not is_system_file(p))
    files = [p for p in files if not aside & set(p.relative_to(path).parts) and not p.is_relative_to(TUTORIALS)]
    return _joined((p.relative_to(path).as_posix(), file_sha256(p)) for p in files)


def _data(parameters: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    for name, value in sorted(parameters.items()):
        for each in value if isinstance(value, list | tuple) else [value]:
            if name != WRITTEN and isinstance(each, str) and each and _names_a_file(root / expanded(each)):
                yield each, tree_sha256(root / expanded(each))


def _names_a_file(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is too long for a name, or holds a null character
        return False


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Names and versions of what frostline requires, looked up once in a process, as its code is."""
    lines = [line for line in sorted(requires("frostline") or ()) if "extra ==" not in line]
    return tuple((name, _version(name)) for name in (re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _joined(items: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("\n".join(f"{name}={value}" for name, value in items).encode()).hexdigest()
