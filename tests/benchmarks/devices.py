"""Cells a second that an encoder of the official size embeds, by device and precision, side by side in one run.

    python tests/benchmarks/devices.py [--cells 512] [--genes 230]

Weights are random, of the shape of whole-human; every figure is the best of three passes after one that is not counted.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from frostline.encoder import embedding
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.tokens import Tokens


def tokens_of(n_cells: int, n_genes: int) -> Tokens:
    """Random genes and bins, the lengths spread around a mean."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(n_genes // 2, n_genes * 3 // 2, n_cells)
    ids = np.concatenate([rng.choice(60_000, n, replace=False) for n in lengths]).astype(np.int32) + 5
    return Tokens(ids, rng.integers(1, 51, len(ids)).astype(np.uint8), np.concatenate([[0], np.cumsum(lengths)]))


def main() -> None:
    """Print one line for each device, precision and size of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=256)
    parser.add_argument("--genes", type=int, default=230)
    given = parser.parse_args()
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(60_697, 512, 8, 512, 12)).eval()
    tokens = tokens_of(given.cells, given.genes)
    plain = None
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        encoder.to(device)
        sizes = (2_048, 8_192) if device == "cpu" else (8_192, 32_768, 131_072, 524_288)
        for precision in ("fp32", "bf16"):
            for size in sizes:
                seconds = []
                for _ in range(4):
                    started = time.perf_counter()
                    states = embedding.encode(encoder, tokens, precision=precision, batch_tokens=size)
                    seconds.append(time.perf_counter() - started)
                plain = states if plain is None else plain
                norms = np.linalg.norm(plain, axis=1) * np.linalg.norm(states, axis=1)
                cosine = ((plain * states).sum(axis=1) / norms).min()
                rate = given.cells / min(seconds[1:])
                print(f"{device} {precision} {size:>7,} tokens a batch: {rate:9,.0f} cells/s, min cosine {cosine:.6f}")


if __name__ == "__main__":
    main()
