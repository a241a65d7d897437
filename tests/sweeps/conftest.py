"""Fixtures of sweeps: an own notebook that trains nothing, and runs that are done in threads of this process."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from papermill.engines import papermill_engines
from typer.testing import CliRunner
from without_kernel import InThisProcess

from frostline import cli
from frostline.artifacts import runs
from frostline.hashes import file_sha256
from frostline.publishing import kernels
from frostline.records import save_records
from frostline.sweeps import outcomes
from frostline.sweeps.outcomes import Outcome
from frostline.sweeps.plans import plan
from frostline.sweeps.processes import Task

PARAMETERS = """\
PROFILE: str = "quickstart"  # how much of the data
DATASET: str = "pbmc68k-reduced"  # a name, or a path
LABEL_KEY: str = ""  # of the data set
CHECKPOINT: str = "mini"  # a name or a folder
STRATEGIES: list[str] = ["pca_logistic"]  # what to compare
SEED: int = 42  # of the run
TARGET: float = 0.9  # accuracy to promise
RESUME: bool = False  # take over
OUTPUT_DIR: str = "artifacts/own"  # where the artifacts go
"""
SAVE = """\
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np

import frostline
from frostline import artifacts
from frostline.comparison.comparisons import compare
from frostline.records import load_records

settings = frostline.RunSettings.from_notebook(globals())
run = artifacts.begin(settings, tutorial="own")
if DATASET.endswith(".h5ad"):
    settings.load()
adata = anndata.AnnData(np.eye(160, 500, dtype=np.float32))
adata.obs["cell_type"] = ["B cell", "T cell"] * 80
dataset = frostline.load_dataset(adata, "cell_type", name="hand-made")
records = [replace(each, seed=SEED) for each in load_records(Path("records.jsonl")) if each.strategy in STRATEGIES]
folder = artifacts.save(run, compare(records), dataset)
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty project, the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own(here, write_notebook, make_record) -> Path:
    """own.ipynb, whose results are read from records.jsonl."""
    save_records([make_record("pca_logistic"), make_record("majority", skill=0.0)], Path("records.jsonl"))
    return write_notebook(Path("own.ipynb"), PARAMETERS, SAVE)


@pytest.fixture
def grid_of(own):
    """Plan a sweep of own.ipynb from the text of SWEEP.yml."""

    def planned(text: str, **folder):
        Path("sweep.yml").write_text(f"notebook: own.ipynb\n{text}", encoding="utf-8")
        return plan("sweep.yml", **folder)

    return planned


@pytest.fixture
def pool():
    """Two threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def done_here(own, monkeypatch):
    """Do a run in this process, in the place of `execute`: `frostline run` without a kernel, and its outcome."""
    monkeypatch.setitem(papermill_engines._engines, kernels.ENGINE, InThisProcess)

    def execute(task: Task) -> Outcome:
        monkeypatch.setenv(runs.SOURCE, file_sha256(Path("own.ipynb")))
        done = CliRunner().invoke(cli.app, list(task.arguments))
        if done.exit_code:
            said = str(done.exception)
            return outcomes.write(made(task.folder), Outcome(key=task.key, state="failed", said=said, seconds=1.0))
        digest = file_sha256(task.folder / "artifacts" / "manifest.json")
        return outcomes.write(task.folder, Outcome(key=task.key, state="done", seconds=2.0, manifest_sha256=digest))

    return execute


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def at_once():
    """Submit work that is done when it is submitted."""

    def of(work):
        def submit(task: Task) -> Future:
            future: Future = Future()
            future.set_result(work(task))
            return future

        return submit

    return of
