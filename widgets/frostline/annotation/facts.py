"""model.json: what the folder of a model says of itself, held to its own hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from frostline.errors import ModelError
from frostline.plain_files import Digest, FileFacts, entries, is_plain_file, problems_of, strict_json

MODEL = "model.json"
FORMAT, SCHEMA = "frostline model", 1
LONGEST = 2**28
"""Bytes of a model.json, at most."""
SHOWN = 4  # names in a message
COPY = "copy the folder again, or keep the model again"
WRITTEN = "name the folder that frostline adapt or Model.save has written"

FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
Share = Annotated[float, Field(ge=0, le=1)]


class StrategyFacts(BaseModel):
    """Of the fitted strategy."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    parameters: dict[str, Any]
    classes: Annotated[list[str], Field(min_length=2)]
    genes: list[str]
    """That it reads, by the names of the labelled cells."""


class CheckpointFacts(BaseModel):
    """Of the checkpoint that the strategy starts from."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    weights_sha256: Digest


class CalibrationFacts(BaseModel):
    """Of the calibration, its arrays aside."""

    model_config = ConfigDict(strict=True, extra="forbid")

    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    alpha: Share
    certificate: dict[str, Any]


class DataFacts(BaseModel):
    """Of the labelled cells, what is read again; the card says more."""

    model_config = ConfigDict(strict=True, extra="allow")

    name: str
    label_key: str
    group_key: str | None
    values: str
    scaled: bool
    cells: int
    classes: dict[str, int]
    sha256: str


class FitFacts(BaseModel):
    """How the strategy was fitted, to fit it again."""

    model_config = ConfigDict(strict=True, extra="allow")

    profile: dict[str, Any]
    seed: int
    kind: str
    folds: int


class CardFacts(BaseModel):
    """Of the card what is read again."""

    model_config = ConfigDict(strict=True, extra="allow")

    dataset: DataFacts
    fit: FitFacts
    metrics: dict[str, float | None]
    verdict: str
    checkpoint: CheckpointFacts | None
    notes: list[str]
    kept: str


class ModelFacts(BaseModel):
    """What model.json says."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["frostline model"]
    schema_version: Literal[1]
    strategy: StrategyFacts
    checkpoint: CheckpointFacts | None
    genes: list[str]
    ensembl: list[str]
    calibration: CalibrationFacts
    card: CardFacts
    versions: dict[str, str]
    files: dict[FileName, FileFacts]
    content_sha256: Digest
    """Of all the rest."""


def read_facts(place: Path) -> ModelFacts:
    """Read model.json and hold it to its own hash.

    Raises
    ------
    ModelError
        It is missing, is of another program or of a newer version, lacks an entry, or has been altered.
    """
    try:
        content = _content(place)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{place / MODEL} cannot be read: {error}; {COPY}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{place / MODEL} is of another program: it does not say that it is a {FORMAT}; {WRITTEN}")
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:
        raise ModelError(
            f"{place} was kept by a newer version of frostline (its format is {version}, and this one reads {SCHEMA}); "
            "upgrade frostline"
        )
    try:
        facts = ModelFacts.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{place / MODEL} is damaged: {'; '.join(problems_of(error))}; {COPY}") from error
    if content_sha256(content) != facts.content_sha256:
        raise ModelError(
            f"{place / MODEL} has been altered since the model was kept (its content_sha256 differs); {COPY}"
        )
    return facts


def _content(place: Path) -> Any:
    """What model.json holds, as JSON."""
    path = place / MODEL
    if not place.is_dir():
        what = "it is a file" if os.path.lexists(place) else "there is no such folder"
        raise ModelError(f"{place} is no folder of a model: {what}; {WRITTEN}")
    if not is_plain_file(path):
        present = [each.name for each in entries(place)]
        seen = f"it holds {some(present)}" if present else "it is empty"
        raise ModelError(f"{place} is no folder of a model: {MODEL} is missing ({seen}); {WRITTEN}")
    if path.stat().st_size > LONGEST:
        raise ModelError(f"{path} has {path.stat().st_size:,} bytes, at most {LONGEST:,} are read")
    return strict_json(path.read_bytes().decode("utf-8"))


def content_sha256(content: Mapping[str, Any]) -> str:
    """Hash of everything in model.json but this hash itself, whatever the order and the spaces."""
    rest = {name: value for name, value in content.items() if name != "content_sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def some(names: Collection[str]) -> str:
    """The first few names, and how many more there are.

    Examples
    --------
    >>> some("edcba")
    'a, b, c, d and 1 more'
    """
    shown = sorted(names)
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
