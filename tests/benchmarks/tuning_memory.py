"""Seconds and peak memory of an epoch of LoRA on an encoder of the official size, by batch and by what saves.

    python tests/benchmarks/tuning_memory.py [--cells 32] [--genes 232] [--batches 8 32] [--device cpu] [--only low]

Weights are random, of the shape of whole-human (12 blocks of 512, 8 heads); an epoch trains on the cells once, and four
of them validate. Each line is a process of its own. The memory is what the process (on a GPU: torch) holds at most
during training above what it held with the encoder before, and what the process held in all. With few blocks the second
epoch is timed: the first computes the states below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with the official dropout": {"encoder_dropout": 0.2},
    "memory low": {"memory": "low"},
    "bf16": {"precision": "bf16"},
    "bf16, memory low": {"precision": "bf16", "memory": "low"},
    "last 2 blocks": {"layers": 2},
}


def tokens_of(n_cells: int, n_genes: int) -> Any:
    """Random genes and bins, the lengths spread around a mean."""
    from frostline.encoder.tokens import Tokens

    rng = np.random.default_rng(0)
    lengths = rng.integers(n_genes // 2, n_genes * 3 // 2, n_cells)
    ids = np.concatenate([rng.choice(60_000, n, replace=False) for n in lengths]).astype(np.int32) + 5
    return Tokens(ids, rng.integers(1, 51, len(ids)).astype(np.uint8), np.concatenate([[0], np.cumsum(lengths)]))


def epoch(setting: dict[str, Any], cells: int, genes: int, batch: int, device: str) -> tuple[float, float, float]:
    """Seconds, megabytes above those before, megabytes in all."""
    import resource

    import torch

    from frostline.encoder import training
    from frostline.encoder.devices import device_of, device_peak
    from frostline.encoder.model import Encoder, EncoderConfig, Head
    from frostline.encoder.training import TrainingSchedule, train_classifier
    from frostline.memory import peak_memory
    from frostline.strategies import Lora

    torch.manual_seed(0)
    place, tokens = device_of(device), tokens_of(cells, genes)
    strategy = replace(Lora(), **setting)
    encoder = strategy._thawed(Encoder(EncoderConfig(60_697, 512, 8, 512, 12)).requires_grad_(False))
    encoder.recompute = strategy.memory == "low"
    strategy._learn(module=torch.nn.ModuleDict({"encoder": encoder, "head": Head(512, 8)}).to(place))
    parts = {"train": tokens, "validation": tokens.take(np.arange(4))}
    inputs, logits = strategy._passes(parts)
    lengths = {part: each.lengths for part, each in parts.items()}
    classes = np.arange(cells) % 8
    targets = {"train": classes, "validation": classes[:4]}
    seconds: list[float] = []

    def timed(part: str, rows: Any) -> Any:
        if part == "validation":
            seconds.append(time.perf_counter())
        return inputs(part, rows)

    with peak_memory() as host, device_peak(place) as on_device:
        started = time.perf_counter()
        training.STEPS_PER_EPOCH = 1  # the batch is to be the one that was asked for
        plan = TrainingSchedule(1 + bool(strategy.layers), batch, 1e-3, 0)
        graphs = strategy.memory != "low"
        train_classifier(strategy.module_, timed, logits, targets, plan, lengths=lengths, graphs=graphs)
    taken = seconds[-1] - (seconds[-2] if strategy.layers else started)
    above = on_device.bytes if on_device.bytes is not None else host.bytes or 0
    return taken, above / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def lines(given: argparse.Namespace) -> Iterator[str]:
    for batch in given.batches:
        for name, setting in SETTINGS.items():
            if given.only in name:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    measure = pool.submit(epoch, setting, given.cells, given.genes, batch, given.device)
                    seconds, above, whole = measure.result()
                yield f"batch {batch:3}, {name:26} {seconds:6.1f} s, {above:6,.0f} MB above, {whole:6,.0f} MB in all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--genes", type=int, default=232)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="")
    for line in lines(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
