"""Packed weights: the same numbers, the rest of the module shared, and nothing packed where it does not pay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from frostline.encoder import packing
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.packing import PackedLinear, packed
from frostline.strategies import Dora, Ia3, Lora

IDS = torch.tensor([[1, 5, 6, 7], [1, 9, 8, 0]])
VALUES = torch.tensor([[-2.0, 3.0, 50.0, 3.0], [-2.0, 1.0, 7.0, -2.0]])


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(n_tokens=40, d_model=64, n_heads=2, d_hid=96, n_layers=2)).eval()


@pytest.fixture(autouse=True)
def pays():
    if not packing._pays():
        pytest.skip("no oneDNN here, or no x86")


def layers(module: nn.Module, kind: type) -> list[str]:
    return [name for name, part in module.named_modules() if type(part) is kind]


def test_a_layer_gives_the_product_of_its_weights():
    rng = np.random.default_rng(0)
    layer, x = nn.Linear(70, 90), rng.normal(size=(3, 5, 70)).astype(np.float32)
    expected = x.astype(np.float64) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    with torch.inference_mode():
        found = packed(layer)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strategy", [None, Lora(), Dora(), Ia3()], ids=["frozen", "lora", "dora", "ia3"])
def test_an_encoder_and_its_adapters_give_the_same_states(encoder, strategy):
    if strategy is not None:
        encoder = strategy._thawed(encoder.requires_grad_(False)).eval()
        with torch.no_grad():  # adapters begin as zeros, which would hide them
            for parameter in encoder.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3)
    found = packed(encoder)
    assert len(layers(found, PackedLinear)) == 13  # the second layer of the values, and six of each block
    with torch.inference_mode():
        torch.testing.assert_close(found.cls_states(IDS, VALUES), encoder.cls_states(IDS, VALUES), rtol=0, atol=1e-5)


def test_the_module_itself_stays_as_it_is(encoder):
    before = layers(encoder, nn.Linear)
    found = packed(encoder)
    assert layers(encoder, nn.Linear) == before
    assert not layers(encoder, PackedLinear)
    assert found.encoder.embedding.weight is encoder.encoder.embedding.weight


def test_small_layers_and_other_precisions_are_not_packed():
    module = nn.Sequential(nn.Linear(64, 63), nn.Linear(63, 64), nn.Linear(64, 64, dtype=torch.bfloat16))
    assert not layers(packed(module), PackedLinear)


def test_other_processors_keep_the_module(encoder, monkeypatch):
    monkeypatch.setattr(packing.platform, "machine", lambda: "aarch64")
    assert packed(encoder) is encoder
