"""The tutorial on embeddings for scanpy, as it is written and as it runs."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest

import frostline
from frostline.artifacts import checking
from frostline.publishing import notebooks, publications, run_checks

NAME = "embeddings_for_scanpy"


@pytest.fixture(scope="session")
def source(root):
    return nbformat.read(root / "notebooks" / f"{NAME}.ipynb", 4)


@pytest.fixture(scope="module")
def published(in_this_process, instant_pictures_throughout, root, small_checkpoint, tmp_path_factory) -> Path:
    """Root of a project in which the tutorial was executed with a small encoder and placed."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "notebooks").mkdir()
    shutil.copy(root / "notebooks" / f"{NAME}.ipynb", folder / "notebooks")
    shutil.copytree(small_checkpoint, folder / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        notebook = notebooks.find_notebook(NAME)
        publications.publish(notebook, {"CHECKPOINT": "small"}, output=Path(f"{NAME}.ipynb"), show_progress=False)
    return folder


def test_source_defines_no_function_and_holds_no_output(source):
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in source.cells)


def test_title_cell_says_whom_it_is_for(source):
    for promise in ("**For whom.**", "**Prerequisites.**", "**You will learn**", "**Out of scope.**", "**Outline.**"):
        assert promise in source.cells[0].source


def test_parameters_are_settings_of_a_run(root):
    found = notebooks.notebook_parameters(root / "notebooks" / f"{NAME}.ipynb")
    defaults = frostline.RunSettings().model_dump() | {"output_dir": f"artifacts/{NAME}"}
    assert {name.lower(): spec.default for name, spec in found.items()}.items() <= defaults.items()


def test_published_page_meets_the_rules_and_its_artifacts_pass(published):
    assert run_checks.find_problems(published / "book" / "published", NAME, published) == []
    folder = published / "book" / "published" / NAME
    result = checking.check(folder)
    assert (result.problems, result.files) == ([], 6)
    assert result.numbers >= 4
    assert np.load(folder / "embedding.npy").shape == (700, 32)


@pytest.mark.parametrize("name", ["embedding_umap.png", "markers.csv", "report.md"])
def test_altered_artifact_is_named(published, tmp_path, name):
    folder = shutil.copytree(published / "book" / "published" / NAME, tmp_path / NAME)
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    assert any(problem.startswith(f"{name}: ") for problem in checking.check(folder).problems)


def test_pictures_have_a_text_and_no_warning_is_shown(published):
    executed = nbformat.read(published / f"{NAME}.ipynb", 4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    html = "".join("".join(o.data.get("text/html", "")) for o in outputs if "data" in o)
    assert re.findall(r'<img alt="[^"]{20,}"', html)
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"] == []
