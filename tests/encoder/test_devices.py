"""Where the encoder computes: what can be asked for, what stays as it was, and that devices agree.

Where torch sees a GPU the last classes run, and every other test of the encoder computes there, too (`make test-gpu`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from frostline.cells.splits import split
from frostline.encoder import devices
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.devices import (
    ahead,
    autocast,
    device_of,
    device_peak,
    made_with,
    move,
    place_of,
    precision_of,
    seeded,
    side_by_side,
    to_host,
)
from frostline.encoder.embedding import embed, encode, tokenize_cells
from frostline.errors import FrostlineError
from frostline.strategies import build, load

CPU = torch.device("cpu")
GPU = torch.cuda.is_available()


class TestAsking:
    def test_auto_is_the_gpu_where_there_is_one(self, monkeypatch):
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert device_of("auto") == CPU
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert device_of("auto").type == "cuda"

    def test_a_gpu_is_made_to_add_in_the_same_order_before_it_computes(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
        device_of("cpu")
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        device_of("cuda")
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # what somebody has chosen stays
        device_of("cuda")
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"

    @pytest.mark.parametrize("name", ["cuda", "mps"])
    def test_a_device_that_is_not_there_is_refused_with_a_remedy_that_works(self, name, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(
            FrostlineError, match=rf"device is '{name}', and torch .* sees none here; take device='cpu'"
        ):
            device_of(name)
        assert device_of("cpu") == CPU

    @pytest.mark.parametrize("asked", [{"device": "gpu"}, {"precision": "fp16"}])
    def test_unknown_names_list_the_known_ones(self, asked, three_kinds):
        (name, value), *_ = asked.items()
        with pytest.raises(FrostlineError, match=f"{name} is '{value}', and must be one of .*(cuda|bf16)"):
            embed(three_kinds.adata[:2], **asked)
        with pytest.raises(FrostlineError, match=f"{name} is '{value}', and must be one of"):
            build(["frozen_probe"])[0].__class__(**asked)


WITH_AMX = "processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile amx_int8\nbugs : spectre_v1\n"
WITHOUT = WITH_AMX.replace("amx_tile", "avx_vnni")


class TestPrecision:
    """What auto stands for; the clock and what Linux says of the CPU are made up."""

    @pytest.fixture
    def cpu(self, tmp_path, monkeypatch):
        """Set what Linux says, and how many times as long as bf16 products those of fp32 take; None: not timed."""

        def set_up(said, ratio=None):
            monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
            if said is not None:
                devices.CPUINFO.write_text(said)
            monkeypatch.setattr(devices, "_times_faster", lambda: ratio)

        return set_up

    @pytest.mark.parametrize(
        ("said", "ratio", "expected"),
        [
            (WITH_AMX, None, "bf16"),
            (WITHOUT, 2.9, "fp32"),
            (WITHOUT, 3.1, "bf16"),
            (None, 0.2, "fp32"),
            (None, 3.1, "bf16"),
            ("processor : 0\n", 2.9, "fp32"),
        ],
    )
    def test_of_a_cpu_linux_is_asked_and_then_a_clock(self, cpu, said, ratio, expected):
        cpu(said, ratio)
        assert precision_of("auto", CPU) == expected

    @pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
    def test_a_gpu_must_have_bf16_itself(self, monkeypatch, native, expected):
        asked = []
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation: asked.append(including_emulation) or native
        )
        assert precision_of("auto", torch.device("cuda")) == expected
        assert asked == [False]

    def test_mps_computes_in_fp32(self, cpu):
        cpu(WITH_AMX)
        assert precision_of("auto", torch.device("mps")) == "fp32"

    def test_what_is_named_is_taken_unasked(self, cpu):
        cpu(WITH_AMX)
        assert precision_of("fp32", CPU) == "fp32"
        cpu(WITHOUT, 0.1)
        assert precision_of("bf16", CPU) == "bf16"

    def test_products_are_timed_once_a_process_and_the_best_of_each_kind_counts(self, monkeypatch):
        slow = {torch.float32: iter([9, 4, 6, 4, 5]), torch.bfloat16: iter([99, 3, 2, 8, 2])}
        clock = [0.0]
        product = torch.nn.functional.linear

        def linear(x, weight):
            found = product(x, weight)
            clock[0] += next(slow[found.dtype])
            return found

        monkeypatch.setattr(devices.F, "linear", linear)
        monkeypatch.setattr(devices.time, "perf_counter", lambda: clock[0])
        devices._times_faster.cache_clear()
        assert devices._times_faster() == 4 / 2  # the first of each, 9 and 99, sets things up
        assert devices._times_faster() == 2
        devices._times_faster.cache_clear()

    @pytest.mark.slow
    @pytest.mark.usefixtures("instant_umap")
    @pytest.mark.parametrize("name", ["frozen_probe", "head", "lora"])
    def test_a_record_and_a_saved_strategy_say_what_auto_was(
        self, cpu, name, pbmc, tiny_profile, small_checkpoint, fresh, tmp_path
    ):
        from frostline.evaluation.evaluations import evaluate

        cut = split(pbmc, seed=1, profile=tiny_profile)
        (asked,) = build([name], profile=tiny_profile, checkpoint=str(small_checkpoint), precision="auto", device="cpu")
        records = []
        for said, ratio in ((WITH_AMX, None), (WITHOUT, 1.0)):
            cpu(said, ratio)
            records.append(evaluate(asked, fresh(pbmc), cut))
        assert asked.precision == "auto"
        assert [record.parameters["precision"] for record in records] == ["bf16", "fp32"]
        named = evaluate(replace(asked, precision="fp32"), fresh(pbmc), cut)
        assert np.array_equal(named.probabilities, records[1].probabilities)
        assert not np.array_equal(named.probabilities, records[0].probabilities)
        replace(asked).fit(fresh(pbmc), cut).save(tmp_path)
        cpu(WITH_AMX)  # kept as it was fitted, wherever it is opened
        assert load(tmp_path).precision == "fp32"


class TestSeeds:
    def test_modules_of_a_seed_are_those_that_torch_makes_with_it_and_its_stream_is_left_alone(self):
        torch.manual_seed(5)
        expected, then = nn.Linear(3, 4), torch.randint(100, (2,))
        torch.manual_seed(1)
        before = torch.get_rng_state()
        with seeded(5, CPU) as draws:
            found = made_with(draws, lambda: nn.Linear(3, 4))
            assert torch.equal(torch.randint(100, (2,), generator=draws), then)
        assert torch.equal(found.weight, expected.weight)
        assert torch.equal(found.bias, expected.bias)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_choice_of_algorithms_is_what_it_was(self):
        with pytest.raises(KeyError), seeded(5, CPU):
            raise KeyError
        assert not torch.are_deterministic_algorithms_enabled()


class TestTransport:
    def test_results_are_float32_of_the_host_whatever_they_were(self):
        value = nn.Parameter(torch.tensor([1.5], dtype=torch.bfloat16))
        assert to_host(value).dtype == np.float32
        assert to_host(value) == [1.5]

    def test_a_batch_follows_the_module(self):
        module = nn.Linear(2, 2)
        (there,) = move([torch.zeros(1, 2)], place_of(module))
        assert module(there).device == CPU

    def test_only_bf16_changes_the_precision(self):
        x = torch.ones(2, 2)
        with autocast(CPU, "fp32"):
            assert (x @ x).dtype == torch.float32
        with autocast(CPU, "bf16"):
            assert (x @ x).dtype == torch.bfloat16


@pytest.fixture(scope="module")
def tokens(pbmc):
    """Tokens of 40 cells and the checkpoint that they are for."""
    opened = load_checkpoint("mini")
    genes = tuple(gene for gene in pbmc.genes if gene in opened.vocabulary)
    return tokenize_cells(pbmc, np.arange(40), genes, opened), opened


def cosines(one, other):
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_bf16_states_point_where_fp32_states_do(tokens):
    taken, opened = tokens
    plain, short = (encode(opened.encoder(), taken, precision=precision) for precision in ("fp32", "bf16"))
    assert short.dtype == np.float32
    assert np.abs(plain - short).max() > 0
    assert cosines(plain, short).min() > 0.9995


def test_precisions_do_not_share_states(fresh, pbmc, tokens):
    from frostline.encoder.frozen import frozen_states

    dataset, (_, opened) = fresh(pbmc), tokens
    both = [frozen_states(dataset, np.arange(4), pbmc.genes, opened, precision=p).states for p in ("fp32", "bf16")]
    assert 0 < np.abs(both[0] - both[1]).max() < 0.1 * np.abs(both[0]).max()


def test_auto_shares_the_states_of_what_it_stands_for(fresh, pbmc, tokens, monkeypatch, encoded_cells):
    from frostline.encoder.frozen import frozen_states

    monkeypatch.setattr(devices, "_bf16_pays", lambda kind: True)
    dataset, (_, opened) = fresh(pbmc), tokens
    for precision in ("auto", "bf16"):
        frozen_states(dataset, np.arange(4), pbmc.genes, opened, precision=precision)
    assert sum(encoded_cells) == 4


class Allocator:
    """What torch.cuda counts of a GPU's memory."""

    def __init__(self):
        self.now = self.highest = 100

    def take(self, size):
        self.now += size
        self.highest = max(self.highest, self.now)

    def reset(self, device):
        self.highest = self.now


