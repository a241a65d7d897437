"""The training loop: seeded, early-stopped, cancellable, and honest about gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from frostline.encoder.training import TrainingSchedule, train_classifier
from frostline.errors import Cancelled, FrostlineError
from frostline.monitor import Monitor

pytestmark = pytest.mark.slow

N, N_CLASSES = 60, 3


@pytest.fixture(scope="module")
def problem():
    """Features and class numbers of three well separated classes."""
    rng = np.random.default_rng(0)
    targets = {part: rng.integers(0, N_CLASSES, n) for part, n in (("train", N), ("validation", 20))}
    centres = rng.normal(size=(N_CLASSES, 5)).astype(np.float32)
    noise = {part: rng.normal(size=(len(t), 5)).astype(np.float32) for part, t in targets.items()}
    return {part: torch.from_numpy(2 * centres[t] + noise[part]) for part, t in targets.items()}, targets


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, N_CLASSES))


def schedule(**changes) -> TrainingSchedule:
    return TrainingSchedule(**{"epochs": 12, "batch_size": 16, "learning_rate": 1e-2, "seed": 3, **changes})


def features_of(features, seen=lambda part, rows: None):
    """Inputs of a module that reads features; `seen` is called with what was asked for."""

    def inputs(part, rows):
        seen(part, rows)
        return (features[part][torch.from_numpy(rows)],)

    return inputs


def train(module, problem, training_plan, **options):
    features, targets = problem
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        return train_classifier(module, features_of(features), module, targets, training_plan, **options)


def state(module) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in module.parameters()]


def test_the_loss_falls_and_the_history_has_one_entry_an_epoch(problem):
    history = train(network(), problem, schedule())
    assert [entry["epoch"] for entry in history] == list(range(1, 13))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert set(history[0]) == {"epoch", "train_loss", "validation_loss", "validation_accuracy"}


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(problem):
    modules = [network() for _ in range(3)]
    histories = [train(module, problem, schedule(seed=seed)) for module, seed in zip(modules, (3, 3, 4), strict=True)]
    assert histories[0] == histories[1] != histories[2]
    for one, again in zip(state(modules[0]), state(modules[1]), strict=True):
        np.testing.assert_array_equal(one, again)


def test_the_weights_of_the_lowest_validation_loss_are_kept(problem):
    features, targets = problem
    module = network()
    history = train(module, problem, schedule(epochs=40, learning_rate=0.1, patience=40))
    losses = [entry["validation_loss"] for entry in history]
    assert np.argmin(losses) < len(losses) - 1  # it got worse afterwards
    with torch.inference_mode():
        kept = nn.functional.cross_entropy(module(features["validation"]), torch.from_numpy(targets["validation"]))
    assert not module.training
    assert kept.item() == pytest.approx(min(losses), rel=1e-6)


def test_training_stops_after_patience_epochs_without_improvement(problem):
    history = train(network(), problem, schedule(epochs=200, learning_rate=0.1, patience=3))
    losses = [entry["validation_loss"] for entry in history]
    assert len(history) < 200
    assert len(losses) - 1 - int(np.argmin(losses)) == 3


def test_the_recorded_losses_are_those_of_all_cells_whatever_the_batch_size(problem):
    """A learning rate of zero: every epoch measures the same network, without dropout the same loss."""
    features, targets = problem
    module = network()
    module[2].p = 0.0
    with torch.inference_mode():
        scores = {part: module.eval()(x) for part, x in features.items()}
    expected = {
        part: nn.functional.cross_entropy(scores[part], torch.from_numpy(targets[part])).item() for part in scores
    }
    hits = (scores["validation"].argmax(1).numpy() == targets["validation"]).mean()
    for batch_size in (7, 16, 1_000):
        entry = train(module, problem, schedule(epochs=1, batch_size=batch_size, learning_rate=0.0))[0]
        assert entry["train_loss"] == pytest.approx(expected["train"], rel=1e-5)
        assert entry["validation_loss"] == pytest.approx(expected["validation"], rel=1e-5)
        assert entry["validation_accuracy"] == pytest.approx(hits)


LENGTHS = {part: np.random.default_rng(1).integers(1, 90, n) for part, n in (("train", N), ("validation", 20))}


@pytest.mark.parametrize("by_length", [False, True])
def test_an_epoch_trains_on_every_cell_once(problem, by_length):
    features, targets = problem
    module, seen = network(), []
    lengths = LENGTHS if by_length else None

    inputs = features_of(features, lambda part, rows: seen.append(rows) if part == "train" else None)
    train_classifier(module, inputs, module, targets, schedule(epochs=2), lengths=lengths)
    per_epoch = len(seen) // 2
    for epoch in (seen[:per_epoch], seen[per_epoch:]):
        assert sorted(np.concatenate(epoch)) == list(range(N))
        assert max(len(rows) for rows in epoch) == schedule().for_cells(N).batch_size
    assert not np.array_equal(np.concatenate(seen[:per_epoch]), np.concatenate(seen[per_epoch:]))
    if lengths is not None:
        spread = np.mean([np.ptp(lengths["train"][rows]) for rows in seen])
        assert spread < 0.5 * np.ptp(lengths["train"])


def test_a_batch_that_passes_in_parts_takes_the_same_steps(problem, monkeypatch):
    """Without dropout: the gradient of a mean over cells is the sum of its parts, whatever passes together."""
    features, targets = problem
    trained, histories, most = [], [], {}
    for tokens in (10**9, 200):
        module = network()
        module[2].p = 0.0

        def measure(part, rows, tokens=tokens):
            size = len(rows) * (1 + LENGTHS[part][rows].max())
            most[tokens] = max(most.get(tokens, 0), size if len(rows) > 1 else 0)

        monkeypatch.setattr("frostline.encoder.training.BATCH_TOKENS", {"cpu": tokens})
        plan, inputs = schedule(epochs=3, clip=0.05), features_of(features, measure)
        histories.append(train_classifier(module, inputs, module, targets, plan, lengths=LENGTHS))
        trained.append(state(module))
    assert most[200] <= 200 < most[10**9]
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(*histories, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_dropout_acts_on_training_cells_in_every_epoch_and_never_on_validation_cells(problem):
    features, targets = problem
    module, seen = network(), []

    inputs = features_of(features, lambda part, rows: seen.append((part, module.training)))
    train_classifier(module, inputs, module, targets, schedule(epochs=3))
    assert set(seen) == {("train", True), ("validation", False)}


def test_validation_cells_are_not_trained_on(problem):
    features, targets = problem
    one, other = network(), network()
    flipped = {**targets, "validation": (targets["validation"] + 1) % N_CLASSES}
    train(one, problem, schedule(epochs=1))
    train(other, (features, flipped), schedule(epochs=1))
    for a, b in zip(state(one), state(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_parameters_stay_as_they_were(problem):
    module = network()
    module[0].requires_grad_(False)
    before = copy.deepcopy(state(module))
    train(module, problem, schedule())
    after = state(module)
    for i, name in enumerate(("first weight", "first bias", "last weight", "last bias")):
        assert np.array_equal(before[i], after[i]) == name.startswith("first"), name


def test_a_trainable_tensor_that_no_gradient_reaches_is_named(problem):
    module = network()
    module.register_parameter("idle", nn.Parameter(torch.zeros(3)))
    features, targets = problem
    with pytest.raises(FrostlineError, match="no gradient reaches: idle"):
        train_classifier(module, features_of(features), nn.Sequential(*list(module)), targets, schedule())


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 16), (2, N)])
def test_a_trainable_tensor_whose_gradient_is_always_zero_is_named(problem, epochs, batch_size):
    features, targets = problem
    module = network()
    module.register_parameter("idle", nn.Parameter(torch.zeros(3)))

    def logits(x):
        return nn.Sequential(*list(module))(x) + 0 * module.idle

    with pytest.raises(FrostlineError, match=r"the gradient is zero in all \d steps: idle"):
        train_classifier(module, features_of(features), logits, targets, schedule(epochs=epochs, batch_size=batch_size))


def test_a_gradient_that_is_zero_in_the_first_step_only_is_none_to_refuse(problem):
    """As of LoRA's first matrix while the second is zero."""
    module = network()
    nn.init.zeros_(module[3].weight)
    train(module, problem, schedule(epochs=1, batch_size=N))
    train(module, problem, schedule(epochs=2, batch_size=N))


