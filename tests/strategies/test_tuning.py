"""What trains in epochs: heads, and weights inside the encoder."""

from __future__ import annotations

import copy
import dataclasses
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from safetensors.numpy import load_file
from strategy_checks import IN_EPOCHS, THROUGH_ENCODER, corrupted

from frostline import strategies
from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.encoder import graphs, training
from frostline.encoder.checkpoints import SPECIAL_TOKENS, load_checkpoint, save_checkpoint
from frostline.encoder.embedding import tokenize_cells
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.monitor import Monitor
from frostline.strategies import STRATEGIES, Dora, FrozenProbe, FullTuning, HeadTuning, Ia3, Lora, LoraAttention

pytestmark = pytest.mark.slow


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
                parameter.register_hook(
                    lambda gradient, name=name: largest.__setitem__(
                        name, max(largest.get(name, 0.0), gradient.abs().max().item())
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
        monkeypatch.setattr(graphs, "MOST", 0)  # a hook that reads values waits for a GPU
        return seen

    @pytest.mark.parametrize("name", IN_EPOCHS)
    def test_every_tensor_called_trainable_receives_a_gradient_and_changes_and_the_checkpoint_stays_as_it_is(
        self, trained, build, pbmc, cut, fresh, small_checkpoint, name
    ):
        before = {path.name: path.read_bytes() for path in small_checkpoint.iterdir()}
        strategy = build(name).fit(fresh(pbmc), cut)
        assert {path.name: path.read_bytes() for path in small_checkpoint.iterdir()} == before
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

    def test_every_trained_tensor_takes_part_in_inference(self, fitted_once, pbmc, cut, name):
        strategy = copy.deepcopy(fitted_once(name)[0])
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

    def test_without_dropout_training_and_inference_compute_the_same(self, fitted_once, pbmc, cut, name):
        strategy = copy.deepcopy(fitted_once(name)[0])
        for module in strategy.module_.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        inputs = strategy._inputs(strategy._tokens(pbmc, cut.test))
        with torch.no_grad():
            training = strategy._logits(*inputs).cpu() if strategy.module_.train() else None
            inference = strategy._logits(*inputs).cpu() if strategy.module_.eval() else None
        np.testing.assert_allclose(training, inference, rtol=0, atol=1e-5)
        expected = torch.softmax(inference.double(), dim=1)
        np.testing.assert_allclose(strategy.predict_proba(pbmc, cut.test), expected, rtol=0, atol=1e-5)
        with torch.no_grad():  # with dropout on they would differ: the comparison above is not empty
            strategy.module_["head"].dropout.p = 0.5
            strategy.module_.train()
            assert (strategy._logits(*inputs).cpu() - inference).abs().max() > 1e-3

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
        assert strategy.cost().seconds["predict"] == pytest.approx(seconds, rel=0.9)  # charged as if encoded again
        other = fresh(pbmc, matrix=corrupted(pbmc.matrix, cut.test[:1]))
        assert not np.array_equal(strategy.embed(other, cut.test)[0], strategy.embed(pbmc, cut.test)[0])


def test_a_batch_passes_in_parts_of_few_tokens_and_of_similar_length(build, pbmc, cut, fresh, monkeypatch):
    monkeypatch.setitem(training.BATCH_TOKENS, "cpu", 300)
    passed, through = [], Encoder.forward

    def seen(encoder, gene_ids, *args, **kwargs):
        passed.append(gene_ids.shape)
        return through(encoder, gene_ids, *args, **kwargs)

    monkeypatch.setattr(Encoder, "forward", seen)
    strategy = dataclasses.replace(build("lora"), epochs=1, device="cpu").fit(fresh(pbmc), cut)
    assert len(strategy.history_) == 1
    assert all(n == 1 or n * length <= 300 for n, length in passed)
    assert max(n for n, _ in passed) > 1


@pytest.mark.parametrize(
    "how", [{"max_length": 40}, {"max_length": 40, "token_seed": 1}, {"max_length": 40, "long_cells": "highest"}]
)
def test_it_reads_cells_as_it_was_asked_to(build, pbmc, cut, fresh, monkeypatch, how):
    """In training and afterwards: tokens are those of `tokenize_cells` with the same settings."""
    lengths, through = [], Encoder.forward

    def counted(encoder, ids, *args, **kwargs):
        lengths.append((ids != encoder.config.pad_id).sum(1).max())
        return through(encoder, ids, *args, **kwargs)

    monkeypatch.setattr(Encoder, "forward", counted)
    monkeypatch.setattr(graphs, "MOST", 0)
    strategy = dataclasses.replace(build("lora"), epochs=1, **how).fit(fresh(pbmc), cut)
    strategy.predict_proba(pbmc, cut.test)
    assert max(map(int, lengths)) == 40
    asked = {"seed": 0, "max_length": 40, "long_cells": "random"} | {k.replace("token_", ""): v for k, v in how.items()}
    expected = tokenize_cells(pbmc, cut.test, strategy.genes_, load_checkpoint(strategy.checkpoint), **asked)
    found = strategy._tokens(pbmc, cut.test)
    np.testing.assert_array_equal(found.gene_ids, expected.gene_ids)
    np.testing.assert_array_equal(found.bins, expected.bins)


@pytest.mark.parametrize("name", ["head", "lora", "dora", "ia3", "full"])
def test_what_is_trained_does_not_depend_on_what_is_drawn_meanwhile(build, pbmc, cut, fresh, name):
    """As a cell of the notebook may do beside a panel, or another training; nor is anything drawn from there."""
    strategy, drawn = dataclasses.replace(build(name), epochs=2, dropout=0.3, device="cpu"), []

    def draw(_fraction, message):
        if message.startswith("epoch"):
            torch.manual_seed(len(drawn))
            drawn.append(torch.rand(3))

    before = torch.get_rng_state()
    alone = strategy.fit(fresh(pbmc), cut)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    disturbed = dataclasses.replace(strategy).fit(fresh(pbmc), cut, monitor=Monitor(draw))
    assert drawn
    assert disturbed.history_ == alone.history_
    left = torch.get_rng_state()
    torch.manual_seed(len(drawn) - 1)
    torch.rand(3)
    assert torch.equal(torch.get_rng_state(), left)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lora", {}),
        ("lora", {"encoder_dropout": 0.2}),
        ("lora", {"memory": "low"}),
        ("lora", {"layers": 1}),
        ("ia3", {}),
        ("full", {}),
        ("full", {"memory": "low"}),
    ],
)
def test_what_is_trained_does_not_depend_on_the_number_of_threads(build, pbmc, cut, fresh, monkeypatch, name, changes):
    monkeypatch.setitem(training.BATCH_TOKENS, "cpu", 300)  # several passes a batch
    threads, found, used = torch.get_num_threads(), [], []
    computed = Encoder.cls_states

    def seen(encoder, *args, **kwargs):
        used[-1].add((threading.current_thread().name, torch.get_num_threads()))
        return computed(encoder, *args, **kwargs)

    monkeypatch.setattr(Encoder, "cls_states", seen)
    strategy = dataclasses.replace(build(name), epochs=2, device="cpu", **changes)
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            used.append(set())
            strategy.fit(fresh(pbmc), cut)
            found.append((strategy.history_, strategy._arrays()))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(threads)
    assert all(n == 1 for place in used for _, n in place)
    assert len(used[0]) <= 1
    assert len(used[1]) > 1 or changes.get("layers")
    (history, one), (other_history, other) = found
    assert history == other_history
    assert one.keys() == other.keys()
    for key, array in one.items():
        np.testing.assert_array_equal(array, other[key], err_msg=key)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_what_is_trained_does_not_depend_on_what_is_kept_of_a_block(build, pbmc, cut, fresh, share):
    """Values are dropped again, in what is computed again, as they were the first time."""
    lora = dataclasses.replace(build("lora"), epochs=1, device="cpu", encoder_dropout=share)
    one, other = (dataclasses.replace(lora, memory=memory).fit(fresh(pbmc), cut) for memory in ("normal", "low"))
    assert one.history_[0] == pytest.approx(other.history_[0], abs=1e-6)


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

        def spy(module, inputs, logits, targets, plan, **options):
            plans.append(plan)
            return original(module, inputs, logits, targets, plan, **options)

        monkeypatch.setattr(training, "train_classifier", spy)
        dataclasses.replace(build("full"), epochs=1).fit(fresh(pbmc), cut)
        dataclasses.replace(build("lora"), epochs=1).fit(fresh(pbmc), cut)
        assert [(plan.warmup_epochs, plan.clip) for plan in plans] == [(1, 1.0), (0, 1.0)]

    def test_it_is_the_only_one_that_must_be_asked_for(self):
        assert [name for name, kind in STRATEGIES.items() if kind.expensive] == ["full"]
        assert FullTuning().learning_rate == strategies.build(["full"])[0].learning_rate == 1e-4