class TestDevicePeak:
    @pytest.fixture
    def gpu(self, monkeypatch):
        found = Allocator()
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: found.now)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: found.highest)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", found.reset)
        return found

    def test_blocks_are_nested_and_see_no_earlier_peak(self, gpu):
        cuda = torch.device("cuda")
        gpu.take(900)
        gpu.take(-900)
        with device_peak(cuda) as outer:
            gpu.take(50)
            gpu.take(-30)  # 20 stay
            with device_peak(cuda) as inner:
                gpu.take(10)
                gpu.take(-10)
            assert inner.bytes == 10
            with device_peak(cuda) as second:
                gpu.take(70)
        assert (outer.bytes, second.bytes) == (90, 70)

    def test_a_block_that_fails_is_forgotten(self, gpu):
        with pytest.raises(KeyError), device_peak(torch.device("cuda")):
            raise KeyError
        assert devices._measured == []

    @pytest.mark.parametrize("name", ["cpu", "mps"])
    def test_other_devices_say_nothing(self, name):
        with device_peak(torch.device(name)) as peak:
            pass
        assert peak.bytes is None

    @pytest.mark.slow
    @pytest.mark.usefixtures("instant_umap")
    def test_the_costs_of_a_strategy_have_it(self, gpu, pbmc, tiny_profile, small_checkpoint, fresh, monkeypatch):
        """The one that computes an embedding, and the one that takes it over; none without an encoder."""
        from frostline.encoder import frozen
        from frostline.evaluation import evaluations

        original = frozen.encode

        def encode(*args, **kwargs):
            gpu.take(7_000)
            gpu.take(-7_000)
            return original(*args, **kwargs)

        monkeypatch.setattr(frozen, "encode", encode)
        real = device_peak
        monkeypatch.setattr(devices, "device_peak", lambda device: real(torch.device("cuda")))
        monkeypatch.setattr(frozen, "device_peak", lambda device: real(torch.device("cuda")))
        cut, dataset = split(pbmc, seed=1, profile=tiny_profile), fresh(pbmc)
        sizes = {"profile": tiny_profile, "checkpoint": str(small_checkpoint), "device": "cpu"}
        built = build(["pca_logistic", "frozen_probe", "head"], **sizes)
        records = [evaluations.evaluate(each, dataset, cut) for each in built]
        assert [record.cost.device_memory for record in records] == [None, 7_000, 7_000]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def other():
    """Another thread, in which nothing was computed so far."""
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.mark.usefixtures("three_threads")
class TestSideBySide:
    @staticmethod
    def used(each) -> set[int]:
        """Threads of torch in those that compute batches, when all of them do."""
        together = threading.Barrier(3)

        def seen(_):
            together.wait(20)
            return torch.get_num_threads()

        return set(each(seen, range(3)))

    def test_a_thread_that_first_computes_meanwhile_is_not_left_with_one(self, other):
        with side_by_side(CPU) as each:
            assert self.used(each) == {1}
            assert other.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3

    def test_two_at_once_have_one_thread_a_batch_and_leave_all_as_it_was(self, other):
        with side_by_side(CPU) as each:
            second = other.submit(contextlib.ExitStack).result()
            other.submit(second.enter_context, side_by_side(CPU)).result()
            other.submit(second.close).result()
            assert self.used(each) == {1}
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == other.submit(torch.get_num_threads).result() == 3

    def test_in_one_thread_batches_are_computed_here(self, other):
        def alone():
            torch.set_num_threads(1)
            with side_by_side(CPU) as each:
                return set(each(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}

        assert other.submit(alone).result()


class TestAhead:
    """The next is made beside a GPU, and by nobody beside the CPU."""

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_all_come_in_their_order(self, device):
        assert list(ahead(iter(range(5)), torch.device(device))) == [0, 1, 2, 3, 4]
        assert list(ahead(iter([]), torch.device(device))) == []

    @pytest.mark.parametrize(("device", "waits"), [("cpu", False), ("cuda", True)])
    def test_one_is_made_meanwhile_and_no_more(self, device, waits):
        begun = [threading.Event() for _ in range(4)]

        def making():
            for i, event in enumerate(begun):
                event.set()
                yield i

        coming = ahead(making(), torch.device(device))
        assert next(coming) == 0
        assert begun[1].wait(20 if waits else 0) is waits
        assert not begun[2].is_set()
        coming.close()

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_what_cannot_be_made_is_said_after_what_could(self, device):
        def making():
            yield "first"
            raise FrostlineError("damaged")

        coming = ahead(making(), torch.device(device))
        assert next(coming) == "first"
        with pytest.raises(FrostlineError, match="damaged"):
            next(coming)


@pytest.mark.skipif(not GPU, reason="torch sees no GPU")
class TestOnTheGpu:
    """Against the CPU, which the golden files hold to the official code."""

    def test_states_agree_with_those_of_the_cpu(self, tokens):
        taken, opened = tokens
        here, there = (encode(opened.encoder().to(device_of(name)), taken) for name in ("cpu", "cuda"))
        np.testing.assert_allclose(there, here, atol=2e-5 * np.abs(here).max())

    @pytest.mark.parametrize("name", ["head", "lora", "dora", "ia3", "full"])
    def test_a_seed_trains_the_same_weights_each_time(self, name, pbmc, tiny_profile):
        cut = split(pbmc, seed=1, profile=tiny_profile)
        (strategy,) = build([name], profile=tiny_profile)
        one, two = (replace(strategy, device="cuda").fit(pbmc, cut) for _ in range(2))
        for key, array in one._arrays().items():
            assert np.array_equal(array, two._arrays()[key]), key
        assert np.array_equal(one.predict_proba(pbmc, cut.test), two.predict_proba(pbmc, cut.test))

    @pytest.mark.parametrize("name", ["frozen_probe", "head", "lora", "full"])
    def test_what_was_trained_there_predicts_the_same_here(self, name, pbmc, tiny_profile, tmp_path):
        cut = split(pbmc, seed=1, profile=tiny_profile)
        (strategy,) = build([name], profile=tiny_profile)
        trained = replace(strategy, device="cuda").fit(pbmc, cut)
        trained.save(tmp_path)
        stored = tmp_path / "strategy.json"
        stored.write_text(stored.read_text().replace('"cuda"', '"cpu"'))
        here = load(tmp_path)
        assert (here.device, trained.device) == ("cpu", "cuda")
        np.testing.assert_allclose(here.predict_proba(pbmc, cut.test), trained.predict_proba(pbmc, cut.test), atol=1e-4)

    def test_its_memory_is_measured(self):
        cuda = device_of("cuda")
        with device_peak(cuda) as outer:
            torch.empty(80_000_000, dtype=torch.uint8, device=cuda)
            with device_peak(cuda) as inner:
                held = torch.empty(20_000_000, dtype=torch.uint8, device=cuda)
        assert 80_000_000 <= outer.bytes < 83_000_000
        assert 20_000_000 <= inner.bytes < 23_000_000
        assert len(held) == 20_000_000

    def test_the_costs_of_a_strategy_on_it_have_its_memory(self, pbmc, tiny_profile, fresh):
        from frostline.evaluation.evaluations import evaluate

        cut, dataset = split(pbmc, seed=1, profile=tiny_profile), fresh(pbmc)
        for strategy in build(["frozen_probe", "head", "lora"], profile=tiny_profile, device="cuda"):
            assert evaluate(strategy, dataset, cut).cost.device_memory > 4 * load_checkpoint("mini").config.n_parameters

    def test_the_random_stream_of_the_gpu_is_what_it_was(self):
        torch.cuda.manual_seed(3)
        before = torch.cuda.get_rng_state()
        with seeded(5, device_of("cuda")):
            torch.rand(3, device="cuda")
        assert torch.equal(torch.cuda.get_rng_state(), before)
        assert devices.device_of("auto").type == "cuda"
