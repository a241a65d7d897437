"""Products by oneDNN: the numbers of `nn.Linear`, where they should be used and nowhere else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frostline.encoder import devices, products
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.products import Projection, onednn_pays, padded_length
from frostline.strategies import Lora

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture
def computed(monkeypatch):
    """Rows of every product that oneDNN computes, as if it were faster here."""
    rows = []
    original = products._product

    def spy(x, weight, bias):
        rows.append(x.shape[:-1].numel())
        return original(x, weight, bias)

    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    monkeypatch.setattr(products, "_product", spy)
    return rows


def projection(n_in: int = 256, n_out: int = 320, *, trains: bool = False) -> Projection:
    torch.manual_seed(0)
    return Projection(n_in, n_out).requires_grad_(trains)


@onednn
class TestNumbers:
    def test_the_product_is_that_of_double_precision(self, computed):
        module, x = projection(), torch.randn(4, 132, 256)
        weight, bias = (p.detach().double().numpy() for p in (module.weight, module.bias))
        with torch.inference_mode():
            np.testing.assert_allclose(module(x), x.double().numpy() @ weight.T + bias, atol=1e-5)
        assert computed == [528]

    def test_so_is_the_gradient_of_what_enters(self, computed):
        module, x = projection(), torch.randn(528, 256, requires_grad=True)
        towards = torch.randn(320, 528).T  # not contiguous, as the attention's are
        module(x).backward(towards)
        weight = module.weight.double().numpy()
        np.testing.assert_allclose(x.grad, towards.double().numpy() @ weight, atol=1e-5)
        assert computed == [528, 528]
        assert module.weight.grad is module.bias.grad is None


class TestWhere:
    @pytest.mark.parametrize(
        ("rows", "shape"),
        [(496, (256, 256)), (520, (256, 256)), (512, (255, 256)), (512, (256, 255))],
        ids=["few rows", "no multiple of 16", "few inputs", "few outputs"],
    )
    def test_not_where_it_gains_nothing(self, computed, rows, shape):
        module, x = projection(*shape), torch.randn(rows, shape[0])
        with torch.inference_mode():
            np.testing.assert_array_equal(module(x), nn.functional.linear(x, module.weight, module.bias))
        assert computed == []

    def test_not_with_weights_that_train(self, computed):
        module, x = projection(trains=True), torch.randn(512, 256)
        module(x).sum().backward()
        assert computed == []
        np.testing.assert_allclose(module.weight.grad, x.sum(dim=0).expand(320, -1), atol=1e-3)

    def test_not_in_another_precision(self, computed):
        module, x = projection(), torch.randn(512, 256)
        with torch.inference_mode():
            with torch.autocast("cpu", torch.bfloat16):
                assert module(x).dtype == torch.bfloat16
            assert module.double()(x.double()).dtype == torch.float64
        assert computed == []

    @onednn
    @pytest.mark.parametrize(
        ("maker", "capability", "pays"),
        [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
    )
    def test_on_processors_on_which_it_was_faster(self, monkeypatch, tmp_path, maker, capability, pays):
        monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
        devices.CPUINFO.write_text(f"processor\t: 0\nvendor_id\t: {maker}\nflags\t\t: fpu avx512f\n")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        assert onednn_pays.__wrapped__() is pays
        monkeypatch.setattr(devices, "CPUINFO", tmp_path / "none, as elsewhere than on Linux")
        assert onednn_pays.__wrapped__() is False


@given(st.integers(1, 300), st.integers(2, 1_200))
def test_cells_are_padded_by_less_than_16_tokens_to_rows_that_suit(n_cells, length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "onednn_pays", lambda: True)
        padded = padded_length(n_cells, length, 512)
        assert length <= padded < length + 16
        assert n_cells * length < 512 or n_cells * padded % 16 == 0
        assert padded_length(n_cells, length, 128) == length
        patch.setattr(products, "onednn_pays", lambda: False)
        assert padded_length(n_cells, length, 512) == length


@onednn
@pytest.mark.slow
def test_an_encoder_with_adapters_trains_and_infers_by_it_as_without(computed, monkeypatch):
    """Two blocks of 256, four cells of 132 tokens; in the last block only `<cls>` queries."""
    torch.manual_seed(0)
    config = EncoderConfig(300, 256, 4, 256, 2)
    encoder = dataclasses.replace(Lora(), lora_dropout=0.0)._thawed(Encoder(config).requires_grad_(False))
    for name, parameter in encoder.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.02)
    ids, values = torch.randint(2, 300, (4, 132)), torch.randint(1, 51, (4, 132)).float()
    ids[0, 100:] = config.pad_id
    found, towards = [], torch.randn(4, 256)  # not their squares, whose sum LayerNorm keeps the same
    for pays in (True, False):
        monkeypatch.setattr(products, "onednn_pays", lambda pays=pays: pays)
        computed.clear()
        with torch.inference_mode():
            states = encoder.eval().cls_states(ids, values)
        inferred = len(computed)
        encoder.zero_grad()
        (encoder.train().cls_states(ids, values) * towards).sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.requires_grad]
        found.append((states, gradients, inferred, len(computed) - inferred))
    (by_onednn, gradients, *used), (plain, expected, *unused) = found
    assert unused == [0, 0]
    # six and then k and v; gradients go back through those two and the first block's linear2, past the first adapters
    assert used == [8, 8 + 3]
    torch.testing.assert_close(by_onednn, plain, atol=1e-5, rtol=0)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()), rtol=1e-4)
