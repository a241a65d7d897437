"""Adapters: what they add to the layers of the encoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from peft import PeftModel

from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.embedding import encode
from frostline.errors import DatasetError, FrostlineError
from frostline.strategies import Dora, Lora, LoraAttention
from frostline.strategies.adapters import TARGETS

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
        fits.ensure_applicable(pbmc, cut)
        with pytest.raises(FrostlineError, match=r"'lora': rank is 33, and must be at most 32 dimensions.*checkpoint"):
            dataclasses.replace(fits, rank=highest + 1).ensure_applicable(pbmc, cut)

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
