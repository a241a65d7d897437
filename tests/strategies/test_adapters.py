"""Adapters: what they add to the layers of the encoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from peft import PeftModel

from frostline.encoder import model
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.embedding import encode
from frostline.errors import DatasetError, FrostlineError
from frostline.strategies import Dora, Lora, LoraAttention
from frostline.strategies.adapters import TARGETS, Adapters
from frostline.strategies.tuning import EncoderTuning

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("name", ["lora", "lora_attention", "dora", "ia3"])
def test_peft_itself_puts_a_saved_adapter_on_the_same_encoder(fitted_once, pbmc, cut, small_checkpoint, tmp_path, name):
    strategy, dataset = fitted_once(name)
    strategy.save(tmp_path)
    encoder = load_checkpoint(small_checkpoint).encoder()
    tokens = strategy._tokens(dataset, cut.test)
    before = encode(encoder, tokens)
    adapted = PeftModel.from_pretrained(encoder, str(tmp_path))
    states = encode(adapted.base_model.model.eval(), tokens)
    np.testing.assert_allclose(states, strategy._features(dataset, cut.test), rtol=0, atol=1e-5)
    assert np.abs(states - before).max() > 1e-3


@pytest.mark.parametrize("name", ["lora", "lora_attention", "dora", "ia3"])
def test_dropout_belongs_to_adapters_and_head_unless_the_encoder_is_given_some(build, small_checkpoint, name):
    checkpoint = load_checkpoint(small_checkpoint)
    assert checkpoint.config.dropout == 0.1  # what all weights were trained with
    for given, expected in ({}, {0.0}), ({"encoder_dropout": 0.2}, {0.2}):
        encoder = dataclasses.replace(build(name), **given)._thawed(checkpoint.encoder())
        dropouts = [(at, part.p) for at, part in encoder.named_modules() if isinstance(part, torch.nn.Dropout)]
        assert {p for at, p in dropouts if ".lora_" not in at} == expected
        assert {p for at, p in dropouts if ".lora_" in at} <= {0.05}
        assert (
            sum(".lora_" not in at for at, _ in dropouts) == 1 + 2 * 2
        )  # values; attention and sub-layers of two blocks


def test_full_tuning_keeps_the_dropout_of_the_checkpoint(build, small_checkpoint):
    encoder = build("full")._thawed(load_checkpoint(small_checkpoint).encoder())
    assert {part.p for part in encoder.modules() if isinstance(part, torch.nn.Dropout)} == {0.1}


def adapted_blocks(strategy) -> set[str]:
    """Numbers of the blocks with something that is trained."""
    trained = strategy._trained(strategy.module_["encoder"])
    return {name.split("layers.")[1].split(".")[0] for name in trained}


@pytest.mark.parametrize("name", ["lora", "lora_attention", "dora", "ia3"])
class TestLastBlocks:
    """Adapters in the last block alone, on states that are computed once."""

    def fitted(self, build, pbmc, cut, fresh, name, **changes):
        return dataclasses.replace(build(name), epochs=2, layers=1, **changes).fit(fresh(pbmc), cut)

    def test_training_is_the_one_that_computes_all_blocks_each_time(self, build, pbmc, cut, fresh, name, monkeypatch):
        short = self.fitted(build, pbmc, cut, fresh, name)
        assert adapted_blocks(short) == {"1"}
        monkeypatch.setattr(Adapters, "_passes", EncoderTuning._passes)
        whole = self.fitted(build, pbmc, cut, fresh, name)
        assert adapted_blocks(whole) == {"1"}
        assert len(short.history_) == 2
        for one, other in zip(short.history_, whole.history_, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        for key, array in whole._arrays().items():
            np.testing.assert_allclose(short._arrays()[key], array, rtol=0, atol=2e-4, err_msg=key)

    def test_as_many_parameters_train_as_were_planned(self, build, pbmc, cut, fresh, name):
        strategy = self.fitted(build, pbmc, cut, fresh, name)
        assert strategy.planned_parameters(cut) == strategy.cost().trainable_parameters
        assert strategy.planned_parameters(cut) < build(name).planned_parameters(cut)

    def test_it_is_saved_and_peft_puts_it_on_the_same_encoder(
        self, build, pbmc, cut, fresh, small_checkpoint, tmp_path, name
    ):
        strategy, dataset = self.fitted(build, pbmc, cut, fresh, name), fresh(pbmc)
        strategy.save(tmp_path)
        restored = type(strategy).load(tmp_path)
        probabilities = strategy.predict_proba(dataset, cut.test)
        np.testing.assert_array_equal(restored.predict_proba(dataset, cut.test), probabilities)
        adapted = PeftModel.from_pretrained(load_checkpoint(small_checkpoint).encoder(), str(tmp_path))
        states = encode(adapted.base_model.model.eval(), strategy._tokens(dataset, cut.test))
        np.testing.assert_allclose(states, strategy._features(dataset, cut.test), rtol=0, atol=1e-5)

    def test_the_blocks_below_have_no_dropout(self, build, small_checkpoint, name):
        strategy = dataclasses.replace(build(name), layers=1, encoder_dropout=0.2)
        encoder = strategy._thawed(load_checkpoint(small_checkpoint).encoder())
        below, above = encoder.transformer_encoder.layers
        for part, expected in ((encoder.value_encoder, {0.0}), (below, {0.0}), (above, {0.2, 0.05})):
            assert {each.p for each in part.modules() if isinstance(each, torch.nn.Dropout)} <= expected
        assert above.dropout.p == 0.2


@pytest.mark.parametrize("changes", [{}, {"encoder_dropout": 0.3}, {"layers": 1}, {"precision": "bf16"}])
@pytest.mark.parametrize("name", ["lora", "dora"])
def test_low_memory_gives_the_same_losses_gradients_and_weights(build, pbmc, cut, fresh, name, changes, monkeypatch):
    """Dropout too is drawn again as it was drawn first."""
    calls = []
    original = model.checkpoint

    def counted(*args, **kwargs):
        calls.append(args[0])
        return original(*args, **kwargs)

    monkeypatch.setattr(model, "checkpoint", counted)
    found = []
    for memory in ("normal", "low"):
        strategy = dataclasses.replace(build(name), memory=memory, epochs=1, **changes).fit(fresh(pbmc), cut)
        found.append(strategy)
        assert bool(calls) == (memory == "low")
    one, other = found
    assert [epoch["train_loss"] for epoch in one.history_] == pytest.approx(
        [epoch["train_loss"] for epoch in other.history_], abs=1e-5
    )
    for key, array in one._arrays().items():
        np.testing.assert_allclose(other._arrays()[key], array, rtol=0, atol=1e-4, err_msg=key)


def test_adapters_stay_in_float32_where_products_are_in_bf16(build, pbmc, cut, fresh):
    strategy = dataclasses.replace(build("lora"), precision="bf16", epochs=2).fit(fresh(pbmc), cut)
    trained = strategy._trained(strategy.module_["encoder"])
    assert {(p.dtype, p.grad.dtype) for p in trained.values()} == {(torch.float32, torch.float32)}
    plain = dataclasses.replace(build("lora"), epochs=2).fit(fresh(pbmc), cut)
    for one, other in zip(strategy.history_, plain.history_, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=0.03)
        assert one["train_loss"] != other["train_loss"]


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

    def test_more_blocks_than_the_encoder_has_are_refused_before_fitting(self, build, pbmc, cut):
        dataclasses.replace(build("lora"), layers=2).ensure_applicable(pbmc, cut)
        with pytest.raises(FrostlineError, match=r"'lora': layers is 3, and must be at most 2 blocks.*0 takes all"):
            dataclasses.replace(build("lora"), layers=3).ensure_applicable(pbmc, cut)

    @pytest.mark.parametrize(("targets", "highest"), [(("linear1",), 32), (("q_proj",), 32)])
    def test_a_rank_above_the_width_of_the_layers_is_refused_before_fitting(self, build, pbmc, cut, targets, highest):
        fits = dataclasses.replace(build("lora"), rank=highest, targets=targets)
        fits.ensure_applicable(pbmc, cut)
        with pytest.raises(FrostlineError, match=r"'lora': rank is 33, and must be at most 32 dimensions.*checkpoint"):
            dataclasses.replace(fits, rank=highest + 1).ensure_applicable(pbmc, cut)

    def test_cells_without_any_of_a_few_genes_are_refused_as_more_can_be_read(self, build, pbmc, cut, fresh):
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
