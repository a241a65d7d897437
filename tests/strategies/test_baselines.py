"""Baselines without an encoder, by the same with scikit-learn."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from strategy_checks import corrupted, held_out_loss

from frostline import strategies
from frostline.errors import Cancelled
from frostline.evaluation.evaluations import evaluate
from frostline.monitor import Monitor
from frostline.strategies import GenesLogistic, PcaKnn, PcaLogistic, components
from frostline.strategies.probe import LinearProbe

pytestmark = pytest.mark.slow


class TestMajority:
    def test_every_cell_gets_the_class_shares_of_the_training_cells(self, pbmc, cut, fitted_once):
        strategy, dataset = fitted_once("majority")
        shares = pd.Series(pbmc.labels[cut.train]).value_counts(normalize=True).sort_index()
        probabilities = strategy.predict_proba(dataset, cut.test)
        assert strategy.classes_ == tuple(shares.index)
        np.testing.assert_allclose(probabilities, np.tile(shares.to_numpy(), (len(cut.test), 1)), rtol=0, atol=1e-12)

    def test_it_has_no_map(self, pbmc, cut, fresh):
        record = evaluate(strategies.Majority(), fresh(pbmc), cut)
        assert record.umap is None
        assert set(record.predicted) == {"Dendritic"}


class TestGenesLogistic:
    def test_it_is_liblinears_l1_regression_of_one_class_against_the_rest(self, pbmc, cut, fitted_once, folds_of):
        strategy, dataset = fitted_once("genes_logistic")
        train, test = (pbmc.expression(rows, cut.genes).toarray().astype(float) for rows in (cut.train, cut.test))
        labels, folds = pbmc.labels[cut.train], folds_of(3)

        def model(c):
            binary = LogisticRegression(
                C=c, l1_ratio=1, solver="liblinear", intercept_scaling=30, tol=1e-3, max_iter=10_000, random_state=3
            )
            return OneVsRestClassifier(binary)

        assert cut.training_seed == 3
        losses = {c: held_out_loss(model(c), train, labels, folds) for c in GenesLogistic.GRID}
        assert strategy.chosen == {"C": min(losses, key=losses.get)}
        expected = model(strategy.chosen["C"]).fit(train, labels).predict_proba(test)
        np.testing.assert_allclose(strategy.predict_proba(dataset, cut.test), expected, rtol=0, atol=1e-3)
        assert strategy.cost().trainable_parameters == len(cut.classes) * (len(cut.genes) + 1)
        assert (strategy.coefficients_ == 0).mean() > 0.5

    def test_two_classes_share_one_row_of_coefficients(self, easy, fresh):
        dataset, cut = easy
        strategy = GenesLogistic().fit(fresh(dataset), cut)
        assert strategy.coefficients_.shape == (1, 40)
        binary = LogisticRegression(
            C=strategy.chosen["C"],
            l1_ratio=1,
            solver="liblinear",
            intercept_scaling=30,
            tol=1e-3,
            max_iter=10_000,
            random_state=cut.training_seed,
        ).fit(dataset.matrix[cut.train].toarray(), dataset.labels[cut.train])
        np.testing.assert_allclose(
            strategy.predict_proba(dataset, cut.test),
            binary.predict_proba(dataset.matrix[cut.test].toarray()),
            rtol=0,
            atol=1e-3,
        )

    def test_among_many_cells_c_is_chosen_on_one_fold(self, pbmc, cut, fresh, folds_of, monkeypatch):
        """The same by scikit-learn, for values of C up to the second rise in a row."""
        monkeypatch.setattr(GenesLogistic, "MANY", len(cut.train) - 1)
        strategy = GenesLogistic().fit(fresh(pbmc), cut)
        values, labels = pbmc.expression(cut.train, cut.genes).toarray().astype(float), pbmc.labels[cut.train]
        folds = folds_of(3)
        held_out = np.abs(np.bincount(folds) - len(folds) / 3).argmin()
        losses = []
        for c in GenesLogistic.GRID:
            binary = LogisticRegression(
                C=c, l1_ratio=1, solver="liblinear", intercept_scaling=30, tol=1e-3, max_iter=10_000, random_state=3
            )
            model = OneVsRestClassifier(binary).fit(values[folds != held_out], labels[folds != held_out])
            known = (folds == held_out) & np.isin(labels, model.classes_)
            truth = np.searchsorted(model.classes_, labels[known])
            losses.append(-np.log(model.predict_proba(values[known])[np.arange(len(truth)), truth]).sum())
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        assert strategy.chosen == {"C": GenesLogistic.GRID[int(np.argmin(losses))]}
        assert f"1 above {len(cut.train) - 1} cells" in strategy.search

    @pytest.mark.parametrize(("spare", "held_out"), [(0, {0, 1, 2}), (-1, {-1, 0})])
    def test_one_fold_is_held_out_only_above_many_cells(self, pbmc, cut, fresh, monkeypatch, spare, held_out):
        seen = []
        choosing = lambda grid, labels, folds, *rest: seen.append(set(folds.tolist())) or grid[-1]  # noqa: E731
        monkeypatch.setattr("frostline.strategies.genes_logistic.choose", choosing)
        monkeypatch.setattr(GenesLogistic, "MANY", len(cut.train) + spare)
        GenesLogistic().fit(fresh(pbmc), cut)
        assert seen == [held_out]

    def test_a_cancel_takes_effect_between_the_fits_of_two_classes(self, pbmc, cut, fresh, monkeypatch):
        fits = []
        original = LogisticRegression.fit
        monkeypatch.setattr(LogisticRegression, "fit", lambda self, *given: fits.append(1) or original(self, *given))
        with pytest.raises(Cancelled):
            GenesLogistic().fit(fresh(pbmc), cut, Monitor(cancelled=lambda: len(fits) == 2))
        assert len(fits) == 2


def test_seconds_are_those_that_passed(pbmc, cut, fresh):
    dataset, started = fresh(pbmc), time.perf_counter()
    strategy = PcaLogistic().fit(dataset, cut)
    strategy.predict_proba(dataset, cut.test)
    passed = time.perf_counter() - started
    assert 0 < strategy.cost().total_seconds <= passed


class TestPcaKnn:
    def test_it_keeps_a_label_and_the_components_of_every_training_cell(self, pbmc, cut, fitted_once):
        cost, n, n_components = fitted_once("pca_knn")[0].cost(), len(cut.train), 50
        assert cost.trainable_parameters == n
        components_and_mean = n_components * len(cut.genes) + len(cut.genes)
        assert cost.total_parameters == n + n * n_components + components_and_mean

    def test_it_is_the_vote_of_the_nearest_cells_on_the_components_of_pca_logistic(
        self, pbmc, cut, fitted_once, folds_of
    ):
        strategy, dataset = fitted_once("pca_knn")
        same, copy = fitted_once("pca_logistic")
        np.testing.assert_array_equal(strategy.embed(dataset, cut.test), same.embed(copy, cut.test))
        train, test = (pbmc.expression(rows, cut.genes).toarray() for rows in (cut.train, cut.test))
        labels, folds = pbmc.labels[cut.train], folds_of(5)

        class Smoothed(KNeighborsClassifier):
            def predict_proba(self, X):
                share = pd.Series(self.classes_[self._y]).value_counts(normalize=True).sort_index().to_numpy()
                return (self.n_neighbors * super().predict_proba(X) + share) / (self.n_neighbors + 1)

        def model(k):
            return make_pipeline(PCA(50, svd_solver="full"), Smoothed(k))

        losses = {k: held_out_loss(model(k), train, labels, folds) for k in PcaKnn.GRID}
        assert strategy.chosen == {"k": min(losses, key=losses.get)}
        expected = model(strategy.k_).fit(train, labels).predict_proba(test)
        np.testing.assert_allclose(strategy.predict_proba(dataset, cut.test), expected, rtol=0, atol=1e-9)

    def test_fewer_training_cells_than_neighbours_vote_all(self, pbmc, cut, fresh):
        labels = pbmc.labels[cut.train]
        few = np.concatenate([cut.train[labels == name][:3] for name in ("Dendritic", "CD19+ B")])
        few_cut = dataclasses.replace(cut, train=few)
        probabilities = PcaKnn(n_components=3).fit(fresh(pbmc), few_cut).predict_proba(pbmc, cut.test)
        assert probabilities.shape == (len(cut.test), 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_components_of_many_cells_are_those_of_the_dense_matrix(pbmc, monkeypatch, block):
    """Summed over blocks of cells, so that memory grows with the cells' values and not with cells times genes."""
    monkeypatch.setattr(components, "BLOCK", block)
    values = pbmc.matrix[:, :60]
    expected = PCA(10, svd_solver="full").fit(values.toarray().astype(np.float64))
    mean, loadings = components._principal(values, 10)
    np.testing.assert_allclose(mean, expected.mean_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loadings, expected.components_, rtol=0, atol=2e-4)
    found = components._projected(values, mean, loadings)
    np.testing.assert_allclose(found, expected.transform(values.toarray()), rtol=0, atol=2e-3)


