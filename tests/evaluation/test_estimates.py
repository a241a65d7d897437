"""Estimates: which cells are counted, what is said of them, and that nothing is left behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from frostline import strategies
from frostline.cells.datasets import Dataset
from frostline.cells.splits import split
from frostline.encoder.model import Encoder
from frostline.encoder.training import TrainingSchedule
from frostline.errors import CheckpointError, DatasetError
from frostline.evaluation import estimates
from frostline.evaluation.estimates import Estimate, duration, estimate
from frostline.evaluation.evaluations import evaluate
from frostline.strategies import STRATEGIES, FrozenProbe, FullTuning, HeadTuning, Lora, PcaLogistic
from frostline.strategies.base import Workload
from frostline.strategies.encoder import EncoderStrategy
from frostline.strategies.tuning import EncoderTuning

pytestmark = pytest.mark.slow

THROUGH_ENCODER = [name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderTuning)]


@pytest.fixture(scope="module")
def small_split(three_kinds, tiny_profile):
    return split(three_kinds, seed=1, profile=tiny_profile)


@pytest.fixture
def encoded(monkeypatch):
    """Cells of every batch that an encoder sees: (how many, whether gradients are computed)."""
    seen: list[tuple[int, bool]] = []
    original = Encoder.forward

    def forward(self, gene_ids, values, **options):
        seen.append((len(gene_ids), torch.is_grad_enabled() and self.training))
        return original(self, gene_ids, values, **options)

    monkeypatch.setattr(Encoder, "forward", forward)
    return seen


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 s"),
        (1.6, "2 s"),
        (89.6, "90 s"),
        (90, "2 min"),
        (150.1, "3 min"),
        (5_399, "90 min"),
        (5_400, "2 h"),
        (9_001, "3 h"),
        (36_000, "10 h"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_an_estimate_says_whether_it_may_be_less():
    assert str(Estimate(12.0)) == "about 12 s"
    assert str(Estimate(90.0, at_most=True)) == "up to 2 min"


class TestWorkload:
    def test_by_hand(self, three_kinds, small_split, small_checkpoint):
        """90 training cells: batches of 8, 12 a epoch; and 100 steps take 9 epochs of 12."""
        how = {"train": np.arange(90), "validation": np.arange(20), "test": np.arange(30)}
        cut = dataclasses.replace(small_split, **how)
        tuning = Lora(checkpoint=str(small_checkpoint), epochs=2, min_steps=100, n_genes=40)
        assert tuning.workload(cut) == Workload(encoded=9 * 20 + 20 + 30, trained=9 * 90, genes=40)
        short = dataclasses.replace(tuning, min_steps=0, n_genes=7)
        assert short.workload(cut) == Workload(encoded=2 * 20 + 20 + 30, trained=2 * 90, genes=7)
        # of the two blocks the last: half of each epoch, and the other half once
        upper = dataclasses.replace(tuning, layers=1)
        encoded = 9 * 20 / 2 + (90 + 20) / 2 + 20 + 30
        assert upper.workload(cut) == Workload(encoded=int(encoded), trained=9 * 90 // 2, genes=40)
        for kind in (FrozenProbe, HeadTuning):
            assert kind(checkpoint=str(small_checkpoint)).workload(cut) == Workload(encoded=90 + 20 + 30)
        assert PcaLogistic().workload(cut) == Workload()

    def test_its_epochs_are_those_of_the_training_schedule(self, small_split, small_checkpoint):
        tuning = FullTuning(checkpoint=str(small_checkpoint), epochs=3, batch_size=16, min_steps=77)
        schedule = TrainingSchedule(3, 16, 1e-4, 0, min_steps=77).for_cells(len(small_split.train))
        assert schedule.epochs > 3
        assert tuning.workload(small_split).trained == schedule.epochs * len(small_split.train)

    @pytest.mark.parametrize("min_steps", [0, 40])
    @pytest.mark.parametrize("name", THROUGH_ENCODER)
    @pytest.mark.usefixtures("instant_umap")
    def test_it_counts_the_cells_that_go_through_the_encoder(
        self, encoded, three_kinds, small_split, fresh, small_checkpoint, name, min_steps
    ):
        how = {"epochs": 2, "min_steps": min_steps, "n_genes": 30, "patience": 1_000}
        strategy = STRATEGIES[name](checkpoint=str(small_checkpoint), **how)
        strategy.ensure_applicable(three_kinds, small_split)
        encoded.clear()
        record = evaluate(strategy, fresh(three_kinds), small_split)
        work = strategy.workload(small_split)
        assert len(record.history) * len(small_split.train) == work.trained
        assert sum(n for n, trained in encoded if trained) == work.trained
        assert sum(n for n, trained in encoded if not trained) == work.encoded

    @pytest.mark.parametrize("kind", [FrozenProbe, HeadTuning])
    @pytest.mark.usefixtures("instant_umap")
    def test_a_frozen_encoder_sees_every_cell_once(
        self, encoded, three_kinds, small_split, fresh, small_checkpoint, kind
    ):
        strategy = kind(checkpoint=str(small_checkpoint))
        strategy.ensure_applicable(three_kinds, small_split)
        encoded.clear()
        evaluate(strategy, fresh(three_kinds), small_split)
        assert strategy.workload(small_split) == Workload(encoded=sum(n for n, _ in encoded))


@pytest.fixture
def clock(monkeypatch):
    """A clock that a strategy's work moves on, not the machine."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(estimates.time, "perf_counter", lambda: Clock.now)
    return Clock


