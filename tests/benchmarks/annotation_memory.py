"""Peak memory of labelling a file of made-up cells, larger than memory where that is small.

    python tests/benchmarks/annotation_memory.py [--cells 200000] [--mini-cells 2000] [--layout csr] [--chunk 256]

writes 3,000 genes of cells of four kinds into a file, makes a model of 600 others by each strategy, and labels the file
in a process of its own, whose highest resident memory and seconds are printed (on Linux), with what it held before a
cell was read: the libraries. Exits with 1 above 400 MB, or 450 MB with the encoder, of which torch takes 180 MB; fewer
cells go through it, since it takes minutes for thousands and holds as many at a time whatever their number.
"""

from __future__ import annotations

import argparse
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
LIMITS = {"pca_logistic": 400, "frozen_probe": 450}
GENES = sorted(known_symbols())[:N_GENES]
LABELLING = """
import re, sys, time
from pathlib import Path
from frostline.annotation.folders import load_model
def resident():
    # ru_maxrss would be that of the process that started this one, where it is larger
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
started = time.perf_counter()
model, query, output, chunk = sys.argv[1:]
kept = load_model(model)
import anndata
libraries = resident()
found = kept.annotate(query, chunk=int(chunk))
found.save(output)
print(resident(), libraries, time.perf_counter() - started, found.report.facts["fit"]["done"])
"""


def profiles(rng: np.random.Generator) -> np.ndarray:
    """(n_kinds, n_genes) shares of each kind, a tenth of them changed."""
    share = rng.lognormal(0, 1.0, N_GENES)
    changed = rng.random((N_KINDS, N_GENES)) < 0.1
    found = share * np.exp(changed * rng.normal(0, 1.5, changed.shape))
    return found / found.sum(axis=1, keepdims=True)


def cells(n: int, shares: np.ndarray, rng: np.random.Generator) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts of about 1,000 a cell, and kinds."""
    kinds = rng.integers(N_KINDS, size=n)
    return sparse.csr_matrix(rng.poisson(1_000 * shares[kinds]).astype(np.float32)), kinds


def write(path: Path, n: int, shares: np.ndarray, layout: str) -> None:
    """A file of so many cells, the same 5,000 again and again, block by block."""
    first = cells(min(BLOCK, n), shares, np.random.default_rng(1))[0]
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


def model_of(strategy: str, shares: np.ndarray, folder: Path) -> Path:
    """Folder of a model of 600 cells."""
    values, kinds = cells(600, shares, np.random.default_rng(2))
    obs = pd.DataFrame({"kind": [f"type {kind}" for kind in kinds]}, index=[f"known{i}" for i in range(600)])
    adata = AnnData(values, obs=obs, var=pd.DataFrame(index=GENES))
    return frostline.adapt(adata, "kind", strategies=[strategy]).save(folder / strategy)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--mini-cells", type=int, default=2_000)
    parser.add_argument("--layout", choices=("csr", "csc"), default="csr")
    parser.add_argument("--chunk", type=int, default=256)
    asked = parser.parse_args()
    shares, above = profiles(np.random.default_rng(0)), False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for strategy, n in (("pca_logistic", asked.cells), ("frozen_probe", asked.mini_cells)):
            if not n:
                continue
            write(folder / "query.h5ad", n, shares, asked.layout)
            model = model_of(strategy, shares, folder)
            command = [sys.executable, "-c", LABELLING, model, folder / "query.h5ad", folder / "out.h5ad"]
            done = subprocess.run([*map(str, command), str(asked.chunk)], check=True, stdout=subprocess.PIPE, text=True)
            peak, libraries, seconds, fit = done.stdout.split(maxsplit=3)
            above |= float(peak) > LIMITS[strategy]
            print(
                f"{strategy:14} {n:8,} cells x {N_GENES:,} genes ({asked.layout}), chunks of {asked.chunk:,}: "
                f"peak {float(peak):5.0f} MB, libraries and model {float(libraries):5.0f} MB, {float(seconds):6.1f} s, "
                f"{fit.strip()}"
            )
    return int(above)


if __name__ == "__main__":
    sys.exit(main())
