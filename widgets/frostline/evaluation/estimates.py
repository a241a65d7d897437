"""How long a strategy will take on this machine, from a few cells that are timed on it.

Strategies without an encoder are fitted on a few labelled cells of each class, and the seconds scaled up to all
training cells. Encoding and training of a few cells are timed with the checkpoint itself.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.strategies import Strategy
from frostline.strategies.encoder import EncoderStrategy, known_genes, variable_known_genes

TIMED_CELLS = 16
TIMED_AGAIN = 3
"""Times that these are encoded; the shortest counts, for a run that has just begun imports and fits meanwhile."""
TIMED_PER_CLASS = 10


@dataclass(frozen=True)
class Estimate:
    """Seconds to fit and predict once."""

    seconds: float
    at_most: bool = False
    """Training may end earlier."""

    def __str__(self) -> str:
        return ("up to " if self.at_most else "about ") + duration(self.seconds)


def duration(seconds: float) -> str:
    """Seconds in words.

    Examples
    --------
    >>> [duration(value) for value in (0.2, 12.4, 95, 7300)]
    ['1 s', '12 s', '2 min', '2 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


def estimate(strategy: Strategy, dataset: Dataset, split: Split) -> Estimate:
    """Time a few cells and say how long the strategy will take on a split.

    Raises
    ------
    FrostlineError
        The data set does not suit the strategy.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> estimate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc)).seconds > 0
    True
    """
    strategy.ensure_applicable(dataset, split)
    if not isinstance(strategy, EncoderStrategy):
        return Estimate(_scaled_fit(strategy, dataset, split))
    work = strategy.workload(split)
    forward, backward = _encoder_seconds(strategy, dataset, split, work.genes)
    return Estimate(work.encoded * forward + work.trained * (forward + backward), at_most=work.trained > 0)


def _scaled_fit(strategy: Strategy, dataset: Dataset, split: Split) -> float:
    """Seconds of a fit on a few cells of each class, times as many cells as there are."""
    few = split.with_budget(dataset, TIMED_PER_CLASS)
    key = ("estimate", strategy.name, repr(strategy), split.fingerprint)
    if key not in dataset.cache:
        started = time.perf_counter()
        dataclasses.replace(strategy).fit(dataset, few)
        dataset.cache[key] = (time.perf_counter() - started) * max(1.0, len(split.train) / len(few.train))
    return float(dataset.cache[key])


def _encoder_seconds(
    strategy: EncoderStrategy, dataset: Dataset, split: Split, n_genes: int | None
) -> tuple[float, float]:
    """Seconds that encoding takes a cell, and the further seconds that its gradients take."""
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.devices import device_of, move, precision_of
    from frostline.encoder.embedding import encode, pad_tokens, tokenize_cells

    opened, longest = load_checkpoint(strategy.checkpoint), strategy.max_length
    place = device_of(strategy.device)
    precision = precision_of(strategy.precision, place)
    key = (
        "encoder seconds",
        opened.weights_sha256,
        n_genes,
        longest,
        split.fingerprint,
        place.type,
        precision,
    )
    if key not in dataset.cache:
        genes = known_genes(dataset, opened)
        if n_genes is not None:
            genes = variable_known_genes(dataset, split.train, n_genes, opened)
        tokens = tokenize_cells(dataset, _some(split.train), genes, opened, max_length=longest)
        encoder = opened.encoder().to(place)
        encode(encoder, tokens, precision=precision)  # what the first call sets up is not counted
        forward = np.inf
        for _ in range(TIMED_AGAIN):
            started = time.perf_counter()
            encode(encoder, tokens, precision=precision)
            forward = min(forward, time.perf_counter() - started)
        backward = 0.0
        if n_genes is not None:
            started = time.perf_counter()
            batch = move(pad_tokens(tokens, encoder.config), place)
            encoder.cls_states(*batch).sum().backward()  # type: ignore[no-untyped-call]
            backward = max(0.0, time.perf_counter() - started - forward)
            encoder.zero_grad()
        dataset.cache[key] = forward / len(tokens), backward / len(tokens)
    seconds: tuple[float, float] = dataset.cache[key]
    return seconds


def _some(cells: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return cells from everywhere among these."""
    places = np.linspace(0, len(cells) - 1, min(TIMED_CELLS, len(cells))).astype(np.int64)
    return np.asarray(cells)[places]
