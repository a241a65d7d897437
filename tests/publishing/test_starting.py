"""A lab's own folder: what `frostline init` writes, and that it is published by the installed package alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from kernel_fixtures import SHORT, begin_kernels_with

import frostline
from frostline.errors import FrostlineError
from frostline.publishing import notebooks, starting, tutorials

NAME = "first_comparison"
PROGRAM = "from frostline.cli import main; main()"


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Path:
    """The folder of a lab, the current one."""
    starting.init(tmp_path / "lab")
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


def test_folder_holds_what_publishing_needs(lab):
    assert {path.name for path in lab.iterdir()} == {
        ".gitignore",
        "Makefile",
        "README.md",
        "_config.yml",
        "book",
        "notebooks",
    }
    assert tutorials.declared_tutorials() == [NAME]
    assert all(tutorials.unfit(notebook) is None for notebook in tutorials.declared_notebooks())


def test_configuration_is_that_of_our_own_book(lab, root):
    ours, theirs = (yaml.safe_load((folder / "_config.yml").read_text()) for folder in (root, lab))
    assert theirs["execute"] == ours["execute"]
    assert theirs["exclude_patterns"] == ours["exclude_patterns"]
    common = set(theirs["sphinx"]["config"]["extensions"])
    assert common <= set(ours["sphinx"]["config"]["extensions"])
    assert "frostline.book" in common
    assert (lab / "book" / "status.md").read_text() == (root / "book" / "status.md").read_text()


def test_first_tutorial_holds_no_output_and_no_function(lab):
    source = nbformat.read(lab / "notebooks" / f"{NAME}.ipynb", 4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in source.cells)
    assert "def " not in "".join(cell.source for cell in source.cells if cell.cell_type == "code")
    assert set(notebooks.notebook_parameters(lab / "notebooks" / f"{NAME}.ipynb")) <= {
        name.upper() for name in frostline.RunSettings.model_fields
    }


def test_folder_that_was_looked_at_counts_as_empty(tmp_path):
    (tmp_path / ".DS_Store").touch()
    assert starting.init(tmp_path)


def test_folder_that_is_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FrostlineError, match="is not empty; name a new folder"):
        starting.init(tmp_path)
    with pytest.raises(FrostlineError, match="is not empty"):
        starting.init(tmp_path / "thesis.txt")


def test_folder_that_cannot_be_made_is_refused_with_words(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path / "thesis.txt" / "lab", tmp_path / ("x" * 300)):
        with pytest.raises(FrostlineError, match=r"cannot be made and filled \(.+\); name a folder where you may"):
            starting.init(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_lab_publishes_from_the_installed_package_alone(wheel_folder, small_checkpoint, lab):
    """Without the repository's book: only what is in the wheel, and a checkpoint that embeds in a second."""
    begin_kernels_with(SHORT)
    shutil.copytree(small_checkpoint, lab / "small")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(wheel_folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", PROGRAM, "publish", "-p", "CHECKPOINT=small"]
    done = subprocess.run(command, cwd=lab, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{NAME}  published" in done.stdout
    weights = hashlib.sha256((lab / "small" / "model.safetensors").read_bytes()).hexdigest()
    page = lab / "build" / "site" / "_build" / "html" / "published" / f"{NAME}.html"
    box = BeautifulSoup(page.read_bytes(), "html.parser").select_one(".frostline-status")
    assert box["data-result"] == "passed"
    assert "passed: " in box.select_one('dd[data-field="artifact_check"]').get_text()
    assert box.select_one('dd[data-field="checkpoint"]').get_text() == f"small-{weights[:8]}"
    assert (lab / "build" / "site" / "_build" / "html" / "_static" / "html-manager" / "embed.js").is_file()
    source = Path(f"notebooks/{NAME}.ipynb")  # what publishing asks before it runs a tutorial again
    assert [tutorials.prepare(source, {"CHECKPOINT": name}).is_unchanged for name in ("small", "mini")] == [True, False]
