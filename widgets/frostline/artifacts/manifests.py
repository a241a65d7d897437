"""The manifest of a folder of artifacts: what a run says of itself, and the hash of every file that it left."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from frostline.errors import ArtifactError

MANIFEST = "manifest.json"
LONGEST = 50_000_000
"""Bytes of a manifest; one of a run has some thousands."""
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


class DatasetFacts(BaseModel):
    """Of the data set."""

    model_config = ConfigDict(strict=True)

    name: str
    label_key: str
    values: str | None = None
    cells: Count | None = None
    genes: Count | None = None
    sha256: Digest | None = None


class Manifest(BaseModel):
    """What the check reads of a manifest."""

    model_config = ConfigDict(strict=True)

    format: Literal[1]
    run: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """Id of the run; None in manifests of earlier versions."""
    tutorial: str
    started: Annotated[AwareDatetime, Field(strict=False)]
    ended: Annotated[AwareDatetime, Field(strict=False)]
    parameters: dict[str, Any]
    seed: int
    strategies: list[str]
    repeats: list[int]
    studies: list[Literal["label_efficiency", "unknown_cells", "clusters"]]
    splits: dict[str, str] = Field(default_factory=dict)
    dataset: DatasetFacts
    checkpoints: dict[str, Digest] | None = None
    """Name -> sha256 of the weights; None in manifests of earlier versions."""
    versions: dict[str, str]
    files: dict[str, FileFacts]


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


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    ArtifactError
        It is missing, no JSON, lacks an entry, or an entry is of another kind; names all that is wrong.

    Examples
    --------
    >>> read_manifest(Path("no-such-folder"))
    Traceback (most recent call last):
    ...
    frostline.errors.ArtifactError: missing in no-such-folder
    """
    path = folder / MANIFEST
    if not is_plain_file(path):
        raise ArtifactError(f"is no file in {folder}" if path.exists() else f"missing in {folder}")
    try:
        if path.stat().st_size > LONGEST:
            raise ArtifactError(f"has {path.stat().st_size:,} bytes, at most {LONGEST:,} are read")
        manifest = Manifest.model_validate(strict_json(path.read_bytes().decode("utf-8")))
    except ValidationError as error:
        raise ArtifactError("; ".join(dict.fromkeys(map(_said, error.errors())))) from error
    except ArtifactError:
        raise
    except (OSError, ValueError) as error:
        raise ArtifactError(f"no JSON object ({error})") from error
    if manifest.ended < manifest.started:
        raise ArtifactError("the run ended before it started")
    return manifest


def _said(error: Any) -> str:
    if not error["loc"]:
        return "no JSON object"
    if error["type"] == "missing":
        return f"lacks {'.'.join(map(str, error['loc']))}"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
