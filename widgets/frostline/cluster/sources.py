"""Where the cells of an atlas are, read a part at a time by whoever computes it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frostline.cells.queries import Matrices, place_of
from frostline.cells.stores import opened_store
from frostline.cells.streams import in_range, refuse_by_gene
from frostline.encoder.tokens import TOGETHER
from frostline.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

MOST_ROWS = 8_192
"""Cells of a part, at most, where nothing else is asked for."""
BUDGET = 2**27
"""Bytes of the values of a part as they are read, about; a worker needs a few times as much."""
LEAST_PARTS = 8
"""Parts of a small atlas, so that several workers have something to do."""


@dataclass(frozen=True)
class Source:
    """A matrix in a file; it goes to workers as a path, and is opened where it is read."""

    path: Path
    layer: str | None
    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> tuple[sparse.csr_matrix, pd.Index]:
        """Values and names of the cells from one row to before another; nothing else of the file is read.

        Raises
        ------
        DatasetError
            The file is damaged, or not what it was.
        """
        import pandas as pd

        place, what = place_of(self.layer)
        with opened_store(self.path) as file:
            matrix = in_range(file[place], self.shape, what, start, stop)
            index = file["obs"][str(file["obs"].attrs["_index"])]
            index = index["values"] if hasattr(index, "keys") else index
            names = (index.asstr() if hasattr(index, "asstr") else index)[start:stop]
        return matrix, pd.Index(np.asarray(names, dtype=object))


def refuse_undivided(path: Path, layer: str | None = None) -> None:
    """Refuse a file whose parts cannot be read by themselves, or whose tables a folder of zarr cannot hold.

    Raises
    ------
    DatasetError
        Holds the line that writes it again.
    """
    with opened_store(path) as file:
        place, what = place_of(layer)
        if place in file:
            refuse_by_gene(file[place], what)
        attributes = getattr(file["obs"], "attrs", {})
        if attributes.get("encoding-version") != "0.2.0" or "_index" not in attributes:
            raise DatasetError(
                f"{path} was written by an anndata older than 0.8, whose parts cannot be read by themselves: write it "
                f"again with import anndata; anndata.read_h5ad({str(path)!r}).write_h5ad('again.h5ad')"
            )
        for table in ("obs", "var"):
            names = [str(name) for name in getattr(file[table], "attrs", {}).get("column-order", ())]
            slashed = [name for name in names if "/" in name]
            if slashed:
                raise DatasetError(
                    f"{table} has a column {slashed[0]!r}: a slash in a name is a folder in zarr. Rename it in the "
                    f"atlas: adata.{table} = adata.{table}.rename(columns=lambda name: name.replace('/', '_')); "
                    "adata.write_h5ad(...)"
                )


def rows_of(path: Path, layer: str | None, found: Matrices, asked: int | None = None) -> int:
    """Cells of a part: whole blocks of 1,024, of bounded size, along the chunks on disk where these go into it.

    Parameters
    ----------
    path, layer, found
        Of the atlas.
    asked
        How many, if that was said; rounded up to whole blocks.
    """
    if asked is not None:
        return -(-asked // TOGETHER) * TOGETHER
    n, n_genes = found.rows.shape
    with opened_store(path) as file:
        part = file[place_of(layer)[0]]
        sparse = hasattr(part, "keys")
        each = 8 * part["data"].shape[0] / max(1, n) if sparse else 4 * n_genes
        chunks = None if sparse else part.chunks
    rows = min(MOST_ROWS, int(BUDGET // max(1.0, each)), -(-n // LEAST_PARTS))
    step = TOGETHER if chunks is None else math.lcm(TOGETHER, int(chunks[0]))
    return max(1, rows // step) * step if step <= MOST_ROWS else max(1, rows // TOGETHER) * TOGETHER


def fingerprint(found: Matrices, genes: Sequence[str]) -> str:
    """sha256 of what an atlas is known again by: its size, the names of cells and genes, the values of 2,000 cells.

    Parameters
    ----------
    found
        What was opened.
    genes
        Names of the genes.
    """
    some, sample = found.rows.sample
    digest = hashlib.sha256(repr((found.rows.shape, len(found.rows.filled))).encode())
    digest.update("\n".join(map(str, found.obs_names)).encode())
    digest.update("\n".join(genes).encode())
    for array in (some, found.rows.filled, sample.data, sample.indices, sample.indptr):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
