"""The tutorial on own data, as it is written and as it runs."""

from __future__ import annotations

import ast
import re
import shutil
import zipfile
from pathlib import Path

import anndata
import nbformat
import pandas as pd
import pytest

import frostline
from frostline.artifacts import checking
from frostline.publishing import notebooks, publications, run_checks

NAME = "your_own_data"


@pytest.fixture(scope="session")
def source(root):
    return nbformat.read(root / "notebooks" / f"{NAME}.ipynb", 4)


@pytest.fixture(scope="module")
def published(in_this_process, instant_umap_throughout, instant_pictures_throughout, root, tmp_path_factory) -> Path:
    """Root of a project in which the tutorial was executed, without its encoder, and placed."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "notebooks").mkdir()
    shutil.copy(root / "notebooks" / f"{NAME}.ipynb", folder / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        notebook = notebooks.find_notebook(NAME)
        quick = {"STRATEGIES": ["majority", "pca_logistic"]}
        publications.publish(notebook, quick, output=Path(f"{NAME}.ipynb"), show_progress=False)
    return folder


@pytest.fixture(scope="module")
def artifacts(published) -> Path:
    return published / "book" / "published" / NAME


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
    assert {name.lower() for name in found} <= set(frostline.RunSettings.model_fields)
    assert found["HELD_OUT"].default == "human4"


def test_first_tutorial_points_to_it_by_link(root):
    last = nbformat.read(root / "notebooks" / "cell_type_annotation.ipynb", 4).cells[-1].source
    assert f"{NAME}.ipynb" in re.findall(r"\]\((.*?)\)", last)


@pytest.mark.slow
def test_published_page_meets_the_rules_and_its_artifacts_pass(published, artifacts):
    assert run_checks.find_problems(published / "book" / "published", NAME, published) == []
    result = checking.check(artifacts)
    assert result.problems == []
    executed = nbformat.read(published / f"{NAME}.ipynb", 4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"] == []
    html = "".join("".join(o.data.get("text/html", "")) for o in outputs if "data" in o)
    assert re.findall(r'<img alt="[^"]{20,}"', html)


@pytest.mark.slow
def test_new_donor_gets_the_labels_that_its_cells_have(artifacts):
    """23 cells, named by Ensembl ids; the labels of Baron et al. were kept from the model."""
    table = pd.read_csv(artifacts / "labels.csv")
    cells = anndata.read_h5ad(artifacts / "labelled.h5ad")
    assert len(table) == 23
    assert sum(name.startswith("ENSG") for name in cells.var_names) > 12_000
    labelled = table[table["label"] != "Unknown"]
    assert (labelled["label"] == labelled["true_label"]).mean() >= 0.95
    report = (artifacts / "labels.md").read_text()
    assert f"{len(labelled)} of 23 cells got a label" in report
    assert "with a certainty of 90 %" in report


@pytest.mark.slow
def test_model_of_the_artifacts_is_one_that_loads(artifacts, tmp_path):
    with zipfile.ZipFile(artifacts / "model.zip") as packed:
        packed.extractall(tmp_path / "model")
    assert frostline.load_model(tmp_path / "model").classes == (
        "activated_stellate", "alpha", "beta", "delta", "macrophage",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["labels.csv", "labels.md", "labelled.h5ad", "model.zip"])
def test_altered_artifact_is_named(artifacts, tmp_path, name):
    folder = shutil.copytree(artifacts, tmp_path / NAME)
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    assert any(problem.startswith(f"{name}: ") for problem in checking.check(folder).problems)
