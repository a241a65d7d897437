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
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from frostline.book.drawing import draw
from frostline.hashes import file_sha256
from frostline.publishing.run_checks import TITLE, read_json, title_cell
from frostline.publishing.run_manifests import RunManifest
from frostline.publishing.states import (
    FOLDER,
    RELEASE,
    State,
    refusal,
    source_title,
    state_of,
    states_of,
    tutorials_among,
)

STUB = "% A stand-in until the tutorial is run; written by frostline at every build.\n"


def check_published(folder: Path, docnames: set[str], root: Path, *, release: bool = False) -> None:
    """Raise `ExtensionError` naming every file that is not fit to be published."""
    refused = refusal(states_of(folder, tutorials_among(sorted(docnames)), root), release=release)
    strays = [path.name for path in sorted(folder.glob("*.md")) if not is_stub(path)]
    refused += "".join(f"\n  {FOLDER}/{name}: unexpected: no run wrote it" for name in strays)
    if refused:
        raise ExtensionError(refused)


def is_stub(path: Path) -> bool:
    """Tell whether a page is the stand-in of a tutorial that was not run."""
    return path.read_text(encoding="utf-8", errors="replace").startswith(STUB)


def render_box(state: State) -> str:
    """HTML of the box; without blank lines, because one ends a block of raw HTML in Markdown."""
    return draw("status_box.html", state=state)


def render_stub(state: State, title: str, source: Path | None = None) -> str:
    """Page of a tutorial that has no run to show: what its notebook says, without any output.

    Parameters
    ----------
    state, title
        Of the tutorial.
    source
        Its notebook; None, or one that cannot be read, has no text.
    """
    parts = [STUB, f"# {title}", render_box(state)]
    content, problems = ({}, ["none"]) if source is None else read_json(source)
    cells = [] if problems else content.get("cells", [])
    first = title_cell(cells)
    for index, cell in enumerate(cells):
        text = "".join(cell["source"]).strip()
        if index == first:
            text = text[TITLE.search(text).end() :].strip()  # type: ignore[union-attr]
        if text:
            parts.append(text if cell["cell_type"] == "markdown" else _as_code(text))
    return "\n\n".join(parts) + "\n"


def _as_code(text: str) -> str:
    """Code of a cell in a fence that nothing in it ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}ipython3\n{text}\n{fence}"


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
    manifest = RunManifest.model_validate_json((published / f"{name}.run.json").read_bytes())
    source, executed = manifest.source_notebook, f"{FOLDER}/{name}.ipynb"
    wanted = {site / executed: (published / f"{name}.ipynb", manifest.executed_sha256)}
    for file, digest in manifest.artifacts.items():
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


def states_of_book(app: Sphinx) -> list[State]:
    """Judge the tutorials of the table of contents, and what else was published."""
    return states_of(Path(app.srcdir) / FOLDER, tutorials_among(app.config.external_site_map), project_root(app))


def link_pages(notebook_text: str, folder: Path, book: str) -> str:
    """Let links to pages of the book, and to tutorials that were not run, lead to what is on the site.

    In `notebooks/` the page `protocol.md` is `../book/protocol.md`, which JupyterLab opens.
    """
    notebook_text = notebook_text.replace(f"](../{book}/", "](../")
    for stub in filter(is_stub, sorted(folder.glob("*.md"))):
        notebook_text = notebook_text.replace(f"]({stub.stem}.ipynb)", f"]({stub.name})")
    return notebook_text


def remove_stubs(app: Sphinx, _config: Config) -> None:
    """Remove the stand-ins of an earlier build, before anything looks for the files of the book."""
    for path in (Path(app.srcdir) / FOLDER).glob("*.md"):
        if is_stub(path):
            path.unlink()


def write_stubs(app: Sphinx, config: Config) -> None:
    """Write a stand-in for every declared tutorial that has no run."""
    folder = Path(app.srcdir) / FOLDER
    for name in tutorials_among(config.external_site_map):
        if not (folder / f"{name}.ipynb").exists():
            folder.mkdir(exist_ok=True)
            state = state_of(folder, name, project_root(app))
            if not state.problems:
                source = project_root(app) / "notebooks" / f"{name}.ipynb"
                text = render_stub(state, source_title(source), source)
                (folder / f"{name}.md").write_text(text, encoding="utf-8")


def on_before_read(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Refuse to read any page while one tutorial is unfit."""
    release = os.environ.get(RELEASE, "") not in {"", "0"}
    listed = set(app.config.external_site_map)
    check_published(Path(app.srcdir) / FOLDER, listed | set(env.found_docs), project_root(app), release=release)


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Inject the box into a tutorial's page, and let its links lead to other pages."""
    if not docname.startswith(f"{FOLDER}/"):
        return
    source[0] = link_pages(source[0], Path(app.srcdir) / FOLDER, Path(app.srcdir).name)
    if not source[0].startswith(STUB):
        app.env.note_reread()  # whether a page is stale depends on files that Sphinx does not watch
        name = docname.removeprefix(f"{FOLDER}/")
        source[0] = inject_box(source[0], state_of(Path(app.srcdir) / FOLDER, name, project_root(app)))


def on_build_finished(app: Sphinx, exception: Exception | None) -> None:
    """Copy the files of every run that has a page."""
    if exception is None and app.builder.format == "html":
        published = Path(app.srcdir) / FOLDER
        for name in tutorials_among(sorted(app.env.found_docs)):
            if (published / f"{name}.run.json").is_file():
                copy_run(published, name, project_root(app), Path(app.outdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.add_config_value("frostline_root", "..", "env")
    app.add_js_file("status_box.js")
    # Both before Sphinx lists its files, which it does once the configuration is there: the stand-in of an earlier
    # build and the notebook published since would be two files of one page. sphinx_external_toc reads at 900.
    app.connect("config-inited", remove_stubs, priority=100)
    app.connect("config-inited", write_stubs, priority=950)
    app.connect("env-before-read-docs", on_before_read)
    app.connect("source-read", on_source_read)
    app.connect("build-finished", on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
