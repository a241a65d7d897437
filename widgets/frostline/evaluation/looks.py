"""What is seen of each matrix of a data set: what its values are, what refuses it, and how good it is to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.normalising import normalise
from frostline.cells.previews import Preview, preview_of
from frostline.cells.refusals import refuse_scaled, refuse_unwritable
from frostline.cells.sources import Source, open_source
from frostline.cells.symbols import Symbols, read_symbols
from frostline.cells.values import TARGET, TOLERANCE, Values
from frostline.errors import DatasetError
from frostline.evaluation.inspection import Matrix

if TYPE_CHECKING:
    from scipy import sparse

LARGE = 2**30
"""Bytes of all matrices from which some cells are looked at instead of all."""
CELLS = 10_000
"""Cells that are then looked at."""


@dataclass(frozen=True)
class Asked:
    """What is looked at, and how it would be loaded."""

    source: Any
    """As it was given."""
    opened: Source
    outline: Preview
    label_key: str | None
    group_key: str | None
    gene_column: str | None
    default: str
    said: str | None
    """What the values of the default are said to be."""
    rows: NDArray[np.int64] | None
    """Cells to look at; None for all."""


def asked_of(
    source: Any, label_key: str | None = None, group_key: str | None = None, gene_column: str | None = None
) -> Asked:
    """Open it, and fill in what was not asked for: the likeliest columns, the default matrix, the cells to look at."""
    opened = open_source(source)
    outline = preview_of(opened)
    known = source if isinstance(source, Dataset) else opened.spec
    layer = source.given.get("layer") if isinstance(source, Dataset) else opened.spec.layer if opened.spec else None
    own_group = known.group_key if known else next(iter(outline.groups), None)
    stored = [found[1] for name in outline.layers if (found := opened.storage(name)) is not None]
    all_cells = sum(stored) <= LARGE or opened.n_obs <= CELLS
    label_key = label_key or (known.label_key if known else outline.label_key)
    group_key = group_key or (own_group if own_group != label_key else None)
    said = opened.spec.values if opened.spec else None
    rows = None if all_cells else np.unique(np.linspace(0, opened.n_obs - 1, CELLS).astype(np.int64))
    return Asked(source, opened, outline, label_key, group_key, gene_column, layer or "X", said, rows)


@dataclass(frozen=True)
class Look:
    """What was seen of one matrix."""

    matrix: Matrix
    logged: sparse.csr_matrix | None = field(repr=False)
    """Log-normalised; None where that is refused."""
    symbols: Symbols
    errors: tuple[tuple[int, DatasetError], ...]
    """What is refused, each with its place in the order of `load_dataset`."""

    @property
    def rank(self) -> tuple[int, int]:
        """The smaller the better: by what the values are, then by the number of genes."""
        return worth(self.matrix.values), -self.matrix.n_genes

    @property
    def can_be_taken(self) -> bool:
        """Whether it is loaded, perhaps after its line of code was run."""
        return self.matrix.values is not None and all(error.line for _, error in self.errors)


READ, CELL_NAMES, GENE_NAMES, VALUES, SAVED = range(5)
"""Places in the order in which `load_dataset` refuses."""


def look_at(asked: Asked, name: str) -> Look:
    """Look at X, raw or a layer; whatever `load_dataset` would raise is kept.

    Examples
    --------
    >>> look = look_at(asked_of("pancreas"), "X")
    >>> look.matrix.kind, look.errors
    ('counts', ())
    """
    opened, layers = asked.opened, asked.outline.layers
    table = opened.genes_of(name)
    errors: list[tuple[int, DatasetError]] = []
    own = Symbols(tuple(map(str, table.index)), "adata.raw.var_names" if name == "raw" else "adata.var_names")
    storage = opened.storage(name)
    stored = storage[0] if storage else "not there"
    try:
        matrix = opened.read(name, asked.rows)
    except DatasetError as error:
        return Look(Matrix(name, len(table), stored, "cannot be read", str(error)), None, own, ((READ, error),))
    symbols, refused = tried(
        lambda: read_symbols(table, asked.gene_column, raw=name == "raw", totals=lambda: _sums(matrix)), own
    )
    errors += [(GENE_NAMES, refused)] if refused else []
    seen = len(matrix.indptr) - 1
    n_values = round(matrix.nnz * opened.n_obs / max(1, seen))
    n_empty = int((np.diff(matrix.indptr) == 0).sum())
    cells = opened.obs.index if asked.rows is None else opened.obs.index[asked.rows]

    def values() -> Values:
        refuse_scaled(matrix, name, layers)
        said = asked.said if name == asked.default else None
        return normalise(matrix, name, layers=layers, genes=symbols.names, cells=cells, said=said)

    found, unfit = tried(values, None)
    errors += [(READ if unfit.values == "scaled" else VALUES, unfit)] if unfit else []
    _, refused = tried(lambda: refuse_unwritable(symbols.source, symbols.names), None)
    errors += [(SAVED, refused)] if refused else []
    kind, evidence = _kind(found, unfit)
    shown = Matrix(name, len(table), stored, kind, evidence, n_values, n_empty, found)
    return Look(shown, matrix if found else None, symbols, tuple(errors))


def tried(work: Callable[[], Any], otherwise: Any) -> tuple[Any, DatasetError | None]:
    """What work returns, or the refusal."""
    try:
        return work(), None
    except DatasetError as error:
        return otherwise, error


def _kind(found: Values | None, error: DatasetError | None) -> tuple[str, str]:
    if found is not None:
        return found.name, found.evidence
    kind = "" if error is None else error.values
    return ("unknown: ask" if kind == "unknown" else kind or "too few genes"), str(error)


def _sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()


def worth(values: Values | None) -> int:
    """Place in the order of what to take: counts, log-normalised, what can be converted, what has no total."""
    if values is None:
        return 9
    if values.name == "counts":
        return 0
    if values.total is not None:
        return 2 if values.transform.name == "log1p" and abs(values.total / TARGET - 1) <= TOLERANCE else 3
    if values.whole:  # a transform of counts, or presence
        return 1 if values.transform.name != "linear" else 6
    return 4 if values.transform.name == "log1p" else 5


WHY = {
    0: "counts, which are normalised the same way for every strategy, and can be compared in depth",
    1: "counts under a transform that is undone",
    2: "log-normalised to ten thousand a cell, as strategies read it",
    3: "their total is known, so that they are converted",
    4: "logarithms as strategies read them, though the total of the cells is not known",
    5: "they are converted as far as they show what they are",
    6: "all that there is, though it tells presence alone",
}