class TestPcaLogistic:
    def test_it_is_pca_and_logistic_regression_on_log_values(self, pbmc, cut, fitted_once):
        """The same by plain singular value decomposition, scaled and regressed with scikit-learn."""
        strategy, dataset = fitted_once("pca_logistic")
        x = {part: pbmc.expression(getattr(cut, part), cut.genes).toarray() for part in ("train", "validation", "test")}
        mean = x["train"].mean(axis=0)
        _, _, loadings = np.linalg.svd(x["train"] - mean, full_matrices=False)
        n_components = min(50, len(cut.train) - 1)
        features = {part: (values - mean) @ loadings[:n_components].T for part, values in x.items()}
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strategy.probe_.c, max_iter=10_000))
        model.fit(features["train"], pbmc.labels[cut.train])
        expected = model.predict_proba(features["test"])
        np.testing.assert_allclose(strategy.predict_proba(dataset, cut.test), expected, rtol=0, atol=1e-3)

    def test_c_is_chosen_with_components_of_the_other_folds(self, pbmc, cut, fitted_once, folds_of):
        """Components that held-out cells took part in would set these apart, and C would come out too small."""
        strategy, _ = fitted_once("pca_logistic")
        values, labels = pbmc.expression(cut.train, cut.genes).toarray(), pbmc.labels[cut.train]
        losses = {
            c: held_out_loss(
                make_pipeline(PCA(50, svd_solver="full"), StandardScaler(), LogisticRegression(C=c, max_iter=10_000)),
                values,
                labels,
                folds_of(5),
            )
            for c in LinearProbe.GRID
        }
        assert strategy.chosen == {"C": min(losses, key=losses.get)}

    def test_few_cells_of_clear_classes_are_separation(self, easy, fresh):
        """As many components as cells: the inner cross-validation must not think that nothing can be learnt."""
        dataset, cut = easy
        few = dataclasses.replace(cut, train=cut.train[:24])
        strategy = PcaLogistic().fit(fresh(dataset), few)
        predicted = np.array(strategy.classes_)[strategy.predict_proba(dataset, cut.test).argmax(axis=1)]
        assert strategy.chosen["C"] > 0.001
        assert (predicted == dataset.labels[cut.test]).mean() > 0.8  # 30 test cells; 0.5 is chance

    def test_more_cells_than_genes_have_the_same_components(self, pbmc, cut, fresh):
        few_genes = dataclasses.replace(cut, genes=cut.genes[:30])
        strategy = PcaLogistic(n_components=10).fit(fresh(pbmc), few_genes)
        values = pbmc.expression(cut.train, few_genes.genes).toarray().astype(np.float64)
        _, _, loadings = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        cosines = np.abs((strategy.components_ * loadings[:10]).sum(axis=1))
        np.testing.assert_allclose(cosines, 1, rtol=0, atol=1e-4)

    def test_highly_variable_genes_are_chosen_on_training_cells(self, pbmc, cut, fresh):
        strategy = PcaLogistic(n_hvg=30, n_components=10).fit(fresh(pbmc), cut)
        assert 30 <= len(strategy.genes_) < 35  # scanpy keeps all genes that tie with the last one
        assert set(strategy.genes_) < set(cut.genes)
        assert list(strategy.genes_) == [gene for gene in cut.genes if gene in set(strategy.genes_)]
        elsewhere = np.concatenate([cut.test, cut.validation])
        again = PcaLogistic(n_hvg=30, n_components=10).fit(fresh(pbmc, matrix=corrupted(pbmc.matrix, elsewhere)), cut)
        assert again.genes_ == strategy.genes_

    def test_components_never_exceed_cells_or_genes(self, pbmc, cut, fresh):
        strategy = PcaLogistic(n_hvg=12, n_components=500)
        assert strategy.fit(fresh(pbmc), cut).embed(pbmc, cut.test).shape == (len(cut.test), 11)
        assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters

    @pytest.mark.parametrize("kind", ["genes that tested cells alone express", "training cells that are there twice"])
    def test_components_without_variance_are_left_out(self, pbmc, cut, fresh, kind):
        """The same with as many components as the training values have rank: no other can be standardised."""
        matrix = pbmc.matrix.tolil(copy=True)
        if kind.startswith("genes"):
            changed = dataclasses.replace(cut, genes=cut.genes[:30])
            off = [pbmc.genes.index(gene) for gene in changed.genes[-8:]]
            matrix[np.ix_(cut.train, off)], matrix[np.ix_(cut.test, off)] = 0, 2
        else:
            changed = dataclasses.replace(cut, train=cut.train[:40])
            matrix[cut.train[25:40]] = matrix[cut.train[:15]]
        dataset = fresh(pbmc, matrix=matrix.tocsr())
        strategy = PcaLogistic().fit(dataset, changed)
        train, test = (dataset.expression(rows, changed.genes).toarray() for rows in (changed.train, cut.test))
        mean = train.mean(axis=0, dtype=np.float64)
        rank = 22 if kind.startswith("genes") else 24
        loadings = np.linalg.svd(train - mean, full_matrices=False)[2][:rank]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strategy.chosen["C"], max_iter=10_000))
        model.fit((train - mean) @ loadings.T, pbmc.labels[changed.train])
        expected = model.predict_proba((test - mean) @ loadings.T)
        np.testing.assert_allclose(strategy.predict_proba(dataset, cut.test), expected, rtol=0, atol=1e-3)
        assert strategy.embed(dataset, cut.test).shape[1] == rank

    def test_genes_that_no_training_cell_expresses_do_no_harm(self, pbmc, cut, fresh):
        """More genes than HVGs are asked for, of which only a few are expressed."""
        matrix = pbmc.matrix.tolil(copy=True)
        columns = [pbmc.genes.index(gene) for gene in cut.genes[8:]]
        matrix[:, columns] = 0
        strategy = PcaLogistic(n_hvg=40, n_components=20)
        strategy.fit(fresh(pbmc, matrix=matrix.tocsr()), cut)
        assert strategy.planned_parameters(cut) >= strategy.cost().trainable_parameters
