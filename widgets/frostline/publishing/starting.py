"""A folder of its own for a lab: configuration, table of contents, a first tutorial, two commands."""

from __future__ import annotations

import shutil
from pathlib import Path

from frostline.errors import FrostlineError
from frostline.plain_files import entries, expanded

TEMPLATE = Path(__file__).parents[1] / "book" / "template"
NAMES = {"gitignore": ".gitignore"}
"""Of template files that would mean something in the package already."""


def init(folder: str | Path) -> list[Path]:
    """Fill a new or empty folder with what `frostline publish` needs.

    Returns
    -------
    list
        The files written.

    Raises
    ------
    FrostlineError
        The folder holds something already, or cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> [path.name for path in init(tempfile.mkdtemp())][:3]
    ['.gitignore', 'Makefile', 'README.md']
    """
    folder = expanded(folder)
    try:
        return _filled(folder)
    except OSError as error:
        raise FrostlineError(
            f"{folder} cannot be made and filled ({error}); name a folder where you may write"
        ) from error


def _filled(folder: Path) -> list[Path]:
    if folder.exists() and (not folder.is_dir() or entries(folder)):
        raise FrostlineError(f"{folder} is not empty; name a new folder")
    written = []
    for source in sorted(path for path in TEMPLATE.rglob("*") if path.is_file()):
        if "__pycache__" in source.parts or ".ipynb_checkpoints" in source.parts:
            continue
        relative = source.relative_to(TEMPLATE)
        target = folder / relative.with_name(NAMES.get(relative.name, relative.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        written.append(target)
    return sorted(written)
