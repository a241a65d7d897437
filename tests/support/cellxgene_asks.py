"""What cellxgene 1.3.0 asks of a file before it shows it: what its `AnndataAdaptor` refuses.

It needs numpy 2.0.1 and so an environment of its own, in which it was tried on the same kinds of files.
"""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np


def refusals(path: Path) -> list[str]:
    """Why a file is not shown; the names of its maps are those in obsm without `X_`."""
    if not path.is_file():
        return ["it is no file"]
    adata = anndata.read_h5ad(path)
    maps = {name: adata.obsm[name] for name in adata.obsm if name.startswith("X_")}
    asked = {
        "it has no values in X": adata.X is not None and adata.X.dtype == np.float32,
        "names of cells are not unique": adata.obs_names.is_unique,
        "names of genes are not unique": adata.var_names.is_unique,
        "names of columns are not unique": adata.obs.columns.is_unique and adata.var.columns.is_unique,
        "there is no map": any(_is_map(values) for values in maps.values()),
    }
    return [said for said, holds in asked.items() if not holds]


def _is_map(values: object) -> bool:
    fits = type(values) is np.ndarray and values.dtype.kind in "fiu" and values.ndim == 2 and values.shape[1] >= 2
    return bool(fits and not np.isinf(values).any() and not np.isnan(values).all())
