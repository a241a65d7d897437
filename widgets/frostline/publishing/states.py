"""Where each tutorial stands: passed, stale, failed, altered, or not run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frostline.escaping import for_markdown
from frostline.publishing.run_checks import MACHINE_PATH, STALE, TITLE, find_problems, read_json, title_cell

FOLDER = "published"
PASSED, STALE_PAGE, FAILED, ALTERED, NOT_RUN = "passed", "stale", "failed", "altered", "not run"

RELEASE = "FROSTLINE_RELEASE"
"""Environment variable; 1 refuses to build while one page is not passed."""


@dataclass(frozen=True)
class State:
    """One tutorial as it lies in `book/published`."""

    name: str
    result: str
    """passed; stale: a new run is needed; failed: the last attempt did not end well, what is shown is of an
    earlier one; altered: the files are not those of the run; not run."""
    problems: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of the run that the page shows; empty when there is none, or when it cannot be trusted."""
    failure: Mapping[str, Any] = field(default_factory=dict)
    """When the last attempt failed, and with what."""

    @property
    def is_draft(self) -> bool:
        """Whether the page must not be released."""
        return self.result != PASSED

    @property
    def check(self) -> str:
        """The artifact check in a line.

        Examples
        --------
        >>> State("mine", "not run").check
        'not run'
        """
        checked = self.manifest.get("artifact_check")
        numbers = f"{checked['files']} files, {checked['numbers']} numbers recomputed" if checked else ""
        if self.result == PASSED:
            return f"passed: {numbers}"
        if self.result == NOT_RUN:
            return NOT_RUN
        reasons = self.failure.get("said") or "; ".join(p.partition(STALE)[2] or p for p in self.problems)
        earlier = f" (earlier run: passed, {numbers})" if numbers else ""
        return f"{self.result}: {reasons}{earlier}"


def declared_names(docnames: Iterable[str]) -> list[str]:
    """Tutorials among the documents of a table of contents, in its order.

    Examples
    --------
    >>> declared_names(["index", "published/mine", "published/mine.ipynb"])
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
    manifest = json.loads((published / f"{name}.run.json").read_text(encoding="utf-8"))
    result = FAILED if failure else STALE_PAGE if problems else PASSED
    return State(name, result, problems, manifest, failure)


def states_of(published: Path, declared: Iterable[str], root: Path) -> list[State]:
    """Judge all tutorials: those declared, in their order, then whatever else lies in the folder."""
    names = list(declared)
    on_disk = {path.name.split(".")[0] for path in published.glob("*") if not path.name.startswith(".")}
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
        for line in (state.problems or (f"{state.name}: {state.check}",))
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
    content = {"tutorial": name, "ended": datetime.now(UTC).isoformat(timespec="seconds"), "said": said}
    (published / f"{name}.failed.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_failure(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"said": str(found["said"]), "ended": str(found["ended"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"said": "the record of the failure cannot be read", "ended": ""} if path.exists() else {}


def source_title(notebook: Path) -> str:
    """Title of a source notebook; its name when there is none to be read."""
    content, problems = read_json(notebook)
    cells = [] if problems else content.get("cells", [])
    index = title_cell(cells)
    found = TITLE.search("".join(cells[index]["source"])) if index is not None else None
    return found.group().lstrip("# ") if found else for_markdown(notebook.stem)
