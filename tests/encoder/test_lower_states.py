"""States below the blocks that train: computed once, and the same as computed each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frostline.encoder.embedding import pad_tokens
from frostline.encoder.lower_states import LowerStates
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.tokens import Tokens

LENGTHS = np.array([3, 9, 1, 9, 5, 12])
D = 16


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(n_tokens=40, d_model=D, n_heads=2, d_hid=24, n_layers=3)).eval()


@pytest.fixture
def tokens() -> Tokens:
    rng = np.random.default_rng(0)
    ids = np.concatenate([rng.choice(38, n, replace=False) + 2 for n in LENGTHS]).astype(np.int32)
    return Tokens(ids, rng.integers(1, 51, len(ids)).astype(np.uint8), np.concatenate([[0], np.cumsum(LENGTHS)]))


@pytest.fixture
def passed(encoder, monkeypatch):
    """Cells that went through the first block, call by call."""
    seen = []
    encoder.transformer_encoder.layers[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


def whole(encoder, tokens, rows) -> np.ndarray:
    with torch.no_grad():
        return encoder.cls_states(*pad_tokens(tokens.take(rows), encoder.config)).numpy()


def states_of(lower, rows) -> torch.Tensor:
    return lower.cls_states(*lower.inputs(rows))


@pytest.mark.parametrize("n_upper", [1, 2, 3])
def test_states_are_those_of_the_whole_encoder(encoder, tokens, n_upper):
    lower = LowerStates(encoder, tokens, n_upper, "fp32")
    for rows in ([0, 1, 2], [5, 2, 4], [3], [0, 1, 2, 3, 4, 5]):
        with torch.no_grad():
            states = states_of(lower, np.array(rows)).numpy()
        np.testing.assert_allclose(states, whole(encoder, tokens, np.array(rows)), rtol=0, atol=1e-5)


def test_a_cell_goes_through_the_lower_blocks_once(encoder, tokens, passed):
    lower = LowerStates(encoder, tokens, 1, "fp32")
    for rows in ([0, 1, 2], [2, 1, 0], [2, 3], [0, 3]):
        states_of(lower, np.array(rows))
    assert passed == [3, 1]


def test_what_does_not_fit_is_computed_each_time(encoder, tokens, passed):
    fits = 4 * D * (1 + 3 + 1 + 1)  # cells 0 and 2, with <cls>
    lower = LowerStates(encoder, tokens, 1, "fp32", most=fits)
    rows = np.array([0, 1, 2])
    first, again = (states_of(lower, rows).detach().numpy() for _ in range(2))
    assert passed == [3, 1]
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-6)


def test_gradients_reach_the_upper_blocks_alone(encoder, tokens):
    rows = np.arange(6)
    for last in (False, True):  # computed, then kept
        encoder.zero_grad()
        lower = LowerStates(encoder, tokens, 1, "fp32")
        for _ in range(1 + last):
            encoder.zero_grad()
            states_of(lower, rows).pow(2).sum().backward()
        got = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
        assert {name.split(".")[2] for name in got} == {"2"}
        encoder.zero_grad()
        encoder.cls_states(*pad_tokens(tokens.take(rows), encoder.config)).pow(2).sum().backward()
        expected = {name: p.grad for name, p in encoder.named_parameters() if "layers.2." in name}
        assert got.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-4)
