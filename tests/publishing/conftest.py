"""Fixtures of publishing: an empty project, a notebook and a lab of three tutorials."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import PARAMETERS, SAVE_ARTIFACTS, SAVE_RECORDS, TOC

from frostline.records import save_records


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