class TestEstimate:
    @pytest.mark.parametrize("name", list(STRATEGIES))
    def test_every_strategy_has_one_and_at_most_is_said_of_those_that_train(
        self, pbmc, cut, fresh, small_checkpoint, tiny_profile, name
    ):
        strategy = STRATEGIES[name].from_profile(tiny_profile, str(small_checkpoint))
        found = estimate(strategy, fresh(pbmc), cut)
        assert found.seconds > 0
        assert found.at_most == (name in THROUGH_ENCODER)
        assert strategy.classes_ == ()

    def test_a_fit_on_a_few_cells_is_scaled_up(self, pbmc, cut, fresh, clock, monkeypatch):
        seen = []

        def fit(self, dataset, few, monitor=None):
            seen.append(few)
            clock.now += 0.5
            return self

        monkeypatch.setattr(PcaLogistic, "fit", fit)
        dataset = fresh(pbmc)
        found = estimate(PcaLogistic(), dataset, cut)
        (few,) = seen
        assert few.budget == estimates.TIMED_PER_CLASS
        assert set(few.train) < set(cut.train)
        assert found == Estimate(0.5 * len(cut.train) / len(few.train))
        assert estimate(PcaLogistic(), dataset, cut) == found
        assert len(seen) == 1  # timed once
        estimate(PcaLogistic(n_components=3), dataset, cut)
        assert len(seen) == 2

    def test_an_encoder_is_timed_and_multiplied_by_the_workload(
        self, three_kinds, small_split, fresh, clock, monkeypatch, small_checkpoint
    ):
        """A cell's encoding takes 2 seconds, its gradients 5; whatever is not timed does not count.

        Nor does what else runs meanwhile, for 90 seconds of the first encoding and for 50 and 30 of two others.
        """
        original, meanwhile = Encoder.forward, iter([90, 50, 0, 30])

        class Slow(torch.autograd.Function):
            @staticmethod
            def forward(ctx, states):
                return states.clone()

            @staticmethod
            def backward(ctx, gradient):
                clock.now += 5 * len(gradient)
                return gradient

        def forward(self, gene_ids, values, **options):
            clock.now += 2 * len(gene_ids) + next(meanwhile, 0)
            return Slow.apply(original(self, gene_ids, values, **options))

        monkeypatch.setattr(Encoder, "forward", forward)
        strategy = Lora(checkpoint=str(small_checkpoint), epochs=2, min_steps=0, n_genes=30)
        work = strategy.workload(small_split)
        found = estimate(strategy, fresh(three_kinds), small_split)
        assert found == Estimate(pytest.approx(2 * work.encoded + 7 * work.trained), at_most=True)
        longer = dataclasses.replace(strategy, epochs=4)
        more = longer.workload(small_split)
        assert estimate(longer, fresh(three_kinds), small_split).seconds == pytest.approx(
            2 * more.encoded + 7 * more.trained
        )
        frozen = HeadTuning(checkpoint=str(small_checkpoint))
        n = sum(small_split.sizes[part] for part in ("train", "validation", "test"))
        assert estimate(frozen, fresh(three_kinds), small_split) == Estimate(pytest.approx(2 * n))

    def test_it_reads_as_many_genes_as_the_strategy(
        self, three_kinds, small_split, fresh, small_checkpoint, monkeypatch
    ):
        seen = []
        original = Encoder.forward

        def forward(self, gene_ids, values, **options):
            seen.append(gene_ids.shape)
            return original(self, gene_ids, values, **options)

        dataset = fresh(three_kinds)
        for how, longest in (({"n_genes": 30}, 31), ({"n_genes": 60}, 61), ({"n_genes": 60, "max_length": 20}, 20)):
            strategy = Lora(checkpoint=str(small_checkpoint), **how)
            strategy.ensure_applicable(dataset, small_split)
            with monkeypatch.context() as patch:
                patch.setattr(Encoder, "forward", forward)
                seen.clear()
                estimate(strategy, dataset, small_split)
            assert seen  # timed again
            assert {shape[0] for shape in seen} == {estimates.TIMED_CELLS}
            assert max(shape[1] for shape in seen) <= longest
            if "max_length" in how:
                assert {shape[1] for shape in seen} == {longest}

    def test_what_a_strategy_cannot_work_on_is_refused(self, three_kinds, small_split, fresh, small_checkpoint):
        one = dataclasses.replace(small_split, train=small_split.train[:0])
        for strategy in (PcaLogistic(), Lora(checkpoint=str(small_checkpoint))):
            with pytest.raises(DatasetError, match="two classes are needed"):
                estimate(strategy, three_kinds, one)
        with pytest.raises(CheckpointError, match="unknown checkpoint"):
            estimate(Lora(checkpoint="nothing"), three_kinds, small_split)
        silent = three_kinds.matrix.tolil(copy=True)
        silent[small_split.test[0]] = 0
        dataset: Dataset = fresh(three_kinds, matrix=silent.tocsr())
        with pytest.raises(DatasetError, match="express no gene"):
            estimate(FrozenProbe(checkpoint=str(small_checkpoint)), dataset, small_split)

    @pytest.mark.usefixtures("instant_umap")
    def test_it_changes_no_number_of_the_run_that_follows(self, three_kinds, small_split, fresh, small_checkpoint):
        strategy = Lora(checkpoint=str(small_checkpoint), epochs=2, min_steps=0, n_genes=30)
        plain, estimated = fresh(three_kinds), fresh(three_kinds)
        state = torch.get_rng_state()
        estimate(strategy, estimated, small_split)
        assert torch.equal(torch.get_rng_state(), state)
        records = [evaluate(strategy, dataset, small_split) for dataset in (plain, estimated)]
        assert dataclasses.replace(records[1], cost=records[0].cost) == records[0]

    def test_the_encoder_strategies_are_those_with_a_workload(self, small_split, small_checkpoint, tiny_profile):
        built = strategies.build(list(STRATEGIES), profile=tiny_profile, checkpoint=str(small_checkpoint))
        for strategy in built:
            assert (strategy.workload(small_split) != Workload()) == isinstance(strategy, EncoderStrategy)
