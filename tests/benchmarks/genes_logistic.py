"""How long L1 logistic regression on genes takes on 12,000 training cells x 5,000 genes of 10 classes.

    python tests/benchmarks/genes_logistic.py [EFFECT] [MARKERS]

draws counts of 20,000 cells (gamma-Poisson; EFFECT is the spread of the log fold changes of the share MARKERS of the
genes), fits the strategy once, and prints processor seconds, the chosen C and the accuracy on the test cells.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

import frostline
from frostline.strategies import GenesLogistic

N_CELLS, N_GENES, N_CLASSES = 20_000, 5_000, 10


def counts(effect: float, markers: float, rng: np.random.Generator) -> AnnData:
    """Cells of ten classes whose genes differ by log-normal fold changes."""
    share = rng.lognormal(0, 1.5, N_GENES)
    changed = rng.random((N_CLASSES, N_GENES)) < markers
    profiles = share * np.exp(effect * rng.normal(size=changed.shape) * changed)
    profiles /= profiles.sum(axis=1, keepdims=True)
    kinds = rng.integers(N_CLASSES, size=N_CELLS)
    depths = rng.lognormal(np.log(3_000), 0.5, N_CELLS)
    blocks = []
    for rows in np.array_split(np.arange(N_CELLS), 20):
        rates = profiles[kinds[rows]] * depths[rows, None] * rng.gamma(2.0, 0.5, (len(rows), N_GENES))
        blocks.append(sparse.csr_matrix(rng.poisson(rates).astype(np.float32)))
    obs = pd.DataFrame({"kind": [f"type {kind}" for kind in kinds]}, index=[f"cell{i}" for i in range(N_CELLS)])
    return AnnData(
        sparse.vstack(blocks, format="csr"), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)])
    )


def main(effect: str = "0.5", markers: str = "0.02") -> None:
    dataset = frostline.load_dataset(counts(float(effect), float(markers), np.random.default_rng(0)), "kind")
    cut = frostline.split(dataset, profile="full")
    started = time.process_time()
    fitted = GenesLogistic().fit(dataset, cut)
    seconds = time.process_time() - started
    predicted = np.array(fitted.classes_)[fitted.predict_proba(dataset, cut.test).argmax(axis=1)]
    print(f"{len(cut.train):,} cells x {len(cut.genes):,} genes, {fitted.search}")
    print(f"{seconds:7.1f} processor seconds; C = {fitted.c_:g}")
    print(f"{(predicted == dataset.labels[cut.test]).mean():7.3f} accuracy")
    print(f"{(fitted.coefficients_ != 0).mean():7.1%} of the coefficients are not zero")


if __name__ == "__main__":
    main(*sys.argv[1:])
