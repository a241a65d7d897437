"""Values as they come in become log1p of counts per ten thousand, or are refused with where else to look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from frostline.cells.matrices import refuse_bad_values
from frostline.cells.refusals import refuse_flat
from frostline.cells.values import Values, describe, log_normalise

if TYPE_CHECKING:
    from scipy import sparse


def normalise(
    matrix: sparse.csr_matrix,
    layer: str | None,
    *,
    layers: Sequence[str],
    genes: Sequence[str],
    cells: Any,
    said: str | None = None,
) -> Values:
    """Turn values into log1p of counts per ten thousand, in place, and say what they were.

    Parameters
    ----------
    matrix
        (n_cells, n_genes), canonical; half done where it is refused.
    layer, layers
        Which of the matrices it is (None: X), and all that there are.
    genes, cells
        Names, for errors.
    said
        What the values are said to be, as `describe` takes it.

    Raises
    ------
    DatasetError
        Values are negative, missing or infinite, the same in all cells, or it is unclear what they are.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> cells = sparse.csr_matrix(np.array([[1.0, 3.0], [2.0, 2.0]], dtype="f4"))
    >>> normalise(cells, "X", layers=("X",), genes=("CD3D", "LYZ"), cells=("a", "b")).name
    'counts'
    """
    refuse_bad_values(matrix, genes, cells)
    refuse_flat(matrix, layer, layers)
    found = describe(matrix, said)
    log_normalise(matrix, found)
    refuse_flat(matrix, layer, layers)
    return found
