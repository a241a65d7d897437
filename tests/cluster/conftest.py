"""Two processes of Dask that all tests of this room share."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from kept_models import islet_model, islets
from scipy import sparse

import frostline
from frostline.cluster.connections import Workers, connected


@pytest.fixture(scope="session")
def client():
    """Of two processes with 2 GB each, one thread each, that declare a GPU which nobody looks for."""
    with connected(Workers(number=2, memory="2GB", resources={"GPU": 1})) as client:
        yield client


def cells(n: int, seed: int = 0) -> ad.AnnData:
    """Cells like those of the pancreas, with counts of its 2,000 genes of most counts."""
    rng = np.random.default_rng(seed)
    like = sparse.csr_matrix(islets().adata.X)[rng.integers(0, len(islets()), n)]
    like.data = rng.poisson(0.6 * like.data).astype(np.float32)
    like.eliminate_zeros()
    obs = pd.DataFrame(
        {"batch": pd.Categorical(rng.choice(["x", "y"], n)), "depth": rng.random(n)},
        index=[f"cell{i}" for i in range(n)],
    )
    return ad.AnnData(like, obs=obs, var=pd.DataFrame(index=list(islets().genes)))


@pytest.fixture(scope="session")
def atlas(tmp_path_factory):
    """A file of 2,500 cells, so three blocks, of 60 genes: short sequences."""
    path = tmp_path_factory.mktemp("atlas") / "atlas.h5ad"
    whole = cells(2_500)
    known = np.array([name in frostline.load_checkpoint("mini").vocabulary for name in whole.var_names])
    most = np.argsort(-np.asarray(whole.X.sum(axis=0)).ravel() * known)[:240]
    whole[:, np.sort(most)].copy().write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def embedded(atlas):
    """The embedding of the atlas, by one process."""
    return frostline.embed(ad.read_h5ad(atlas), max_length=24)


@pytest.fixture(scope="session")
def query(tmp_path_factory):
    """A file of 2,500 cells with all genes of the model."""
    path = tmp_path_factory.mktemp("query") / "query.h5ad"
    cells(2_500, seed=1).write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a model."""
    return islet_model().save(tmp_path_factory.mktemp("models") / "islets")


@pytest.fixture(scope="session")
def workers(client):
    """Those of the two processes."""
    return Workers(scheduler=client.scheduler.address)
