"""Which run wrote what: each prints its id where it begins, and its artifacts' manifest holds it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from frostline.escaping import one_line

SOURCE = "FROSTLINE_NOTEBOOK_SHA256"
"""Environment variable in which a kernel finds the sha256 of the notebook that it executes, wherever that is."""

_LINE = re.compile(r"^run (?P<run>[0-9a-f]{32}) of \S.*; files go to \S", re.MULTILINE)


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
    found = [match["run"] for text in _printed(notebook) for match in _LINE.finditer(text)]
    return found[-1] if found else None


def _printed(notebook: Mapping[str, Any]) -> Iterator[str]:
    """What every cell printed; a kernel may send one line in parts."""
    for cell in notebook.get("cells", ()):
        streams = [output for output in cell.get("outputs", ()) if output.get("output_type") == "stream"]
        yield "".join("".join(output["text"]) for output in streams if output.get("name") == "stdout")
