"""Where each tutorial stands: passed, stale, failed, altered, or not run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from frostline.escaping import for_markdown
from frostline.plain_files import is_system_file
from frostline.publishing.run_checks import MACHINE_PATH, STALE, TITLE, find_problems, read_json, title_cell
from frostline.publishing.run_manifests import RunManifest

FOLDER = "published"
PASSED, STALE_PAGE, FAILED, ALTERED, NOT_RUN = "passed", "stale", "failed", "altered", "not run"

RELEASE = "FROSTLINE_RELEASE"
"""Environment variable; 1 refuses to build while one page is not passed."""


class Failure(BaseModel):
    """An attempt that did not end well."""

    said: str
    ended: AwareDatetime | None = None
    """None when the record of it cannot be read."""


@dataclass(frozen=True)
class State:
    """One tutorial as it lies in `book/published`."""

    name: str
    result: str
    """passed; stale: a new run is needed; failed: the last attempt did not end well, what is shown is of an
    earlier one; altered: the files are not those of the run; not run."""
    problems: tuple[str, ...] = ()
    manifest: RunManifest | None = None
    """Of the run that the page shows; None when there is none, or when it cannot be trusted."""
    failure: Failure | None = None
    """When the last attempt failed, and with what."""

    @property
    def is_draft(self) -> bool:
        """Whether the page must not be released."""
        return self.result != PASSED

    @property
    def artifact_check(self) -> str:
        """The artifact check in a line.

        Examples
        --------
        >>> State("mine", "not run").artifact_check
        'not run'
        """
        checked = self.manifest.artifact_check if self.manifest else None
        numbers = f"{checked.files} files, {checked.numbers} numbers recomputed" if checked else ""
        if self.result == PASSED:
            return f"passed: {numbers}"
        if self.result == NOT_RUN:
            return NOT_RUN
        problems = "; ".join(p.partition(STALE)[2] or p for p in self.problems)
        reasons = self.failure.said if self.failure else problems
        earlier = f" (earlier run: passed, {numbers})" if numbers else ""
        return f"{self.result}: {reasons}{earlier}"


def tutorials_among(docnames: Iterable[str]) -> list[str]:
    """Tutorials among the documents of a table of contents, in its order.

    Examples
    --------
    >>> tutorials_among(["index", "published/mine", "published/mine.ipynb"])
    ['mine']
    """
    found = [name.removesuffix(".ipynb").removesuffix(".md") for name in docnames if name.startswith(f"{FOLDER}/")]
    return list(dict.fromkeys(name.removeprefix(f"{FOLDER}/") for name in found))


def state_of(published: Path, name: str, root: Path) -> State:
    """Judge one tutorial; the arguments are those of `find_problems`."""
    failure = _read_failure(published / f"{name}.failed.json")
    placed = [path for path in (f"{name}.run.json", f"{name}.ipynb", name) if (published / path).exists()]
    if not placed:
        return State(name, FAILED if failure else NOT_RUN, failure=failure)
    problems = tuple(find_problems(published, name, root))
    if any(STALE not in problem for problem in problems):
        return State(name, ALTERED, problems, failure=failure)
    manifest = RunManifest.model_validate_json((published / f"{name}.run.json").read_bytes())
    result = FAILED if failure else STALE_PAGE if problems else PASSED
    return State(name, result, problems, manifest, failure)


def states_of(published: Path, declared: Iterable[str], root: Path) -> list[State]:
    """Judge all tutorials: those declared, in their order, then whatever else lies in the folder."""
    names = list(declared)
    found = [path.name for path in published.glob("*") if not is_system_file(path)]
    on_disk = {name.split(".")[0] for name in found if not name.startswith(".")}
    return [state_of(published, name, root) for name in [*names, *sorted(on_disk - set(names))]]


def refusal(states: Sequence[State], *, release: bool) -> str:
    """Say why a site cannot be built from these tutorials; empty when it can.

    Examples
    --------
    >>> refusal([State("mine", "not run")], release=False)
    ''
    >>> print(refusal([State("mine", "not run")], release=True))
    these tutorials cannot be released:
      published/mine: not run
    """
    word = "released" if release else "published"
    lines = [
        f"  {_from_root(line, state.name)}"
        for state in states
        if state.is_draft and (release or state.result == ALTERED)
        for line in (state.problems or (f"{state.name}: {state.artifact_check}",))
    ]
    return "\n".join([f"these tutorials cannot be {word}:", *lines]) if lines else ""


def _from_root(problem: str, name: str) -> str:
    """Name the file of a problem from the book's folder; that of a source is named from the project's already."""
    return f"{FOLDER}/{problem}" if re.match(rf"{re.escape(name)}[./:]", problem) else problem


def write_failure(published: Path, name: str, said: str, root: Path) -> None:
    """Note that a run failed; the page of an earlier run stays, marked as a draft."""
    for folder, short in ((str(root.resolve()), "."), (str(Path.home()), "~")):
        said = said.replace(folder, short)
    said = MACHINE_PATH.sub("(path)", said)
    published.mkdir(parents=True, exist_ok=True)
    failure = Failure(said=said, ended=datetime.now(UTC).replace(microsecond=0))
    (published / f"{name}.failed.json").write_text(failure.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _read_failure(path: Path) -> Failure | None:
    try:
        return Failure.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Failure(said="the record of the failure cannot be read")


def source_title(notebook: Path) -> str:
    """Title of a source notebook; its name when there is none to be read.

    Examples
    --------
    >>> source_title(Path("no-such.ipynb"))
    'no-such'
    """
    content, problems = read_json(notebook)
    cells = [] if problems else content.get("cells", [])
    index = title_cell(cells)
    found = TITLE.search("".join(cells[index]["source"])) if index is not None else None
    return found.group().lstrip("# ") if found else for_markdown(notebook.stem)
