"""Peak memory of labelling a file of made-up cells, larger than memory where that is small.

    python tests/benchmarks/annotation_memory.py [--cells 200000] [--mini-cells 2000] [--counts 1000] [--layout csr]
                                                 [--chunk 256]

writes 3,000 genes of cells of four kinds into a file, makes a model of 600 others by each strategy, and labels the file
in a process of its own, whose highest resident memory and seconds are printed (on Linux), with what it held before a
cell was read: libraries and model, as a plain `pip install frostline` has them, with torch for CPUs (the one for NVIDIA
GPUs takes 480 MB more). Exits with 1 above 400 MB. Fewer cells go through the encoder, which takes minutes for
thousands of 1,000 counts; those of 20 counts take a fiftieth of that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

import frostline
from frostline.cells.symbols import known_symbols

N_GENES, N_KINDS, BLOCK = 3_000, 4, 5_000
LIMIT = 400
"""Megabytes."""
GENES = sorted(known_symbols())[:N_GENES]
LABELLING = """
import sys, time
sys.modules["dask"] = None  # frostline needs none; anndata loads it, 17 MB, where frostline[cluster] has brought it
import anndata, psutil
from frostline.annotation.folders import load_model
from frostline.memory import peak_memory
resident = lambda: psutil.Process().memory_info().rss
started = time.process_time()
model, query, output, chunk = sys.argv[1:]
kept = load_model(model)
libraries = resident()
with peak_memory() as peak:  # the mark of the process itself is put back whenever cells are embedded
    before = resident()
    found = kept.annotate(query, chunk=int(chunk))
    found.save(output)
highest = max(libraries, before + peak.bytes)
print(highest / 2**20, libraries / 2**20, time.process_time() - started, found.report.facts["fit"]["done"])
"""


def profiles(rng: np.random.Generator) -> np.ndarray:
    """(n_kinds, n_genes) shares of each kind, a tenth of them changed."""
    share = rng.lognormal(0, 1.0, N_GENES)
    changed = rng.random((N_KINDS, N_GENES)) < 0.1
    found = share * np.exp(changed * rng.normal(0, 1.5, changed.shape))
    return found / found.sum(axis=1, keepdims=True)


def cells(n: int, shares: np.ndarray, rng: np.random.Generator, counts: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """About so many counts a cell, and kinds."""
    kinds = rng.integers(N_KINDS, size=n)
    return sparse.csr_matrix(rng.poisson(counts * shares[kinds]).astype(np.float32)), kinds


def write(path: Path, n: int, shares: np.ndarray, layout: str, counts: int) -> None:
    """A file of so many cells, the same 5,000 again and again, block by block."""
    first = cells(min(BLOCK, n), shares, np.random.default_rng(1), counts)[0]
    AnnData(first, var=pd.DataFrame(index=GENES)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]
        write_elem(file, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
        part = file["X"]
        kept = {name: part[name][()] for name in ("data", "indices", "indptr")}
        del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n, N_GENES)})
        for name in ("data", "indices"):
            group.create_dataset(name, data=kept[name], maxshape=(None,), chunks=(65_536,))
        pointers = [kept["indptr"].astype(np.int64)]
        for start in range(len(first.indptr) - 1, n, BLOCK):
            block = first[: n - start]
            for name in ("data", "indices"):
                array = group[name]
                array.resize((len(array) + block.nnz,))
                array[-block.nnz :] = getattr(block, name)
            pointers.append(block.indptr[1:] + pointers[-1][-1])
        group.create_dataset("indptr", data=np.concatenate(pointers))
    if layout == "csc":
        import anndata

        whole = anndata.read_h5ad(path)
        whole.X = whole.X.tocsc()
        whole.write_h5ad(path)


def model_of(strategy: str, shares: np.ndarray, folder: Path, counts: int) -> Path:
    """Folder of a model of 600 cells."""
    values, kinds = cells(600, shares, np.random.default_rng(2), counts)
    obs = pd.DataFrame({"kind": [f"type {kind}" for kind in kinds]}, index=[f"known{i}" for i in range(600)])
    adata = AnnData(values, obs=obs, var=pd.DataFrame(index=GENES))
    return frostline.adapt(adata, "kind", strategies=[strategy]).save(folder / strategy)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--mini-cells", type=int, default=2_000)
    parser.add_argument("--counts", type=int, default=1_000)
    parser.add_argument("--layout", choices=("csr", "csc"), default="csr")
    parser.add_argument("--chunk", type=int, default=256)
    asked = parser.parse_args()
    shares, above = profiles(np.random.default_rng(0)), False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for strategy, n in (("pca_logistic", asked.cells), ("frozen_probe", asked.mini_cells)):
            if not n:
                continue
            write(folder / "query.h5ad", n, shares, asked.layout, asked.counts)
            model = model_of(strategy, shares, folder, asked.counts)
            command = [sys.executable, "-c", LABELLING, model, folder / "query.h5ad", folder / "out.h5ad"]
            own = {**os.environ, "FROSTLINE_CACHE": str(folder / "cache")}  # nothing is embedded yet
            done = subprocess.run(
                [*map(str, command), str(asked.chunk)], check=True, stdout=subprocess.PIPE, text=True, env=own
            )
            peak, libraries, seconds, fit = done.stdout.split(maxsplit=3)
            above |= float(peak) > LIMIT
            print(
                f"{strategy:14} {n:8,} cells of {asked.counts:,} counts x {N_GENES:,} genes ({asked.layout}), chunk "
                f"{asked.chunk:,}: peak {float(peak):5.0f} MB, libraries and model {float(libraries):5.0f} MB, "
                f"{float(seconds):6.1f} CPU s, {fit.strip()}"
            )
    return int(above)


if __name__ == "__main__":
    sys.exit(main())
