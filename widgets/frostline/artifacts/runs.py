"""Which run wrote what, and which one is at work on a folder.

A run prints its id where it begins, and the manifest of its artifacts holds it. While it goes on it holds a lock
beside its folder, so that a second one is refused before it works.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.errors import ArtifactError
from frostline.escaping import one_line

if TYPE_CHECKING:
    from filelock import BaseFileLock

_held: dict[tuple[Path, int], BaseFileLock] = {}
"""Locks by folder and process: a process that was forked holds none of its parent's."""

SOURCE = "FROSTLINE_NOTEBOOK_SHA256"
"""Environment variable in which a kernel finds the sha256 of the notebook that it executes, wherever that is."""

_LINE = re.compile(r"^run (?P<run>[0-9a-f]{32}) of \S.*; files go to (?P<folder>\S.*)$", re.MULTILINE)


def new_run() -> str:
    """Id of a new run: 32 hexadecimal digits.

    Examples
    --------
    >>> len(new_run())
    32
    """
    return uuid.uuid4().hex


def line_of(run: str, tutorial: str, started: datetime, folder: str) -> str:
    """Line that a run prints when it begins.

    Parameters
    ----------
    run
        Its id.
    tutorial
        What was run.
    started
        With its time zone.
    folder
        Where its artifacts will go, as the user named it.

    Examples
    --------
    >>> line_of("0" * 32, "first", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), "artifacts/first")
    'run 00000000000000000000000000000000 of first, 2025-01-02 03:04:05 UTC; files go to artifacts/first'
    """
    when = f"{started.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"run {run} of {one_line(tutorial)}, {when}; files go to {one_line(folder)}"


def run_of(notebook: Mapping[str, Any]) -> str | None:
    r"""Id of the run that an executed notebook printed, the last one of several; None if it printed none.

    Parameters
    ----------
    notebook
        As JSON or nbformat reads it.

    Examples
    --------
    >>> line = line_of("0" * 32, "first", datetime.now(UTC), "artifacts/first")
    >>> output = {"output_type": "stream", "name": "stdout", "text": ["loaded\n", line]}
    >>> run_of({"cells": [{"cell_type": "code", "outputs": [output]}]})
    '00000000000000000000000000000000'
    """
    found = run_and_folder_of(notebook)
    return found[0] if found else None


def run_and_folder_of(notebook: Mapping[str, Any]) -> tuple[str, str] | None:
    """Id of the run as `run_of` gives it, and the folder that it printed.

    Examples
    --------
    >>> run_and_folder_of({"cells": []})
    """
    found = [(match["run"], match["folder"]) for text in _printed(notebook) for match in _LINE.finditer(text)]
    return found[-1] if found else None


def _printed(notebook: Mapping[str, Any]) -> Iterator[str]:
    """What every cell printed; a kernel may send one line in parts."""
    for cell in notebook.get("cells", ()):
        streams = [output for output in cell.get("outputs", ()) if output.get("output_type") == "stream"]
        yield "".join("".join(output["text"]) for output in streams if output.get("name") == "stdout")


def notebook_problems(folder: Path, run: str | None, notebook: str | Path | None = None) -> list[str]:
    """Hold an executed notebook, or those beside a folder that wrote it, to the run that its manifest names.

    Parameters
    ----------
    folder
        Of artifacts.
    run
        Id in its manifest; None in one of an earlier version.
    notebook
        By default those beside the folder which printed that their files go there: one of them must be of the run.

    Examples
    --------
    >>> notebook_problems(Path("no-such-folder"), "0" * 32, "none.ipynb")
    ['none.ipynb: is no executed notebook of a run']
    """
    if notebook is not None:
        path, printed = Path(notebook), _printed_by(Path(notebook))
        if printed is None:
            return [f"{path.name}: is no executed notebook of a run"]
        return [] if printed[0] == run else [_other_run(path, printed[0], run)]
    found = {path: _printed_by(path) for path in sorted(folder.absolute().parent.glob("*.ipynb"))}
    wrote = {path: printed[0] for path, printed in found.items() if printed and _is_at(printed[1], folder)}
    if run is None or run in wrote.values():
        return []
    return [_other_run(path, other, run) for path, other in wrote.items()]


def _other_run(path: Path, other: str, run: str | None) -> str:
    return f"{path.name}: is of run {other}, the artifacts are of run {run or 'unknown'}; run it again"


def _printed_by(path: Path) -> tuple[str, str] | None:
    """Run and folder that a notebook which ran to its end printed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        failed = content["metadata"].get("papermill", {}).get("exception")
        return None if failed else run_and_folder_of(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # no notebook that was run
        return None


def _is_at(target: str, folder: Path) -> bool:
    """Whether a folder that was printed, relative to one that is not known, is this one."""
    wanted, place = Path(os.path.normpath(target)), folder.resolve()
    if wanted.is_absolute():
        return place == wanted.resolve()
    end = tuple(part for part in wanted.parts if part != os.pardir)  # in front only, of what is normal
    return bool(end) and place.parts[-len(end) :] == end


def hold(folder: Path) -> bool:
    """Hold a folder until `let_go`, or until this process ends; whoever holds it already goes on.

    Parameters
    ----------
    folder
        Resolved; it need not be there, the one above it must.

    Returns
    -------
    bool
        Whether it was free before; False when this process held it.

    Raises
    ------
    ArtifactError
        Another process holds it; says which one, and since when.
    OSError
        No file can be written beside the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent) / "results"
    ...     hold(folder), hold(folder), let_go(folder), hold(folder), let_go(folder)
    (True, False, None, True, None)
    """
    from filelock import FileLock, Timeout

    key, path = (folder, os.getpid()), _lock_path(folder)
    if key in _held:
        return False
    other = _said_in(path)
    lock = FileLock(path, timeout=0, thread_local=False, mode=0o666)  # a panel saves in a thread of its own
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"OUTPUT_DIR {folder} is in use by {other}; wait until it has ended, end it (a notebook holds its folder "
            "until it has saved or its kernel is shut down), or name another folder"
        ) from None
    _held[key] = lock
    _say(path)
    return True


def let_go(folder: Path) -> None:
    """Give up a folder that this process holds; the file of the lock goes."""
    lock = _held.pop((folder, os.getpid()), None)
    if lock is not None:
        _lock_path(folder).unlink(missing_ok=True)
        lock.release()


@atexit.register
def _let_go_of_all() -> None:
    for folder, process in list(_held):
        if process == os.getpid():
            with contextlib.suppress(OSError):  # the folder above may be gone
                let_go(folder)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _say(path: Path) -> None:
    """Write who holds a lock into its file, whoever made it."""
    with contextlib.suppress(OSError, KeyError):  # it is held all the same; KeyError: a user without a name
        said = {"process": os.getpid(), "host": platform.node(), "user": getpass.getuser(), "started": _now()}
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(said, file)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _said_in(path: Path) -> str:
    """Who holds a lock, in words."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        text = "process {process} on {host} (user {user}), begun {started}".format_map(said)
    except (OSError, ValueError, TypeError, KeyError):  # it is just being written, or not to be read
        return f"another process, which holds {path}"
    return one_line(text)
