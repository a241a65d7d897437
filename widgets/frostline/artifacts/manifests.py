"""The manifest of a folder of artifacts: what a run says of itself, and the hash of every file that it left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from frostline.errors import ArtifactError
from frostline.plain_files import Count, Digest, FileFacts, is_plain_file, problems_of, strict_json

MANIFEST = "manifest.json"
LONGEST = 50_000_000
"""Bytes of a manifest; one of a run has some thousands."""


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
    studies: list[Literal["label_efficiency", "unknown_cells", "clusters", "annotation"]]
    splits: dict[str, str] = Field(default_factory=dict)
    dataset: DatasetFacts
    checkpoints: dict[str, Digest] | None = None
    """Name -> sha256 of the weights; None in manifests of earlier versions."""
    versions: dict[str, str]
    files: dict[str, FileFacts]


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
        raise ArtifactError("; ".join(problems_of(error))) from error
    except ArtifactError:
        raise
    except (OSError, ValueError) as error:
        raise ArtifactError(f"no JSON object ({error})") from error
    if manifest.ended < manifest.started:
        raise ArtifactError("the run ended before it started")
    return manifest
