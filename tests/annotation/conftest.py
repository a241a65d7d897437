"""Fixtures of annotation: a comparison on a small data set, and the model that is made of it."""

from __future__ import annotations

import pytest

from frostline.annotation.adapting import keep
from frostline.cells.splits import split
from frostline.comparison.comparisons import compare
from frostline.evaluation.evaluations import evaluate
from frostline.strategies import build


@pytest.fixture(scope="session")
def compared(three_kinds, instant_umap_for_all):
    """Two cheap strategies on three classes of 50 cells; not to be changed."""
    cut = split(three_kinds)
    return compare([evaluate(each, three_kinds, cut) for each in build(["majority", "pca_logistic"])])


@pytest.fixture(scope="session")
def instant_umap_for_all():
    from conftest import put_in_place_of_umap

    with pytest.MonkeyPatch.context() as patch:
        put_in_place_of_umap(patch)
        yield


@pytest.fixture(scope="session")
def kept(compared, three_kinds):
    """A model on principal components, ten reference cells a class; not to be changed."""
    return keep(compared, three_kinds, reference_cells=10)
