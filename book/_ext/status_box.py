"""Sphinx extension: a status box on every published tutorial, drawn from the manifest of its run.

Before any page is read, every tutorial in `published/` must meet the rules of `run_checks`; one problem
ends the build. The box is injected while the page is read, so that the executed notebook on disk stays
byte for byte what the run wrote. After the build the source notebook, the manifest and the artifacts are
copied beside the page, and compared with the manifest once more.
"""

import json
import shutil
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from run_checks import TITLE, find_problems, sha256, title_cell
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

FOLDER = "published"
STATIC_NOTE = (
    "This page is a static copy of an executed notebook. Its widgets show the state at the end of the run "
    "and are not connected to a kernel: buttons do nothing here. "
    "To use them, open the source notebook in JupyterLab."
)
SHOWN_VERSIONS = ("frostline", "torch", "scanpy", "python")


def published_names(folder: Path, docnames: set[str]) -> list[str]:
    """Names of all tutorials: those that the table of contents lists and those that lie on disk."""
    listed = {d.removeprefix(f"{FOLDER}/") for d in docnames if d.startswith(f"{FOLDER}/")}
    on_disk = {p.name.split(".")[0] for p in folder.glob("*") if not p.name.startswith(".")}
    return sorted(listed | on_disk)


def check_published(folder: Path, docnames: set[str], root: Path) -> None:
    """Raise `ExtensionError` naming every file that is not fit to be published."""
    names = published_names(folder, docnames)
    problems = [problem for name in names for problem in find_problems(folder, name, root)]
    if problems:
        listing = "\n".join(f"  {FOLDER}/{problem}" for problem in problems)
        raise ExtensionError(f"these tutorials cannot be published:\n{listing}")


def format_time(text: str) -> str:
    """Show a point in time in UTC, to the minute."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def link(href: str, text: str) -> str:
    """Link that saves a file of the site."""
    return f'<a href="{escape(href)}" download>{escape(text)}</a>'


def rows(manifest: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the box: the manifest's key, the label, and the value as HTML."""
    check, source = manifest["artifact_check"], manifest["source_notebook"]
    ended = f'<time datetime="{escape(manifest["ended"])}">{format_time(manifest["ended"])}</time>'
    passed = f"passed: {check['files']} files, {check['numbers']} numbers recomputed"
    known = manifest["versions"]
    versions = ", ".join(f"{name} {known[name]}" for name in SHOWN_VERSIONS if name in known)
    return [
        ("ended", "Last run (UTC)", ended),
        ("mode", "Publication mode", escape(manifest["mode"])),
        ("profile", "Execution profile", escape(manifest["profile"])),
        ("artifact_check", "Artifact check", escape(passed)),
        ("source_notebook", "Source notebook", link(f"../{source}", source)),
        ("dataset", "Data set", escape(manifest["dataset"])),
        ("checkpoint", "Checkpoint", escape(manifest["checkpoint"])),
        ("seed", "Seed", str(manifest["seed"])),
        ("seconds", "Wall time", f"{manifest['seconds']:.1f} s"),
        ("versions", "Versions", escape(versions)),
    ]


def render_box(manifest: dict[str, Any]) -> str:
    """HTML of the box.

    Without blank lines, because a blank line ends a block of raw HTML in Markdown.
    """
    name = manifest["tutorial"]
    files = [(f"{name}/{file}", file) for file in sorted(manifest["artifacts"])]
    files += [(f"{name}.ipynb", "executed notebook"), (f"{name}.run.json", "manifest of the run")]
    entries = "".join(
        f'<div><dt>{label}</dt><dd data-field="{key}">{value}</dd></div>\n' for key, label, value in rows(manifest)
    )
    items = "".join(f"<li>{link(href, text)}</li>\n" for href, text in files)
    return (
        '<section class="frostline-status" aria-label="Status of this page">\n'
        f"<p>{STATIC_NOTE}</p>\n<dl>\n{entries}</dl>\n"
        f"<details><summary>Files of this run</summary>\n<ul>\n{items}</ul>\n</details>\n</section>"
    )


def inject_box(notebook_text: str, manifest: dict[str, Any]) -> str:
    """Put the box directly under the title of a notebook given as JSON text."""
    notebook = json.loads(notebook_text)
    cell = notebook["cells"][title_cell(notebook["cells"])]
    text = "".join(cell["source"])
    end = TITLE.search(text).end()  # type: ignore[union-attr]  # run_checks made sure of a title
    cell["source"] = f"{text[:end]}\n\n{render_box(manifest)}\n\n{text[end:].lstrip()}"
    return json.dumps(notebook)


def copy_run(published: Path, name: str, root: Path, site: Path) -> None:
    """Copy what the box links to into the site, and compare the copies with the manifest."""
    manifest = json.loads((published / f"{name}.run.json").read_text(encoding="utf-8"))
    source, executed = manifest["source_notebook"], f"{FOLDER}/{name}.ipynb"
    wanted = {site / source: (root / source, manifest["source_sha256"])}
    wanted[site / executed] = (published / f"{name}.ipynb", manifest["executed_sha256"])
    for file, digest in manifest["artifacts"].items():
        wanted[site / FOLDER / name / file] = (published / name / file, digest)
    for target, (origin, digest) in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin, target)
        if sha256(target) != digest:
            raise ExtensionError(f"{origin.name} changed while the site of {name!r} was built")
    shutil.copyfile(published / f"{name}.run.json", site / FOLDER / f"{name}.run.json")


def repository_root(app: Sphinx) -> Path:
    """Folder that source notebooks are relative to."""
    return Path(app.srcdir, app.config.status_box_root).resolve()


def on_before_read(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Refuse to read any page while one tutorial is unfit."""
    listed = set(app.config.external_site_map)
    check_published(Path(app.srcdir) / FOLDER, listed | set(env.found_docs), repository_root(app))


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Inject the box into a tutorial's page."""
    if docname.startswith(f"{FOLDER}/"):
        manifest_file = Path(app.srcdir) / f"{docname}.run.json"
        app.env.note_dependency(str(manifest_file))
        source[0] = inject_box(source[0], json.loads(manifest_file.read_text(encoding="utf-8")))


def on_build_finished(app: Sphinx, exception: Exception | None) -> None:
    """Copy the files of every run that has a page."""
    if exception is None and app.builder.format == "html":
        for docname in sorted(app.env.found_docs):
            if docname.startswith(f"{FOLDER}/"):
                name = docname.removeprefix(f"{FOLDER}/")
                copy_run(Path(app.srcdir) / FOLDER, name, repository_root(app), Path(app.outdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.add_config_value("status_box_root", "..", "env")
    app.connect("env-before-read-docs", on_before_read)
    app.connect("source-read", on_source_read)
    app.connect("build-finished", on_build_finished)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
