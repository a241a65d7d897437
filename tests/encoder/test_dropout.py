"""Dropout on a CPU: the share dropped, the expected value, the gradient, seeds, and what does not drop."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from frostline.encoder.dropout import Dropout, drawn_from, next_seed, with_fast_dropout

N = 200_000


@pytest.mark.parametrize("share", [0.001, 0.05, 0.2, 0.5, 0.9, 0.9999])
def test_a_value_is_dropped_with_its_share_and_else_divided_by_what_is_kept(share):
    torch.manual_seed(3)
    found = Dropout(share)(torch.ones(N)).numpy()
    dropped = int((found == 0).sum())
    assert stats.binomtest(dropped, N, share).pvalue > 1e-4
    levels = round(share * 65_536)
    assert np.unique(found[found != 0]) == pytest.approx([65_536 / (65_536 - levels)], rel=1e-6)


def test_draws_of_neighbours_and_of_two_calls_are_independent():
    torch.manual_seed(4)
    dropout = Dropout(0.3)
    first, second = (dropout(torch.ones(N)).numpy() == 0 for _ in range(2))
    pairs = [(first, second), *((first[:-lag], first[lag:]) for lag in (1, 2, 3, 4, 8))]
    for one, other in pairs:
        table = [[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]]
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_every_place_of_a_short_last_draw_is_filled():
    torch.manual_seed(5)
    dropped = sum((Dropout(0.5)(torch.ones(3, 7)) == 0).int() for _ in range(2_000))
    assert dropped.min() > 880
    assert dropped.max() < 1_120


def test_a_seed_of_torch_says_what_is_dropped():
    dropout, x = Dropout(0.4), torch.randn(50, 20)
    torch.manual_seed(6)
    first, after = dropout(x), dropout(x)
    torch.manual_seed(6)
    again = dropout(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, after)


def test_a_thread_drops_what_its_seed_says_whatever_other_threads_draw():
    x, together = torch.ones(5_000), threading.Barrier(4)

    def dropped(seed):
        with drawn_from(seed):
            together.wait(timeout=30)
            return torch.stack([Dropout(0.5)(x) for _ in range(20)])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(dropped, range(4)))
    for seed, values in enumerate(found):
        with drawn_from(seed):
            assert torch.equal(values, torch.stack([Dropout(0.5)(x) for _ in range(20)]))
    assert len({values.numpy().tobytes() for values in found}) == 4


def test_blocks_of_seeds_end_also_when_what_is_in_them_fails():
    def first_of(*seeds):
        with drawn_from(*seeds):
            return next_seed()

    torch.manual_seed(8)
    expected = next_seed()
    torch.manual_seed(8)
    with pytest.raises(ZeroDivisionError), drawn_from(1):
        raise ZeroDivisionError
    assert next_seed() == expected  # of torch again
    with drawn_from(1):
        first, inner, second = next_seed(), first_of(2), next_seed()
    assert [first, inner] == [first_of(1), first_of(2)]
    assert second != first
    assert first_of(1, 0) != first_of(1, 1)


def test_the_gradient_is_that_of_what_was_kept():
    torch.manual_seed(7)
    x = torch.randn(40, 9, requires_grad=True)
    found = Dropout(0.25)(x)
    found.backward(torch.full_like(x, 2.0))
    factor = found.detach() / x.detach()
    torch.testing.assert_close(x.grad, 2 * factor)
    assert x.grad.unique().tolist() == pytest.approx([0.0, 2 / 0.75])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_kind_of_number_stays(dtype):
    assert Dropout(0.5)(torch.ones(8, dtype=dtype)).dtype == dtype


def test_none_is_dropped_of_a_share_of_nothing_nor_outside_training():
    x = torch.randn(30)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(0.7).eval()(x), x)


def test_all_are_dropped_of_a_share_of_one():
    assert not Dropout(1.0)(torch.ones(30)).any()


def test_of_no_values_none_remain():
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_every_dropout_below_a_module_is_replaced_and_nothing_else():
    inner = nn.ModuleDict({"default": nn.Dropout(0.05)})
    layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.AlphaDropout(0.1))
    model = nn.ModuleDict({"layers": layers, "of": inner})
    before = copy.deepcopy(model)
    with_fast_dropout(model)
    kinds = {name: type(part) for name, part in model.named_modules()}
    assert kinds == {name: Dropout if type(part) is nn.Dropout else type(part) for name, part in before.named_modules()}
    assert [model["layers"][1].p, model["of"]["default"].p] == [0.3, 0.05]
