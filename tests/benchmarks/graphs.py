"""What CUDA graphs save in training on a GPU, and what they take of its memory; the numbers of decision 19.

    python tests/benchmarks/graphs.py [--cells 1000] [--epochs 1 5] [--multiples 32 64 128]

LoRA on `mini` and on random weights of whole-human's size, without graphs and with them, on made-up cells of 250 genes
and on the cells of pbmc68k-reduced, whose batches have many lengths; three quarters of the cells train. All fits are
made in one process, one after the other, each once.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import performance
import performance_gpu
import performance_peers
import scanpy as sc
import torch

import frostline
from frostline.encoder import graphs

DEVICE = "cuda"
CAPTURED = graphs.MOST


def data_sets(n: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, cells and split of each."""
    varied = sc.datasets.pbmc68k_reduced().raw.to_adata()
    varied.obs["kind"] = np.array(["A", "B"])[np.arange(varied.n_obs) % 2]
    for name, adata in (("made-up", performance.made(n, performance_gpu.GENES)), ("pbmc68k-reduced", varied)):
        dataset = frostline.load_dataset(adata, "kind")
        order = np.random.default_rng(0).permutation(len(dataset))
        train, rest = np.split(order, [len(order) * 3 // 4])
        yield name, dataset, dataclasses.replace(frostline.split(dataset), train=train, validation=rest, test=rest)


def fitted(dataset: Any, cut: Any, checkpoint: str, precision: str, epochs: int, multiple: int) -> tuple[float, float]:
    """Seconds of a fit, and megabytes that torch had reserved at most; without graphs if `multiple` is 0."""
    graphs.MOST, graphs.MULTIPLE = (CAPTURED, {DEVICE: multiple}) if multiple else (0, {})
    (strategy,) = frostline.strategies.build(["lora"], checkpoint=checkpoint, device=DEVICE, precision=precision)
    sizes = {"epochs": epochs, "patience": epochs, "min_steps": 0, "batch_size": performance_gpu.BATCH}
    unfitted = dataclasses.replace(strategy, n_genes=dataset.matrix.shape[1], **sizes)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    unfitted.fit(dataset, cut)
    return time.perf_counter() - started, torch.cuda.max_memory_reserved() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=performance_gpu.TRAINED, help="made-up ones")
    parser.add_argument("--epochs", nargs="+", type=int, default=[1, performance_gpu.EPOCHS])
    parser.add_argument("--multiples", nargs="+", type=int, default=[32, 64, 128], help="that lengths are padded to")
    asked = parser.parse_args()
    if refused := performance_gpu.refused():
        raise SystemExit(refused)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"mini": "mini", "whole-human's size": str(performance_peers.checkpoint(Path(folder)))}
        for data, dataset, cut in data_sets(asked.cells):
            for size, checkpoint in sizes.items():
                for precision in ("fp32", "bf16"):
                    fitted(dataset, cut, checkpoint, precision, 1, 0)  # sets things up
                    for epochs in asked.epochs:
                        for multiple in (0, *asked.multiples):
                            seconds, reserved = fitted(dataset, cut, checkpoint, precision, epochs, multiple)
                            how = f"graphs, a multiple of {multiple}" if multiple else "no graphs"
                            print(
                                f"{data}, {size}, {precision}, {epochs} epoch(s), {how}: {seconds:.2f} s, "
                                f"{reserved:,.0f} MB reserved",
                                flush=True,
                            )


if __name__ == "__main__":
    main()
