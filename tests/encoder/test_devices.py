"""Where the encoder computes: what can be asked for, what stays as it was, and that devices agree.

Where torch sees a GPU the last classes run, and every other test of the encoder computes there, too (`make test-gpu`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from frostline.cells.splits import split
from frostline.encoder import devices
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.devices import autocast, device_of, move, place_of, seeded, to_host
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


class TestSeeds:
    def test_the_same_numbers_inside_and_the_old_stream_outside(self):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        drawn = []
        for _ in range(2):
            with seeded(5, CPU):
                drawn.append(torch.rand(3))
            assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(*drawn)

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

    def test_the_random_stream_of_the_gpu_is_what_it_was(self):
        torch.cuda.manual_seed(3)
        before = torch.cuda.get_rng_state()
        with seeded(5, device_of("cuda")):
            torch.rand(3, device="cuda")
        assert torch.equal(torch.cuda.get_rng_state(), before)
        assert devices.device_of("auto").type == "cuda"
