"""Cross-fitting: each cell is predicted once, by a fit that has not seen it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.distance import mahalanobis
from sklearn.linear_model import LogisticRegression

from frostline.annotation import novelty
from frostline.annotation.crossfitting import (
    all_labelled,
    centroids_of,
    cross_fit,
    folds_of,
    represented,
    trained_as_asked,
)
from frostline.cells.datasets import load_dataset
from frostline.errors import Cancelled, DatasetError
from frostline.monitor import Monitor
from frostline.profiles import get_profile
from frostline.strategies import HeadTuning, PcaLogistic, ProbeObsm
from frostline.strategies.base import Outcome

PROFILE = get_profile("quickstart")


def donors(counts: dict[str, dict[str, int]]):
    """Cells of classes A, B, ... in donors, separated by one gene a class."""
    rng = np.random.default_rng(0)
    rows = [(donor, kind) for donor, kinds in counts.items() for kind, n in kinds.items() for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["donor", "kind"], index=[f"c{i}" for i in range(len(rows))])
    codes = obs["kind"].factorize(sort=True)[0]
    values = rng.poisson(1.0, (len(rows), 12)) + 9 * (np.arange(12) == codes[:, None])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(12)])
    return AnnData(values.astype(np.float32), obs=obs, var=var, obsm={"X_pca": values[:, :4].astype(float)})


class TestFolds:
    def test_every_cell_is_left_out_once(self, three_kinds):
        folds = folds_of(three_kinds, profile=PROFILE, seed=1)
        left_out = np.concatenate([cut.test for cut in folds])
        assert sorted(left_out) == list(range(len(three_kinds)))
        assert len(folds) == 5
        for cut in folds:
            assert not set(cut.test) & {*cut.train, *cut.validation}

    def test_who_is_left_out_with_whom_depends_on_the_seed(self, three_kinds):
        first, again, other = (
            {frozenset(cut.test) for cut in folds_of(three_kinds, profile=PROFILE, seed=seed)} for seed in (1, 1, 2)
        )
        assert first == again
        assert not first & other

    def test_whole_groups_are_left_out(self):
        dataset = load_dataset(donors({d: {"A": 5, "B": 6} for d in "pqrs"}), "kind", group_key="donor")
        folds = folds_of(dataset, profile=PROFILE, seed=1)
        assert sorted(cut.groups["test"] for cut in folds) == [("p",), ("q",), ("r",), ("s",)]
        for cut in folds:
            assert not set(dataset.groups[cut.test]) & set(dataset.groups[[*cut.train, *cut.validation]])

    def test_the_profile_limits_no_cells(self, three_kinds):
        few = dataclasses.replace(PROFILE, max_cells=20)
        assert sum(len(cut.test) for cut in folds_of(three_kinds, profile=few, seed=1)) == len(three_kinds)
        assert len(all_labelled(three_kinds, PcaLogistic(), profile=few, seed=1).train) == len(three_kinds)

    def test_groups_without_which_nothing_can_be_trained_are_refused_with_a_remedy_that_works(self):
        adata = donors({"p": {"A": 9}, "q": {"B": 9}})
        with pytest.raises(DatasetError, match=r"'donor' cannot be left out one after the other.*without group_key"):
            folds_of(load_dataset(adata, "kind", group_key="donor"), profile=PROFILE, seed=1)
        assert len(folds_of(load_dataset(adata, "kind"), profile=PROFILE, seed=1)) == 5

    def test_only_what_stops_early_keeps_cells_aside(self, three_kinds):
        cut = all_labelled(three_kinds, HeadTuning(), profile=PROFILE, seed=1)
        assert (len(cut.train), len(cut.validation), len(cut.test)) == (126, 24, 0)  # 8 of each 50
        whole = all_labelled(three_kinds, PcaLogistic(), profile=PROFILE, seed=1)
        assert (len(whole.train), len(whole.validation)) == (150, 0)
        other = all_labelled(three_kinds, HeadTuning(), profile=PROFILE, seed=2)
        assert (cut.seed, other.seed) == (1, 2)
        assert set(cut.validation) != set(other.validation)
        fold = folds_of(three_kinds, profile=PROFILE, seed=1)[0]
        assert trained_as_asked(three_kinds, HeadTuning(), fold) is fold
        assert sorted(trained_as_asked(three_kinds, PcaLogistic(), fold).train) == sorted(
            [*fold.train, *fold.validation]
        )


class TestCrossFit:
    @pytest.mark.slow
    def test_probabilities_energies_and_distances_are_those_of_fits_without_the_cells(self):
        """By hand: standardise, regress, and measure distances on the other cells of each fold."""
        dataset = load_dataset(donors({"p": {"A": 20, "B": 30}}), "kind")
        folds = folds_of(dataset, profile=PROFILE, seed=1)
        found = cross_fit(ProbeObsm(), dataset, folds)
        x = dataset.adata.obsm["X_pca"]
        for i, cut in enumerate(folds):
            cells = found.folds == i
            assert sorted(found.rows[cells]) == sorted(cut.test)
            others = np.setdiff1d(np.arange(50), cut.test)
            fitted = ProbeObsm().fit(dataset, trained_as_asked(dataset, ProbeObsm(), cut))
            mean, std = x[others].mean(0), x[others].std(0)
            model = LogisticRegression(C=fitted.probe_.c, max_iter=10_000)
            model.fit((x[others] - mean) / std, dataset.labels[others])
            z = (x[found.rows[cells]] - mean) / std
            np.testing.assert_allclose(found.probabilities[cells], model.predict_proba(z), atol=2e-3)
            logit = model.decision_function(z)
            energy = -np.logaddexp(-logit / 2, logit / 2)
            np.testing.assert_allclose(found.energies[cells], energy, atol=2e-2)
            labels, kinds = dataset.labels[others], ("A", "B")
            means = {k: x[others][labels == k].mean(0) for k in kinds}
            within = x[others] - np.array([means[k] for k in labels])
            cov = within.T @ within / len(others)
            cov = 0.9 * cov + 0.1 * np.trace(cov) / 4 * np.eye(4)
            expected = [min(mahalanobis(x[j], means[k], np.linalg.inv(cov)) for k in kinds) for j in found.rows[cells]]
            np.testing.assert_allclose(found.distances[cells], expected, rtol=1e-6)

    def test_a_class_that_only_one_group_has_gets_probability_zero_there(self):
        counts = {d: {"A": 9, "B": 9} for d in "pqr"} | {"s": {"A": 9, "B": 9, "C": 9}}
        dataset = load_dataset(donors(counts), "kind", group_key="donor")
        found = cross_fit(PcaLogistic(), dataset, folds_of(dataset, profile=PROFILE, seed=1))
        assert found.classes == ("A", "B", "C")
        alone = found.groups == "s"
        assert (found.probabilities[alone, 2] == 0).all()
        assert (found.probabilities[~alone, 2] > 0).all()
        np.testing.assert_allclose(found.probabilities.sum(1), 1)
        assert np.isfinite([found.energies, found.distances]).all()

    def test_progress_rises_and_it_can_be_cancelled(self, three_kinds):
        said = []
        folds = folds_of(three_kinds, profile=PROFILE, seed=1)
        cross_fit(PcaLogistic(), three_kinds, folds, monitor=Monitor(lambda f, text: said.append((f, text))))
        assert [f for f, _ in said] == sorted(f for f, _ in said)
        assert said[0][1].startswith("fold 1 of 5: ")
        with pytest.raises(Cancelled):
            cross_fit(PcaLogistic(), three_kinds, folds, monitor=Monitor(cancelled=lambda: True))

    def test_thousands_of_features_give_way_to_scores(self):
        narrow = Outcome(np.zeros((2, 1_024)), np.zeros((2, 3)), np.zeros((2, 3)))
        assert represented(narrow) is narrow.features
        wide = Outcome(np.zeros((2, 1_025)), np.zeros((2, 3)), np.zeros((2, 3)))
        assert represented(wide) is wide.scores

    def test_distances_are_those_of_the_leading_components(self, three_kinds):
        """Of the cells that components were fitted on, later ones show noise that others lack."""
        strategy = PcaLogistic(n_components=30)
        cut = all_labelled(three_kinds, strategy, profile=PROFILE, seed=1)
        fitted = strategy.fit(three_kinds, cut)
        x, labels = np.asarray(fitted.embed(three_kinds, cut.train), float), three_kinds.labels[cut.train]
        found = centroids_of(fitted, three_kinds, cut.train)
        expected = novelty.Centroids.fit(x[:, :10], labels, shrinkage=0.1).distances(x[:, :10])
        np.testing.assert_allclose(found.distances(x), expected, rtol=1e-9)
        assert found.means.shape == (3, 30)

    def test_states_of_an_encoder_are_drawn_further_to_a_round_covariance(self, three_kinds, small_checkpoint, fresh):
        from frostline.strategies import FrozenProbe

        dataset = fresh(three_kinds)
        strategy = FrozenProbe(checkpoint=str(small_checkpoint))
        cut = all_labelled(dataset, strategy, profile=PROFILE, seed=1)
        fitted = strategy.fit(dataset, cut)
        x, labels = np.asarray(fitted.embed(dataset, cut.train), float), dataset.labels[cut.train]
        kinds, place = np.unique(labels, return_inverse=True)
        means = np.stack([x[place == i].mean(0) for i in range(len(kinds))])
        cov = np.cov((x - means[place]).T, bias=True)
        cov = 0.3 * cov + 0.7 * np.trace(cov) / len(cov) * np.eye(len(cov))
        expected = [min(mahalanobis(row, m, np.linalg.inv(cov)) for m in means) for row in x[:5]]
        np.testing.assert_allclose(centroids_of(fitted, dataset, cut.train).distances(x[:5]), expected, rtol=1e-6)
