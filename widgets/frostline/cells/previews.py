"""What an AnnData or an .h5ad file offers, before it is loaded: columns of labels and groups, layers, embeddings.

Of a file only the names and the table of cells are read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.columns import columns_of
from frostline.cells.groups import group_columns
from frostline.cells.matrices import layer_names
from frostline.cells.reading import problem
from frostline.cells.sources import Source, open_source

if TYPE_CHECKING:
    from anndata import AnnData

    from frostline.cells.datasets import Dataset

LABEL_WORDS = (
    "celltype",
    "cell_type",
    "cell type",
    "bulk_labels",
    "annotation",
    "label",
    "cluster",
    "louvain",
    "leiden",
)
"""Words in the names of columns that hold labels; the likeliest first."""
CERTAIN = LABEL_WORDS[:3]
"""Words that make a column one of labels even where another word of its name is of groups, as in cell_type_by_study."""
MOST_CLASSES = 300


@dataclass(frozen=True)
class Column:
    """A column of obs that can hold labels or groups."""

    name: str
    n_values: int
    """Different values."""
    n_missing: int
    n_fewest: int
    """Cells of the rarest value."""


@dataclass(frozen=True)
class Preview:
    """What can be chosen from."""

    name: str
    n_cells: int
    n_genes: int
    columns: tuple[Column, ...]
    """Of two values or more, of two cells a value on average or more, and none that measures something; those most
    likely to be labels first, those of donors, batches or studies last."""
    groups: tuple[str, ...]
    """Columns that look like donors, batches or studies, the likeliest first."""
    layers: tuple[str, ...]
    """`X`, `raw` where there is one, and the names of layers."""
    var_columns: tuple[str, ...] = ()
    """Columns of var, of which one may hold the names of the genes."""

    @property
    def label_key(self) -> str | None:
        """The likeliest column of labels; None where no column is likely."""
        first = self.columns[0].name if self.columns else None
        return first if first is not None and _likelihood(first, self.groups) < len(LABEL_WORDS) else None


def preview(source: str | Path | AnnData | Dataset) -> Preview:
    """Look at what a data set offers without loading its values.

    Parameters
    ----------
    source
        A name of `DATASETS`, the path of an .h5ad file, an AnnData, or a loaded data set.

    Raises
    ------
    DatasetError
        There is no such file, or it cannot be read as .h5ad; says what was seen.

    Examples
    --------
    >>> found = preview("pbmc68k-reduced")
    >>> found.n_cells, found.label_key, [column.name for column in found.columns][:2]
    (700, 'bulk_labels', ['bulk_labels', 'louvain'])
    """
    return preview_of(open_source(source))


def preview_of(source: Source) -> Preview:
    """Look at what was opened."""
    obs = {key: values for key, values in columns_of(source.obs).items() if not _is_measure(values)}
    columns = [_column(values, key) for key, values in obs.items()]
    most = min(MOST_CLASSES, max(2, source.n_obs // 2))
    usable = [column for column in columns if 2 <= column.n_values <= most]
    groups = group_columns(source)
    usable.sort(key=lambda column: _rank(column.name, obs[column.name], groups))
    raw = source.raw.n_vars if source.raw is not None else 0
    n_genes = max(source.n_vars, int(raw))
    return Preview(
        source.name, source.n_obs, n_genes, tuple(usable), groups, layer_names(source), tuple(columns_of(source.var))
    )


def path_problem(text: str) -> str:
    """Say what is wrong with a path, as soon as it is typed; empty when a file of the right kind is there.

    Examples
    --------
    >>> path_problem("cells.npz")
    "cells.npz is no .h5ad file; write one with adata.write_h5ad('cells.h5ad')"
    """
    return problem(text) if text.strip() else "type the path of an .h5ad file"


def _column(values: Any, name: str) -> Column:
    counts = values.value_counts()
    counts = counts[counts > 0]  # a category may have no cell
    return Column(name, len(counts), int(values.isna().sum()), int(counts.min()) if len(counts) else 0)


def _is_measure(values: Any) -> bool:
    """Whether these are numbers with digits after the point."""
    if str(values.dtype).lower() not in ("float16", "float32", "float64"):
        return False
    found = values.dropna().to_numpy(dtype=float)
    return not np.array_equal(found, np.rint(found))


def _rank(name: str, values: Any, groups: Collection[str]) -> tuple[int, bool, int]:
    """Labels first, text first, and `cell_type` before `cell_type_ontology_term_id`; groups last."""
    place = _likelihood(name, groups)
    return place, not _is_text(values), len(name) if place < len(LABEL_WORDS) else 0


def _is_text(values: Any) -> bool:
    return values.dtype == object or str(values.dtype) in ("category", "string", "str")


def _likelihood(name: str, groups: Collection[str]) -> int:
    """Place of the first word that is in a name; the number of words for other names, and more for groups."""
    word = next((word for word in LABEL_WORDS if word in name.lower()), None)
    if name in groups and word not in CERTAIN:
        return len(LABEL_WORDS) + 1
    return len(LABEL_WORDS) if word is None else LABEL_WORDS.index(word)


def anndatas(names: dict[str, Any]) -> dict[str, AnnData]:
    """Pick the AnnDatas out of a notebook's variables.

    Parameters
    ----------
    names
        `globals()` of the notebook.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> list(anndatas({"adata": anndata.AnnData(np.ones((2, 3))), "_1": 7, "x": 3}))
    ['adata']
    """
    import sys

    kind = getattr(sys.modules.get("anndata"), "AnnData", None)
    if kind is None:  # nobody has imported it, or another thread is about to, so nobody has one
        return {}
    return {name: value for name, value in names.items() if not name.startswith("_") and isinstance(value, kind)}


def shown_columns(found: Sequence[Column]) -> list[tuple[str, str]]:
    """(text, name) of every column, for a list to choose from.

    Examples
    --------
    >>> shown_columns([Column("cell_type", 8, 3, 12)])
    [('cell_type (8 values, 3 missing)', 'cell_type')]
    """
    texts = []
    for column in found:
        missing = f", {column.n_missing:,} missing" if column.n_missing else ""
        texts.append((f"{column.name} ({column.n_values} values{missing})", column.name))
    return texts
