"""Fixtures of the panels: what those of one file work out of the same data is worked out once."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_fixtures import NO_UMAP, begin_kernels_with, keep_away
from live_lab import Lab, live_lab

import frostline
from frostline.panels import AnnotationPanel

CARD = Path(frostline.__file__).parent / "data" / "labextension"


@pytest.fixture(scope="module")
def worked_out(three_kinds, small_checkpoint, fresh):
    """What a panel works out of the data before anything is run, such as clusters and the times of a few cells."""
    panel = AnnotationPanel(fresh(three_kinds), checkpoint=str(small_checkpoint))
    panel.settle(60)
    panel.close()
    gc.collect()
    gc.freeze()  # what all strategies import: each evaluation looks for garbage
    return panel.dataset.cache


@pytest.fixture(scope="session")
def lab(with_forked_kernels, tmp_path_factory) -> Iterator[Lab]:
    """A JupyterLab that finds the card of its Launcher where a wheel puts it; each file has notebooks of its own."""
    prefix = tmp_path_factory.mktemp("prefix")
    (prefix / "labextensions").mkdir()
    (prefix / "labextensions" / "frostline").symlink_to(CARD)
    with contextlib.ExitStack() as stack:
        with with_forked_kernels(), pytest.MonkeyPatch.context() as patch:
            keep_away(patch, tmp_path_factory.mktemp("jupyter"))
            begin_kernels_with(NO_UMAP)
            patch.setenv("JUPYTER_PATH", str(prefix), prepend=os.pathsep)
            lab = stack.enter_context(live_lab(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab")))
        yield lab
