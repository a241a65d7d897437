"""Data sets of a few cells, for the tests of what is loaded, joined and split."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from frostline.cells.datasets import Dataset, load_dataset
from frostline.profiles import get_profile

N_CELLS, N_GENES = 24, 15
PARTS = ("train", "validation", "test")


def counts() -> np.ndarray:
    values = np.random.default_rng(0).poisson(2.0, (N_CELLS, N_GENES)).astype(np.float32)
    values[:, 0] += 1
    return values


def make(values=None, **obs) -> anndata.AnnData:
    columns = {"cell_type": ["B", "NK", "T"] * (N_CELLS // 3), "donor": ["d1", "d2"] * (N_CELLS // 2), **obs}
    return anndata.AnnData(
        sparse.csr_matrix(counts()) if values is None else values,
        obs=pd.DataFrame(columns, index=[f"c{i}" for i in range(N_CELLS)]),
        var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]),
    )


def scanpy_log_normalised(values) -> np.ndarray:
    adata = anndata.AnnData(np.array(values, dtype=np.float32))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata.X


def dataset_of(sizes: dict[str, int], n_genes: int = 6, seed: int = 0) -> Dataset:
    """Cells of the given classes, in a seeded order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    values = rng.poisson(3.0, (len(labels), n_genes)).astype(np.float32)
    values[:, 0] += 1
    obs = pd.DataFrame({"kind": labels}, index=[f"cell{i:04d}" for i in range(len(labels))])
    return load_dataset(AnnData(values, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])), "kind")


def sized(max_cells: int = 10**6, max_genes: int = 10**6):
    return dataclasses.replace(get_profile("quickstart"), max_cells=max_cells, max_genes=max_genes)


def ids(dataset: Dataset, cut) -> dict[str, list[str]]:
    return {part: dataset.cells[getattr(cut, part)].tolist() for part in PARTS}


def grouped(cells: dict[str, dict[str, int]], seed: int = 0, n_genes: int = 8, **obs) -> Dataset:
    """Cells of group -> class -> number, in a seeded order."""
    pairs = [(group, name) for group, counts in cells.items() for name, n in counts.items() for _ in range(n)]
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(pairs, columns=["donor", "kind"]).sample(frac=1, random_state=seed).assign(**obs)
    table.index = [f"cell{i:04d}" for i in range(len(table))]
    values = rng.poisson(3.0, (len(table), n_genes)).astype(np.float32) + 1
    genes = pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])
    return load_dataset(AnnData(values, obs=table, var=genes), "kind", group_key="donor")


def even(n_groups: int, each: int = 4) -> Dataset:
    return grouped({f"d{i:02d}": {"B": each, "T": each} for i in range(n_groups)})


def groups_of(dataset: Dataset, cut) -> dict[str, set[str]]:
    donors = dataset.adata.obs["donor"].astype(str).to_numpy()
    return {part: set(donors[getattr(cut, part)]) for part in PARTS}


def reordered(dataset: Dataset, seed: int = 1) -> Dataset:
    order = np.random.default_rng(seed).permutation(len(dataset))
    return load_dataset(dataset.adata[order].copy(), dataset.label_key, group_key=dataset.group_key, name=dataset.name)


def without(dataset: Dataset, key: str | None) -> Dataset:
    return dataclasses.replace(dataset, group_key=key)


def named(dataset: Dataset, name: str) -> Dataset:
    return dataclasses.replace(dataset, name=name)
