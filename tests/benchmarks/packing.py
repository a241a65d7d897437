"""What packed weights save an encoder of the official size on a CPU, in fp32, and which share of a product it reaches.

    python tests/benchmarks/packing.py [--cells 16] [--genes 232]

Weights are random, of the shape of whole-human. Seconds are those of the processor, the best of several in turns; one
thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from devices import tokens_of
from torch import nn

from frostline.encoder import embedding
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.packing import packed

TOKENS, WIDTH, TURNS = 2_048, 512, 4
"""Of a batch, and of the encoder."""


def used(work: Callable[[], object]) -> float:
    """Seconds of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


def product(layer: nn.Module, times: int = 20) -> float:
    """10^9 floating-point operations a second of a product with its weights."""
    x = torch.randn(TOKENS, WIDTH)
    with torch.inference_mode():
        best = min(used(lambda: [layer(x) for _ in range(times)]) for _ in range(TURNS))
    return times * 2 * TOKENS * WIDTH**2 / best / 1e9


def operations(lengths: np.ndarray, config: EncoderConfig) -> float:
    """10^9 of all products: six a block (in the last, of all tokens but two), and two of the attention."""
    tokens, d = lengths + 1, config.d_model
    linear = 2 * d**2 * (6 * config.n_layers - 4) * tokens.sum()
    return float(linear + 4 * d * (config.n_layers - 1) * (tokens**2).sum()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--genes", type=int, default=232)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = nn.Linear(WIDTH, WIDTH)
    rates = {"as it is": product(layer), "packed": product(packed(layer))}
    encoder = Encoder(EncoderConfig(60_697, WIDTH, 8, 512, 12)).eval()
    tokens = tokens_of(given.cells, given.genes)
    ways: dict[str, Callable[[nn.Module], nn.Module]] = {"as it is": lambda module: module, "packed": packed}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    states = {}
    for _ in range(TURNS):
        for way, made in ways.items():
            embedding.packed = made
            started = time.process_time()
            states[way] = embedding.encode(encoder, tokens)
            seconds[way].append(time.process_time() - started)
    whole = operations(tokens.lengths, encoder.config)
    for way, taken in seconds.items():
        best, reached = min(taken), whole / min(taken)
        print(
            f"{way:9} {given.cells / best:5.1f} cells/s, {reached:4.0f} GFLOP/s; a product alone {rates[way]:4.0f}"
            f" ({reached / rates[way]:.0%} reached, {reached / rates['as it is']:.0%} of the product as it is)"
        )
    print(f"largest difference of a state {np.abs(states['packed'] - states['as it is']).max():.1e}")


if __name__ == "__main__":
    main()
