"""200,000 cells on disk, embedded and labelled by workers of little memory, which are ended above it.

Their values alone take more than that, once they are dense.
"""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pytest
import torch
from anndata.experimental import concat_on_disk
from scipy import sparse

from frostline.cluster import atlases
from frostline.cluster.connections import Workers, connected

pytestmark = pytest.mark.slow
MEGABYTES = 700 if torch.version.cuda is None else 1_300
"""Libraries and the encoder take 410 of them, and 480 more where torch is built for CUDA."""


@pytest.fixture(scope="module")
def large(query, tmp_path_factory):
    """The same 5,000 cells forty times, joined file by file; of each cell four values are left."""
    folder = tmp_path_factory.mktemp("large")
    some = ad.read_h5ad(query)
    some = ad.concat([some, some], index_unique="+")
    like = sparse.csr_matrix(some.X)
    rng = np.random.default_rng(0)
    rows = [like.indices[a:b][rng.permutation(b - a)[:4]] for a, b in zip(like.indptr, like.indptr[1:], strict=False)]
    columns, starts = np.concatenate(rows), np.cumsum([0, *map(len, rows)])
    some.X = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=like.shape)
    some.X.sort_indices()
    some.write_h5ad(folder / "some.h5ad")
    concat_on_disk([folder / "some.h5ad"] * 40, folder / "large.h5ad", index_unique="-")
    return folder / "large.h5ad"


def test_workers_of_little_memory_embed_and_label_many_cells(large, model, tmp_path):
    with h5py.File(large) as file:
        assert 4 * np.prod(file["X"].attrs["shape"]) > MEGABYTES * 1e6
    with connected(Workers(number=2, memory=f"{MEGABYTES}MB")) as client:
        few = Workers(scheduler=client.scheduler.address)
        done = atlases.embed(large, tmp_path / "embedded.zarr", max_length=5, workers=few)
        labelled, _ = atlases.annotate(model, large, tmp_path / "labelled.zarr", workers=few)
    assert done.n_cells == labelled.n_cells == 200_000
    embedding = ad.read_zarr(tmp_path / "embedded.zarr").obsm["X_scGPT"]
    assert np.isfinite(embedding).all(axis=1).mean() > 0.5
