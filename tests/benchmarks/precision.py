"""What bf16 changes in frozen states and in what a probe makes of them, and what it saves here.

    python tests/benchmarks/precision.py [--checkpoint mini] [--cells 300] [--device cpu]

prints for pbmc68k-reduced and pancreas: cells a second in either precision, the lowest cosine between states of the
same cell, and the macro-F1 of `frozen_probe` over five splits in both. At the end, what auto takes on this machine.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace

import numpy as np
from long_cells import score

import frostline
from frostline.encoder import caches
from frostline.encoder.devices import device_of, precision_of
from frostline.encoder.frozen import frozen_states
from frostline.profiles import get_profile
from frostline.strategies import FrozenProbe
from frostline.strategies.encoder import known_genes

SPLITS = 5
NOT_LESS, NOT_MORE = 0.9998, 0.005
"""Cosine, and difference of the macro-F1, that are asked for."""


def drawn(name: str, cells: int) -> tuple[frostline.Dataset, list[frostline.Split]]:
    """Data set, and splits of some of its cells."""
    dataset, profile = frostline.load_dataset(name), replace(get_profile("full"), max_cells=cells)
    return dataset, [frostline.split(dataset, seed=0, repeat=repeat, profile=profile) for repeat in range(SPLITS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mini")
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    os.environ[caches.LIMIT] = "0"  # states are to be computed
    opened, where = frostline.load_checkpoint(given.checkpoint), {"device": given.device}
    kept = True
    for name in ("pbmc68k-reduced", "pancreas"):
        dataset, cuts = drawn(name, given.cells)
        cells = np.unique(np.concatenate([[*cut.train, *cut.validation, *cut.test] for cut in cuts]))
        states, scores = {}, {}
        for precision in ("fp32", "bf16"):
            started = time.perf_counter()
            found = frozen_states(dataset, cells, known_genes(dataset, opened), opened, precision=precision, **where)
            rate = len(cells) / (time.perf_counter() - started)
            states[precision] = found.states / np.linalg.norm(found.states, axis=1, keepdims=True)
            probe = FrozenProbe(given.checkpoint, precision=precision, **where)
            scores[precision] = np.array([score(dataset, cut, probe) for cut in cuts])
            print(f"{name} {precision}: {rate:.1f} cells/s, macro-F1 {scores[precision].mean():.4f}", flush=True)
        cosine = (states["fp32"] * states["bf16"]).sum(axis=1).min()
        difference = scores["bf16"] - scores["fp32"]
        print(f"{name}: min cosine {cosine:.6f}; macro-F1 {difference.mean():+.4f}, {np.round(difference, 4).tolist()}")
        kept &= bool(cosine >= NOT_LESS and abs(difference.mean()) <= NOT_MORE)
    print(f"cosine at least {NOT_LESS} and macro-F1 within {NOT_MORE}: {'yes' if kept else 'NO'}")
    print(f"auto is {precision_of('auto', device_of(given.device))} here")


if __name__ == "__main__":
    main()
