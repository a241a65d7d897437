"""The check of a folder of artifacts: its files are whole, and its numbers are those that its records give."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from frostline import plain_files
from frostline.artifacts import folders, kinds, manifests, pictures, runs
from frostline.artifacts.manifests import MANIFEST, Manifest
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256


@dataclass
class CheckResult:
    """What the check of a folder found."""

    files: int = 0
    """Files opened."""
    numbers: int = 0
    """Reported numbers recomputed from the predictions."""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What could not be checked here."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        if self.problems:
            return "failed: " + "; ".join(self.problems)
        said = f"passed: {self.files} files opened, {self.numbers} numbers recomputed"
        return "; ".join([said, *self.remarks])


def check(folder: str | Path, notebook: str | Path | None = None) -> CheckResult:
    """Check a folder of artifacts by its content.

    The files are exactly those declared, each with the sha256 of the manifest; all pictures open; every
    metric equals the one recomputed from the saved predictions, and every table, report and picture is what they
    give. An executed notebook that lies beside the folder and wrote it must be of the same run. That all of this
    holds says that the files are consistent with the saved predictions; it is no signature.

    Parameters
    ----------
    folder
        Of artifacts.
    notebook
        Executed; by default those beside the folder whose OUTPUT_DIR it is.

    Returns
    -------
    CheckResult
        With one sentence for everything that is wrong, naming the file.
    """
    folder, result = plain_files.expanded(folder), CheckResult()
    folders.recover_if_free(folder)
    try:
        manifest = manifests.read_manifest(folder)
    except ArtifactError as error:
        result.problems.append(f"{MANIFEST}: {error}")
        return result
    result.files += 1
    present = _check_files(folder, manifest, result)
    if present is not None:
        _check_content(folder, manifest, present, result)
    result.problems += runs.notebook_problems(folder, manifest.run, notebook)
    return result


def _check_files(folder: Path, manifest: Manifest, result: CheckResult) -> set[str] | None:
    """Hold the names and hashes of the files to the manifest; None when there is no reading the folder."""
    expected = set(declared(manifest.strategies, manifest.studies))
    try:
        found = {path.name: path for path in plain_files.entries(folder) if path.name != MANIFEST}
    except OSError as error:
        result.problems.append(f"{folder.name}: cannot be read ({error})")
        return None
    result.problems += [f"{name}: missing" for name in sorted(expected - found.keys())]
    result.problems += [f"{name}: unexpected, no artifact of this run" for name in sorted(found.keys() - expected)]
    present = set()
    for name in sorted(expected & found.keys()):
        problem = _file_problem(found[name], manifest)
        if problem != _NO_FILE:
            result.files += 1
            present.add(name)
        result.problems += [f"{name}: {problem}"] if problem else []
    return present if expected <= present else None


def _file_problem(path: Path, manifest: Manifest) -> str | None:
    if not plain_files.is_plain_file(path):
        return _NO_FILE
    listed = manifest.files.get(path.name)
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"cannot be read ({error})"
    if listed is None or listed.sha256 != digest:
        return "altered since the run (sha256 differs from the manifest)"
    if listed.bytes not in (None, path.stat().st_size):
        return f"has {path.stat().st_size} bytes, the manifest says {listed.bytes}"
    return None


def _check_content(folder: Path, manifest: Manifest, present: set[str], result: CheckResult) -> None:
    kind = kinds.of(manifest.studies)
    listed = manifest.files.get(kind.source)
    for name in sorted(name for name in present if name.endswith(".png")):
        found = pictures.problems(folder / name, listed.sha256 if listed else None)
        result.problems += [f"{name}: {problem}" for problem in found]
    other = pictures.other_drawing(manifest.versions)
    draws = not result.problems and other is None
    try:
        result.numbers, wrong = kind.problems(folder, manifest, draws)
    except Exception as error:  # whatever a damaged file makes a library raise: it is damaged
        wrong = [f"{kind.source}: the other files cannot be held to it ({type(error).__name__}: {error})"]
    result.problems += wrong
    result.remarks += [other] if other else []


def declared(strategies: Sequence[str], studies: Sequence[str] = ()) -> tuple[str, ...]:
    """Files that a comparison of these strategies leaves, the manifest aside.

    Parameters
    ----------
    strategies
        Names.
    studies
        What else was done: `label_efficiency`, `unknown_cells`, `annotation`; `clusters` stands alone.

    Examples
    --------
    >>> "lora_embedding_umap.png" in declared(["pca_logistic"])
    False
    """
    return tuple(sorted(kinds.of(studies).files(strategies, studies)))


def versions() -> dict[str, str]:
    """Return the versions of Python, of the packages that decide the numbers, and of what draws."""
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, **pictures.drawing_versions()}


_NO_FILE = "is no file of its own"


PACKAGES = (
    "frostline",
    "torch",
    "scanpy",
    "anndata",
    "scikit-learn",
    "numpy",
    "pandas",
    "peft",
    "igraph",
    "umap-learn",
)
