"""One contract for every strategy of the list, and what is particular to each of them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline import strategies
from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.encoder import training
from frostline.encoder.checkpoints import SPECIAL_TOKENS, load_checkpoint, save_checkpoint
from frostline.encoder.embedding import encode, tokenize_cells
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.errors import Cancelled, CheckpointError, DatasetError, FrostlineError
from frostline.evaluation.evaluations import evaluate
from frostline.monitor import Monitor
from frostline.strategies import (
    STRATEGIES,
    Dora,
    FrozenProbe,
    FullTuning,
    GenesLogistic,
    HeadTuning,
    Ia3,
    Lora,
    LoraAttention,
    PcaKnn,
    PcaLogistic,
    ProbeObsm,
)
from frostline.strategies.adapters import TARGETS
from frostline.strategies.encoder import EncoderStrategy
from frostline.strategies.probe import LinearProbe, probe_parameters
from frostline.strategies.selection import choose, inner_folds, single_fold
from frostline.strategies.tuning import EncoderTuning

pytestmark = pytest.mark.slow

NAMES = list(STRATEGIES)
ON_ENCODER = [name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderStrategy)]
THROUGH_ENCODER = [name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderTuning)]
ON_FROZEN = ["frozen_probe", "head"]
IN_EPOCHS = ["head", *THROUGH_ENCODER]


@pytest.fixture(scope="module")
def build(tiny_profile, small_checkpoint):
    """Build a strategy of the list with the sizes of the tests."""
    profile = dataclasses.replace(tiny_profile, full_epochs=2, full_lr=2e-3)
    return lambda name: STRATEGIES[name].from_profile(profile, str(small_checkpoint))


@pytest.fixture(params=NAMES)
def strategy(request, build):
    return build(request.param)


@pytest.fixture(scope="module")
def fitted_once(build, pbmc, cut, fresh):
    """A strategy that was fitted before, and the data set that it was fitted on; not to be changed."""
    known = {}

    def get(name):
        if name not in known:
            dataset = fresh(pbmc)
            known[name] = build(name).fit(dataset, cut), dataset
        return known[name]

    return get


@pytest.fixture(params=NAMES)
def fitted(request, fitted_once):
    return fitted_once(request.param)


def files_of(strategy, folder: Path) -> dict[str, bytes]:
    strategy.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def corrupted(matrix: sparse.csr_matrix, rows: np.ndarray) -> sparse.csr_matrix:
    """Other values, in other genes, for some cells."""
    changed = matrix.tolil(copy=True)
    rng = np.random.default_rng(0)
    for row in rows:
        changed[row] = rng.permutation(rng.lognormal(0, 1, matrix.shape[1]) * (rng.random(matrix.shape[1]) < 0.4))
    return changed.tocsr().astype(np.float32)


def damaged(dataset, rows, fresh):
    """The data set with other values for some cells, in its matrix and in obsm."""
    adata = dataset.adata.copy()
    adata.obsm["X_pca"][rows] = np.random.default_rng(0).normal(size=(len(rows), adata.obsm["X_pca"].shape[1]))
    return fresh(dataset, adata=adata, matrix=corrupted(dataset.matrix, rows))


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

    def test_the_same_seed_gives_the_same_bits_whatever_the_global_random_state(
        self, strategy, fitted_once, pbmc, cut, fresh, tmp_path
    ):
        expected, dataset = fitted_once(strategy.name)
        torch.manual_seed(12345)
        np.random.seed(12345)  # noqa: NPY002 - the point is that nobody listens to it
        again, copy = dataclasses.replace(strategy), fresh(pbmc)
        again.fit(copy, cut)
        np.testing.assert_array_equal(again.predict_proba(copy, cut.test), expected.predict_proba(dataset, cut.test))
        assert files_of(again, tmp_path / "again") == files_of(expected, tmp_path / "expected")

    def test_fitting_leaves_the_global_random_state_alone(self, strategy, pbmc, cut, fresh):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        expected = torch.rand(3), np.random.random(3)  # noqa: NPY002
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        strategy.fit(fresh(pbmc), cut)
        assert torch.equal(torch.rand(3), expected[0])
        np.testing.assert_array_equal(np.random.random(3), expected[1])  # noqa: NPY002

    def test_shuffled_test_labels_change_no_prediction(self, strategy, fitted_once, pbmc, cut, fresh):
        expected, dataset = fitted_once(strategy.name)
        labels = pbmc.labels.copy()
        labels[cut.test] = np.random.default_rng(0).permutation(labels[cut.test])
        assert (labels != pbmc.labels).sum() > 10
        shuffled = fresh(pbmc, labels=labels)
        strategy.fit(shuffled, cut)
        np.testing.assert_array_equal(
            strategy.predict_proba(shuffled, cut.test), expected.predict_proba(dataset, cut.test)
        )

    def test_corrupted_test_cells_change_nothing_that_is_fitted(
        self, strategy, fitted_once, pbmc, cut, fresh, tmp_path
    ):
        expected, dataset = fitted_once(strategy.name)
        other = damaged(pbmc, cut.test, fresh)
        strategy.fit(other, cut)
        assert files_of(strategy, tmp_path / "damaged") == files_of(expected, tmp_path / "expected")
        np.testing.assert_array_equal(
            strategy.predict_proba(other, cut.validation), expected.predict_proba(dataset, cut.validation)
        )
        same = np.array_equal(strategy.predict_proba(other, cut.test), expected.predict_proba(dataset, cut.test))
        assert same == (strategy.name == "majority")

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

    @pytest.mark.usefixtures("instant_umap")
    def test_a_class_that_training_lacks_gets_probability_zero(self, strategy, pbmc, cut, fresh):
        absent = "Dendritic"
        kept = cut.train[pbmc.labels[cut.train] != absent]
        assert absent in pbmc.labels[cut.validation]
        assert absent in pbmc.labels[cut.test]
        record = evaluate(strategy, fresh(pbmc), dataclasses.replace(cut, train=kept))
        column = record.classes.index(absent)
        assert (record.probabilities[:, column] == 0).all()
        np.testing.assert_allclose(record.probabilities.sum(axis=1), 1, rtol=0, atol=1e-9)
        assert absent not in record.predicted
        assert record.metrics["macro_f1"] < 1

    def test_what_is_saved_predicts_the_same_after_loading(self, fitted, pbmc, cut, fresh, tmp_path):
        strategy, dataset = fitted
        strategy.save(tmp_path / "model")
        again, copy = strategies.load(tmp_path / "model"), fresh(pbmc)
        assert type(again) is type(strategy)
        assert again == strategy
        assert (again.classes_, again.genes_) == (strategy.classes_, strategy.genes_)
        np.testing.assert_array_equal(again.predict_proba(copy, cut.test), strategy.predict_proba(dataset, cut.test))
        np.testing.assert_array_equal(again.embed(copy, cut.test), strategy.embed(dataset, cut.test))
        assert again.cost().trainable_parameters == strategy.cost().trainable_parameters
        assert again.cost().total_parameters == strategy.cost().total_parameters

    def test_planned_parameters_are_those_that_are_trained(self, fitted, cut):
        strategy, dataset = fitted
        assert strategy.planned_parameters(cut, dataset) == strategy.cost().trainable_parameters > 0

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

    @pytest.mark.usefixtures("instant_umap")
    def test_evaluation_fits_a_copy_and_leaves_the_hyper_parameters_alone(self, strategy, pbmc, cut, fresh):
        before = dataclasses.replace(strategy)
        record = evaluate(strategy, fresh(pbmc), cut)
        assert strategy == before
        assert strategy.classes_ == ()
        named = {}
        if "checkpoint" in strategy.parameters:  # held by name and hash: a folder may move
            named["checkpoint"] = load_checkpoint(strategy.parameters["checkpoint"]).label
        assert record.parameters == {**strategy.parameters, **named}

    def test_hyper_parameters_cannot_be_changed(self, strategy):
        name = next(iter(strategy.parameters), "classes_")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, name, 1)

    def test_fitting_can_be_cancelled_at_every_step(self, strategy, fitted_once, pbmc, cut, fresh):
        steps = []
        strategy.fit(fresh(pbmc), cut, Monitor(lambda fraction, _message: steps.append(fraction)))
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
        strategy.check(pbmc, cut)
        with pytest.raises(DatasetError, match=r"only 'Dendritic' in 'bulk_labels', and two classes are needed"):
            strategy.check(pbmc, dataclasses.replace(cut, train=cut.train[pbmc.labels[cut.train] == "Dendritic"]))
        with pytest.raises(DatasetError, match="no cell at all"):
            strategy.check(pbmc, dataclasses.replace(cut, train=cut.train[:0]))

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "majority"])
    def test_it_separates_classes_that_are_easy_to_separate(self, build, easy, fresh, name):
        """Two classes with marker genes of their own."""
        dataset, cut = easy
        strategy = build(name)
        changes = {"epochs": 30, "min_steps": 600} if "epochs" in strategy.parameters else {}
        strategy = dataclasses.replace(strategy, **changes)
        strategy.fit(fresh(dataset), cut)
        predicted = np.array(strategy.classes_)[strategy.predict_proba(dataset, cut.test).argmax(axis=1)]
        assert (predicted == dataset.labels[cut.test]).mean() > 0.8  # 30 test cells; 0.5 is chance


@pytest.fixture(scope="module")
def easy(pbmc, tiny_profile):
    """120 cells of two classes, each of which expresses its own half of 40 genes more."""
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 2
    rates = np.where((np.arange(40) < 20) == kinds[:, None].astype(bool), 3.0, 0.7)
    counts = 1.0 * rng.poisson(rates)
    adata = AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame({"kind": np.array(["left", "right"])[kinds]}, index=[f"c{i}" for i in range(120)]),
        var=pd.DataFrame(index=list(pbmc.genes[:40])),
        obsm={"X_pca": counts[:, 15:25]},
    )
    dataset = load_dataset(adata, "kind")
    return dataset, split(dataset, seed=0, profile=tiny_profile)


class TestTrainedTensors:
    """What is called trainable is trained, and counted, to the last tensor."""

    @pytest.fixture
    def trained(self, monkeypatch):
        """Names, sizes and values before and after, of what the training loop was given."""
        seen = {}
        original = training.train_classifier

        def spy(module, *args, **kwargs):
            largest = {}
            parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
            for name, parameter in parameters.items():
                parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: largest.__setitem__(
                        name, max(largest.get(name, 0.0), p.grad.abs().max().item())
                    )
                )
            before = {name: p.detach().clone() for name, p in module.named_parameters()}
            history = original(module, *args, **kwargs)
            for name, parameter in module.named_parameters():
                seen[name] = {
                    "size": parameter.numel(),
                    "trainable": name in parameters,
                    "gradient": largest.get(name, 0.0),
                    "changed": not torch.equal(before[name], parameter),
                }
            return history

        monkeypatch.setattr(training, "train_classifier", spy)
        return seen

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_every_tensor_called_trainable_receives_a_gradient_and_changes(
        self, trained, build, pbmc, cut, fresh, name
    ):
        strategy = build(name).fit(fresh(pbmc), cut)
        for tensor, facts in trained.items():
            assert facts["trainable"] == (facts["gradient"] > 0) == facts["changed"], tensor
        counted = sum(facts["size"] for facts in trained.values() if facts["trainable"])
        assert counted == strategy.cost().trainable_parameters

    @pytest.mark.parametrize(
        "targets", [("linear1", "linear2"), ("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "out_proj")]
    )
    def test_lora_trains_two_matrices_in_each_target_of_each_layer_and_the_head(
        self, trained, build, pbmc, cut, fresh, targets
    ):
        strategy = dataclasses.replace(build("lora"), targets=targets)
        strategy.fit(fresh(pbmc), cut)
        trainable = [name for name, facts in trained.items() if facts["trainable"]]
        adapted = [name for name in trainable if name.startswith("encoder.")]
        assert len(adapted) == 2 * len(targets) * 2  # two layers
        for target in targets:
            assert sum(f".{target}.lora_" in name for name in adapted) == 4
        assert not any("value_encoder" in name for name in trainable)
        assert {name for name in trainable if name.startswith("head.")} == {
            "head.norm.weight",
            "head.norm.bias",
            "head.linear.weight",
            "head.linear.bias",
        }
        assert all(facts["gradient"] > 0 for name, facts in trained.items() if facts["trainable"])
        assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Data set, split and checkpoint folder."""
    genes = [f"G{i}" for i in range(20)]
    rng = np.random.default_rng(0)
    values = rng.poisson(2.0, (36, 20)).astype(np.float32)
    values[:, 0] += 1
    obs = pd.DataFrame({"kind": list("ABCDEF") * 6}, index=[f"c{i}" for i in range(36)])
    dataset = load_dataset(AnnData(values, obs=obs, var=pd.DataFrame(index=genes)), "kind")
    vocabulary = {name: i for i, name in enumerate((*SPECIAL_TOKENS, *genes))}
    config = EncoderConfig(len(vocabulary), d_model=512, n_heads=8, d_hid=512, n_layers=12)
    folder = tmp_path_factory.mktemp("wide")
    save_checkpoint(folder, Encoder(config), vocabulary)
    return dataset, split(dataset), str(folder)


