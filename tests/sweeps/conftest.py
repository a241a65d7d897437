"""Fixtures of sweeps: an own notebook that trains nothing, and runs that are done in threads of this process."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from papermill.engines import papermill_engines
from runs_here import execute_here
from tiny_sweep import PARAMETERS, SAVE
from without_kernel import InThisProcess

from frostline.publishing import kernels
from frostline.records import save_records
from frostline.sweeps.plans import plan
from frostline.sweeps.processes import Task


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
def done_here(own, instant_pictures, monkeypatch):
    """Do a run in this process, in the place of `execute`."""
    monkeypatch.setitem(papermill_engines._engines, kernels.ENGINE, InThisProcess)
    return execute_here


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
