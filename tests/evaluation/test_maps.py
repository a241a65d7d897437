"""Maps: the same for the same seed, of as few cells as there are, and other threads go on meanwhile."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import igraph
import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from frostline.evaluation import maps
from frostline.evaluation.maps import MIN_CELLS_FOR_UMAP, umap_of


class TestUmap:
    def test_the_same_seed_gives_the_same_map_and_another_seed_another(self):
        embedding = np.random.default_rng(0).normal(size=(30, 6))
        one, again, other = (umap_of(embedding, seed=seed) for seed in (1, 1, 2))
        assert (one.shape, one.dtype) == ((30, 2), np.float64)
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("n_cells", [MIN_CELLS_FOR_UMAP, MIN_CELLS_FOR_UMAP + 2])
    @pytest.mark.parametrize("width", [2, 4])
    def test_few_cells_and_narrow_embeddings_have_a_map(self, n_cells, width):
        found = umap_of(np.random.default_rng(0).normal(size=(n_cells, width)), seed=0)
        assert found.shape == (n_cells, 2)
        assert np.isfinite(found).all()

    def test_equal_cells_do_no_harm(self):
        embedding = np.tile(np.arange(4.0), (12, 1))
        embedding[:3] += 1
        assert np.isfinite(umap_of(embedding, seed=0)).all()

    def test_fewer_than_five_cells_or_one_dimension_have_none(self):
        assert umap_of(np.zeros((MIN_CELLS_FOR_UMAP - 1, 3)), seed=0) is None
        assert umap_of(np.arange(20.0)[:, None], seed=0) is None

    def test_groups_that_lie_apart_do_so_on_the_map(self):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(4), 40)
        found = umap_of(6 * rng.normal(size=(4, 20))[groups] + rng.normal(size=(160, 20)), seed=0)
        assert silhouette_score(found, groups) > 0.7

    def test_the_random_numbers_of_others_stay_theirs(self):
        random.seed(5)
        expected = [random.random() for _ in range(3)]
        random.seed(5)
        umap_of(np.random.default_rng(0).normal(size=(30, 6)), seed=1)
        assert [random.random() for _ in range(3)] == expected
        random.seed(5)
        one = igraph.Graph.Erdos_Renyi(30, 0.2).get_edgelist()  # drawn from Python's stream again
        random.seed(5)
        assert igraph.Graph.Erdos_Renyi(30, 0.2).get_edgelist() == one

    def test_two_at_once_are_what_each_is_alone(self, monkeypatch):
        """igraph has one generator for all threads: each map waits a little for the other to begin to draw."""
        embedding = np.random.default_rng(0).normal(size=(40, 6))
        alone = [umap_of(embedding, seed=seed) for seed in (1, 2)]
        draws, both = maps._Draws.getrandbits, threading.Barrier(2)

        def together(source, n):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.2)
            return draws(source, n)

        monkeypatch.setattr(maps._Draws, "getrandbits", together)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda seed: umap_of(embedding, seed=seed), (1, 2)))
        np.testing.assert_array_equal(found, alone)

    @pytest.mark.slow
    def test_other_threads_get_their_turn(self):
        embedding, turns = np.random.default_rng(0).normal(size=(400, 6)), []
        done = threading.Event()

        def watch():
            while not done.is_set():
                turns.append(time.perf_counter())
                time.sleep(0.002)

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        umap_of(embedding, seed=0)
        ended = time.perf_counter()
        done.set()
        watcher.join()
        middle = [turn for turn in turns if 0.3 < (turn - started) / (ended - started) < 0.7]
        assert len(middle) > 5  # none, where igraph keeps the interpreter to itself
