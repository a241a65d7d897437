"""What must hold before a published tutorial may become a page.

A published tutorial is three things in one folder: `<name>.ipynb` (the executed notebook),
`<name>.run.json` (the manifest of the run) and `<name>/` (its artifacts). Each rule is a plain function
that yields a sentence per problem, so that it can be used and tested without Sphinx; an empty answer
means that the page may be built. No rule imports what it judges: the manifest is the whole contract.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from frostline.artifacts.runs import run_of
from frostline.hashes import file_sha256
from frostline.plain_files import is_system_file, problems_of
from frostline.publishing.inputs import changed_inputs
from frostline.publishing.page_checks import WIDGET_STATE, check_code, check_tables, read_notebook
from frostline.publishing.run_manifests import RunManifest, seal

CORE_WIDGETS = ("@jupyter-widgets/base", "@jupyter-widgets/controls", "@jupyter-widgets/output")
"""Widget modules that the vendored manager holds; it would fetch any other from another host."""

OWN_WIDGETS = "frostline.panels."
"""Beginning of what anywidget calls the widgets of this package, whose state holds a script that asks for nothing."""
TITLE = re.compile(r"^# \S.*$", re.MULTILINE)
MACHINE_PATH = re.compile(
    r"(?:(?<![\w.~:/-])|(?<=file://))"
    r"(?:/(?:home|Users|root|tmp|private|mnt|media|opt|var/folders|usr/(?:local/)?lib)/[\w.-]+"
    r"|[A-Za-z]:\\+(?:Users|Temp)\\+[\w.-]+)"
)
BASE64 = re.compile(r"base64,[A-Za-z0-9+/=\s]+")
TEXT_FILES = {".md", ".csv", ".json", ".txt"}
STALE = ": stale: "
"""In the problems that a new run solves; every other one means that something was altered or is missing."""


def find_problems(published: Path, name: str, root: Path) -> list[str]:
    """Apply every rule to one tutorial.

    Parameters
    ----------
    published
        Folder with the executed notebooks, their manifests and artifacts.
    name
        Name of the tutorial.
    root
        Folder that the manifest's `source_notebook` is relative to.

    Returns
    -------
    One sentence per problem, each beginning with the file that it is about.
    """
    manifest_file = published / f"{name}.run.json"
    content, problems = read_json(manifest_file)
    if not problems:
        problems = [f"{manifest_file.name}: {p}" for p in check_manifest(content, name)]
    if problems:
        return problems
    manifest = RunManifest.model_validate(content)
    notebook_file = published / f"{name}.ipynb"
    problems += check_source(manifest, root)
    problems += [f"{name}{STALE}{p}; run it again" for p in changed_inputs(manifest.inputs.model_dump(), root)]
    problems += check_executed(manifest, notebook_file)
    notebook, unreadable = read_json(notebook_file)
    problems += unreadable
    if not unreadable:
        problems += [f"{notebook_file.name}: {p}" for p in check_notebook(notebook)]
        problems += [f"{notebook_file.name}: {p}" for p in check_page(manifest, notebook, published / name, root)]
        problems += [f"{manifest_file.name}: {p}" for p in check_parameters(manifest, notebook)]
    problems += check_artifacts(manifest, published / name)
    problems += [f"{manifest_file.name}: {p}" for p in check_agreement(manifest, published / name)]
    problems += check_paths(published, name, root)
    return problems


def read_json(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a JSON object; the second part of the answer says why it could not be read."""
    if not path.is_file():
        return {}, [f"{path.name}: missing"]
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return {}, [f"{path.name}: not valid JSON ({error})"]
    if not isinstance(value, dict):
        return {}, [f"{path.name}: not a JSON object"]
    return value, []


