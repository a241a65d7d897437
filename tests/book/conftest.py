"""Fixtures of the book: a project made by hand, and one that is really built."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import published_project as project
import pytest
import tiny_tutorial


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Root of a project whose one published tutorial meets every rule."""
    notebook = json.dumps(project.executed_notebook()).encode()
    project.publish(tmp_path, executed=notebook, source=notebook)
    return tmp_path


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The tiny tutorial: its source, and what papermill makes of it."""
    folder = tmp_path_factory.mktemp("executed")
    nbformat.write(tiny_tutorial.tiny_notebook(), folder / "source.ipynb")
    command = [sys.executable, "-m", "papermill", "source.ipynb", "out.ipynb", "--no-progress-bar"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "source.ipynb").read_bytes(), (folder / "out.ipynb").read_bytes()


@pytest.fixture(scope="session")
def built(executed: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a copy of the book, with the tiny tutorial in the place of the real one, after its build."""
    folder = tmp_path_factory.mktemp("built")
    project.copy_book(folder)
    project.publish(folder, executed=executed[1], source=executed[0])
    (folder / "notebooks" / f"{project.UNRUN}.ipynb").write_bytes(executed[0])
    hostile = {**project.manifest_of(folder), "dataset": tiny_tutorial.NAME, "checkpoint": f"runs/{tiny_tutorial.NAME}"}
    project.write_manifest(folder, hostile | {"manifest_sha256": project.seal(hostile)})
    done = project.build_book(folder)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder


@pytest.fixture(scope="session")
def site(built: Path) -> Path:
    """Folder of the built site."""
    return built / "build" / "site" / "_build" / "html"