class TestOfficialSizes:
    """512 wide, 12 layers, feed-forward 512, 6 classes: the numbers of the published comparison."""

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (FrozenProbe, 6 * 513),
            (HeadTuning, 4_102),
            (Lora, 102_406),
            (LoraAttention, 12 * 4 * 4 * (512 + 512) + 4_102),
            (Dora, 102_406 + 12 * (512 + 512)),
            (Ia3, 12 * 3 * 512 + 4_102),
        ],
    )
    def test_trainable_parameters(self, wide, kind, expected):
        dataset, cut, folder = wide
        short = {} if kind is FrozenProbe else {"epochs": 1, "min_steps": 0}
        strategy = kind(checkpoint=folder, **short)
        assert strategy.planned_parameters(cut) == expected
        cost = strategy.fit(dataset, cut).cost()
        assert cost.trainable_parameters == expected
        assert cost.total_parameters == expected + sum(
            p.numel() for p in load_checkpoint(folder).encoder().parameters()
        )


@pytest.fixture(scope="module")
def folds_of(pbmc, cut):
    """Inner folds of the training cells of the small split."""
    return lambda n_folds: inner_folds(pbmc, cut, n_folds)


def held_out_loss(model, features, labels, folds) -> float:
    """Mean log loss of held-out cells whose class the other folds know; a fold after the other, with scikit-learn."""
    losses = []
    for fold in np.unique(folds):
        rows, held_out = folds != fold, folds == fold
        known = held_out & np.isin(labels, labels[rows])
        model.fit(features[rows], labels[rows])
        probabilities = pd.DataFrame(model.predict_proba(features[known]), columns=model.classes_)
        losses += [-np.log(row[label]) for (_, row), label in zip(probabilities.iterrows(), labels[known], strict=True)]
    return float(np.mean(losses))


