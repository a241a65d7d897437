"""Fixtures of the panels: what those of one file work out of the same data is worked out once."""

from __future__ import annotations

import gc

import pytest

from frostline.panels import AnnotationPanel


@pytest.fixture(scope="module")
def worked_out(three_kinds, small_checkpoint, fresh):
    """What a panel works out of the data before anything is run, such as clusters and the times of a few cells."""
    panel = AnnotationPanel(fresh(three_kinds), checkpoint=str(small_checkpoint))
    panel.settle(60)
    panel.close()
    gc.collect()
    gc.freeze()  # what all strategies import: each evaluation looks for garbage
    return panel.dataset.cache
