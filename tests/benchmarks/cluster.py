"""Workers beside a plain loop: cells per second, overhead, and memory of a worker at three sizes; `make bench-cluster`.

    python tests/benchmarks/cluster.py [--cells 20000 100000 200000] [--out cluster.jsonl] [--write]

Atlases of made-up cells of 60 expressed genes are embedded with `mini`: by the plain loop over the same parts in one
process, by 1 worker and by 2. A line of JSON is written for each; `--write` puts the table into book/howto/clusters.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

from frostline.cells.symbols import known_symbols
from frostline.cluster import atlases
from frostline.cluster.connections import Workers

PAGE = Path(__file__).parents[2] / "book" / "howto" / "clusters.md"
MARKS = ("<!-- bench-cluster -->", "<!-- end of bench-cluster -->")
HEAD = ("cells", "how", "seconds", "cells/s", "against the plain loop", "peak of a worker, MB")
GENES = sorted(known_symbols())[:2_000]
EXPRESSED, BLOCK = 60, 5_000


def write(path: Path, n: int) -> None:
    """An atlas of so many cells, the same 5,000 again and again, block by block."""
    rng = np.random.default_rng(0)
    first = min(BLOCK, n)
    columns = np.sort(np.argsort(rng.random((first, len(GENES))), axis=1)[:, :EXPRESSED], axis=1).ravel()
    counts = rng.integers(1, 9, first * EXPRESSED).astype(np.float32)
    empty = AnnData(sparse.csr_matrix((1, len(GENES)), dtype=np.float32), var=pd.DataFrame(index=GENES))
    empty.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name in ("obs", "X"):
            del file[name]
        write_elem(file, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n, len(GENES))})
        for name, values in (("data", counts), ("indices", columns.astype(np.int32))):
            array = group.create_dataset(name, shape=(n * EXPRESSED,), dtype=values.dtype, chunks=(65_536,))
            for start in range(0, n * EXPRESSED, len(values)):
                array[start : start + len(values)] = values[: n * EXPRESSED - start]
        group.create_dataset("indptr", data=np.arange(n + 1, dtype=np.int64) * EXPRESSED)


class Peak(threading.Thread):
    """Highest resident memory of any worker, read twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self._stop_asked = 0, threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        self.bytes = max(self.bytes, process.memory_info().rss)
                except psutil.Error:
                    continue

    def ended(self) -> int:
        self._stop_asked.set()
        self.join()
        return self.bytes


def plain(atlas: Path, output: Path) -> None:
    """The same parts one after the other, in this process."""
    import torch

    from frostline.cluster.works import compute, kept

    def loop(job, unfinished, missing, _workers, _monitor):
        torch.set_num_threads(1)
        sha256 = kept(job.work, unfinished)
        for part in missing:
            compute(unfinished, job.source, sha256, part)

    real, atlases._computed = atlases._computed, loop
    try:
        atlases.embed(atlas, output, max_length=EXPRESSED + 4)
    finally:
        atlases._computed = real


def measured(atlas: Path, n: int, how: str) -> dict[str, object]:
    """One way, once."""
    with tempfile.TemporaryDirectory() as folder:
        output, peak = Path(folder) / "out.zarr", Peak()
        peak.start()
        started = time.perf_counter()
        if how == "plain loop":
            plain(atlas, output)
        else:
            workers = Workers(number=int(how.split()[0]), memory="2GB")
            atlases.embed(atlas, output, max_length=EXPRESSED + 4, workers=workers)
        seconds = time.perf_counter() - started
        top = peak.ended()
    return {"cells": n, "how": how, "seconds": seconds, "rate": n / seconds, "peak_mb": top / 1e6 or None}


def table(lines: list[dict[str, object]]) -> str:
    """As Markdown."""
    plain = {line["cells"]: line["rate"] for line in lines if line["how"] == "plain loop"}
    rows = [
        (
            f"{line['cells']:,}",
            line["how"],
            f"{line['seconds']:.0f}",
            f"{line['rate']:.0f}",
            f"{line['rate'] / plain[line['cells']]:.2f}" if line["cells"] in plain else "NA",
            f"{line['peak_mb']:.0f}" if line["peak_mb"] else "NA",
        )
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (HEAD, ["---"] * len(HEAD), *rows))


def written(page: str, text: str) -> str:
    """The page with a text between the marks."""
    before, rest = page.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def cost(rate: float, workers: int, cells: int = 50_000_000, efficiency: float = 0.9, retries: float = 0.02) -> float:
    """Hours of so many workers, each of a rate in cells per second."""
    return cells * (1 + retries) / (rate * workers * efficiency) / 3600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000, 200_000])
    parser.add_argument("--ways", nargs="+", default=["plain loop", "1 worker", "2 workers"])
    parser.add_argument("--out", type=Path, default=Path("cluster.jsonl"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cost", type=float, help="cells per second of one worker: hours for 50 million cells")
    asked = parser.parse_args()
    if asked.cost:
        for workers in (8, 64, 1_000):
            hours = cost(asked.cost, workers)
            print(
                f"{workers:5,} workers of {asked.cost:,.0f} cells/s: {hours:,.1f} h, {hours * workers:,.0f} of a worker"
            )
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for n in asked.cells:
            write(Path(folder) / "atlas.h5ad", n)
            for how in asked.ways:
                line = measured(Path(folder) / "atlas.h5ad", n, how)
                with asked.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
    if asked.write:
        lines = [json.loads(line) for line in asked.out.read_text(encoding="utf-8").splitlines()]
        said = f"Measured on {os.cpu_count()} cores; cells of {EXPRESSED} expressed genes, `mini`, one thread a worker."
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), f"{said}\n\n{table(lines)}"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