class TestInnerFolds:
    def stand_in(self, groups, kind="group", seed=0):
        """What `inner_folds` reads of a data set and a split: two classes, the first of every third cell."""
        n = len(groups)
        cells, labels = np.array([f"c{i}" for i in range(n)]), np.where(np.arange(n) % 3 == 0, "A", "B")
        dataset = SimpleNamespace(cells=cells, labels=labels, groups=np.array(groups))
        return dataset, SimpleNamespace(train=np.arange(n), training_seed=seed, kind=kind)

    def test_without_groups_every_class_is_spread_evenly(self, pbmc, cut):
        folds = inner_folds(pbmc, cut, 5)
        sizes = pd.crosstab(folds, pbmc.labels[cut.train])
        assert (sizes.max() - sizes.min()).max() <= 1
        assert np.ptp(sizes.sum(axis=1)) <= 1
        assert len(sizes) == 5

    def test_they_depend_on_seed_and_cells_and_not_on_the_order_of_rows(self, pbmc, cut):
        folds = inner_folds(pbmc, cut, 5)
        order = np.random.default_rng(0).permutation(len(folds))
        np.testing.assert_array_equal(
            inner_folds(pbmc, dataclasses.replace(cut, train=cut.train[order]), 5), folds[order]
        )
        assert not np.array_equal(inner_folds(pbmc, dataclasses.replace(cut, repeat=1), 5), folds)

    @pytest.mark.parametrize("kind", ["group", "cross"])
    def test_whole_groups_are_held_out_in_folds_of_similar_size(self, kind):
        groups = np.repeat(list("abcdefg"), [9, 1, 8, 2, 7, 3, 6])
        folds = inner_folds(*self.stand_in(groups, kind), 4)
        assert all(len(np.unique(folds[groups == name])) == 1 for name in "abcdefg")
        assert sorted(np.bincount(folds)) == [9, 9, 9, 9]

    def test_there_are_no_more_folds_than_groups(self):
        assert len(np.unique(inner_folds(*self.stand_in(np.repeat(["a", "b"], 20)), 5))) == 2

    @pytest.mark.parametrize(("groups", "kind"), [(["a"] * 20, "group"), (["a", "b"] * 10, "stratified")])
    def test_one_group_or_a_split_across_groups_is_stratified(self, groups, kind):
        dataset, cut = self.stand_in(groups, kind)
        expected = inner_folds(SimpleNamespace(cells=dataset.cells, labels=dataset.labels), cut, 5)
        np.testing.assert_array_equal(inner_folds(dataset, cut, 5), expected)
        assert np.bincount(expected).tolist() == [4] * 5

    def test_fewer_cells_than_folds_make_fewer_folds(self):
        assert sorted(inner_folds(*self.stand_in(["a"] * 3), 5)) == [0, 1, 2]


