"""Fixtures of the strategies: each of the list, with sizes that fit in a second or two."""

from __future__ import annotations

import collections
import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from strategy_checks import NAMES

from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.monitor import Monitor
from frostline.strategies import STRATEGIES
from frostline.strategies.selection import inner_folds


@pytest.fixture(scope="module")
def build(tiny_profile, small_checkpoint):
    """Build a strategy of the list with the sizes of the tests."""
    profile = dataclasses.replace(tiny_profile, full_epochs=2, full_lr=2e-3)
    return lambda name: STRATEGIES[name].from_profile(profile, str(small_checkpoint))


@pytest.fixture(params=NAMES)
def strategy(request, build):
    return build(request.param)


@pytest.fixture(scope="module")
def steps_of():
    """Fractions that `fitted_once` heard of while it fitted a strategy."""
    return collections.defaultdict(list)


@pytest.fixture(scope="module")
def fitted_once(build, pbmc, cut, fresh, steps_of):
    """A strategy that was fitted before, and the data set that it was fitted on; not to be changed."""

    @functools.cache
    def fit(name):
        dataset = fresh(pbmc)
        return build(name).fit(
            dataset, cut, Monitor(lambda fraction, _message: steps_of[name].append(fraction))
        ), dataset

    return fit


@pytest.fixture(params=NAMES)
def fitted(request, fitted_once):
    return fitted_once(request.param)


@pytest.fixture(scope="module")
def easy(pbmc, tiny_profile):
    """120 cells of two classes, each of which expresses its own half of 40 genes more."""
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 2
    rates = np.where((np.arange(40) < 20) == kinds[:, None].astype(bool), 3.0, 0.7)
    counts = 1.0 * rng.poisson(rates)
    adata = AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame({"kind": np.array(["left", "right"])[kinds]}, index=[f"c{i}" for i in range(120)]),
        var=pd.DataFrame(index=list(pbmc.genes[:40])),
        obsm={"X_pca": counts[:, 15:25]},
    )
    dataset = load_dataset(adata, "kind")
    return dataset, split(dataset, seed=0, profile=tiny_profile)


@pytest.fixture(scope="module")
def folds_of(pbmc, cut):
    """Inner folds of the training cells of the small split."""
    return lambda n_folds: inner_folds(pbmc, cut, n_folds)
