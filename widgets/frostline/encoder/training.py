"""One training loop for everything that trains on labels: seeded, early-stopped, cancellable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from frostline.encoder.devices import AT_ONCE, move, place_of, side_by_side
from frostline.encoder.dropout import drawn_from, with_fast_dropout
from frostline.encoder.embedding import BATCH_TOKENS, batches_by_length
from frostline.encoder.graphs import Graphed
from frostline.errors import FrostlineError
from frostline.monitor import Monitor

POOL = 8  # batches that are drawn together and then cut by length
STEPS_PER_EPOCH, SMALLEST_BATCH = 12, 8
"""Few cells make smaller batches: an epoch has so many steps, of at least so many cells."""


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast to train."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    patience: int = 8
    """Epochs without a lower validation loss before training stops."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest L2 norm of the gradient."""
    warmup_epochs: int = 0
    """Epochs over which the learning rate rises linearly from zero, step by step."""
    min_steps: int = 0
    """Steps that must fit into the epochs; where few cells train, there are more epochs, and more patience."""

    def for_cells(self, n: int) -> TrainingSchedule:
        """Fit batches and epochs to the number of training cells: the same epochs of few cells are few steps.

        Examples
        --------
        >>> schedule = TrainingSchedule(epochs=8, batch_size=32, learning_rate=2e-3, seed=0, patience=4, min_steps=100)
        >>> few, many = schedule.for_cells(40), schedule.for_cells(420)
        >>> (few.batch_size, few.epochs, few.patience), (many.batch_size, many.epochs, many.patience)
        ((8, 20, 10), (32, 8, 4))
        """
        batch_size = min(self.batch_size, max(SMALLEST_BATCH, n // STEPS_PER_EPOCH))
        epochs = max(self.epochs, math.ceil(self.min_steps / math.ceil(n / batch_size)))
        patience = math.ceil(self.patience * epochs / self.epochs)
        return replace(self, batch_size=batch_size, epochs=epochs, patience=patience)


def train_classifier(
    module: nn.Module,
    inputs: Callable[[str, NDArray[np.int64]], Sequence[Tensor]],
    logits: Callable[..., Tensor],
    targets: dict[str, NDArray[np.int64]],
    schedule: TrainingSchedule,
    *,
    lengths: Mapping[str, NDArray[np.int64]] | None = None,
    draws: torch.Generator | None = None,
    graphs: bool = True,
    monitor: Monitor | None = None,
) -> tuple[dict[str, float], ...]:
    """Minimise cross-entropy on training cells, keep the weights of the lowest validation loss.

    On a CPU passes are computed side by side, each by one thread with draws of its own, and their gradients are added
    in their order: the weights do not depend on how many threads there are, nor on what other threads draw meanwhile.
    On a GPU steps are replayed from CUDA graphs, one a shape of batches, which changes no weight.

    Parameters
    ----------
    module
        Holds the parameters; those with `requires_grad` are trained.
    inputs
        Called with `train` or `validation` and rows of that part; tensors where the module is.
    logits
        Called with these tensors; (n_rows, n_classes). It must not wait for a GPU.
    targets
        Class numbers of the cells of `train` and `validation`.
    schedule
        Epochs, rates, seed.
    lengths
        Tokens of each cell of both parts. Batches are then of cells of similar length, of which only so many pass
        together as have `BATCH_TOKENS`: the gradients are the same, and the memory does not grow with the batch.
    draws
        Of the CPU, for what each pass drops there; None for one of the schedule's seed.
    graphs
        Whether a GPU may replay steps, which takes the memory of the largest once more.

    Returns
    -------
    tuple
        One entry an epoch: epoch, train_loss, validation_loss, validation_accuracy.

    Raises
    ------
    FrostlineError
        A training loss is not finite, or no validation loss is; a trainable tensor received no gradient, or only
        zeros.
    Cancelled
        The monitor was asked to stop.
    """
    schedule = schedule.for_cells(len(targets["train"]))
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    monitor, descent = monitor or Monitor(), _Descent(trainable, schedule)
    of_train = None if lengths is None else lengths["train"]
    place = place_of(module)
    passes = _Passes(lengths, BATCH_TOKENS[place.type], schedule.batch_size)
    rng = np.random.default_rng(schedule.seed)
    draws = draws or torch.Generator().manual_seed(schedule.seed)
    history: list[dict[str, float]] = []
    best, best_state, since_best = float("inf"), _snapshot(trainable), 0
    with_fast_dropout(module)

    def descend(wanted: Tensor, *batch: Tensor, share: float = 1.0) -> list[Tensor | None]:
        loss = share * F.cross_entropy(logits(*batch), wanted)
        return [loss.detach(), *torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)]

    graphed = Graphed(descend)

    def descended(part: tuple[NDArray[np.int64], float, int]) -> tuple[float, Sequence[Tensor | None]]:
        few, share, seed = part
        # a graph writes into the same tensors each time, which does not do for gradients that are added up
        compute = graphed if graphs and share == 1 else partial(descend, share=share)
        with drawn_from(seed):
            loss, *gradients = compute(*move([torch.from_numpy(targets["train"][few])], place), *inputs("train", few))
        value = float(cast(Tensor, loss))
        if not math.isfinite(value):
            raise FrostlineError(f"the training loss became {value}; try a smaller learning rate")
        return value, gradients

    def validated(rows: NDArray[np.int64]) -> Tensor:
        with torch.no_grad():
            return logits(*inputs("validation", rows))

    with side_by_side(place, AT_ONCE // 2) as each:
        for epoch in range(schedule.epochs):
            module.train()
            total, batches = 0.0, list(_batches(len(targets["train"]), schedule.batch_size, rng, of_train))
            say = f"epoch {epoch + 1} of at most {schedule.epochs}"
            for i, rows in enumerate(batches):
                monitor.step((epoch + i / len(batches)) / schedule.epochs, say)
                parts = [(few, len(few) / len(rows), _seed(draws)) for few in passes.of("train", rows)]
                total += descent.step(each(descended, parts), epoch + (i + 1) / len(batches)) * len(rows)
            descent.refuse_silent()
            ask = partial(monitor.step, (epoch + 1) / schedule.epochs, say)
            entry = _validate(module, validated, targets["validation"], passes, each, ask)
            history.append({"epoch": epoch + 1, "train_loss": total / len(targets["train"]), **entry})
            monitor.epoch(history[-1])
            since_best += 1
            if entry["validation_loss"] < best:
                best, best_state, since_best = entry["validation_loss"], _snapshot(trainable), 0
            if since_best >= schedule.patience:
                break
    if not math.isfinite(best):
        raise FrostlineError(f"the validation loss was {entry['validation_loss']} at best; try a smaller learning rate")
    _restore(trainable, best_state)
    module.eval()
    return tuple(history)


@dataclass(frozen=True)
class _Passes:
    """Which cells pass the module at once."""

    lengths: Mapping[str, NDArray[np.int64]] | None
    most_tokens: int
    batch_size: int

    def of(self, part: str, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """All rows once."""
        if self.lengths is None:
            return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        return [rows[few] for few in batches_by_length(self.lengths[part][rows], self.most_tokens)]


def _seed(draws: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=draws))


def _loss(scores: Tensor, classes: NDArray[np.int64]) -> Tensor:
    return F.cross_entropy(scores, torch.from_numpy(classes).to(scores.device))


def _snapshot(trainable: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable.items()}


def _restore(trainable: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(state[name])


class _Descent:
    """Goes down the loss step by step, and knows which tensors have had no gradient but zeros."""

    def __init__(self, trainable: dict[str, nn.Parameter], schedule: TrainingSchedule) -> None:
        self.trainable, self.schedule = trainable, schedule
        self.optimiser = torch.optim.AdamW(
            trainable.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.silent, self.steps = dict(trainable), 0

    def step(self, parts: Iterable[tuple[float, Sequence[Tensor | None]]], epochs: float) -> float:
        """Take the step that ends so many epochs after the start, down the sum of losses, and return that."""
        self.optimiser.zero_grad()
        total = 0.0
        for loss, gradients in parts:
            for parameter, gradient in zip(self.trainable.values(), gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            total += loss
        cut_off = [name for name, parameter in self.trainable.items() if parameter.grad is None]
        if cut_off:
            raise FrostlineError(f"called trainable, but no gradient reaches: {', '.join(cut_off[:5])}")
        self.silent = {name: p for name, p in self.silent.items() if p.grad is not None and not p.grad.any()}
        nn.utils.clip_grad_norm_(self.trainable.values(), self.schedule.clip)
        if self.schedule.warmup_epochs:
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule.learning_rate * min(1.0, epochs / self.schedule.warmup_epochs)
        self.optimiser.step()
        self.steps += 1
        return total

    def refuse_silent(self) -> None:
        """Refuse what is called trainable and cannot learn."""
        # in the first step one of LoRA's two matrices has a gradient of zero, since the other is zero
        if self.silent and self.steps > 1:
            names = ", ".join(list(self.silent)[:5])
            raise FrostlineError(f"called trainable, but the gradient is zero in all {self.steps} steps: {names}")


def _batches(
    n: int, batch_size: int, rng: np.random.Generator, lengths: NDArray[np.int64] | None
) -> Iterator[NDArray[np.int64]]:
    """All rows once, in random batches; of similar length within a pool when lengths are given."""
    order = rng.permutation(n)
    if lengths is not None:
        pools = [order[start : start + POOL * batch_size] for start in range(0, n, POOL * batch_size)]
        order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    starts = np.arange(0, n, batch_size)
    for start in rng.permutation(starts) if lengths is not None else starts:
        yield order[start : start + batch_size]


def _validate(
    module: nn.Module,
    logits: Callable[[NDArray[np.int64]], Tensor],
    targets: NDArray[np.int64],
    passes: _Passes,
    each: Callable[[Callable[[NDArray[np.int64]], Tensor], Sequence[NDArray[np.int64]]], Iterable[Tensor]],
    ask: Callable[[], None],
) -> dict[str, float]:
    """Loss and accuracy of the validation cells; `ask` is called before each pass."""
    module.eval()
    parts = passes.of("validation", np.arange(len(targets)))
    made, found = iter(each(logits, parts)), []
    for _ in parts:
        ask()
        found.append(next(made))
    scores = torch.cat(found)
    wanted = targets[np.concatenate(parts)]
    hits = scores.argmax(1).cpu().numpy() == wanted
    return {
        "validation_loss": float(_loss(scores, wanted)),
        "validation_accuracy": int(hits.sum()) / len(targets),
    }
