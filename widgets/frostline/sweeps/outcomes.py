"""What became of a run, as its folder says: it is done when its artifacts passed their check and are unchanged."""

from __future__ import annotations

import contextlib
import json
import platform
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frostline import scratch
from frostline.artifacts import checking
from frostline.artifacts.manifests import MANIFEST, read_manifest
from frostline.artifacts.runs import notebook_problems
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256
from frostline.plain_files import Digest, strict_json
from frostline.sweeps.plans import PlannedRun

FILE = "outcome.json"
DONE: Literal["done"] = "done"
FAILED: Literal["failed"] = "failed"
STOPPED: Literal["stopped"] = "stopped"


class RunOutcome(BaseModel):
    """What became of one attempt at a run.

    Examples
    --------
    >>> RunOutcome(key="0" * 64, state="failed", said="no such file").seconds
    0.0
    """

    model_config = ConfigDict(strict=True, frozen=True)

    key: Digest
    """Of the run, see `frostline.sweeps.plans`."""
    state: Literal["done", "failed", "stopped"]
    said: str = ""
    """Why it failed, in a line."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    host: str = Field(default_factory=platform.node)
    manifest_sha256: Digest | None = None
    """Of the artifacts that passed their check; None where none did."""


def look(run: PlannedRun) -> RunOutcome | None:
    """Say what is known of a run; None when nothing is, so that it has to be run.

    Artifacts without an outcome, as a workflow leaves them or a process that was killed, are checked here.
    """
    found = read(run)
    if found is not None and found.state != DONE:
        return _checked(run) or found
    if found is None:
        return _checked(run)
    return found if _is_unchanged(run.artifacts, found.manifest_sha256) else None


def read(run: PlannedRun) -> RunOutcome | None:
    """Read the outcome of the last attempt; None where there is none, or it is of something else."""
    try:
        found = RunOutcome.model_validate(strict_json((run.folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return None
    return found if found.key == run.key else None


def write(folder: Path, outcome: RunOutcome) -> RunOutcome:
    """Write the outcome of an attempt into the folder of its run, in the place of an earlier one."""
    path = scratch.scratch_path(folder, ".json")
    path.write_text(outcome.model_dump_json(indent=1) + "\n", encoding="utf-8")
    path.replace(folder / FILE)
    return outcome


def _is_unchanged(folder: Path, digest: str | None) -> bool:
    try:
        files = read_manifest(folder).files
        unchanged = all(file_sha256(folder / name) == about.sha256 for name, about in files.items())
        return unchanged and file_sha256(folder / MANIFEST) == digest
    except (OSError, ArtifactError):
        return False


def _checked(run: PlannedRun) -> RunOutcome | None:
    """Check artifacts that no outcome is of; None where there are none, or they are no result of this run.

    A notebook may fail, or be killed, after it has saved: one that did not come to its end is no result.
    """
    try:
        content = json.loads((run.artifacts / MANIFEST).read_text(encoding="utf-8"))
        manifest = read_manifest(run.artifacts)
    except (OSError, ValueError):
        return None
    if content.get("notebook", {}).get("sha256") != run.notebook_sha256:
        return None
    if notebook_problems(run.artifacts, manifest.run, run.executed) or not checking.check(run.artifacts).passed:
        return None
    seconds = (manifest.ended - manifest.started).total_seconds()
    digest = file_sha256(run.artifacts / MANIFEST)
    found = RunOutcome(key=run.key, state=DONE, seconds=seconds, manifest_sha256=digest)
    with contextlib.suppress(OSError):  # of somebody else, whose runs are looked at: they are checked again next time
        write(run.folder, found)
    return found
