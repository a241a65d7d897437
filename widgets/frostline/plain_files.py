"""Files that others may have written or changed: what is one, what lies in a folder, JSON that means one thing."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as short
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini", ".directory")
SYSTEM_PREFIXES = ("._", ".nfs")
SYSTEM_FOLDERS = (".ipynb_checkpoints", "__MACOSX")

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class FileFacts(BaseModel):
    """Of one file."""

    model_config = ConfigDict(strict=True)

    sha256: Digest
    bytes: Count | None = None


def expanded(source: str | Path) -> Path:
    """Return a path with the home folder in place of `~`; a file whose name begins like that is left as it is."""
    return Path(os.path.expanduser(source))


def is_system_file(path: Path) -> bool:
    """Whether it is what an operating system or JupyterLab leaves in every folder that it shows.

    Examples
    --------
    >>> is_system_file(Path(".DS_Store")), is_system_file(Path("report.md"))
    (True, False)
    """
    if path.is_dir():
        return path.name in SYSTEM_FOLDERS
    return path.name in SYSTEM_FILES or path.name.startswith(SYSTEM_PREFIXES)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, system files aside, sorted."""
    return sorted(path for path in folder.iterdir() if not is_system_file(path))


def system_files(folder: str, names: list[str]) -> set[str]:
    """Those among the names in a folder that are system files; for the `ignore` of `shutil.copytree`."""
    return {name for name in names if is_system_file(Path(folder) / name)}


def is_plain_file(path: Path) -> bool:
    """Whether it is a file of its own: no link, no folder, no pipe.

    Examples
    --------
    >>> is_plain_file(Path("."))
    False
    """
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def strict_json(text: str) -> Any:
    """Read JSON as the standard has it: no key twice, no NaN or Infinity.

    Raises
    ------
    ValueError
        It is none, or is nested deeper than Python reads.

    Examples
    --------
    >>> strict_json('{"seed": 1, "seed": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'seed' stands there twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse("is no number of JSON"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return content


def _refuse(why: str) -> Callable[[str], Any]:
    def refuse(value: str) -> Any:
        raise ValueError(f"{value} {why}")

    return refuse


def problems_of(error: ValidationError) -> list[str]:
    """Say of every entry that a model refused what is wrong with it.

    Examples
    --------
    >>> try:
    ...     FileFacts.model_validate({"bytes": -1})
    ... except ValidationError as error:
    ...     problems_of(error)
    ['lacks sha256', 'bytes: Input should be greater than or equal to 0, got -1']
    """
    return list(dict.fromkeys(map(_said, error.errors())))


def _said(found: ErrorDetails) -> str:
    if not found["loc"]:
        return "no JSON object"
    where = ".".join(map(str, found["loc"]))
    return f"lacks {where}" if found["type"] == "missing" else f"{where}: {found['msg']}, got {short(found['input'])}"
