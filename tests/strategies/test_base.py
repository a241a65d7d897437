"""One contract for every strategy of the list."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from strategy_checks import IN_EPOCHS, NAMES, ON_ENCODER, ON_FROZEN, corrupted

from frostline import strategies
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.evaluation.evaluations import evaluate
from frostline.monitor import Monitor
from frostline.strategies import STRATEGIES

pytestmark = pytest.mark.slow


def files_of(strategy, folder: Path) -> dict[str, bytes]:
    strategy.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(dataset, rows, fresh):
    """The data set with other values for some cells, in its matrix and in obsm."""
    adata = dataset.adata.copy()
    adata.obsm["X_pca"][rows] = np.random.default_rng(0).normal(size=(len(rows), adata.obsm["X_pca"].shape[1]))
    return fresh(dataset, adata=adata, matrix=corrupted(dataset.matrix, rows))


ABSENT = "Dendritic"
"""A class that validation and test cells have and, where `evaluated`, training cells lack."""


@pytest.fixture(scope="module")
def evaluate_once(build, pbmc, cut, fresh, instant_umap_throughout):
    """A strategy that was evaluated, and its record; not to be changed."""
    kept = cut.train[pbmc.labels[cut.train] != ABSENT]

    @functools.cache
    def evaluated(name):
        strategy = build(name)
        return strategy, evaluate(strategy, fresh(pbmc), dataclasses.replace(cut, train=kept))

    return evaluated


@pytest.fixture(params=NAMES)
def evaluated(request, evaluate_once):
    return evaluate_once(request.param)


def test_what_an_earlier_fit_did_beside_fitting_is_not_taken_off_the_next_one(pbmc, cut):
    strategy = STRATEGIES["majority"]()
    strategy._learn(aside=1e6)
    assert 0 <= strategy.fit(pbmc, cut).seconds_["fit"] < 1e3


class TestContract:
    def test_probabilities_have_one_column_a_class_and_rows_that_sum_to_one(self, fitted, cut):
        strategy, dataset = fitted
        probabilities = strategy.predict_proba(dataset, cut.test)
        assert (probabilities.shape, probabilities.dtype) == ((len(cut.test), len(cut.classes)), np.float64)
        assert strategy.classes_ == cut.classes
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-9)

    def test_the_embedding_has_one_finite_row_a_cell(self, fitted, cut):
        strategy, dataset = fitted
        embedding = strategy.embed(dataset, cut.test)
        assert len(embedding) == len(cut.test)
        assert embedding.ndim == 2
        assert np.isfinite(embedding).all()
        if strategy.name == "majority":
            assert (embedding == 0).all()
        else:
            assert len(np.unique(embedding, axis=0)) > 0.9 * len(cut.test)

    def test_the_same_seed_gives_the_same_bits_whatever_the_global_random_state_which_is_left_alone(
        self, strategy, fitted_once, pbmc, cut, fresh, tmp_path
    ):
        expected, dataset = fitted_once(strategy.name)
        torch.manual_seed(12345)
        np.random.seed(12345)  # noqa: NPY002 - the point is that nobody listens to it
        drawn = torch.rand(3), np.random.random(3)  # noqa: NPY002
        torch.manual_seed(12345)
        np.random.seed(12345)  # noqa: NPY002
        again, copy = dataclasses.replace(strategy), fresh(pbmc)
        again.fit(copy, cut)
        assert torch.equal(torch.rand(3), drawn[0])
        np.testing.assert_array_equal(np.random.random(3), drawn[1])  # noqa: NPY002
        np.testing.assert_array_equal(again.predict_proba(copy, cut.test), expected.predict_proba(dataset, cut.test))
        assert files_of(again, tmp_path / "again") == files_of(expected, tmp_path / "expected")

    def test_shuffled_labels_and_corrupted_values_of_test_cells_change_nothing_that_is_fitted(
        self, strategy, fitted_once, pbmc, cut, fresh, tmp_path
    ):
        expected, dataset = fitted_once(strategy.name)
        labels = pbmc.labels.copy()
        labels[cut.test] = np.random.default_rng(0).permutation(labels[cut.test])
        assert (labels != pbmc.labels).sum() > 10
        other = dataclasses.replace(damaged(pbmc, cut.test, fresh), labels=labels)
        strategy.fit(other, cut)
        assert files_of(strategy, tmp_path / "damaged") == files_of(expected, tmp_path / "expected")
        np.testing.assert_array_equal(
            strategy.predict_proba(other, cut.validation), expected.predict_proba(dataset, cut.validation)
        )
        same = np.array_equal(strategy.predict_proba(other, cut.test), expected.predict_proba(dataset, cut.test))
        assert same == (strategy.name == "majority")
        np.testing.assert_array_equal(
            strategy.predict_proba(fresh(pbmc, labels=labels), cut.test), expected.predict_proba(dataset, cut.test)
        )

    @pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_EPOCHS])
    def test_what_does_not_stop_early_does_not_look_at_validation_cells(
        self, build, fitted_once, pbmc, cut, fresh, tmp_path, name
    ):
        expected, _ = fitted_once(name)
        labels = pbmc.labels.copy()
        labels[cut.validation] = labels[cut.validation][0]
        other = dataclasses.replace(damaged(pbmc, cut.validation, fresh), labels=labels)
        strategy = build(name).fit(other, cut)
        assert files_of(strategy, tmp_path / "other") == files_of(expected, tmp_path / "expected")

    def test_a_class_that_training_lacks_gets_probability_zero(self, evaluated, pbmc, cut):
        _, record = evaluated
        assert ABSENT in pbmc.labels[cut.validation]
        assert ABSENT in pbmc.labels[cut.test]
        column = record.classes.index(ABSENT)
        assert (record.probabilities[:, column] == 0).all()
        np.testing.assert_allclose(record.probabilities.sum(axis=1), 1, rtol=0, atol=1e-9)
        assert ABSENT not in record.predicted
        assert record.metrics["macro_f1"] < 1

    def test_what_is_saved_predicts_the_same_after_loading(self, fitted, pbmc, cut, fresh, tmp_path):
        strategy, dataset = fitted
        strategy.save(tmp_path / "model")
        stream = torch.get_rng_state()
        again, copy = strategies.load(tmp_path / "model"), fresh(pbmc)
        assert torch.equal(torch.get_rng_state(), stream)
        assert type(again) is type(strategy)
        assert again == strategy
        assert (again.classes_, again.genes_) == (strategy.classes_, strategy.genes_)
        np.testing.assert_array_equal(again.predict_proba(copy, cut.test), strategy.predict_proba(dataset, cut.test))
        np.testing.assert_array_equal(again.embed(copy, cut.test), strategy.embed(dataset, cut.test))
        assert again.cost().trainable_parameters == strategy.cost().trainable_parameters
        assert again.cost().total_parameters == strategy.cost().total_parameters

    def test_an_outcome_is_the_embedding_and_the_probabilities_with_the_scores_behind_them(self, fitted, cut):
        strategy, dataset = fitted
        found = strategy.outcome(dataset, cut.test)
        np.testing.assert_array_equal(found.features, strategy.embed(dataset, cut.test))
        np.testing.assert_array_equal(found.probabilities, strategy.predict_proba(dataset, cut.test))
        assert found.scores.dtype == np.float64
        np.testing.assert_allclose(softmax(found.scores, axis=1), found.probabilities, rtol=0, atol=1e-12)
        without_logits = strategy.name in ("majority", "pca_knn")
        assert np.allclose(logsumexp(found.scores, axis=1), 0, atol=1e-9) == without_logits

    def test_an_outcome_takes_one_encoder_pass_and_that_of_known_cells_none(
        self, fitted, pbmc, cut, fresh, encoded_cells, monkeypatch, tmp_path
    ):
        strategy, _ = fitted
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))  # where no embedding is kept
        copy = fresh(pbmc)
        strategy.outcome(copy, cut.test[:10])
        assert sum(encoded_cells) == (10 if strategy.name in ON_ENCODER else 0)
        strategy.outcome(copy, cut.test[:10])
        assert sum(encoded_cells) <= 10

    def test_planned_parameters_are_those_that_are_trained(self, fitted, cut):
        strategy, dataset = fitted
        assert strategy.planned_parameters(cut, dataset) == strategy.cost().trainable_parameters > 0

    def test_no_parameters_are_planned_for_a_class_without_training_cells(self, evaluated, pbmc, cut, fresh):
        """Of which there are validation cells."""
        strategy, record = evaluated
        without = dataclasses.replace(cut, train=cut.train[pbmc.labels[cut.train] != ABSENT])
        assert strategy.planned_parameters(without, fresh(pbmc)) == record.cost.trainable_parameters

    def test_the_cost_names_every_stage_and_counts_the_encoder_too(self, fitted, small_checkpoint):
        strategy = fitted[0]
        cost = strategy.cost()
        assert set(cost.seconds) == {"load", "embed", "fit", "predict"}
        assert all(seconds >= 0 for seconds in cost.seconds.values())
        assert cost.seconds["fit"] > 0
        assert cost.total_parameters >= cost.trainable_parameters
        if strategy.name in ON_ENCODER:
            encoder = sum(p.numel() for p in load_checkpoint(small_checkpoint).encoder().parameters())
            below = 0 if strategy.name == "full" else encoder
            assert cost.total_parameters == cost.trainable_parameters + below

    def test_the_cost_counts_the_bytes_that_are_saved(self, fitted, tmp_path):
        assert fitted[0].cost().saved_bytes == sum(map(len, files_of(fitted[0], tmp_path).values()))

    def test_only_a_shared_embedding_has_a_peak_of_its_own(self, fitted):
        assert (fitted[0].embed_peak_ is not None) == (fitted[0].name in ON_FROZEN)

    def test_what_is_searched_is_said(self, fitted):
        strategy, _ = fitted
        assert ("epochs" in strategy.search) == (strategy.name in IN_EPOCHS)
        assert ("cross-validation on training cells" in strategy.search) == bool(strategy.chosen)
        for value in strategy.chosen.values():
            assert f" {value:g}" in strategy.search

    def test_evaluation_fits_a_copy_and_leaves_the_hyper_parameters_alone(self, evaluated, build):
        strategy, record = evaluated
        assert strategy == build(strategy.name)
        assert strategy.classes_ == ()
        named = {name: list(value) for name, value in strategy.parameters.items() if isinstance(value, tuple)}
        if "checkpoint" in strategy.parameters:  # held by name and hash: a folder may move
            named["checkpoint"] = load_checkpoint(strategy.parameters["checkpoint"]).label
        assert record.parameters == {**strategy.parameters, **named}

    def test_hyper_parameters_cannot_be_changed(self, strategy):
        name = next(iter(strategy.parameters), "classes_")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, name, 1)

    def test_fitting_can_be_cancelled_at_every_step(self, strategy, fitted_once, steps_of, pbmc, cut, fresh):
        fitted_once(strategy.name)
        steps = steps_of[strategy.name]
        assert len(steps) >= (1 if strategy.name == "majority" else 3)
        assert steps == sorted(steps)
        for stop in {0, len(steps) // 2, len(steps) - 1}:
            asked = iter(range(10_000))
            monitor = Monitor(cancelled=lambda asked=asked, stop=stop: next(asked) >= stop)
            with pytest.raises(Cancelled):
                strategy.fit(fresh(pbmc), cut, monitor)
            with pytest.raises(FrostlineError, match="is not fitted"):
                strategy.predict_proba(pbmc, cut.test)

    @pytest.mark.parametrize("what", ["predict_proba", "embed", "cost", "save"])
    def test_before_fitting_it_says_that_it_is_not_fitted(self, strategy, pbmc, cut, tmp_path, what):
        arguments = {"cost": (), "save": (tmp_path,)}.get(what, (pbmc, cut.test))
        with pytest.raises(FrostlineError, match=rf"strategy '{strategy.name}' is not fitted; call fit"):
            getattr(strategy, what)(*arguments)

    def test_a_name_a_title_what_it_trains_and_a_paper_are_given(self, strategy):
        assert STRATEGIES[strategy.name] is type(strategy)
        assert strategy.title
        assert strategy.trains
        assert re.fullmatch(r"[A-Z][\w.& ]+ \d{4}, https://doi\.org/10\.\d{4,5}/\S+", strategy.reference)

    def test_training_cells_of_one_class_are_refused_before_fitting(self, strategy, pbmc, cut, fresh):
        strategy.ensure_applicable(pbmc, cut)
        with pytest.raises(DatasetError, match=r"only 'Dendritic' in 'bulk_labels', and two classes are needed"):
            strategy.ensure_applicable(
                pbmc, dataclasses.replace(cut, train=cut.train[pbmc.labels[cut.train] == "Dendritic"])
            )
        with pytest.raises(DatasetError, match="no cell at all"):
            strategy.ensure_applicable(pbmc, dataclasses.replace(cut, train=cut.train[:0]))

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "majority"])
    def test_it_separates_classes_that_are_easy_to_separate(self, build, easy, fresh, name):
        """Two classes with marker genes of their own."""
        dataset, cut = easy
        strategy = build(name)
        if "epochs" in strategy.parameters:
            strategy = dataclasses.replace(strategy, epochs=12, learning_rate=3 * strategy.learning_rate)
        strategy.fit(fresh(dataset), cut)
        predicted = np.array(strategy.classes_)[strategy.predict_proba(dataset, cut.test).argmax(axis=1)]
        assert (predicted == dataset.labels[cut.test]).mean() > 0.8  # 30 test cells; 0.5 is chance
