"""Fixtures of publishing: an empty project, a notebook and a lab of three tutorials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from papermill.engines import papermill_engines
from tiny_project import PARAMETERS, SAVE_ARTIFACTS, SAVE_RECORDS, TOC
from without_kernel import WithPictures

from frostline.publishing import kernels
from frostline.records import save_records


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    """Notebooks are executed in this process; `test_notebooks` and `test_executions` start kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(papermill_engines._engines, kernels.ENGINE, WithPictures)
        yield


@pytest.fixture
def without_kernel(monkeypatch) -> None:
    """As `in_this_process`, in one test."""
    monkeypatch.setitem(papermill_engines._engines, kernels.ENGINE, WithPictures)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty project, the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(here, write_notebook):
    """Write notebooks/tiny.ipynb with further cells."""

    def write(*cells: str, parameters: str = PARAMETERS) -> Path:
        return write_notebook(Path("notebooks/tiny.ipynb"), parameters, *cells)

    return write


@pytest.fixture
def lab(here, tiny, make_record, write_notebook):
    """A project with one tutorial that works, one that fails and one that is declared only."""
    save_records([make_record("pca_logistic"), make_record("head")], Path("records.jsonl"))
    tiny(SAVE_RECORDS, SAVE_ARTIFACTS)
    other = PARAMETERS.replace("artifacts/tiny", "artifacts/broken")
    write_notebook(Path("notebooks/broken.ipynb"), other, "1 / 0")
    (here / "book").mkdir()
    (here / "book" / "_toc.yml").write_text(TOC)
    return here
