"""The status box as text, and the refusal to build."""

import json
from pathlib import Path

import pytest
import status_box
from bs4 import BeautifulSoup
from published_project import NAME, executed_notebook, manifest_of, markdown_cell
from self_hosted import outside_assets
from sphinx.errors import ExtensionError


def test_box_shows_what_the_manifest_says(root: Path) -> None:
    box = BeautifulSoup(status_box.render_box(manifest_of(root)), "html.parser")
    shown = {dd["data-field"]: dd.get_text() for dd in box.find_all("dd")}
    assert shown == {
        "ended": "2026-11-22 10:11",
        "mode": "static executed tutorial",
        "profile": "quickstart",
        "artifact_check": "passed: 4 files, 24 numbers recomputed",
        "source_notebook": "notebooks/cell_type_annotation.ipynb",
        "dataset": "pbmc68k-reduced",
        "checkpoint": "mini",
        "seed": "42",
        "seconds": "61.2 s",
        "versions": "frostline 0.1.0, torch 2.13.0, scanpy 1.11.5, python 3.11.7",
    }
    assert "not connected to a kernel" in box.get_text()


def test_last_run_is_converted_to_utc() -> None:
    assert status_box.format_time("2026-11-23T00:30:00+02:00") == "2026-11-22 22:30"


def test_text_of_the_manifest_is_escaped(root: Path) -> None:
    manifest = manifest_of(root) | {"dataset": "<b>cells & more</b>"}
    assert "&lt;b&gt;cells &amp; more&lt;/b&gt;" in status_box.render_box(manifest)


def test_box_is_one_block_of_raw_html(root: Path) -> None:
    assert "\n\n" not in status_box.render_box(manifest_of(root))


def test_box_stands_between_the_title_and_the_text(root: Path) -> None:
    notebook = executed_notebook()
    notebook["cells"].insert(0, markdown_cell("No title yet"))
    changed = json.loads(status_box.inject_box(json.dumps(notebook), manifest_of(root)))
    title, box, text = changed["cells"][1]["source"].split("\n\n")
    assert title == "# Four ways to name a cell"
    assert box.startswith('<section class="frostline-status"')
    assert text == "Who it is for."
    assert changed["cells"][2] == notebook["cells"][2]


def test_a_fit_project_may_be_built(root: Path) -> None:
    status_box.check_published(root / "book" / "published", {f"published/{NAME}", "index"}, root)


def test_error_names_the_file_and_what_is_wrong(root: Path) -> None:
    (root / "book" / "published" / NAME / "report.csv").write_text("edited")
    with pytest.raises(ExtensionError, match=rf"published/{NAME}/report\.csv: altered"):
        status_box.check_published(root / "book" / "published", set(), root)


def test_page_that_was_never_run(tmp_path: Path) -> None:
    with pytest.raises(ExtensionError, match=rf"published/{NAME}\.run\.json: missing"):
        status_box.check_published(tmp_path, {f"published/{NAME}"}, tmp_path)


@pytest.mark.parametrize("file", ["stray.ipynb", "stray.run.json", "stray.md"])
def test_stray_file_among_the_published(root: Path, file: str) -> None:
    (root / "book" / "published" / file).write_text("{}")
    with pytest.raises(ExtensionError, match=r"published/stray\.run\.json"):
        status_box.check_published(root / "book" / "published", set(), root)


def test_copy_that_differs_from_the_manifest(root: Path) -> None:
    published = root / "book" / "published"
    (published / NAME / "report.md").write_text("edited after the checks")
    with pytest.raises(ExtensionError, match=r"report\.md changed while the site"):
        status_box.copy_run(published, NAME, root, root / "site")


def test_outside_assets_are_found_and_links_are_not() -> None:
    html = (
        '<script src="https://cdn.example/a.js"></script><img src="//example.org/a.png">'
        '<link href="http://example.org/a.css"><a href="https://example.org">link</a><img src="a.png">'
    )
    assert outside_assets(html) == [
        "https://cdn.example/a.js",
        "//example.org/a.png",
        "http://example.org/a.css",
    ]