class TestSingleFold:
    @pytest.mark.parametrize(
        ("sizes", "held_out"),
        [([40, 40, 40], 0), ([90, 30, 10], 1), ([900, 100], 1), ([950, 30, 20], 1)],
    )
    def test_the_fold_nearest_to_a_third_is_held_out(self, sizes, held_out):
        folds = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        np.testing.assert_array_equal(single_fold(folds, 3) == 0, folds == held_out)
        assert set(single_fold(folds, 3)) == {-1, 0}


class TestChoose:
    LABELS = np.array(["A", "B", "A", "B", "rare"])

    def chosen(self, folds, sure=(0.5, 0.9, 0.7), labels=LABELS):
        """The choice among candidates that give the true class these probabilities."""

        def candidates(rows, held_out):
            classes = np.unique(labels[rows])
            for p in sure:
                hit = labels[held_out][:, None] == classes
                yield np.where(hit, p, (1 - p) / (len(classes) - 1))

        return choose([1.0, 2.0, 3.0], labels, np.array(folds), candidates, Monitor())

    def test_the_lowest_held_out_loss_wins_and_a_class_that_is_not_known_is_passed_over(self):
        assert self.chosen([0, 0, 1, 1, 1]) == 2.0

    def test_among_equals_the_strongest_regularisation_wins(self):
        assert self.chosen([0, 0, 1, 1, 1], sure=(0.5, 0.8, 0.8)) == 2.0
        assert self.chosen([0, 0, 1, 1, 1], sure=(0.0, 0.0, 0.0)) == 1.0

    def test_where_no_fold_can_be_scored_the_middle_is_taken(self):
        assert self.chosen([0, 1, 0, 1, 1], sure=(0.9, 0.5, 0.7), labels=np.array(["A", "B", "A", "B", "B"])) == 2.0

    @pytest.mark.parametrize(
        ("sure", "tried", "best"),
        [
            ((0.5, 0.9, 0.8, 0.7, 0.99), 4, 2.0),
            ((0.5, 0.9, 0.8, 0.85, 0.95), 5, 5.0),
            ((0.5, 0.6, 0.7, 0.8, 0.9), 5, 5.0),
            ((0.9, 0.8, 0.85, 0.7, 0.95), 5, 5.0),
            ((0.9, 0.8, 0.7, 0.95, 0.99), 3, 1.0),
        ],
    )
    def test_a_single_fold_is_left_after_two_rises_in_a_row(self, sure, tried, best):
        labels, folds, seen = np.array(list("ABABAB")), np.array([-1, -1, -1, -1, 0, 0]), []

        def candidates(rows, held_out):
            assert (rows.tolist(), held_out.tolist()) == ([0, 1, 2, 3], [4, 5])
            for p in sure:
                seen.append(p)
                yield np.where(labels[held_out][:, None] == ["A", "B"], p, 1 - p)

        assert choose([1.0, 2.0, 3.0, 4.0, 5.0], labels, folds, candidates, Monitor()) == best
        assert len(seen) == tried

    def test_the_mean_is_over_cells_and_not_over_folds(self):
        """Three cells want the first value, two the second."""
        labels, folds = np.array(list("ABABAB")), np.array([0, 0, 0, 1, 1, 2])

        def candidates(rows, held_out):
            for good in ({0, 1, 2}, {3, 4, 5}):
                p = np.where(np.isin(held_out, list(good)), 0.9, 0.6)
                truth = labels[held_out][:, None] == ["A", "B"]
                yield np.where(truth, p[:, None], 1 - p[:, None])

        weights = (3 * np.log(0.9) + 3 * np.log(0.6),) * 2
        assert weights[0] == weights[1]
        assert choose([1.0, 2.0], labels, folds, candidates, Monitor()) == 1.0
        folds[2] = 1  # the folds' own means would still prefer the same
        assert choose([1.0, 2.0], labels, folds, candidates, Monitor()) == 1.0


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


class TestPcaKnn:
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


class TestProbeObsm:
    def with_embedding(self, dataset, fresh, values, key="X_scVI"):
        adata = dataset.adata.copy()
        adata.obsm[key] = values
        return fresh(dataset, adata=adata)

    @pytest.fixture(scope="class")
    @staticmethod
    def values(pbmc):
        return np.random.default_rng(0).normal(size=(len(pbmc), 6)) + 2 * (pbmc.labels == "Dendritic")[:, None]

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
        strategy.check(dataset, cut)
        np.testing.assert_array_equal(strategy.fit(dataset, cut).embed(dataset, cut.test), values[cut.test])

    def test_a_missing_key_lists_those_that_are_there(self, pbmc, cut):
        with pytest.raises(DatasetError, match="embedding 'X_scVI' is not in obsm, which has: X_pca, X_umap"):
            ProbeObsm("X_scVI").check(pbmc, cut)

    def test_an_empty_obsm_is_said_to_be_empty(self, pbmc, cut, fresh):
        adata = pbmc.adata.copy()
        del adata.obsm
        with pytest.raises(DatasetError, match=r"'X_pca' is not in obsm, which has: nothing; compute one"):
            ProbeObsm().check(fresh(pbmc, adata=adata), cut)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_value_that_is_missing_names_its_cell(self, pbmc, cut, fresh, values, value):
        values = values.copy()
        values[cut.test[3], 2] = value
        with pytest.raises(DatasetError, match=rf"missing or infinite in 1 cell.*{pbmc.cells[cut.test[3]]}"):
            ProbeObsm("X_scVI").check(self.with_embedding(pbmc, fresh, values), cut)

    def test_what_is_no_table_of_numbers_is_refused(self, pbmc, cut, fresh, values):
        for wrong in (values.astype(str), values[:, None, :], values + 1j, values[:, :0]):
            with pytest.raises(DatasetError, match="must hold a row of real numbers for each cell"):
                ProbeObsm("X_scVI").check(self.with_embedding(pbmc, fresh, wrong), cut)

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

    def test_its_parameters_cannot_be_planned_without_the_data_set(self, cut):
        with pytest.raises(DatasetError, match="pass the data set, too"):
            ProbeObsm().planned_parameters(cut)


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

    def test_few_cells_of_clear_classes_are_told_apart(self, easy, fresh):
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

    def test_genes_that_no_training_cell_expresses_do_no_harm(self, pbmc, cut, fresh):
        """More genes than HVGs are asked for, of which only a few are expressed."""
        matrix = pbmc.matrix.tolil(copy=True)
        columns = [pbmc.genes.index(gene) for gene in cut.genes[8:]]
        matrix[:, columns] = 0
        strategy = PcaLogistic(n_hvg=40, n_components=20)
        strategy.fit(fresh(pbmc, matrix=matrix.tocsr()), cut)
        assert strategy.planned_parameters(cut) >= strategy.cost().trainable_parameters


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