def check_manifest(content: dict[str, Any], name: str) -> Iterator[str]:
    """Check that the manifest is complete, belongs to this tutorial, and is what the run wrote."""
    try:
        manifest = RunManifest.model_validate(content)
    except ValidationError as error:
        yield from problems_of(error)
        return
    if manifest.tutorial != name:
        yield f"describes the tutorial {manifest.tutorial!r}, not {name!r}"
    if manifest.artifact_check.files != len(manifest.artifacts):
        yield f"{manifest.artifact_check.files} files were checked, but {len(manifest.artifacts)} are listed"
    if manifest.manifest_sha256 != seal(content):
        yield "altered: its content is not what the run wrote; run it again"


def check_page(manifest: RunManifest, notebook: dict[str, Any], folder: Path, root: Path) -> Iterator[str]:
    """Check that the page's code is that of its source, and its run and its tables are those of its artifacts."""
    source = root / manifest.source_notebook
    if source.is_file() and file_sha256(source) == manifest.source_sha256:  # otherwise it is stale, which is said
        yield from check_code(read_notebook(source), notebook)
    inner, _ = read_json(folder / "manifest.json")
    printed, run = run_of(notebook), inner.get("run")
    if printed is not None and run is not None and printed != run:
        yield f"is of run {printed}, its artifacts are of run {run}"
    yield from check_tables(notebook, folder)


def check_parameters(manifest: RunManifest, notebook: dict[str, Any]) -> Iterator[str]:
    """Check that the manifest gives the parameters that papermill gave to the notebook."""
    given = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {})
    for name, value in given.items():
        if manifest.parameters.get(name) != value:
            yield f"says {name}={manifest.parameters.get(name)!r}, the executed notebook was given {value!r}"


def check_agreement(manifest: RunManifest, folder: Path) -> Iterator[str]:
    """Check that the manifest says of seed, data set and checkpoint what the artifacts' own manifest says."""
    inner, _ = read_json(folder / "manifest.json")
    if isinstance(inner.get("checkpoints"), dict):
        inner["checkpoint"] = ", ".join(inner["checkpoints"]) or "none"
    for key in ("seed", "dataset", "checkpoint"):
        value = inner.get(key)
        value = value.get("name") if isinstance(value, dict) else value
        if value is not None and value != getattr(manifest, key):
            yield f"says {key} {getattr(manifest, key)!r}, the artifacts are of {value!r}"
    said = inner.get("parameters")
    for name in ("PROFILE", "LABEL_KEY", "GROUP_KEY", "SPLIT"):
        given, value = manifest.parameters.get(name), said.get(name.lower()) if isinstance(said, dict) else None
        if given and value is not None and value != given:
            yield f"says {name}={given!r}, the artifacts are of {value!r}"


def check_source(manifest: RunManifest, root: Path) -> Iterator[str]:
    """Check that the source notebook is the one that was executed."""
    relative = Path(manifest.source_notebook)
    if relative.is_absolute() or ".." in relative.parts:
        yield f"{relative}: the source notebook must lie inside the repository"
    elif not (root / relative).is_file():
        yield f"{relative}: the source notebook is missing"
    elif file_sha256(root / relative) != manifest.source_sha256:
        yield f"{relative}{STALE}the source notebook has changed since; run it again"


def check_executed(manifest: RunManifest, notebook_file: Path) -> Iterator[str]:
    """Check that the executed notebook is byte for byte what the run wrote."""
    if notebook_file.is_file() and file_sha256(notebook_file) != manifest.executed_sha256:
        yield f"{notebook_file.name}: altered: its sha256 is not the one of the run; run it again"


def check_notebook(notebook: dict[str, Any]) -> Iterator[str]:
    """Check that the executed notebook ran to its end and can be drawn without outside help."""
    metadata = notebook.get("metadata", {})
    if not metadata.get("language_info"):
        yield "metadata.language_info is missing; was the notebook executed?"
    if metadata.get("papermill", {}).get("exception"):
        yield "papermill recorded an exception"
    cells = notebook.get("cells", [])
    if title_cell(cells) is None:
        yield "no Markdown cell has a title ('# ...')"
    yield from check_cells(notebook)
    states = metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values()
    for module in sorted(
        {state.get("model_module", "") for state in states if not is_own_widget(state)} - set(CORE_WIDGETS)
    ):
        yield f"widgets of {module!r} cannot be drawn on a static page; use core ipywidgets"


