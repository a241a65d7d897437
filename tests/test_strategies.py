"""One contract for every strategy of the list, and what is particular to each of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frostline.training
from frostline import strategies
from frostline.checkpoints import SPECIAL_TOKENS, load_checkpoint, save_checkpoint
from frostline.datasets import load_dataset
from frostline.embedding import encode, tokenize_cells
from frostline.errors import Cancelled, CheckpointError, DatasetError, FrostlineError
from frostline.evaluation import evaluate
from frostline.model import Encoder, EncoderConfig
from frostline.monitor import Monitor
from frostline.splits import split
from frostline.strategies import STRATEGIES, FrozenProbe, HeadTuning, Lora, PcaLogistic
from frostline.strategies.base import LinearProbe, probe_parameters

NAMES = list(STRATEGIES)
ON_ENCODER = [name for name in NAMES if name != "pca_logistic"]


@pytest.fixture(scope="module")
def build(tiny_profile, small_checkpoint):
    """Build a strategy of the list with the sizes of the tests."""
    return lambda name: STRATEGIES[name].from_profile(tiny_profile, str(small_checkpoint))


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
        damaged = fresh(pbmc, matrix=corrupted(pbmc.matrix, cut.test))
        strategy.fit(damaged, cut)
        assert files_of(strategy, tmp_path / "damaged") == files_of(expected, tmp_path / "expected")
        np.testing.assert_array_equal(
            strategy.predict_proba(damaged, cut.validation), expected.predict_proba(dataset, cut.validation)
        )
        assert not np.array_equal(strategy.predict_proba(damaged, cut.test), expected.predict_proba(dataset, cut.test))

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
        strategy, _ = fitted
        assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters > 0

    def test_the_cost_names_every_stage_and_counts_the_encoder_too(self, fitted):
        cost = fitted[0].cost()
        assert set(cost.seconds) == {"load", "embed", "fit", "predict"}
        assert all(seconds >= 0 for seconds in cost.seconds.values())
        assert cost.seconds["fit"] > 0
        assert cost.total_parameters > cost.trainable_parameters

    @pytest.mark.usefixtures("instant_umap")
    def test_evaluation_fits_a_copy_and_leaves_the_hyper_parameters_alone(self, strategy, pbmc, cut, fresh):
        before = dataclasses.replace(strategy)
        record = evaluate(strategy, fresh(pbmc), cut)
        assert strategy == before
        assert strategy.classes_ == ()
        assert record.parameters == strategy.parameters

    def test_hyper_parameters_cannot_be_changed(self, strategy):
        name = next(iter(strategy.parameters))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, name, 1)

    def test_fitting_can_be_cancelled_at_every_step(self, strategy, fitted_once, pbmc, cut, fresh):
        steps = []
        strategy.fit(fresh(pbmc), cut, Monitor(lambda fraction, _message: steps.append(fraction)))
        assert len(steps) >= 3
        assert steps == sorted(steps)
        for stop in {0, len(steps) // 2, len(steps) - 1}:
            asked = iter(range(10_000))
            monitor = Monitor(cancelled=lambda asked=asked, stop=stop: next(asked) >= stop)
            with pytest.raises(Cancelled):
                dataclasses.replace(strategy).fit(fresh(pbmc), cut, monitor)

    @pytest.mark.parametrize("what", ["predict_proba", "embed", "cost", "save"])
    def test_before_fitting_it_says_that_it_is_not_fitted(self, strategy, pbmc, cut, tmp_path, what):
        arguments = {"cost": (), "save": (tmp_path,)}.get(what, (pbmc, cut.test))
        with pytest.raises(FrostlineError, match=rf"strategy '{strategy.name}' is not fitted; call fit"):
            getattr(strategy, what)(*arguments)

    def test_a_name_a_title_and_what_it_trains_are_given(self, strategy):
        assert STRATEGIES[strategy.name] is type(strategy)
        assert strategy.title
        assert strategy.trains

    def test_it_separates_classes_that_are_easy_to_separate(self, strategy, easy, fresh):
        """Two classes with marker genes of their own."""
        dataset, cut = easy
        changes = {"epochs": 30} if "epochs" in strategy.parameters else {}
        strategy = dataclasses.replace(strategy, **changes)
        strategy.fit(fresh(dataset), cut)
        predicted = np.array(strategy.classes_)[strategy.predict_proba(dataset, cut.test).argmax(axis=1)]
        assert (predicted == dataset.labels[cut.test]).mean() > 0.9


@pytest.fixture(scope="module")
def easy(pbmc, tiny_profile):
    """120 cells of two classes, each of which expresses its own half of 40 genes more."""
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 2
    rates = np.where((np.arange(40) < 20) == kinds[:, None].astype(bool), 3.0, 0.7)
    adata = AnnData(
        sparse.csr_matrix(1.0 * rng.poisson(rates)),
        obs=pd.DataFrame({"kind": np.array(["left", "right"])[kinds]}, index=[f"c{i}" for i in range(120)]),
        var=pd.DataFrame(index=list(pbmc.genes[:40])),
    )
    dataset = load_dataset(adata, "kind")
    return dataset, split(dataset, seed=0, profile=tiny_profile)


class TestTrainedTensors:
    """What is called trainable is trained, and counted, to the last tensor."""

    @pytest.fixture
    def trained(self, monkeypatch):
        """Names, sizes and values before and after, of what the training loop was given."""
        seen = {}
        original = frostline.training.train_classifier

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

        monkeypatch.setattr(frostline.training, "train_classifier", spy)
        return seen

    @pytest.mark.parametrize("name", NAMES)
    def test_every_tensor_called_trainable_receives_a_gradient_and_changes(
        self, trained, build, pbmc, cut, fresh, name
    ):
        strategy = build(name).fit(fresh(pbmc), cut)
        if not trained:  # a probe: its coefficients are all there is
            assert strategy.cost().trainable_parameters == strategy.probe_.n_parameters
            assert np.abs(strategy.probe_.coefficients).min(axis=0).max() > 0
            return
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


class TestOfficialSizes:
    """512 wide, 12 layers, feed-forward 512, 6 classes: the numbers of the published comparison."""

    @pytest.fixture(scope="class")
    @staticmethod
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

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [(HeadTuning, 4_102), (Lora, 102_406), (FrozenProbe, 6 * 513)],
    )
    def test_trainable_parameters(self, wide, kind, expected):
        dataset, cut, folder = wide
        strategy = kind(checkpoint=folder) if kind is FrozenProbe else kind(checkpoint=folder, epochs=1)
        assert strategy.planned_parameters(cut) == expected
        cost = strategy.fit(dataset, cut).cost()
        assert cost.trainable_parameters == expected
        assert cost.total_parameters == expected + sum(
            p.numel() for p in load_checkpoint(folder).encoder().parameters()
        )


class TestLinearProbe:
    @pytest.fixture(params=[2, 5], ids=["two classes", "five classes"])
    def data(self, request):
        rng = np.random.default_rng(request.param)
        names = np.array(["B", "NK", "T", "mono", "DC"])[: request.param]
        labels = {part: rng.choice(names, n) for part, n in (("train", 120), ("validation", 40), ("test", 30))}
        centres = rng.normal(size=(5, 7)) * 50
        features = {
            part: centres[[names.tolist().index(name) for name in found]] + 80 * rng.normal(size=(len(found), 7))
            for part, found in labels.items()
        }
        return features, labels

    def test_it_is_standardised_logistic_regression_whose_c_validation_chose(self, data):
        features, labels = data
        probe = LinearProbe.fit(features, labels, Monitor())
        models = {
            c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=10_000)).fit(
                features["train"], labels["train"]
            )
            for c in LinearProbe.GRID
        }
        losses = {
            c: log_loss(labels["validation"], model.predict_proba(features["validation"]), labels=model.classes_)
            for c, model in models.items()
        }
        assert probe.c == min(losses, key=losses.get)
        expected = models[probe.c].predict_proba(features["test"])
        np.testing.assert_allclose(probe.predict_proba(features["test"]), expected, rtol=0, atol=1e-9)

    def test_test_features_do_not_enter(self, data):
        features, labels = data
        other = {**features, "test": features["test"] * 1e6}
        one, two = (LinearProbe.fit(x, labels, Monitor()) for x in (features, other))
        np.testing.assert_array_equal(one.coefficients, two.coefficients)

    def test_it_is_rebuilt_from_its_arrays(self, data):
        probe = LinearProbe.fit(*data, Monitor())
        again = LinearProbe.from_arrays(probe.arrays())
        np.testing.assert_array_equal(again.predict_proba(data[0]["test"]), probe.predict_proba(data[0]["test"]))
        assert again.c == probe.c

    def test_its_parameters_are_its_coefficients_and_intercepts(self, data):
        probe = LinearProbe.fit(*data, Monitor())
        n_classes = len(set(data[1]["train"]))
        assert probe.n_parameters == probe_parameters(7, n_classes) == (8 if n_classes == 2 else 8 * n_classes)

    def test_a_constant_feature_does_no_harm(self, data):
        features, labels = data
        constant = {part: np.hstack([x, np.full((len(x), 1), 3.0)]) for part, x in features.items()}
        probe = LinearProbe.fit(constant, labels, Monitor())
        expected = LinearProbe.fit(features, labels, Monitor()).predict_proba(features["test"])
        np.testing.assert_allclose(probe.predict_proba(constant["test"]), expected, rtol=0, atol=1e-6)

    def test_validation_cells_of_unknown_classes_are_passed_over(self, data):
        features, labels = data
        odd = {**labels, "validation": labels["validation"].astype("U9")}
        odd["validation"][:5] = "unheard"
        known = odd["validation"] != "unheard"
        only_known = (
            {**features, "validation": features["validation"][known]},
            {**odd, "validation": odd["validation"][known]},
        )
        one, other = LinearProbe.fit(features, odd, Monitor()), LinearProbe.fit(*only_known, Monitor())
        assert one.c == other.c


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
        states = encode(opened.encoder(), tokenize_cells(pbmc, cut.test, cut.genes, opened))
        expected = states / np.linalg.norm(states, axis=1, keepdims=True)
        np.testing.assert_allclose(strategy.embed(dataset, cut.test), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            strategy.predict_proba(dataset, cut.test), strategy.probe_.predict_proba(expected), rtol=0, atol=1e-3
        )


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

    def test_features_of_an_earlier_strategy_are_not_computed_again_and_still_charged(
        self, encoded_cells, build, pbmc, cut, fresh
    ):
        dataset = fresh(pbmc)
        probe = build("frozen_probe").fit(dataset, cut)
        n_encoded = sum(encoded_cells)
        head = build("head").fit(dataset, cut)
        assert sum(encoded_cells) == n_encoded
        assert head.cost().seconds["embed"] == pytest.approx(probe.cost().seconds["embed"])

    def test_it_stops_early(self, build, pbmc, cut, fresh):
        strategy = dataclasses.replace(build("head"), epochs=400, learning_rate=0.5)
        assert len(strategy.fit(fresh(pbmc), cut).history_) < 400


class TestLora:
    def test_the_adapters_take_part_in_inference(self, build, pbmc, cut, fresh):
        strategy = build("lora").fit(fresh(pbmc), cut)
        probabilities, embedding = strategy.predict_proba(pbmc, cut.test), strategy.embed(pbmc, cut.test)
        names = [name for name, p in strategy.module_.named_parameters() if ".lora_B." in name and p.requires_grad]
        assert len(names) == 4
        parameters = dict(strategy.module_.named_parameters())
        for name in names:
            kept = parameters[name].detach().clone()
            with torch.no_grad():  # not the same for all outputs: LayerNorm would take that away
                parameters[name][::2].add_(0.3)
            assert np.abs(strategy.embed(pbmc, cut.test) - embedding).max() > 1e-4, name
            assert np.abs(strategy.predict_proba(pbmc, cut.test) - probabilities).max() > 1e-4, name
            with torch.no_grad():
                parameters[name].copy_(kept)
        np.testing.assert_array_equal(strategy.predict_proba(pbmc, cut.test), probabilities)

    def test_the_encoder_below_the_adapters_is_the_checkpoints(self, fitted_once, small_checkpoint):
        strategy, _ = fitted_once("lora")
        original = load_checkpoint(small_checkpoint).encoder().state_dict()
        adapted = strategy.module_["encoder"].state_dict()
        below = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.items() if ".lora_" not in name}
        assert below.keys() == original.keys()
        for name, tensor in original.items():
            assert torch.equal(below[name], tensor), name

    def test_only_the_layers_of_the_stack_are_adapted(self, fitted_once):
        """The value encoder has a linear1 and a linear2 of its own."""
        names = [name for name, _ in fitted_once("lora")[0].module_.named_parameters() if ".lora_" in name]
        assert all(name.startswith("encoder.transformer_encoder.layers.") for name in names)
        assert len(names) == 8

    def test_it_is_inference_without_dropout(self, fitted_once, pbmc, cut):
        strategy, dataset = fitted_once("lora")
        one, again = (strategy.predict_proba(dataset, cut.test) for _ in range(2))
        np.testing.assert_array_equal(one, again)
        assert not any(module.training for module in strategy.module_.modules())

    @pytest.mark.parametrize("targets", [("linear3",), ("linear1", "attention"), ()])
    def test_an_unknown_target_lists_the_known_ones(self, targets):
        with pytest.raises(FrostlineError, match=r"LoRA targets .*known: linear1, linear2, q_proj, k_proj, v_proj"):
            Lora(targets=targets)

    def test_rank_and_alpha_decide_the_update(self, build, pbmc, cut, fresh):
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
        with pytest.raises(FrostlineError, match="unknown strategy 'magic'; known: pca_logistic"):
            strategies.load(tmp_path)


class TestBuild:
    def test_all_of_them_in_the_order_of_thawing_by_default(self):
        assert [strategy.name for strategy in strategies.build()][:4] == NAMES[:4]
        assert NAMES[:4] == ["pca_logistic", "frozen_probe", "head", "lora"]

    def test_profile_and_checkpoint_reach_the_strategies(self, tiny_profile):
        head, lora = strategies.build(["head", "lora"], profile=tiny_profile, checkpoint="somewhere")
        assert (head.epochs, head.learning_rate, head.batch_size) == (6, 5e-3, 16)
        assert (lora.epochs, lora.learning_rate, lora.batch_size) == (2, 5e-3, 16)
        assert head.checkpoint == lora.checkpoint == "somewhere"
        assert (lora.rank, lora.alpha, lora.lora_dropout, lora.targets) == (4, 8, 0.05, ("linear1", "linear2"))

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["magic"], "unknown strategy 'magic'; known: pca_logistic, frozen_probe, head, lora"),
            (["head", "head"], "name each strategy once"),
            ([], "at least one"),
        ],
    )
    def test_wrong_names_are_refused(self, names, message):
        with pytest.raises(FrostlineError, match=message):
            strategies.build(names)


class TestCheck:
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

    @pytest.mark.parametrize("name", [name for name in NAMES if name in {"head", "lora"}])
    def test_validation_cells_of_unknown_classes_only_are_refused(self, build, pbmc, cut, fresh, name):
        labels = pbmc.labels.astype("U40")
        labels[cut.validation] = "unheard"
        with pytest.raises(DatasetError, match="no validation cell has a class that the training cells have"):
            build(name).fit(fresh(pbmc, labels=labels), cut)
