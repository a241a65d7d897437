"""CUDA graphs: called as it is on a CPU; on a GPU the same numbers as without, for each shape and what is drawn."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from frostline.cells.splits import split
from frostline.encoder import graphs
from frostline.encoder.devices import seeded
from frostline.encoder.graphs import MOST, Graphed
from frostline.errors import FrostlineError
from frostline.strategies import build

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def counted(compute):
    """Counts the calls."""

    def call(*inputs):
        call.n += 1
        return compute(*inputs)

    call.n = 0
    return call


def test_on_a_cpu_each_call_computes():
    compute = counted(lambda x, y: (x + y, None))
    graphed = Graphed(compute)
    results = [graphed(torch.full((2,), float(i)), torch.ones(2))[0] for i in range(4)]
    assert [result.tolist() for result in results] == [[i + 1.0] * 2 for i in range(4)]
    assert compute.n == 4


class MadeUp:
    """CUDA graphs of the CPU: while one is captured nothing is computed, and a replay reads and writes its tensors."""

    def __init__(self, monkeypatch, graphed):
        self.graphed, self.pools, self.replays, self.fails = graphed, [], 0, None
        monkeypatch.setattr(graphs, "DEVICE", "cpu")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(self))
        monkeypatch.setattr(torch.cuda, "graph", self.capture)

    @contextlib.contextmanager
    def capture(self, graph, pool, capture_error_mode):
        self.pools.append(pool)
        with torch.no_grad():
            yield
        if self.fails is not None:
            raise self.fails


class Graph:
    def __init__(self, device):
        self.device = device

    def pool(self):
        return "shared"

    def replay(self):
        self.device.replays += 1
        graphed = self.device.graphed
        (places,) = [places for graph, places in graphed._graphs.values() if graph is self]
        for result, new in zip(graphed._results, double_of(*places), strict=True):
            if result is not None:
                result.copy_(new)


def double_of(x, y):
    return [(x * y).sum(), None]


class TestCapturing:
    """Which shapes are captured, on what, and what becomes of a capture that fails."""

    @pytest.fixture
    def device(self, monkeypatch):
        return MadeUp(monkeypatch, Graphed(counted(double_of)))

    def call(self, device, n, factor=1.0):
        total, nothing = device.graphed(torch.full((n,), factor), torch.arange(n, dtype=torch.float32))
        assert nothing is None
        assert float(total) == factor * sum(range(n))

    def test_a_shape_that_comes_again_is_captured_and_then_replayed_on_new_inputs(self, device):
        for i, (n, replays) in enumerate([(3, 0), (5, 0), (3, 1), (3, 2), (5, 3), (4, 3), (3, 4)]):
            self.call(device, n, i + 0.5)
            assert device.replays == replays
        assert device.graphed._compute.n == 3 + 2  # one a shape, and one a capture
        assert device.pools == [None, "shared"]

    def test_no_more_shapes_are_captured_than_are_kept(self, device):
        for _ in range(3):
            for n in range(1, MOST + 4):
                self.call(device, n)
        assert len(device.pools) == MOST
        assert device.replays == 2 * MOST

    def test_where_memory_is_full_the_rest_is_computed_as_it_comes(self, device):
        for n in (3, 3, 4):
            self.call(device, n)
        device.fails = torch.OutOfMemoryError("CUDA out of memory")
        for n in (4, 4, 5, 5, 3):
            self.call(device, n)
        assert len(device.pools) == 2
        assert device.replays == 2  # of the shape that was captured before

    def test_a_capture_that_fails_otherwise_says_what_to_do(self, device):
        self.call(device, 3)
        device.fails = RuntimeError(
            "CUDA error: operation failed due to a previous error during capture\nSearch for it"
        )
        said = r"\(CUDA error: .* during capture\); restart the kernel or the command, with memory='low'"
        with pytest.raises(FrostlineError, match=said):
            self.call(device, 3)


@needs_gpu
class TestOnTheGpu:
    @pytest.fixture
    def module(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).cuda()

    @pytest.fixture
    def replayed(self, monkeypatch):
        """Graphs, one for each time that it was replayed."""
        seen, original = [], torch.cuda.CUDAGraph.replay
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: seen.append(graph) or original(graph))
        return seen

    @staticmethod
    def step_of(module):
        def step(x):
            loss = module(x).square().sum()
            return [loss.detach(), *torch.autograd.grad(loss, list(module.parameters())), None]

        return counted(step)

    def test_each_shape_is_computed_twice_and_then_replayed_on_new_inputs_and_parameters(self, module):
        step = self.step_of(module.eval())
        graphed = Graphed(step)
        for i in range(5):
            for n in (3, 5, 3):
                x = torch.randn(n, 4, device="cuda")
                found = [None if each is None else each.clone() for each in graphed(x)]
                calls = step.n
                assert found[-1] is None
                for one, other in zip(found[:-1], step(x)[:-1], strict=True):
                    torch.testing.assert_close(one, other)
                step.n = calls
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(0.1 * (i + 1))
        assert step.n == 4

    def test_what_is_dropped_is_what_would_be_dropped_without(self, module):
        step, batches = self.step_of(module.train()), [torch.randn(3, 4, device="cuda") for _ in range(6)]
        losses = []
        for compute in (step, Graphed(step)):
            with seeded(3, torch.device("cuda")):
                losses.append([float(compute(x)[0]) for x in batches])
        assert losses[0] == losses[1]
        assert len(set(losses[0])) == len(batches)

    def test_of_more_shapes_than_are_kept_each_is_right(self, module):
        step = self.step_of(module.eval())
        graphed = Graphed(step)
        for _ in range(3):
            for n in range(1, MOST + 4):
                x = torch.full((n, 4), float(n), device="cuda")
                assert float(graphed(x)[0]) == pytest.approx(float(step(x)[0]), rel=1e-6)
        assert len(graphed._graphs) == MOST

    def test_shapes_share_memory(self, module):
        """Ten shapes of batches take little more than the largest of them."""
        wide = nn.Sequential(*(nn.Linear(512, 512) for _ in range(20))).cuda()

        def step(x):
            loss = wide(x).square().sum()
            return [loss.detach(), *torch.autograd.grad(loss, list(wide.parameters()))]

        used = []
        for sizes in ([20_000], range(20_000, 10_000, -1_000)):
            graphed = Graphed(step)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved()
            for n in sizes:
                for _ in range(3):
                    graphed(torch.ones(n, 512, device="cuda"))
            torch.cuda.empty_cache()
            used.append(torch.cuda.memory_reserved() - before)
            del graphed
        assert used[1] < 1.6 * used[0]

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("head", {}),
            ("lora", {}),
            ("lora", {"encoder_dropout": 0.2}),
            ("lora", {"layers": 1}),
            ("lora_attention", {}),
            ("dora", {}),
            ("ia3", {}),
            ("full", {}),
        ],
    )
    def test_a_strategy_learns_the_same_weights_as_without(
        self, name, changes, precision, pbmc, tiny_profile, replayed, monkeypatch
    ):
        cut = split(pbmc, seed=1, profile=tiny_profile)
        (strategy,) = build([name], profile=tiny_profile, device="cuda", precision=precision)
        strategy = replace(strategy, epochs=4, **changes)
        one = replace(strategy).fit(pbmc, cut)
        assert len(replayed) > 2
        monkeypatch.setattr(graphs, "MOST", 0)
        other = replace(strategy).fit(pbmc, cut)
        for key, array in one._arrays().items():
            assert np.array_equal(array, other._arrays()[key]), key
        assert one.history_ == other.history_

    def test_low_memory_replays_nothing(self, pbmc, tiny_profile, replayed):
        cut = split(pbmc, seed=1, profile=tiny_profile)
        (strategy,) = build(["lora"], profile=tiny_profile, device="cuda")
        low, normal = (replace(strategy, memory=memory, epochs=2) for memory in ("low", "normal"))
        losses = low.fit(pbmc, cut).history_
        assert not replayed
        for one, other in zip(losses, normal.fit(pbmc, cut).history_, strict=True):
            assert one == pytest.approx(other, rel=1e-4)
        assert replayed