class TestSettings:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_hyper_parameter_is_told(self, name):
        kind = STRATEGIES[name]
        told = kind.settings()
        assert list(told) == [spec.name for spec in dataclasses.fields(kind) if spec.init]
        assert list(told) == list(kind().parameters)
        for key, setting in told.items():
            text = setting.meaning
            assert text == text.strip(), key
            assert text.endswith("."), key
            assert len(text) > 3, key

    def test_what_a_strategy_says_of_its_own_field_goes_before_what_its_base_says(self):
        assert Lora.settings()["learning_rate"].meaning == "Of AdamW."
        assert FullTuning.settings()["learning_rate"].meaning == "Of AdamW, once warmed up."
        assert Lora.settings()["token_seed"].meaning == "Of the draws among tied value bins."  # of a base's base
        assert "module_" not in Lora.settings()

    def test_what_is_shown_is_what_the_classes_say(self):
        table = strategies.show()
        assert list(table.index) == NAMES
        for name, row in table.iterrows():
            kind = STRATEGIES[name]
            assert row.to_list() == [kind.title, kind.trains, kind.reference, ", ".join(kind().parameters)]


@pytest.fixture
def encoded_cells(monkeypatch):
    """Number of cells in every batch that an encoder sees."""
    seen: list[int] = []
    original = Encoder.forward

    def forward(self, gene_ids, values, **options):
        seen.append(len(gene_ids))
        return original(self, gene_ids, values, **options)

    monkeypatch.setattr(Encoder, "forward", forward)
    return seen


class TestHead:
    @pytest.mark.parametrize("epochs", [1, 8])
    def test_features_are_computed_once_and_not_once_an_epoch(self, encoded_cells, build, pbmc, cut, fresh, epochs):
        strategy = dataclasses.replace(build("head"), epochs=epochs)
        assert len(strategy.fit(fresh(pbmc), cut).history_) == epochs
        assert sum(encoded_cells) == len(cut.train) + len(cut.validation)

    def test_the_memory_of_a_shared_embedding_is_charged_to_both(self, encoded_cells, build, pbmc, cut, fresh):
        dataset = fresh(pbmc)
        probe = build("frozen_probe").fit(dataset, cut)
        assert probe.embed_peak_ > 0
        n_encoded = sum(encoded_cells)
        head = build("head").fit(dataset, dataclasses.replace(cut, validation=cut.train))
        assert sum(encoded_cells) == n_encoded
        assert head.embed_peak_ == probe.embed_peak_

    def test_features_of_an_earlier_strategy_are_not_computed_again_and_still_charged(
        self, encoded_cells, build, pbmc, cut, fresh
    ):
        dataset = fresh(pbmc)
        probe = build("frozen_probe").fit(dataset, cut)
        n_encoded = sum(encoded_cells)
        head = build("head").fit(dataset, dataclasses.replace(cut, validation=cut.train))
        assert sum(encoded_cells) == n_encoded
        assert head.cost().seconds["embed"] == pytest.approx(2 * probe.cost().seconds["embed"])

    def test_it_stops_early(self, build, pbmc, cut, fresh):
        strategy = dataclasses.replace(build("head"), epochs=400, learning_rate=0.5)
        assert len(strategy.fit(fresh(pbmc), cut).history_) < 400


