"""Linear probes: on any features, on an embedding of obsm and on the frozen encoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from strategy_checks import held_out_loss

from frostline import strategies
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.embedding import encode, tokenize_cells
from frostline.errors import DatasetError
from frostline.evaluation.evaluations import evaluate
from frostline.monitor import Monitor
from frostline.strategies import ProbeObsm
from frostline.strategies.probe import LinearProbe, probe_parameters

pytestmark = pytest.mark.slow


class TestLinearProbe:
    @pytest.fixture(params=[2, 5], ids=["two classes", "five classes"])
    def data(self, request):
        """Features, labels and folds of training cells, and features of others."""
        rng = np.random.default_rng(request.param)
        names = np.array(["B", "NK", "T", "mono", "DC"])[: request.param]
        numbers = rng.integers(0, request.param, 160)
        features = (rng.normal(size=(5, 7)) * 50)[numbers] + 80 * rng.normal(size=(160, 7))
        return features[:120], names[numbers[:120]], np.arange(120) % 5, features[120:]

    def test_it_is_standardised_logistic_regression_whose_c_a_grid_search_would_choose(self, data):
        features, labels, folds, others = data
        probe = LinearProbe.fit(features, labels, folds, Monitor())
        search = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)),
            {"logisticregression__C": LinearProbe.GRID},
            scoring="neg_log_loss",
            cv=PredefinedSplit(folds),
        ).fit(features, labels)
        assert probe.c == search.best_params_["logisticregression__C"]
        np.testing.assert_allclose(probe.predict_proba(others), search.predict_proba(others), rtol=0, atol=1e-9)

    def test_classes_too_small_for_every_fold_do_no_harm(self, data):
        features, labels, folds, _ = data
        labels = labels.astype("U9")
        labels[7], labels[[30, 41]] = "single", "pair"
        probe = LinearProbe.fit(features, labels, folds, Monitor())
        losses = {
            c: held_out_loss(
                make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=10_000)), features, labels, folds
            )
            for c in LinearProbe.GRID
        }
        assert probe.c == min(losses, key=losses.get)
        assert probe.coefficients.shape[0] == len(np.unique(labels))

    def test_groups_that_are_classes_leave_nothing_to_choose_by(self, data):
        features, labels, _, _ = data
        two = np.isin(labels, ["B", "NK"])
        features, labels = features[two], labels[two]
        assert LinearProbe.fit(features, labels, (labels == "B").astype(int), Monitor()).c == 1.0

    def test_it_is_rebuilt_from_its_arrays(self, data):
        *training, others = data
        probe = LinearProbe.fit(*training, Monitor())
        again = LinearProbe.from_arrays(probe.arrays())
        np.testing.assert_array_equal(again.predict_proba(others), probe.predict_proba(others))
        assert again.c == probe.c

    def test_its_parameters_are_its_coefficients_and_intercepts(self, data):
        probe = LinearProbe.fit(*data[:3], Monitor())
        n_classes = len(set(data[1]))
        assert probe.n_parameters == probe_parameters(7, n_classes) == (8 if n_classes == 2 else 8 * n_classes)

    def test_a_constant_feature_does_no_harm(self, data):
        features, labels, folds, others = data
        constant = [np.hstack([x, np.full((len(x), 1), 3.0)]) for x in (features, others)]
        probe = LinearProbe.fit(constant[0], labels, folds, Monitor())
        expected = LinearProbe.fit(features, labels, folds, Monitor()).predict_proba(others)
        np.testing.assert_allclose(probe.predict_proba(constant[1]), expected, rtol=0, atol=1e-6)


class TestProbeObsm:
    def with_embedding(self, dataset, fresh, values, key="X_scVI"):
        adata = dataset.adata.copy()
        adata.obsm[key] = values
        return fresh(dataset, adata=adata)

    @pytest.fixture(scope="class")
    @staticmethod
    def values(pbmc):
        return np.random.default_rng(0).normal(size=(len(pbmc), 6)) + 2 * (pbmc.labels == "Dendritic")[:, None]

    def test_another_embedding_under_the_same_key_has_another_hash(self, pbmc, fresh, values):
        """By which a journal knows that an evaluation is not of this embedding."""
        probe = ProbeObsm("X_scVI")
        same = [probe.embedding_sha256(self.with_embedding(pbmc, fresh, values.copy())) for _ in range(2)]
        other = probe.embedding_sha256(self.with_embedding(pbmc, fresh, values + 1e-6))
        assert same[0] == same[1] != other
        assert len(other) == 64

    def test_it_is_standardised_logistic_regression_on_the_embedding(self, pbmc, cut, fresh, values, folds_of):
        dataset = self.with_embedding(pbmc, fresh, values)
        strategy = ProbeObsm("X_scVI").fit(dataset, cut)
        labels = pbmc.labels[cut.train]

        def model(c):
            return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=10_000))

        losses = {c: held_out_loss(model(c), values[cut.train], labels, folds_of(5)) for c in LinearProbe.GRID}
        assert strategy.chosen == {"C": min(losses, key=losses.get)}
        expected = model(strategy.chosen["C"]).fit(values[cut.train], labels).predict_proba(values[cut.test])
        np.testing.assert_allclose(strategy.predict_proba(dataset, cut.test), expected, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(strategy.embed(dataset, cut.test), values[cut.test])
        assert strategy.planned_parameters(cut, dataset) == strategy.cost().trainable_parameters == 7 * len(cut.classes)

    @pytest.mark.parametrize(
        "container", [sparse.csr_matrix, sparse.csc_array, pd.DataFrame, lambda x: np.rint(1000 * x).astype(int)]
    )
    def test_the_container_does_not_matter(self, pbmc, cut, fresh, values, container):
        values = np.rint(1000 * values)
        given = container(values / 1000 if container.__name__ == "<lambda>" else values)
        if isinstance(given, pd.DataFrame):
            given.index, given.columns = pbmc.adata.obs_names, [f"latent {i}" for i in range(6)]
        dataset = self.with_embedding(pbmc, fresh, given)
        strategy = ProbeObsm("X_scVI")
        strategy.ensure_applicable(dataset, cut)
        np.testing.assert_array_equal(strategy.fit(dataset, cut).embed(dataset, cut.test), values[cut.test])

    def test_a_missing_key_lists_those_that_are_there(self, pbmc, cut):
        with pytest.raises(DatasetError, match="embedding 'X_scVI' is not in obsm, which has: X_pca, X_umap"):
            ProbeObsm("X_scVI").ensure_applicable(pbmc, cut)

    def test_an_empty_obsm_is_said_to_be_empty(self, pbmc, cut, fresh):
        adata = pbmc.adata.copy()
        del adata.obsm
        with pytest.raises(DatasetError, match=r"'X_pca' is not in obsm, which has: nothing; compute one"):
            ProbeObsm().ensure_applicable(fresh(pbmc, adata=adata), cut)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_value_that_is_missing_names_its_cell(self, pbmc, cut, fresh, values, value):
        values = values.copy()
        values[cut.test[3], 2] = value
        with pytest.raises(DatasetError, match=rf"missing or infinite in 1 cell.*{pbmc.cells[cut.test[3]]}"):
            ProbeObsm("X_scVI").ensure_applicable(self.with_embedding(pbmc, fresh, values), cut)

    def test_what_is_no_table_of_numbers_is_refused(self, pbmc, cut, fresh, values):
        for wrong in (values.astype(str), values[:, None, :], values + 1j, values[:, :0]):
            with pytest.raises(DatasetError, match="must hold a row of real numbers for each cell"):
                ProbeObsm("X_scVI").ensure_applicable(self.with_embedding(pbmc, fresh, wrong), cut)

    @pytest.mark.usefixtures("instant_umap")
    def test_its_name_tells_the_key_and_leads_back_to_it(self, pbmc, cut, fresh, values, tmp_path):
        dataset = self.with_embedding(pbmc, fresh, values)
        plain, other = strategies.build(["probe_obsm", "probe_obsm:X_scVI"])
        assert (plain.name, other.name) == ("probe_obsm", "probe_obsm:X_scVI")
        assert (plain.obsm_key, other.obsm_key) == ("X_pca", "X_scVI")
        record = evaluate(other, dataset, cut)
        assert record.strategy == "probe_obsm:X_scVI"
        assert any("X_scVI was computed outside frostline" in note for note in record.notes)
        other.fit(dataset, cut).save(tmp_path)
        again = strategies.load(tmp_path)
        assert (again.name, again) == ("probe_obsm:X_scVI", other)

    def test_an_embedding_of_another_width_than_it_was_fitted_on_is_refused(self, pbmc, cut, fresh, values):
        strategy = ProbeObsm("X_scVI").fit(self.with_embedding(pbmc, fresh, values), cut)
        other = self.with_embedding(pbmc, fresh, values[:, :4])
        for work in (strategy.predict_proba, strategy.outcome):
            with pytest.raises(
                DatasetError, match="'X_scVI' has 4 columns here, and the strategy was fitted on 6; store"
            ):
                work(other, cut.test)

    def test_its_parameters_cannot_be_planned_without_the_data_set(self, cut):
        with pytest.raises(DatasetError, match="pass the data set, too"):
            ProbeObsm().planned_parameters(cut)


class TestFrozenProbe:
    def test_it_is_a_probe_on_the_normalised_cls_states(self, pbmc, cut, fresh, fitted_once, small_checkpoint):
        strategy, dataset = fitted_once("frozen_probe")
        opened = load_checkpoint(small_checkpoint)
        states = encode(opened.encoder(), tokenize_cells(pbmc, cut.test, pbmc.genes, opened))
        expected = states / np.linalg.norm(states, axis=1, keepdims=True)
        np.testing.assert_allclose(strategy.embed(dataset, cut.test), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            strategy.predict_proba(dataset, cut.test), strategy.probe_.predict_proba(expected), rtol=0, atol=1e-3
        )
