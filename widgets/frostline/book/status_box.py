"""Sphinx extension: a status box on every published tutorial, drawn from the manifest of its run.

Before any page is read, every tutorial in `published/` must meet the rules of `run_checks`. Files that are
not those of the run end the build. What only needs a new run is drawn as a draft and marked as one; a
release (`FROSTLINE_RELEASE=1`) refuses that too. The box is injected while the page is read, so that the
executed notebook on disk stays byte for byte what the run wrote. After the build the source notebook, the
manifest and the artifacts are copied beside the page, and compared with the manifest once more.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from frostline.escaping import for_address, for_html, one_line
from frostline.hashes import file_sha256
from frostline.publishing.run_checks import TITLE, title_cell
from frostline.publishing.states import (
    FOLDER,
    NOT_RUN,
    RELEASE,
    State,
    declared_names,
    refusal,
    source_title,
    state_of,
    states_of,
)

STATIC_NOTE = (
    "This page is a static copy of an executed notebook. Its widgets show the state at the end of the run "
    "and are not connected to a kernel: buttons do nothing here. "
    "To use them, open the source notebook in JupyterLab."
)
STUB = "% A stand-in until the tutorial is run; written by frostline at every build.\n"
SHOWN_VERSIONS = ("torch", "scanpy", "python")


def check_published(folder: Path, docnames: set[str], root: Path, *, release: bool = False) -> None:
    """Raise `ExtensionError` naming every file that is not fit to be published."""
    refused = refusal(states_of(folder, declared_names(sorted(docnames)), root), release=release)
    strays = [path.name for path in sorted(folder.glob("*.md")) if not is_stub(path)]
    refused += "".join(f"\n  {FOLDER}/{name}: unexpected: no run wrote it" for name in strays)
    if refused:
        raise ExtensionError(refused)


def is_stub(path: Path) -> bool:
    """Tell whether a page is the stand-in of a tutorial that was not run."""
    return path.read_text(encoding="utf-8", errors="replace").startswith(STUB)


def line(text: object) -> str:
    """Text for HTML inside Markdown, where a blank line would end the HTML."""
    return for_html(one_line(text))


def format_time(text: str) -> str:
    """Show a point in time in UTC, to the minute."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def time_element(text: str) -> str:
    """Show a point in time, readable by programs too."""
    return f'<time datetime="{line(text)}">{format_time(text)}</time>'


def link(href: str, text: str) -> str:
    """Link that saves a file of the site."""
    return f'<a href="{for_address(href)}" download>{line(text)}</a>'


def rows(state: State) -> list[tuple[str, str, str]]:
    """Rows of the box: the manifest's key, the label, and the value as HTML."""
    manifest = state.manifest
    known, source = manifest["versions"], manifest["source_notebook"]
    versions = ", ".join(f"{name} {known[name]}" for name in SHOWN_VERSIONS if name in known)
    return [
        ("ended", "Last run (UTC)", time_element(manifest["ended"])),
        ("mode", "Publication mode", line(manifest["mode"])),
        ("profile", "Execution profile", line(manifest["profile"])),
        ("artifact_check", "Artifact check", line(state.check)),
        ("source_notebook", "Source notebook", link(f"../{source}", source)),
        ("dataset", "Data set", line(manifest["dataset"])),
        ("checkpoint", "Checkpoint", line(manifest["checkpoint"])),
        ("seed", "Seed", str(manifest["seed"])),
        ("seconds", "Wall time", f"{manifest['seconds']:.1f} s"),
        ("frostline", "frostline version", line(known.get("frostline", "unknown"))),
        ("versions", "Other versions", line(versions)),
    ]


def draft_note(state: State) -> str:
    """Mark of a page that is not passed; empty for one that is."""
    if not state.is_draft:
        return ""
    why = {
        "stale": "What it was made from has changed since this run; the numbers below may not come out the same again.",
        "failed": "The last attempt to run it failed.",
        NOT_RUN: "It has not been run yet.",
    }[state.result]
    how = "Run it" if state.result == NOT_RUN else "Run it again"
    again = f"<code>frostline publish {line(shlex.quote(state.name))}</code>"
    return f'<p class="frostline-draft"><strong>Draft.</strong> {why} {how}: {again}.</p>\n'


def render_box(state: State) -> str:
    """HTML of the box.

    Without blank lines, because a blank line ends a block of raw HTML in Markdown.
    """
    name, manifest = state.name, state.manifest
    files = [(f"{name}/{file}", file) for file in sorted(manifest["artifacts"])]
    files += [(f"{name}.ipynb", "executed notebook"), (f"{name}.run.json", "manifest of the run")]
    entries = "".join(
        f'<div><dt>{label}</dt><dd data-field="{key}">{value}</dd></div>\n' for key, label, value in rows(state)
    )
    items = "".join(f"<li>{link(href, text)}</li>\n" for href, text in files)
    return (
        f'<section class="frostline-status" data-result="{line(state.result)}" aria-label="Status of this page">\n'
        f"{draft_note(state)}<p>{STATIC_NOTE}</p>\n<dl>\n{entries}</dl>\n"
        f"<details><summary>Files of this run</summary>\n<ul>\n{items}</ul>\n</details>\n</section>"
    )