@pytest.mark.parametrize("name", THROUGH_ENCODER)
class TestThroughTheEncoder:
    """What holds for everything that trains weights inside the encoder."""

    def test_every_trained_tensor_takes_part_in_inference(self, build, pbmc, cut, fresh, name):
        strategy = build(name).fit(fresh(pbmc), cut)
        probabilities, embedding = strategy.predict_proba(pbmc, cut.test), strategy.embed(pbmc, cut.test)
        trained = {name: p for name, p in strategy.module_["encoder"].named_parameters() if p.requires_grad}
        assert trained
        rng = np.random.default_rng(0)  # not the same for all entries: LayerNorm would take that away
        for tensor, parameter in trained.items():
            kept = parameter.detach().clone()
            noise = torch.from_numpy(rng.normal(0, 0.3, parameter.shape).astype(np.float32))
            parameter.data += noise.to(parameter.device)
            # what a key has whatever the cell shifts all scores of a query alike, and the softmax takes it away
            silent = tensor.endswith("k_proj.bias")
            assert (np.abs(strategy.embed(pbmc, cut.test) - embedding).max() > 1e-5) != silent, tensor
            changed = np.abs(strategy.predict_proba(pbmc, cut.test) - probabilities).max()
            assert (changed > 1e-5) != silent, tensor
            parameter.data[:] = kept
        np.testing.assert_array_equal(strategy.predict_proba(pbmc, cut.test), probabilities)

    def test_without_dropout_training_and_inference_compute_the_same(self, build, pbmc, cut, fresh, name):
        strategy = build(name).fit(fresh(pbmc), cut)
        for module in strategy.module_.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        tokens = strategy._tokens(pbmc, cut.test)
        with torch.no_grad():
            training = strategy._logits(tokens).cpu() if strategy.module_.train() else None
            inference = strategy._logits(tokens).cpu() if strategy.module_.eval() else None
        np.testing.assert_allclose(training, inference, rtol=0, atol=1e-5)
        expected = torch.softmax(inference.double(), dim=1)
        np.testing.assert_allclose(strategy.predict_proba(pbmc, cut.test), expected, rtol=0, atol=1e-5)
        with torch.no_grad():  # with dropout on they would differ: the comparison above is not empty
            strategy.module_["head"].dropout.p = 0.5
            strategy.module_.train()
            assert (strategy._logits(tokens).cpu() - inference).abs().max() > 1e-3

    def test_inference_is_without_dropout(self, fitted_once, pbmc, cut, name):
        strategy, dataset = fitted_once(name)
        one, again = (strategy.predict_proba(dataset, cut.test) for _ in range(2))
        np.testing.assert_array_equal(one, again)
        assert not any(module.training for module in strategy.module_.modules())

    def test_cells_that_were_predicted_are_not_encoded_again_to_be_mapped(
        self, encoded_cells, build, pbmc, cut, fresh, name
    ):
        strategy = build(name).fit(fresh(pbmc), cut)
        encoded_cells.clear()
        strategy.predict_proba(pbmc, cut.test)
        seconds = strategy.cost().seconds["predict"]
        strategy.predict_proba(pbmc, cut.validation)
        strategy.embed(pbmc, cut.test)
        strategy.predict_proba(pbmc, cut.test)
        assert sum(encoded_cells) == len(cut.test) + len(cut.validation)
        assert strategy.cost().seconds["predict"] == pytest.approx(seconds, rel=0.9)  # charged as if encoded anew
        other = fresh(pbmc, matrix=corrupted(pbmc.matrix, cut.test[:1]))
        assert not np.array_equal(strategy.embed(other, cut.test)[0], strategy.embed(pbmc, cut.test)[0])

    def test_the_checkpoint_stays_as_it_is(self, build, pbmc, cut, fresh, small_checkpoint, name):
        before = {path.name: path.read_bytes() for path in small_checkpoint.iterdir()}
        build(name).fit(fresh(pbmc), cut)
        assert {path.name: path.read_bytes() for path in small_checkpoint.iterdir()} == before


class TestFull:
    def test_the_whole_encoder_is_trained_and_saved(self, fitted_once, small_checkpoint, tmp_path):
        strategy, _ = fitted_once("full")
        original = load_checkpoint(small_checkpoint).encoder().state_dict()
        strategy.save(tmp_path)
        saved = load_file(tmp_path / "weights.safetensors")
        assert {name.removeprefix("trained.") for name in saved if name.startswith("trained.")} == set(original)
        for name, tensor in original.items():
            assert not np.array_equal(saved[f"trained.{name}"], tensor), name

    def test_official_sizes(self, wide):
        dataset, cut, folder = wide
        strategy = FullTuning(checkpoint=folder, epochs=1, min_steps=0)
        encoder = sum(p.numel() for p in load_checkpoint(folder).encoder().parameters())
        assert strategy.planned_parameters(cut) == encoder + 4_102
        cost = strategy.fit(dataset, cut).cost()
        assert cost.trainable_parameters == cost.total_parameters == encoder + 4_102

    def test_it_warms_up_and_clips(self, monkeypatch, build, pbmc, cut, fresh):
        plans = []
        original = training.train_classifier

        def spy(module, logits, targets, plan, **options):
            plans.append(plan)
            return original(module, logits, targets, plan, **options)

        monkeypatch.setattr(training, "train_classifier", spy)
        dataclasses.replace(build("full"), epochs=1).fit(fresh(pbmc), cut)
        dataclasses.replace(build("lora"), epochs=1).fit(fresh(pbmc), cut)
        assert [(plan.warmup_epochs, plan.clip) for plan in plans] == [(1, 1.0), (0, 1.0)]

    def test_it_is_the_only_one_that_must_be_asked_for(self):
        assert [name for name, kind in STRATEGIES.items() if kind.expensive] == ["full"]
        assert FullTuning().learning_rate == strategies.build(["full"])[0].learning_rate == 1e-4


class TestIa3:
    def test_factors_start_at_one_and_scale_keys_values_and_inner_activations(self, build, pbmc, cut, fresh):
        strategy = dataclasses.replace(build("ia3"), epochs=1, learning_rate=1e-8).fit(fresh(pbmc), cut)
        factors = {n: p for n, p in strategy.module_["encoder"].named_parameters() if p.requires_grad}
        shapes = {name.split(".ia3_l")[0].rpartition(".")[2]: tuple(p.shape) for name, p in factors.items()}
        assert shapes == {"k_proj": (32, 1), "v_proj": (32, 1), "linear2": (1, 48)}
        assert len(factors) == 3 * 2
        assert all((p == 1).all() for p in factors.values())

    @pytest.mark.parametrize("targets", [("linear1",), ("linear2", "out_proj"), TARGETS])
    def test_every_target_has_one_factor_a_channel(self, build, pbmc, cut, fresh, targets):
        strategy = dataclasses.replace(build("ia3"), targets=targets, epochs=1).fit(fresh(pbmc), cut)
        assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters

    def test_a_factor_on_a_value_is_a_factor_on_weights_and_bias(self, fitted_once, pbmc, cut, small_checkpoint):
        """The same as an encoder whose own weights were multiplied: factors take part as they should."""
        strategy, dataset = fitted_once("ia3")
        encoder = load_checkpoint(small_checkpoint).encoder()
        with torch.no_grad():
            for name, factor in strategy.module_["encoder"].named_parameters():
                if ".ia3_l." not in name:
                    continue
                layer = encoder.get_submodule(name.split(".ia3_l.")[0])
                factor = factor.cpu()
                layer.weight *= factor  # (out, 1) for a projection, (1, in) for the feed-forward
                if factor.shape[1] == 1:
                    layer.bias *= factor[:, 0]
        states = encode(encoder, strategy._tokens(dataset, cut.test))
        expected = states / np.linalg.norm(states, axis=1, keepdims=True)
        np.testing.assert_allclose(strategy.embed(dataset, cut.test), expected, rtol=0, atol=1e-5)


