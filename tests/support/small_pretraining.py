"""Pre-training in a second or two: its cells and its phases."""

from __future__ import annotations

import anndata
import numpy as np
from scipy import sparse

from frostline.pretraining.recipes import Phase, PretrainSettings

N_GENES = 120
FIRST = Phase(steps=24, subset_sizes=(8, 16), batch_cells=16, n_components=8, learning_rate=3e-3, warmup=5)
SECOND = Phase(
    steps=16,
    subset_sizes=(32,),
    batch_cells=8,
    n_components=5,
    exponent=0.0,
    n_neighbors=4,
    learning_rate=1e-3,
    warmup=2,
)
SMALL = PretrainSettings(d_model=16, n_layers=2, n_heads=2, d_hid=32, dropout=0.1, phases=(FIRST, SECOND), mvc_genes=4)
STEPS = 40


def counts(seed: int, n_cells: int = 80, first_gene: int = 0) -> anndata.AnnData:
    """Draw cells of four kinds, each kind with its own rates per gene."""
    rng = np.random.default_rng(seed)
    rates = np.random.default_rng(99).gamma(0.4, 1.0, (4, N_GENES))[:, first_gene:]
    values = rng.poisson(rates[rng.integers(0, 4, n_cells)]).astype(np.float32)
    values[:, -1] += 1  # no cell is empty
    adata = anndata.AnnData(sparse.csr_matrix(values))
    adata.var_names = [f"G{i:03d}" for i in range(first_gene, N_GENES)]
    return adata
