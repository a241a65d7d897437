"""What is refused of cells as they come in, with the line of code that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.stores import CellNames
from frostline.errors import DatasetError
from frostline.escaping import first_unwritable

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse


def refuse_missing(column: Any, key: str, kind: str) -> None:
    """Refuse a column of labels or groups that some cells have no value in.

    Raises
    ------
    DatasetError
        Says how many cells, and how to leave them out.
    """
    if column.isna().any():
        left = f"adata[adata.obs[{key!r}].notna()]"
        what = "labelled ones" if kind == "label" else "others, or choose another column"
        raise DatasetError(
            f"{kind} column {key!r} is missing for {int(column.isna().sum()):,} of {len(column):,} cells; "
            f"compare on the {what}: {left}",
            line=f"adata = {left}.copy()",
        )


def refuse_unwritable(place: str, names: Iterable[Any]) -> None:
    """Refuse names that cannot be saved later, after all the work.

    Raises
    ------
    DatasetError
        Names the place and the name, and the line of code that mends it.
    """
    bad = first_unwritable(names)
    if bad is not None:
        replaced = f'{place} = {place}.astype(str).str.replace(r"[\\x00\\ud800-\\udfff]", "?", regex=True)'
        raise DatasetError(
            f"{place or 'a name'} holds {bad!r}, with a character that no file can hold (a NUL, or half of a surrogate "
            f"pair); {f'run {replaced}' if place else 'rename it'}",
            line=replaced if place else "",
        )


def refuse_scaled(matrix: sparse.csr_matrix, layer: str | None, layers: Sequence[str]) -> None:
    """Refuse negative values in X; those of a layer are refused with the cell and the gene.

    Raises
    ------
    DatasetError
        Names the other layers.
    """
    if layer not in (None, "X") or not matrix.nnz or not matrix.data.min() < 0:
        return
    raise DatasetError(
        f"X holds negative values (smallest {matrix.data.min():.3g}): it looks scaled or batch-corrected. "
        f"Counts or log-normalised values are needed; {_other_values(layer, layers)}",
        values="scaled",
    )


def _other_values(layer: str | None, layers: Sequence[str]) -> str:
    """Where else there are values."""
    elsewhere = [name for name in layers if name != (layer or "X")]
    return f"name one of: {', '.join(elsewhere)} (layer=...)" if elsewhere else "load a file of what was measured"


def refuse_repeated_cells(names: pd.Index | CellNames) -> None:
    """Refuse cell names that are not unique.

    Raises
    ------
    DatasetError
        Names one, and the line of code that mends it.
    """
    if isinstance(names, CellNames):
        if names.is_unique:
            return
        names = names[:]
    found = names.astype(str)
    if found.is_unique:
        return
    remedy = "adata.obs_names_make_unique()"
    if not isinstance(names.dtype, np.dtype):  # a CategoricalIndex takes no new names
        remedy = f"adata.obs_names = adata.obs_names.astype(str); {remedy}"
    repeated = str(found[found.duplicated()][0])
    raise DatasetError(f"cell names are not unique, for example {repeated!r}; call {remedy} first", line=remedy)


def refuse_flat(matrix: sparse.csr_matrix, layer: str | None, layers: Sequence[str]) -> None:
    """Refuse values that cannot tell one cell from another.

    Raises
    ------
    DatasetError
        There is one gene, no value but zero, or the same values in every cell.
    """
    if matrix.shape[1] < 2:
        raise DatasetError(
            f"the number of genes is {matrix.shape[1]}; many are needed to distinguish cells: load all genes"
        )
    if not matrix.nnz:
        raise DatasetError(f"every value is zero; {_other_values(layer, layers)}", values="zero")
    lengths = np.diff(matrix.indptr)
    if (lengths == lengths[0]).all() and _is_one_row(matrix, int(lengths[0])):
        low, high = float(matrix.data.min()), float(matrix.data.max())
        seen = f"{low:g} everywhere" if low == high else f"{low:.3g} to {high:.3g}"
        raise DatasetError(
            f"all {len(lengths):,} cells have the same values ({seen}), so nothing can tell them apart; "
            f"{_other_values(layer, layers)}",
            values="the same in all cells",
        )


def _is_one_row(matrix: sparse.csr_matrix, length: int) -> bool:
    places, values = matrix.indices.reshape(-1, length), matrix.data.reshape(-1, length)
    step = max(1, 2**20 // length)
    for rows in (slice(start, start + step) for start in range(0, len(places), step)):
        if not (places[rows] == places[0]).all() or not np.allclose(values[rows], values[0], rtol=1e-5, atol=0):
            return False
    return True