class TestDora:
    def test_it_trains_lengths_too(self, fitted_once):
        names = [n for n, p in fitted_once("dora")[0].module_["encoder"].named_parameters() if p.requires_grad]
        for part in ("lora_A", "lora_B", "lora_magnitude_vector"):
            assert sum(part in name for name in names) == 4
        assert len(names) == 12


class TestLora:
    def test_the_encoder_below_the_adapters_is_the_checkpoints(self, fitted_once, small_checkpoint):
        strategy, _ = fitted_once("lora")
        original = load_checkpoint(small_checkpoint).encoder().state_dict()
        adapted = strategy.module_["encoder"].state_dict()
        below = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.items() if ".lora_" not in name}
        assert below.keys() == original.keys()
        for name, tensor in original.items():
            assert torch.equal(below[name].cpu(), tensor), name

    def test_only_the_layers_of_the_stack_are_adapted(self, fitted_once):
        """The value encoder has a linear1 and a linear2 of its own."""
        names = [name for name, _ in fitted_once("lora")[0].module_.named_parameters() if ".lora_" in name]
        assert all(name.startswith("encoder.transformer_encoder.layers.") for name in names)
        assert len(names) == 8

    @pytest.mark.parametrize("targets", [("linear3",), ("linear1", "attention"), ()])
    def test_an_unknown_target_lists_the_known_ones(self, targets):
        with pytest.raises(FrostlineError, match=r"'lora': targets is .* one or more of linear1, linear2, q_proj"):
            Lora(targets=targets)

    @pytest.mark.parametrize(("targets", "highest"), [(("linear1",), 32), (("q_proj",), 32)])
    def test_a_rank_above_the_width_of_the_layers_is_refused_before_fitting(self, build, pbmc, cut, targets, highest):
        fits = dataclasses.replace(build("lora"), rank=highest, targets=targets)
        fits.check(pbmc, cut)
        with pytest.raises(FrostlineError, match=r"'lora': rank is 33, and must be at most 32 dimensions.*checkpoint"):
            dataclasses.replace(fits, rank=highest + 1).check(pbmc, cut)

    def test_cells_without_any_of_a_few_genes_are_told_that_more_can_be_read(self, build, pbmc, cut, fresh):
        strategy = dataclasses.replace(build("lora"), n_genes=2, epochs=1)
        with pytest.raises(DatasetError, match=r"or let 'lora' read more genes than n_genes = 2$"):
            strategy.fit(fresh(pbmc), cut)

    @pytest.mark.parametrize("kind", [Lora, LoraAttention, Dora])
    def test_rank_alpha_and_dropout_reach_every_adapted_layer(self, kind, small_checkpoint):
        strategy = kind(str(small_checkpoint), rank=3, alpha=5, lora_dropout=0.25)
        encoder = strategy._thawed(load_checkpoint(strategy.checkpoint).encoder())
        adapted = [layer for layer in encoder.modules() if hasattr(layer, "lora_A")]
        assert len(adapted) == 2 * len(strategy.targets)
        for layer in adapted:
            (a,), (b,) = layer.lora_A.values(), layer.lora_B.values()
            assert (a.out_features, b.in_features) == (3, 3)
            assert list(layer.scaling.values()) == [5 / 3]
            assert [dropout.p for dropout in layer.lora_dropout.values()] == [0.25]

    def test_the_rank_decides_the_size_of_the_update(self, build, pbmc, cut, fresh):
        for rank in (1, 3):
            strategy = dataclasses.replace(build("lora"), rank=rank, epochs=1).fit(fresh(pbmc), cut)
            shapes = {tuple(p.shape) for name, p in strategy.module_.named_parameters() if ".lora_A." in name}
            assert shapes == {(rank, 32), (rank, 48)}
            assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters


class TestSaving:
    @pytest.mark.parametrize("name", ON_ENCODER)
    def test_other_weights_under_the_same_checkpoint_are_refused(
        self, build, pbmc, cut, fresh, small_checkpoint, tmp_path, name
    ):
        folder = shutil.copytree(small_checkpoint, tmp_path / "checkpoint")
        strategy = dataclasses.replace(build(name), checkpoint=str(folder))
        strategy.fit(fresh(pbmc), cut).save(tmp_path / "model")
        state = load_file(folder / "model.safetensors")
        state["encoder.enc_norm.bias"] = state["encoder.enc_norm.bias"] + 1
        save_file(state, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=rf"'{name}' was fitted on other weights"):
            strategies.load(tmp_path / "model")

    def test_a_strategy_of_another_kind_is_refused(self, fitted_once, tmp_path):
        fitted_once("pca_logistic")[0].save(tmp_path)
        with pytest.raises(FrostlineError, match="holds a 'pca_logistic', not a 'lora'"):
            Lora.load(tmp_path)

    def test_a_strategy_that_is_no_longer_known_is_refused(self, fitted_once, tmp_path):
        fitted_once("pca_logistic")[0].save(tmp_path)
        content = json.loads((tmp_path / "strategy.json").read_text())
        (tmp_path / "strategy.json").write_text(json.dumps({**content, "strategy": "magic"}))
        with pytest.raises(FrostlineError, match="unknown strategy 'magic'; known: majority, pca_logistic"):
            strategies.load(tmp_path)