def render_stub(state: State, title: str) -> str:
    """Page of a tutorial that has no run to show."""
    failure: Mapping[str, Any] = state.failure
    when = f" on {time_element(failure['ended'])} (UTC)" if failure.get("ended") else ""
    reason = f"<p>It failed{when}: {line(failure['said'])}</p>\n" if failure else ""
    box = (
        f'<section class="frostline-status" data-result="{line(state.result)}" aria-label="Status of this page">\n'
        f"{draft_note(state)}{reason}</section>"
    )
    return f"{STUB}\n# {title}\n\n{box}\n"


def inject_box(notebook_text: str, state: State) -> str:
    """Put the box directly under the title of a notebook given as JSON text."""
    notebook = json.loads(notebook_text)
    cell = notebook["cells"][title_cell(notebook["cells"])]
    text = "".join(cell["source"])
    end = TITLE.search(text).end()  # type: ignore[union-attr]  # run_checks made sure of a title
    cell["source"] = f"{text[:end]}\n\n{render_box(state)}\n\n{text[end:].lstrip()}"
    return json.dumps(notebook)


def copy_run(published: Path, name: str, root: Path, site: Path) -> None:
    """Copy what the box links to into the site, and compare the copies with the manifest."""
    manifest = json.loads((published / f"{name}.run.json").read_text(encoding="utf-8"))
    source, executed = manifest["source_notebook"], f"{FOLDER}/{name}.ipynb"
    wanted = {site / executed: (published / f"{name}.ipynb", manifest["executed_sha256"])}
    for file, digest in manifest["artifacts"].items():
        wanted[site / FOLDER / name / file] = (published / name / file, digest)
    for target, (origin, digest) in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, target)
        if file_sha256(target) != digest:
            raise ExtensionError(f"{origin.name} changed while the site of {name!r} was built")
    shutil.copyfile(published / f"{name}.run.json", site / FOLDER / f"{name}.run.json")
    (site / source).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / source, site / source)


def project_root(app: Sphinx) -> Path:
    """Folder that source notebooks are relative to."""
    return Path(app.srcdir, app.config.frostline_root).resolve()


def current_states(app: Sphinx) -> list[State]:
    """Judge the tutorials of the table of contents, and what else was published."""
    return states_of(Path(app.srcdir) / FOLDER, declared_names(app.config.external_site_map), project_root(app))


def remove_stubs(app: Sphinx, _config: Config) -> None:
    """Remove the stand-ins of an earlier build, before anything looks for the files of the book."""
    for path in (Path(app.srcdir) / FOLDER).glob("*.md"):
        if is_stub(path):
            path.unlink()


def write_stubs(app: Sphinx, config: Config) -> None:
    """Write a stand-in for every declared tutorial that has no run."""
    folder = Path(app.srcdir) / FOLDER
    for name in declared_names(config.external_site_map):
        if not (folder / f"{name}.ipynb").exists():
            folder.mkdir(exist_ok=True)
            state = state_of(folder, name, project_root(app))
            if not state.problems:
                title = source_title(project_root(app) / "notebooks" / f"{name}.ipynb")
                (folder / f"{name}.md").write_text(render_stub(state, title), encoding="utf-8")


def on_before_read(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Refuse to read any page while one tutorial is unfit."""
    release = os.environ.get(RELEASE, "") not in {"", "0"}
    listed = set(app.config.external_site_map)
    check_published(Path(app.srcdir) / FOLDER, listed | set(env.found_docs), project_root(app), release=release)


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Inject the box into a tutorial's page."""
    if docname.startswith(f"{FOLDER}/") and not source[0].startswith(STUB):
        app.env.note_reread()  # whether a page is stale depends on files that Sphinx does not watch
        name = docname.removeprefix(f"{FOLDER}/")
        source[0] = inject_box(source[0], state_of(Path(app.srcdir) / FOLDER, name, project_root(app)))


def on_build_finished(app: Sphinx, exception: Exception | None) -> None:
    """Copy the files of every run that has a page."""
    if exception is None and app.builder.format == "html":
        published = Path(app.srcdir) / FOLDER
        for name in declared_names(sorted(app.env.found_docs)):
            if (published / f"{name}.run.json").is_file():
                copy_run(published, name, project_root(app), Path(app.outdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.add_config_value("frostline_root", "..", "env")
    # Both before Sphinx lists its files, which it does once the configuration is there: the stand-in of an earlier
    # build and the notebook published since would be two files of one page. sphinx_external_toc reads at 900.
    app.connect("config-inited", remove_stubs, priority=100)
    app.connect("config-inited", write_stubs, priority=950)
    app.connect("env-before-read-docs", on_before_read)
    app.connect("source-read", on_source_read)
    app.connect("build-finished", on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
