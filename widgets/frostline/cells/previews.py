"""What an AnnData or an .h5ad file offers, before it is loaded: columns of labels and groups, layers, embeddings.

Of a file only the names and the table of cells are read.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.columns import columns_of
from frostline.cells.datasets import DATASETS, Dataset
from frostline.cells.groups import group_columns
from frostline.cells.matrices import layer_names
from frostline.cells.reading import expanded, opened, problem
from frostline.errors import DatasetError

if TYPE_CHECKING:
    from anndata import AnnData

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
MOST_CLASSES = 300


@dataclass(frozen=True)
class Column:
    """A column of obs that can hold labels or groups."""

    name: str
    n_values: int
    """Different values."""
    n_missing: int


@dataclass(frozen=True)
class Preview:
    """What can be chosen from."""

    name: str
    n_cells: int
    n_genes: int
    columns: tuple[Column, ...]
    """Of two values or more, of two cells a value on average or more, and none that measures something; those most
    likely to be labels first."""
    groups: tuple[str, ...]
    """Columns that look like donors, batches or studies, the likeliest first."""
    layers: tuple[str, ...]
    """`X`, `raw` where there is one, and the names of layers."""

    @property
    def label_key(self) -> str | None:
        """The likeliest column of labels; None where no column is likely."""
        first = self.columns[0].name if self.columns else None
        return first if first is not None and _likelihood(first) < len(LABEL_WORDS) else None


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
    if isinstance(source, Dataset):
        return _of(source.adata, source.name)
    if isinstance(source, str) and source in DATASETS:
        return _of(DATASETS[source].load(), source)
    if not isinstance(source, str | Path):
        return _of(_anndata(source), "adata")
    said = path_problem(str(source))
    if said:
        raise DatasetError(said)
    path = expanded(source)
    with opened(path) as file:
        return _of(_outline(file, path), path.stem)


def path_problem(text: str) -> str:
    """Say what is wrong with a path, as soon as it is typed; empty when a file of the right kind is there.

    Examples
    --------
    >>> path_problem("cells.npz")
    "cells.npz is no .h5ad file; write one with adata.write_h5ad('cells.h5ad')"
    """
    return problem(text) if text.strip() else "type the path of an .h5ad file"


def _anndata(source: Any) -> AnnData:
    from anndata import AnnData

    if not isinstance(source, AnnData):
        kind = type(source).__name__
        raise DatasetError(f"a {kind} is no data set: give a name, the path of an .h5ad file, or an AnnData")
    return source


def _outline(file: Any, path: Path) -> Any:
    """What `_of` looks at of an AnnData; layers and embeddings, which a backed AnnData loads, stay in the file."""
    import anndata
    import h5py
    from anndata.io import read_elem

    if isinstance(file["obs"], h5py.Group):
        tables = {key: read_elem(file[key]) for key in ("obs", "var", "raw/var") if key in file}
        return SimpleNamespace(
            obs=tables["obs"],
            n_obs=len(tables["obs"]),
            n_vars=len(tables["var"]),
            raw=SimpleNamespace(n_vars=len(tables["raw/var"])) if "raw/var" in tables else None,
            layers=dict.fromkeys(file.get("layers", ())),
        )
    with warnings.catch_warnings(action="ignore"):  # that the layout is older than anndata 0.7, as loading will say
        adata = anndata.read_h5ad(path, backed="r")
    adata.file.close()
    return adata


def _of(adata: Any, name: str) -> Preview:
    n = int(adata.n_obs)
    obs = {key: values for key, values in columns_of(adata.obs).items() if not _is_measure(values)}
    columns = [_column(values, key) for key, values in obs.items()]
    usable = [column for column in columns if 2 <= column.n_values <= min(MOST_CLASSES, max(2, n // 2))]
    usable.sort(key=lambda column: _rank(column.name, obs[column.name]))
    raw = adata.raw.n_vars if adata.raw is not None else 0
    return Preview(name, n, max(int(adata.n_vars), int(raw)), tuple(usable), group_columns(adata), layer_names(adata))


def _column(values: Any, name: str) -> Column:
    return Column(name, int(values.nunique()), int(values.isna().sum()))


def _is_measure(values: Any) -> bool:
    """Whether these are numbers with digits after the point."""
    if str(values.dtype).lower() not in ("float16", "float32", "float64"):
        return False
    found = values.dropna().to_numpy(dtype=float)
    return not np.array_equal(found, np.rint(found))


def _rank(name: str, values: Any) -> tuple[int, bool, int]:
    """Labels first, text first, and `cell_type` before `cell_type_ontology_term_id`."""
    place = _likelihood(name)
    return place, not _is_text(values), len(name) if place < len(LABEL_WORDS) else 0


def _is_text(values: Any) -> bool:
    return values.dtype == object or str(values.dtype) in ("category", "string", "str")


def _likelihood(name: str) -> int:
    """Place of the first word that is in a name; the number of words for other names."""
    return next((i for i, word in enumerate(LABEL_WORDS) if word in name.lower()), len(LABEL_WORDS))


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

    module = sys.modules.get("anndata")
    if module is None:  # nobody has imported it, so nobody has one
        return {}
    return {
        name: value for name, value in names.items() if not name.startswith("_") and isinstance(value, module.AnnData)
    }


def shown_columns(found: Sequence[Column]) -> list[tuple[str, str]]:
    """(text, name) of every column, for a list to choose from.

    Examples
    --------
    >>> shown_columns([Column("cell_type", 8, 3)])
    [('cell_type (8 values, 3 missing)', 'cell_type')]
    """
    texts = []
    for column in found:
        missing = f", {column.n_missing:,} missing" if column.n_missing else ""
        texts.append((f"{column.name} ({column.n_values} values{missing})", column.name))
    return texts
