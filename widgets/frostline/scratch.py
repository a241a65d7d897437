"""Files and folders under work: hidden, beside their place or in a temporary folder, and named after their process.

That name distinguishes what a killed process left from what a running one is at work on, and cleared by the next one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\.frostline-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<born>\d+)-[0-9a-f]{8}(?P<end>[.\w+-]*)")


@functools.cache
def _host() -> str:
    """Hash of this machine, and on Linux the set of processes that this one can see (a container has its own)."""
    try:
        seen = os.readlink("/proc/self/ns/pid")
    except OSError:
        seen = ""
    return hashlib.sha256(f"{platform.node()} {seen}".encode()).hexdigest()[:8]


def _born(pid: int) -> int | None:
    """When a process began, in hundredths of a second; None when there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(100 * process.create_time())
    except psutil.Error:
        return None


def scratch_path(folder: Path, ending: str = "") -> Path:
    """Name for something that this process is at work on, in a folder.

    Parameters
    ----------
    folder
        Where it will be.
    ending
        Of the name, such as `.h5ad`.

    Examples
    --------
    >>> is_abandoned(scratch_path(Path("."), ".npy"))
    False
    """
    return folder / f".frostline-{_host()}-{os.getpid()}-{_born(os.getpid())}-{uuid.uuid4().hex[:8]}{ending}"


def ending_of(path: Path) -> str | None:
    """Ending that was given to `scratch_path`; None where the name is another.

    Examples
    --------
    >>> ending_of(scratch_path(Path("."), ".npy")), ending_of(Path("a.npy"))
    ('.npy', None)
    """
    found = _NAME.fullmatch(path.name)
    return found["end"] if found else None


def is_of_this_machine(path: Path) -> bool:
    """Whether the name is one of `scratch_path` on this machine."""
    found = _NAME.fullmatch(path.name)
    return found is not None and found["host"] == _host()


def is_abandoned(path: Path) -> bool:
    """Whether the name is one of `scratch_path` and its process, of this machine, is gone."""
    found = _NAME.fullmatch(path.name)
    if found is None or found["host"] != _host():
        return False
    born = _born(int(found["pid"]))
    return born is None or abs(born - int(found["born"])) > 100  # clocks are adjusted; another one has its number


def clear(folder: Path) -> list[Path]:
    """Remove what processes of this user on this machine have left behind in a folder, and nothing else.

    Returns
    -------
    list
        What was removed.

    Examples
    --------
    >>> clear(Path("no-such-folder"))
    []
    """
    removed = []
    for path in sorted(folder.glob(".frostline-*")) if folder.is_dir() else []:
        with contextlib.suppress(OSError):  # another process clears up, too
            if is_abandoned(path) and not path.is_symlink() and is_own(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


def is_own(path: Path) -> bool:
    """Whether something belongs to this user."""
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make an empty folder for work in progress; removed in the end, unless it was moved away.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent, scratch_folder(Path(parent)) as folder:
    ...     folder.is_dir()
    True
    """
    clear(parent)
    folder = scratch_path(parent)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
