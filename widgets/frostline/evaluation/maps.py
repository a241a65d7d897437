"""Maps of cells in two dimensions: UMAP as igraph has it, which needs no compiling before the first one."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.threads import one_blas_thread

MIN_CELLS_FOR_UMAP = 5
NEIGHBOURS = 15
"""Of a cell, itself included."""
_one_at_a_time = threading.Lock()
_MANY = 10_000  # cells above which fewer rounds do, as in umap-learn


class _Draws:
    """Draws of a seed, one kind of them by a method of Python: during it other threads get their turn.

    igraph itself gives them none. It asks for `random` ten times as often, which costs half as much without Python.
    """

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self.random, self.randint, self.gauss = self._source.random, self._source.randint, self._source.gauss

    def getrandbits(self, n: int) -> int:
        return self._source.getrandbits(n)


@contextmanager
def igraph_draws_from(source: Any) -> Iterator[None]:
    """In this block igraph draws from a source; it has one for all threads, so another such block waits for the end.

    Examples
    --------
    >>> import igraph
    >>> with igraph_draws_from(random.Random(0)):
    ...     first = igraph.Graph.Erdos_Renyi(9, 0.5)
    >>> with igraph_draws_from(random.Random(0)):
    ...     igraph.Graph.Erdos_Renyi(9, 0.5).get_edgelist() == first.get_edgelist()
    True
    """
    import igraph

    with _one_at_a_time:
        igraph.set_random_number_generator(source)
        try:
            yield
        finally:
            igraph.set_random_number_generator(random)


def umap_of(embedding: NDArray[np.float64], *, seed: int) -> NDArray[np.float64] | None:
    """Two-dimensional UMAP (McInnes et al. 2018), seeded; None for fewer than five cells or one dimension.

    It begins at the first two principal components.

    Parameters
    ----------
    embedding
        (n_cells, d)
    seed
        The map is the same for the same seed and data.

    Returns
    -------
    ndarray or None
        (n_cells, 2)

    Examples
    --------
    >>> umap_of(np.random.default_rng(0).normal(size=(30, 4)), seed=0).shape
    (30, 2)
    """
    n_cells = len(embedding)
    if n_cells < MIN_CELLS_FOR_UMAP or embedding.shape[1] < 2:
        return None
    import igraph
    from sklearn.decomposition import PCA
    from sklearn.neighbors import kneighbors_graph

    with one_blas_thread():  # the last bits of where a cell begins would move it
        first = PCA(2, svd_solver="full").fit_transform(embedding)
        first *= 10 / max(float(np.abs(first).max()), 1e-12)
    nearest = kneighbors_graph(embedding, min(NEIGHBOURS, n_cells) - 1, mode="distance").tocoo()
    graph = igraph.Graph(n=n_cells, edges=np.column_stack(nearest.coords), directed=True)
    with igraph_draws_from(_Draws(seed)):
        layout = graph.layout_umap(
            dist=nearest.data.tolist(), seed=first.tolist(), min_dist=0.5, epochs=500 if n_cells <= _MANY else 200
        )
    return np.asarray(layout.coords, dtype=np.float64)
