"""Frozen states of a data set, computed once: strategies share them, and so do runs on the same machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.encoder import caches
from frostline.encoder.caches import Kept
from frostline.encoder.checkpoints import Checkpoint
from frostline.encoder.devices import device_of, device_peak, precision_of
from frostline.encoder.embedding import encode, token_blocks
from frostline.encoder.tokens import MAX_LENGTH
from frostline.encoder.vocabulary import overlap
from frostline.memory import larger, peak_memory
from frostline.monitor import Monitor

if TYPE_CHECKING:
    import torch

    from frostline.encoder.model import Encoder


@dataclass
class Frozen:
    """Un-normalised `<cls>` states of some cells, and what computing them took, now or earlier."""

    states: NDArray[np.float32]
    """(n_cells, d)"""
    seconds: float
    peak: int | None
    """Highest memory, in bytes, of computing these and others of the data set; None where it is not known."""
    earlier: int
    """Cells of the data set whose states were on disk, from an earlier run."""
    device_peak: int | None
    """Highest memory on the GPU, likewise; None where nothing was computed on one."""


@dataclass
class _Shared(Kept):
    """States of a data set, filled as cells are asked for."""

    key: str = ""
    earlier: int = 0


def frozen_states(
    dataset: Dataset,
    cells: NDArray[np.integer],
    genes: Sequence[str],
    checkpoint: Checkpoint,
    *,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    long_cells: str = "random",
    device: str = "auto",
    precision: str = "fp32",
    monitor: Monitor | None = None,
) -> Frozen:
    """Compute the states of cells that no strategy and no earlier run has computed, and return those of all.

    Parameters
    ----------
    dataset, cells
        The data set and rows of it.
    genes
        Which of its genes are read.
    checkpoint, seed, max_length, long_cells, device, precision
        As for `frostline.embed`.
    monitor
        Receives the progress, and is asked between batches whether to stop with `Cancelled`.
    """
    place = device_of(device)
    precision = precision_of(precision, place)
    how: dict[str, Any] = {"seed": seed, "max_length": max_length, "long_cells": long_cells}
    shared = _shared(dataset, genes, checkpoint, *how.values(), place.type, precision)
    todo = np.unique(cells[~shared.done[cells]])
    if len(todo):
        started = time.perf_counter()
        with peak_memory(collect=False) as peak, device_peak(place) as on_device:
            tokens = token_blocks(dataset, todo, genes, checkpoint, **how)
            shared.states[todo] = encode(_placed(checkpoint, place), tokens, precision=precision, monitor=monitor)
        shared.peak, shared.device_peak = larger(shared.peak, peak.bytes), larger(shared.device_peak, on_device.bytes)
        taken = time.perf_counter() - started
        shared.seconds[todo] = taken / len(todo)
        if taken >= caches.WORTH:
            caches.write(shared.key, shared)
    seconds = float(shared.seconds[cells].sum())
    return Frozen(shared.states[cells], seconds, shared.peak, shared.earlier, shared.device_peak)


_PLACED: dict[tuple[object, ...], Encoder] = {}
"""The last one used: cells are labelled some hundred at a time, faster than a large encoder is read."""


def _placed(checkpoint: Checkpoint, place: torch.device) -> Encoder:
    key = (checkpoint.folder, checkpoint.weights_sha256, checkpoint.config, place)
    encoder = _PLACED.get(key)
    if encoder is None:
        _PLACED.clear()
        encoder = _PLACED[key] = checkpoint.encoder().to(place)
    return encoder


def _shared(dataset: Dataset, genes: Sequence[str], checkpoint: Checkpoint, *how: object) -> _Shared:
    """States of a data set that are in memory, or else on disk, or else none."""
    encoder = (checkpoint.weights_sha256, checkpoint.config)
    tokens = (tuple(genes), overlap(dataset, checkpoint).ids.tobytes())  # what is read, and as which tokens
    name = ("frozen_states", *encoder, *tokens, *how)
    if name not in dataset.cache:
        shape = (len(dataset), checkpoint.config.d_model)
        key = caches.key_of(_values(dataset), *encoder, *tokens, *how)
        kept = caches.read(key, shape) or Kept(np.empty(shape, np.float32), np.full(len(dataset), np.nan))
        dataset.cache[name] = _Shared(kept.states, kept.seconds, kept.peak, kept.device_peak, key, int(kept.done.sum()))
    shared: _Shared = dataset.cache[name]
    return shared


def _values(dataset: Dataset) -> str:
    """Hash of the values; relabelled copies share it."""
    name = ("values", id(dataset.matrix))
    if name not in dataset.cache:
        dataset.cache[name] = caches.digest(dataset.matrix, dataset.genes)
    found: str = dataset.cache[name]
    return found
