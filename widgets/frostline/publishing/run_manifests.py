"""The manifest of a published run, `<name>.run.json`: what it says of the run, and the seal on all of it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from frostline.plain_files import Count, Digest

Moment = Annotated[AwareDatetime, Field(strict=False)]
"""In JSON it is text."""


class CheckFacts(BaseModel):
    """Of the check of the artifacts; nothing else than a passed one is published."""

    model_config = ConfigDict(strict=True)

    result: Literal["passed"]
    files: Count
    numbers: Count
    """How many were recomputed."""


class InputFacts(BaseModel):
    """Of what the run read, as `frostline.publishing.inputs` hashes it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: Digest
    lock: Digest
    data: dict[str, Digest]


class RunManifest(BaseModel):
    """What a run says of itself, its notebook and its artifacts."""

    model_config = ConfigDict(strict=True)

    tutorial: str
    source_notebook: str
    """Relative to the project's folder."""
    source_sha256: Digest
    executed_sha256: Digest
    mode: str
    profile: str
    parameters: dict[str, Any]
    dataset: str
    checkpoint: str
    seed: int
    started: Moment
    ended: Moment
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    artifact_check: CheckFacts
    artifacts: dict[str, Digest]
    versions: dict[str, str]
    inputs: InputFacts
    manifest_sha256: Digest


def seal(content: dict[str, Any]) -> str:
    """Hash of everything that a manifest says, its own hash aside.

    Examples
    --------
    >>> seal({"seed": 1, "manifest_sha256": "of something else"}) == seal({"seed": 1})
    True
    """
    said = {key: value for key, value in content.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
