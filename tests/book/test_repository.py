"""Buttons and the cell for Colab where the configuration names a repository."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from published_project import ROOT

from frostline.book.repository import lead_to_sources, offer_buttons

URL = "https://github.com/lab/frostline"


def options_after(**given):
    config = SimpleNamespace(html_theme_options=given)
    offer_buttons(None, config)
    return config.html_theme_options


def test_without_a_repository_nothing_is_offered():
    assert options_after(repository_url="") == {"repository_url": ""}


def test_a_repository_brings_its_buttons_and_what_is_configured_stays():
    options = options_after(
        repository_url=URL, launch_buttons={"colab_url": "https://colab.example.org", "binderhub_url": ""}
    )
    assert options["use_repository_button"]
    assert options["use_edit_page_button"]
    assert options["launch_buttons"]["binderhub_url"] == "https://mybinder.org"
    assert options["launch_buttons"]["colab_url"] == "https://colab.example.org"
    assert options["repository_branch"] == "main"


@pytest.mark.parametrize("docs", ["book", "/book/"])
def test_buttons_of_a_tutorial_lead_to_its_source(docs):
    page = "blob/main/book/published/mine.ipynb"
    buttons = [
        {"type": "group", "buttons": [{"url": f"https://colab.research.google.com/github/lab/frostline/{page}"}]},
        {"type": "link", "url": f"{URL}/edit/main/book/published/mine.ipynb"},
        {"type": "link", "url": "../_sources/book/published/mine.ipynb"},
        {"type": "javascript"},
    ]
    app = SimpleNamespace(config=SimpleNamespace(html_theme_options={"path_to_docs": docs}))
    lead_to_sources(app, "published/mine", "page.html", {"header_buttons": buttons}, None)
    assert buttons[0]["buttons"][0]["url"].endswith("/github/lab/frostline/blob/main/notebooks/mine.ipynb")
    assert buttons[1]["url"] == f"{URL}/edit/main/notebooks/mine.ipynb"
    assert buttons[3] == {"type": "javascript"}  # the theme refuses keys that its buttons do not have
    assert buttons[2]["url"] == "../_sources/book/published/mine.ipynb"


@pytest.fixture
def colab():
    spec = importlib.util.spec_from_file_location("colab_cell", ROOT / "book" / "colab_cell.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(folder: Path, url: str) -> Path:
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "_config.yml").write_text(f"repository:\n  url: {json.dumps(url)}\n")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        if not (folder / "notebooks" / path.name).exists():
            (folder / "notebooks" / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_notebooks_are_as_the_configuration_says(colab, tmp_path):
    """Without a repository, no cell; and the command leaves what it would write."""
    colab.main(project(tmp_path, ""))
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert (tmp_path / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_the_cell_comes_under_the_title_installs_from_constraints_and_goes_again(colab, tmp_path):
    before = {path: path.read_bytes() for path in sorted(project(tmp_path, URL).glob("notebooks/*.ipynb"))}
    for _ in range(2):
        colab.main(tmp_path)
    for path in before:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        cells = [cell for cell in notebook.cells if cell.get("id") == "on-colab"]
        assert cells == [notebook.cells[1]]
        raw = "https://raw.githubusercontent.com/lab/frostline/main/constraints.txt"
        assert f"-c {raw} git+{URL}@main" in cells[0].source
        assert cells[0].metadata.tags == ["remove-cell"]
    colab.main(project(tmp_path, ""))
    assert {path: path.read_bytes() for path in before} == before


def test_binder_installs_from_the_constraints():
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & 0o111
    assert "pip install --no-cache-dir -c constraints.txt ." in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert (ROOT / "binder" / "runtime.txt").read_text() == "python-3.11\n"
