"""JupyterLab opened on a notebook: the tutorial, or a new one with the panel on a file."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from frostline.cells.previews import path_problem
from frostline.errors import FrostlineError
from frostline.plain_files import expanded
from frostline.publishing.notebooks import find_notebook, read_notebook

TUTORIAL = "cell_type_annotation"


def notebook_for(source: str | Path | None = None) -> Path:
    """Return the notebook that is to be opened; made in the current folder where it is not there.

    Parameters
    ----------
    source
        Path of an .h5ad file, which the panel of a new notebook shows; None for the tutorial.

    Returns
    -------
    Path
        One that is there already is left as it is: it may hold somebody's work. One of another file of that name is
        left, too, and the notebook gets the next free name, which is printed.

    Raises
    ------
    FrostlineError
        The file is not there, or is no .h5ad file.
    """
    return _tutorial() if source is None else _on_file(expanded(source))


def _tutorial() -> Path:
    found, here = find_notebook(TUTORIAL), Path(f"{TUTORIAL}.ipynb")
    if found.resolve().is_relative_to(Path.cwd().resolve()):
        return found
    if not here.exists():
        shutil.copyfile(found, here)
    return here


def _on_file(file: Path) -> Path:
    said = path_problem(str(file))
    if said:
        raise FrostlineError(said)
    name = f"{file.stem}_frostline"
    names = (Path(f"{name}{f'-{i}' if i else ''}.ipynb") for i in itertools.count())
    here = next(path for path in names if not path.exists() or _is_of(path, file))
    if here.stem != name:
        print(f"{name}.ipynb is of another {file.name}; the notebook of {file} is {here}")
    if not here.exists():
        text = f"# {file.name}\n\nRun the cell, look at labels and groups, and press **Run**."
        code = f"import frostline\n\npanel = frostline.panels.AnnotationPanel({str(file)!r})\npanel"
        about = {"cell_type": "markdown", "id": "about", "metadata": {}, "source": text}
        run: dict[str, Any] = {
            "cell_type": "code",
            "id": "panel",
            "metadata": {},
            "source": code,
            "execution_count": None,
            "outputs": [],
        }
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        notebook = {"cells": [about, run], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        here.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return here


def _is_of(notebook: Path, file: Path) -> bool:
    """Whether a notebook names a file: as it was given, whole, or from the current folder."""
    try:
        text = "\n".join(cell.source for cell in read_notebook(notebook).cells)
    except FrostlineError:
        return False
    paths = (str(file), str(file.resolve()), os.path.relpath(file.resolve(), Path.cwd().resolve()))
    return any(repr(path) in text or f'"{path}"' in text for path in paths)


def command(notebook: Path, *, browser: bool = True) -> list[str]:
    """Command that opens a notebook in JupyterLab.

    Examples
    --------
    >>> command(Path("mine.ipynb"), browser=False)[1:5]
    ['-m', 'jupyterlab', 'mine.ipynb', '--no-browser']
    """
    options = [] if browser else ["--no-browser"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in a container
        options.append("--allow-root")
    return [sys.executable, "-m", "jupyterlab", str(notebook), *options]


def open_lab(notebook: Path, *, browser: bool = True) -> int:
    """Run JupyterLab until it is ended; returns its exit status."""
    return subprocess.run(command(notebook, browser=browser), check=False).returncode