def test_the_learning_rate_rises_linearly_step_by_step(problem, monkeypatch):
    rates = []
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(network(), problem, schedule(epochs=4, warmup_epochs=2))  # 60 cells in batches of 8: 8 steps an epoch
    assert rates == pytest.approx([1e-2 * i / 16 for i in range(1, 17)] + [1e-2] * 16)
    rates.clear()
    train(network(), problem, schedule(epochs=2))
    assert rates == [1e-2] * 16


def test_a_loss_that_is_not_finite_is_an_error(problem):
    features, targets = problem
    features = {**features, "train": features["train"] * float("inf")}
    with pytest.raises(FrostlineError, match="the training loss became nan; try a smaller learning rate"):
        train(network(), (features, targets), schedule())


def test_no_finite_validation_loss_is_an_error(problem):
    """The weights that would be returned have not been trained."""
    features, targets = problem
    features = {**features, "validation": features["validation"] * float("nan")}
    with pytest.raises(FrostlineError, match="the validation loss was nan at best; try a smaller learning rate"):
        train(network(), (features, targets), schedule(epochs=2))


@pytest.mark.parametrize("after", [0, 1, 9])
def test_training_can_be_stopped_between_any_two_steps(problem, after):
    asked = iter(range(1_000))
    with pytest.raises(Cancelled, match="epoch"):
        train(network(), problem, schedule(), monitor=Monitor(cancelled=lambda: next(asked) >= after))