def is_own_widget(state: dict[str, Any]) -> bool:
    """Whether the state of a widget is that of one which this package made with anywidget."""
    name = str(state.get("state", {}).get("_anywidget_id", ""))
    return state.get("model_module") == "anywidget" and name.startswith(OWN_WIDGETS)


def check_cells(notebook: dict[str, Any]) -> Iterator[str]:
    """Check that every code cell was executed and holds no error."""
    for number, cell in enumerate(notebook.get("cells", []), start=1):
        if cell.get("cell_type") == "code":
            yield from (f"cell {number} {problem}" for problem in check_code_cell(cell))


def check_code_cell(cell: dict[str, Any]) -> Iterator[str]:
    """Check that a code cell was executed and holds no error."""
    if "".join(cell.get("source", "")).strip() and cell.get("execution_count") is None:
        yield "was not executed"
    for output in cell.get("outputs", []):
        if output.get("output_type") == "error":
            yield f"holds an error output: {output.get('ename')}: {output.get('evalue')}"


def title_cell(cells: list[dict[str, Any]]) -> int | None:
    """Index of the first Markdown cell with a title, or None."""
    for index, cell in enumerate(cells):
        if cell.get("cell_type") == "markdown" and TITLE.search("".join(cell["source"])):
            return index
    return None


def check_artifacts(manifest: RunManifest, folder: Path) -> Iterator[str]:
    """Check that the folder holds exactly the files of the run, unaltered."""
    system = {p for p in folder.rglob("*") if is_system_file(p)}
    files = [p for p in folder.rglob("*") if not p.is_dir() and not system & {p, *p.parents}]
    found = {p.relative_to(folder).as_posix(): p for p in files}
    listed = manifest.artifacts
    for file in sorted(found.keys() | listed.keys()):
        if file not in found:
            yield f"{folder.name}/{file}: missing"
        elif file not in listed:
            yield f"{folder.name}/{file}: unexpected: the run did not write it"
        elif found[file].is_symlink() or file_sha256(found[file]) != listed[file]:
            yield f"{folder.name}/{file}: altered: its sha256 is not the one of the run"


def check_paths(published: Path, name: str, root: Path) -> Iterator[str]:
    """Check that no text on the site names a folder of the machine that ran it."""
    files = [published / f"{name}.ipynb", published / f"{name}.run.json"]
    files += [p for p in sorted((published / name).rglob("*")) if p.suffix in TEXT_FILES]
    own = [str(p) for p in (root.resolve(), Path.home()) if len(p.parts) > 1]
    for file in files:
        found = machine_path(file, own)
        if found:
            yield f"{file.relative_to(published).as_posix()}: absolute path of a machine: {found!r}"


def machine_path(file: Path, own: list[str]) -> str | None:
    """First path in a text or JSON file that starts with one of `own` or looks like a machine's."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if file.suffix in {".ipynb", ".json"}:
        try:
            text = "\n".join(strings_of(json.loads(text)))
        except ValueError:
            return None  # reported by the rule that reads the file
    text = BASE64.sub("", text)
    for prefix in own:
        match = re.search(rf"(?<![\w.-]){re.escape(prefix)}(?![\w.-])[\w./-]*", text)
        if match:
            return match.group()
    match = MACHINE_PATH.search(text)
    return match.group() if match else None


def strings_of(value: Any) -> Iterator[str]:
    """Every key and string in a JSON value, leaving out encoded images and buffers."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        lines = all(isinstance(item, str) for item in value)
        yield from ["".join(value)] if lines else (s for item in value for s in strings_of(item))
    elif isinstance(value, dict):
        encoded = value.get("encoding") == "base64"
        for key, item in value.items():
            yield key
            if not (encoded and key == "data") and not re.match(r"image/(?!svg)", key):
                yield from strings_of(item)
