"""One thread of linear algebra, for as long as anybody asks for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from frostline.annotation import shifts
from frostline.annotation.novelty import Centroids
from frostline.evaluation import clusterings, maps
from frostline.strategies import components
from frostline.threads import one_blas_thread


def numbers() -> set[int]:
    """Threads of every library of linear algebra that is loaded."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three():
    """Set by a thread that ends: for threadpoolctl, who sets the number is its master as long as it lives."""
    with ThreadPoolExecutor(1) as before:
        limit = before.submit(threadpool_limits, 3, user_api="blas").result()
    yield
    with ThreadPoolExecutor(1) as after:
        after.submit(limit.restore_original_limits).result()


def test_it_holds_until_the_last_of_several_blocks_ends_and_leaves_the_number_as_it_was():
    with ThreadPoolExecutor(1) as other:
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        other.submit(second.__enter__).result()
        assert numbers() == {1}
        first.__exit__(None, None, None)
        assert numbers() == {1}
        other.submit(second.__exit__, None, None, None).result()
    assert numbers() == {3}


def test_a_block_that_fails_ends_too():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert numbers() == {3}


@pytest.fixture
def decomposed(monkeypatch) -> list[tuple[str, set[int]]]:
    """What was decomposed meanwhile, and by how many threads."""
    found: list[tuple[str, set[int]]] = []

    def watched(function):
        def watching(*args, **kwargs):
            found.append((function.__name__, numbers()))
            return function(*args, **kwargs)

        return watching

    for module in (np.linalg, scipy.linalg):
        for name in ("svd", "eigh", "qr", "cholesky"):
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return found


X = np.random.default_rng(0).normal(size=(60, 40)).astype("f4")
KINDS = np.arange(60) % 2


@pytest.mark.parametrize(
    ("work", "names"),
    [
        (lambda: components._principal(sparse.csr_matrix(X), 5), {"eigh"}),
        (lambda: components._principal(sparse.csr_matrix(X.T), 5), {"svd"}),
        (lambda: list(clusterings._components(sparse.csr_matrix(X))), {"svd", "qr"}),
        (lambda: Centroids.fit(X, KINDS.astype(str)), {"eigh"}),
        (lambda: shifts.compare(X, X[::-1]), {"svd"}),
        (lambda: maps.umap_of(X.astype(float), seed=0), {"svd"}),
    ],
    ids=["many cells", "many genes", "Leiden", "centroids", "shift", "map"],
)
def test_a_decomposition_has_one_thread(decomposed, work, names):
    """With two, and another program that is busy, it took twenty times as long."""
    work()
    assert names <= {name for name, _ in decomposed}
    assert {number for _, each in decomposed for number in each} == {1}
    assert numbers() == {3}


@pytest.mark.parametrize("values", [X, X.T], ids=["many cells", "many genes"])
def test_a_large_decomposition_has_all_of_them(decomposed, monkeypatch, values):
    monkeypatch.setattr(components, "LARGE", 40)
    components._principal(sparse.csr_matrix(values), 5)
    assert {number for _, each in decomposed for number in each} == {3}