def test_progress_rises_from_zero_towards_one(problem):
    heard = []
    train(
        network(),
        problem,
        schedule(patience=99),
        monitor=Monitor(lambda fraction, message: heard.append((fraction, message))),
    )
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    n_validated = -(-len(problem[1]["validation"]) // 8)
    assert len(fractions) == 12 * (8 + n_validated)  # a step a batch of training, and one a pass of validation
    assert heard[0][1] == "epoch 1 of at most 12"


def test_every_epoch_is_said_as_it_ends(problem):
    """Through a part of a monitor, too, as strategies hand it down."""
    heard, steps = [], []

    def epoch(entry):
        heard.append((dict(entry), len(steps)))

    monitor = Monitor(lambda *said: steps.append(said), epoch=epoch)
    history = train(network(), problem, schedule(epochs=3), monitor=monitor.part(0.2, 0.6, "head: ").part(0.0, 1.0))
    assert tuple(entry for entry, _ in heard) == history
    assert [n for _, n in heard] == [11, 22, 33]  # after the steps of its epoch, before those of the next
    assert len(steps) == 33


def test_the_gradient_is_clipped(problem):
    """With a tiny clip plain AdamW still moves, but the gradients left behind have at most that norm."""
    module = network()
    train(module, problem, schedule(clip=1e-3))
    total = torch.sqrt(sum(p.grad.pow(2).sum() for p in module.parameters()))
    assert total.item() <= 1e-3 * (1 + 1e-4)


@pytest.mark.parametrize(
    ("n", "batch_size", "epochs", "patience"),
    [
        (10, 8, 50, 25),
        (40, 8, 20, 10),
        (77, 8, 10, 5),
        (110, 9, 8, 4),
        (240, 20, 9, 5),
        (384, 32, 9, 5),
        (420, 32, 8, 4),
    ],
)
def test_few_cells_make_small_batches_and_more_epochs(n, batch_size, epochs, patience):
    """By hand: batches of n // 12, from 8 to 32; 8 epochs, or as many as hold 100 steps; patience for half of them."""
    found = TrainingSchedule(8, 32, 2e-3, 0, patience=4, min_steps=100).for_cells(n)
    assert (found.batch_size, found.epochs, found.patience) == (batch_size, epochs, patience)
    steps = -(-n // found.batch_size)
    assert found.epochs * steps >= 100
    assert found.epochs == 8 or (found.epochs - 1) * steps < 100