class TestBuild:
    def test_one_for_each_depth_of_thawing_by_default(self):
        assert [strategy.name for strategy in strategies.build()] == ["pca_logistic", "frozen_probe", "head", "lora"]

    def test_all_of_them_in_the_order_of_thawing(self):
        baselines = ["majority", "pca_logistic", "genes_logistic", "pca_knn", "frozen_probe", "probe_obsm", "head"]
        assert [*baselines, "lora", "lora_attention", "dora", "ia3", "full"] == NAMES
        assert [name for name, kind in STRATEGIES.items() if kind.on_embedding] == baselines
        assert [strategy.name for strategy in strategies.build(NAMES)] == NAMES

    def test_profile_and_checkpoint_reach_the_strategies(self, tiny_profile):
        head, lora = strategies.build(["head", "lora"], profile=tiny_profile, checkpoint="somewhere")
        assert (head.epochs, head.learning_rate, head.batch_size) == (6, 5e-3, 16)
        assert (lora.epochs, lora.learning_rate, lora.batch_size) == (2, 5e-3, 16)
        assert head.checkpoint == lora.checkpoint == "somewhere"
        assert (lora.rank, lora.alpha, lora.lora_dropout, lora.targets) == (4, 8, 0.05, ("linear1", "linear2"))

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_every_strategy_in_epochs_takes_its_own_lengths(self, tiny_profile, name):
        changes = {"full_epochs": 3, "full_lr": 3e-4, "tuning_genes": 33, "min_steps": 7}
        (strategy,) = strategies.build([name], profile=dataclasses.replace(tiny_profile, **changes))
        expected = {"head": (6, 5e-3, 8, 0), "full": (3, 3e-4, 4, 1)}.get(name, (2, 5e-3, 4, 0))
        assert (strategy.epochs, strategy.learning_rate, strategy.patience, strategy.warmup_epochs) == expected
        assert (strategy.min_steps, strategy.batch_size) == (7, 16)
        assert name == "head" or strategy.n_genes == 33

    @pytest.mark.parametrize(("profile", "most"), [("quickstart", 1_000), ("full", 2_500)])
    def test_few_labelled_cells_pass_the_encoder_a_limited_number_of_times(self, profile, most):
        """The second tutorial trains LoRA for every number of labels and every repeat."""
        (lora,) = strategies.build(["lora"], profile=profile)
        for n in (20, 40, 80, 110):
            plan = lora.plan(0).for_cells(n)
            assert n * plan.epochs <= most

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["magic"], "unknown strategy 'magic'; known: majority, pca_logistic, genes_logistic"),
            (["magic:X_pca"], "unknown strategy 'magic:X_pca'; known: majority"),
            (["head:X_pca"], "strategy 'head' takes nothing after its name; got 'head:X_pca'"),
            (["probe_obsm:"], "name the key of obsm after the colon"),
            (["probe_obsm", "probe_obsm:X_pca"], "name each strategy once"),
            (["head", "head"], "name each strategy once"),
            ([], "at least one"),
        ],
    )
    def test_wrong_names_are_refused(self, names, message):
        with pytest.raises(FrostlineError, match=message):
            strategies.build(names)


IMPORTS = """
import os, sys
import anndata, numpy as np
import frostline
from frostline.cells.datasets import load_dataset
from frostline.profiles import Profile
from frostline.strategies import STRATEGIES

genes, rng = ["CD3D", "CD3E", "LYZ", "CST3", "NKG7", "GNLY", "MS4A1", "CD79A"], np.random.default_rng(0)
adata = anndata.AnnData(rng.poisson(3, (60, 8)).astype("f4"), obs={"kind": ["a", "b", "c"] * 20})
adata.var_names, adata.obsm["X_pca"] = genes, rng.normal(size=(60, 4))
cells = load_dataset(adata, "kind")
profile = Profile("tiny", 60, 8, 16, 1, 1, 1e-3, 1e-3, 1, min_steps=0)
cut = frostline.split(cells, profile=profile)
for name in sys.argv[1:]:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    strategy = STRATEGIES[name].from_profile(profile, "mini")
    strategy.check(cells, cut)
    before = set(sys.modules)
    strategy.fit(cells, cut)
    late = [each for each in set(sys.modules) - before if each.split(".")[0] not in sys.stdlib_module_names]
    print(name, *sorted(late), flush=True)
    os._exit(0)
"""


class TestCheck:
    def test_what_fitting_imports_is_imported_before_it_is_timed(self):
        """In processes of their own, for whoever comes first pays; torch looks for a profiler when it first trains."""
        names = ["probe_obsm", "pca_knn", "genes_logistic", "head", "lora"]
        command = [sys.executable, "-W", "error", "-c", IMPORTS, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.sub(r" torch\.profiler\.\S+", "", done.stdout).splitlines() == names

    @pytest.mark.parametrize("name", ON_ENCODER)
    def test_what_the_encoder_cannot_read_is_refused_before_fitting(self, build, pbmc, cut, fresh, name):
        strategy = build(name)
        strategy.check(pbmc, cut)
        matrix = pbmc.matrix.tolil(copy=True)
        matrix[cut.test[3]] = 0
        with pytest.raises(DatasetError, match=f"1 cell.*{pbmc.cells[cut.test[3]]}"):
            strategy.check(fresh(pbmc, matrix=matrix.tocsr()), cut)
        ensembl = tuple(f"ENSG{i:011d}" for i in range(len(pbmc.genes)))
        renamed = fresh(pbmc, genes=ensembl)
        with pytest.raises(DatasetError, match="Ensembl ids"):
            strategy.check(renamed, dataclasses.replace(cut, genes=ensembl))
        with pytest.raises(CheckpointError, match="unknown checkpoint 'nothing'"):
            dataclasses.replace(strategy, checkpoint="nothing").check(pbmc, cut)

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_validation_cells_of_unknown_classes_only_are_refused(self, build, pbmc, cut, fresh, name):
        labels = pbmc.labels.astype("U40")
        labels[cut.validation] = "unheard"
        with pytest.raises(DatasetError, match="no validation cell has a class that the training cells have"):
            build(name).check(fresh(pbmc, labels=labels), cut)
