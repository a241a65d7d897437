"""Fixtures of annotation: a comparison on a small data set, and the model that is made of it."""

from __future__ import annotations

import pytest

from frostline.annotation.adapting import keep
from frostline.cells.splits import split
from frostline.comparison.comparisons import compare
from frostline.evaluation import maps
from frostline.evaluation.evaluations import evaluate
from frostline.strategies import build


@pytest.fixture(scope="session")
def compared(three_kinds, without_maps):
    """Two cheap strategies on three classes of 50 cells; not to be changed."""
    cut = split(three_kinds)
    return compare([evaluate(each, three_kinds, cut) for each in build(["majority", "pca_logistic"])])


@pytest.fixture(scope="session")
def without_maps():
    """No UMAP, which takes seconds to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "umap_of", lambda _embedding, *, seed: None)
        yield


@pytest.fixture(scope="session")
def kept(compared, three_kinds):
    """A model on principal components, ten reference cells a class; not to be changed."""
    return keep(compared, three_kinds, reference_cells=10)
