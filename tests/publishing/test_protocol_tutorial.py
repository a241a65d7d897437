"""The second tutorial: the whole protocol on held-out donors, really executed, its numbers checked."""

from __future__ import annotations

import ast
import dataclasses
import gc
import importlib
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from frostline import report
from frostline.artifacts import archive, checking, exports
from frostline.profiles import PROFILES
from frostline.publishing import executions
from frostline.settings import RunSettings
from frostline.strategies.probe import LinearProbe

NAME = "do_i_need_fine_tuning"
ON_EMBEDDING = ["majority", "pca_logistic", "frozen_probe"]
STRATEGIES = [*ON_EMBEDDING, "lora"]
UNASKED = "frozen_probe:500"
"""Reads as many genes as LoRA."""


@pytest.fixture(scope="module")
def tutorial(root) -> Path:
    """The source notebook."""
    return root / "notebooks" / f"{NAME}.ipynb"


@pytest.fixture(scope="module")
def source(tutorial):
    return nbformat.read(tutorial, 4)


@pytest.fixture(scope="module")
def folder(
    in_this_process, instant_umap_throughout, instant_pictures_throughout, tutorial, small_checkpoint, tmp_path_factory
) -> Path:
    """Where a run of two donors, four strategies, an epoch of LoRA and two values of C went; not to be changed."""
    here = tmp_path_factory.mktemp("protocol")
    parameters = {
        "CHECKPOINT": str(small_checkpoint),
        "STRATEGIES": STRATEGIES,
        "REPEATS": 2,
        "BUDGETS": [5],
        "OUTPUT_DIR": "results",
    }
    for name in ("frostline.panels", "peft", "torch._dynamo"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # sixty evaluations look for garbage
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(LinearProbe, "GRID", LinearProbe.GRID[:2])
        patch.setitem(PROFILES, "quickstart", dataclasses.replace(PROFILES["quickstart"], lora_epochs=1, min_steps=0))
        executions.execute(tutorial, Path("out.ipynb"), parameters, show_progress=False)
    return here


@pytest.fixture(scope="module")
def executed(folder):
    return nbformat.read(folder / "out.ipynb", 4)


@pytest.fixture(scope="module")
def comparison(folder):
    return archive.read(folder / "results")


def html_of(notebook) -> str:
    every = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join("".join(o.data["text/html"]) for o in every if "text/html" in o.get("data", {}))


def test_its_parameters_are_those_of_a_run_and_it_defines_no_function(source):
    (cell,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    names = [statement.target.id for statement in ast.parse(cell.source).body]
    of_a_kept_model = {"held_out", "target"}
    assert {name.lower() for name in names} == set(RunSettings.model_fields) - of_a_kept_model
    for cell in source.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert not any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(cell.source)))


def test_its_artifacts_pass_the_check_with_both_studies(folder):
    result = checking.check(folder / "results")
    assert result.problems == []
    studies = ["label_efficiency", "unknown_cells"]
    wanted = {*checking.declared(STRATEGIES, studies), exports.MANIFEST}
    assert {path.name for path in (folder / "results").iterdir()} == wanted


def test_whole_donors_are_held_out_and_every_repeat_holds_out_others(comparison):
    held_out = [set(record.groups) for record in comparison.of("majority")]
    assert all(len(names) == 1 for names in held_out)
    assert held_out[0] != held_out[1]
    assert (comparison.ground.unit, comparison.ground.n_units) == ("none", 2)  # three donors would be groups
    assert {record.split_kind for record in comparison.records} == {"group"}


def test_fewer_labels_are_given_to_every_strategy_and_a_class_withheld_from_those_on_an_embedding(comparison):
    assert {(r.strategy, r.repeat, r.budget) for r in comparison.budget_records} == {
        (name, repeat, 5) for name in (*STRATEGIES, UNASKED) for repeat in (0, 1)
    }
    withheld = {(r.strategy, r.repeat) for r in comparison.unseen_records}
    assert withheld == {(name, repeat) for name in (*ON_EMBEDDING, UNASKED) for repeat in (0, 1)}


def test_the_page_says_what_the_files_say(executed, comparison, folder):
    html, words = html_of(executed), str(executed)
    board = pd.read_csv(folder / "results" / "report.csv")
    for value in board["macro_f1"]:
        assert f"{value:.4f}" in html
    assert report.reading(comparison) in words
    assert comparison.verdict in words
    for finding in comparison.findings[:1]:
        assert finding.title in words


def test_every_picture_has_an_alternative_text_and_nothing_failed(executed):
    pictures = re.findall(r"<img [^>]*>", html_of(executed))
    assert len(pictures) >= 6
    assert all(re.search(r'alt="[^"]{10,}"', picture) for picture in pictures)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    assert all(o.data["text/html"].strip() for o in outputs if "text/html" in o.get("data", {}))
