"""Strangeness of cells: distances, energies, p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import kstest
from sklearn.covariance import shrunk_covariance
from sklearn.metrics import roc_auc_score

from frostline.annotation.novelty import Centroids, conformal_p, energies, p_known, why_none_unknown


@pytest.fixture(scope="module")
def cells():
    draw = np.random.default_rng(1)
    labels = np.repeat(["B", "NK", "T"], [60, 40, 50])
    means = {"B": (0, 0, 0, 0), "NK": (6, 0, 0, 0), "T": (0, 6, 0, 0)}
    x = np.array([means[name] for name in labels]) + draw.normal(size=(150, 4)) * (1, 2, 1, 3)
    return x, labels


class TestCentroids:
    @pytest.mark.parametrize("shrinkage", [0.1, 0.7])
    def test_distances_are_those_of_scipy_with_the_covariance_of_scikit_learn(self, cells, shrinkage):
        x, labels = cells
        names = np.unique(labels)
        means = np.array([x[labels == name].mean(axis=0) for name in names])
        within = x - means[np.searchsorted(names, labels)]
        precision = np.linalg.inv(shrunk_covariance(within.T @ within / len(x), shrinkage=shrinkage))
        queries = np.random.default_rng(2).normal(size=(20, 4)) * 5
        expected = [min(mahalanobis(one, mean, precision) for mean in means) for one in queries]
        np.testing.assert_allclose(Centroids.fit(x, labels, shrinkage).distances(queries), expected, rtol=1e-9)

    def test_a_cell_gets_the_distance_that_it_gets_in_a_batch_and_none_an_empty_result(self, cells):
        x, labels = cells
        found = Centroids.fit(x, labels)
        many = np.tile(x, (60, 1))  # more than a block
        np.testing.assert_allclose(found.distances(many)[-150:], found.distances(x), rtol=1e-12)
        np.testing.assert_allclose(found.distances(x[:1]), found.distances(x)[:1], rtol=1e-12)
        assert found.distances(x[:0]).shape == (0,)

    def test_features_that_do_not_vary_and_a_class_of_one_cell(self, cells):
        x, labels = cells
        constant = np.hstack([x, np.zeros((len(x), 1))])
        assert np.isfinite(Centroids.fit(constant, labels, 0.0).distances(constant)).all()
        alike = Centroids.fit(np.array([[0.0, 0.0], [3.0, 0.0]]), np.array(["B", "T"]))
        assert alike.distances(np.array([[0.0, 4.0]])) == pytest.approx([4.0])

    def test_arrays_hold_all_of_it(self, cells):
        x, labels = cells
        found = Centroids.fit(x, labels)
        np.testing.assert_array_equal(Centroids.from_arrays(found.arrays()).distances(x), found.distances(x))


class TestEnergies:
    def test_unsure_cells_are_stranger_and_what_is_added_to_a_cell_changes_nothing(self):
        scores = np.array([[5.0, 0.0, -5.0], [1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
        found = energies(scores)
        assert (np.diff(found) > 0).all()
        assert found[2] == pytest.approx(-np.log(3))
        np.testing.assert_allclose(energies(scores + np.array([[7.0], [-3.0], [100.0]])), found)

    def test_logits_and_logarithms_of_probabilities_agree(self):
        scores = np.random.default_rng(0).normal(size=(9, 4))
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(energies(np.log(p)), energies(scores))


class TestConformal:
    def test_counts_itself_and_ties(self):
        known = np.array([3.0, 1.0, 2.0, 2.0])
        np.testing.assert_allclose(conformal_p(known, np.array([0.0, 2.0, 2.5, 4.0])), [1.0, 0.8, 0.4, 0.2])

    def test_a_known_cell_is_called_unknown_as_often_as_was_asked(self):
        draw = np.random.default_rng(0)
        called = [(conformal_p(*np.split(draw.normal(size=298), [99])) <= 0.05).mean() for _ in range(200)]
        assert np.mean(called) == pytest.approx(0.05, abs=0.006)


class TestKnown:
    @pytest.mark.parametrize("related", [0.0, 0.9, -0.9])
    def test_known_cells_are_called_unknown_at_most_as_often_as_was_asked(self, related):
        draw = np.random.default_rng(3)
        both = [[1.0, related], [related, 1.0]]
        called = []
        for _ in range(200):
            x = draw.multivariate_normal([0, 0], both, size=400)
            called.append(p_known(x[:200, 0], x[:200, 1], x[200:, 0], x[200:, 1]) <= 0.05)
        assert np.mean(called) <= 0.055
        assert np.mean(called) >= 0.03  # and is not merely timid

    def test_p_of_known_cells_is_spread_evenly(self):
        x = np.random.default_rng(4).normal(size=(4000, 2))
        found = p_known(x[:2000, 0], x[:2000, 1], x[2000:, 0], x[2000:, 1])
        assert kstest(found, "uniform").pvalue > 0.001

    @pytest.mark.parametrize(("alpha", "least"), [(0.05, 60), (0.01, 300), (0.07, 42)])
    def test_with_few_known_cells_none_can_be_called_unknown_and_it_is_said(self, alpha, least):
        """Strangest in energy and in distance are two cells: p is three divided by their number and one."""
        for n in (least - 1, least):
            known = np.arange(float(n))
            smallest = p_known(known, known[::-1], np.array([1e9]), np.array([1e9]))[0]
            said = why_none_unknown(known, known[::-1], alpha)
            assert (smallest >= alpha) == (n < least) == bool(said)
        said = why_none_unknown(known[1:], known[:0:-1], alpha)
        assert f"beside {least - 1} labelled cells" in said
        assert f"About {least} labelled cells would do" in said
        assert "alpha, the share of known cells that may be, is 0" in why_none_unknown(known, known, 0.0)

    def test_a_cell_that_is_strange_in_one_way_only_is_found(self):
        draw = np.random.default_rng(5)
        known, new = draw.normal(size=(500, 2)), draw.normal(size=(200, 2))
        new[:50, 0] += 4
        new[50:100, 1] += 4
        found = p_known(known[:, 0], known[:, 1], new[:, 0], new[:, 1])
        assert (found[:100] <= 0.05).mean() > 0.9
        assert roc_auc_score(np.arange(200) < 100, -found) > 0.95
