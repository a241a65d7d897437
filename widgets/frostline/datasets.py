"""Data sets: an AnnData with a label column, its log-normalised values, and what was checked about it.

To add one, add a DatasetSpec to `DATASETS`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import DatasetError, unknown
from frostline.escaping import first_unwritable

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

MAX_LOG_VALUE = 20.0  # log1p of counts per ten thousand stays below 9.3, of counts per million below 13.9


@dataclass(frozen=True)
class DatasetSpec:
    """One known data set and how it is to be read."""

    name: str
    load: Callable[[], AnnData]
    label_key: str
    description: str
    layer: str | None = None
    """`raw`, a key of `layers`, or None for X."""
    group_key: str | None = None
    notes: tuple[str, ...] = ()
    """What must be said wherever results on it are shown."""
    derived_labels: bool = False
    """Whether the labels were derived from expression, as a note says."""


def _pbmc68k_reduced() -> AnnData:
    import scanpy as sc

    return sc.datasets.pbmc68k_reduced()


def _pbmc3k() -> AnnData:
    import scanpy as sc

    cached = Path(sc.settings.datasetdir) / "pbmc3k_processed.h5ad"
    try:
        return sc.datasets.pbmc3k_processed()
    except OSError as error:  # URLError is one
        raise DatasetError(
            f"data set 'pbmc3k' is not cached at {cached} and could not be downloaded ({error}). "
            "Without a network use 'pbmc68k-reduced', which is installed with scanpy, or the path of an .h5ad file."
        ) from error


def _pancreas() -> AnnData:
    return read_h5ad(Path(__file__).parent / "data" / "datasets" / "pancreas_baron_human_175.h5ad")


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "pbmc68k-reduced",
            _pbmc68k_reduced,
            label_key="bulk_labels",
            layer="raw",
            description="700 blood cells x 765 genes (10x, donor A), 10 cell types; installed with scanpy",
            notes=(
                "The labels were given by correlation with purified populations' expression, "
                "which favours methods close to PCA.",
            ),
            derived_labels=True,
        ),
        DatasetSpec(
            "pbmc3k",
            _pbmc3k,
            label_key="louvain",
            layer="raw",
            description="2,638 blood cells x 13,714 genes (10x), 8 cell types; downloaded by scanpy",
            notes=("The labels are clusters of the same matrix, which favours methods close to PCA.",),
            derived_labels=True,
        ),
        DatasetSpec(
            "pancreas",
            _pancreas,
            label_key="cell_type",
            group_key="donor",
            description="175 pancreas cells x 12,474 genes (inDrop, 4 donors), 5 cell types; installed with frostline",
            notes=("inDrop, four donors; 5 types x 35 cells, balanced by selection.",),
        ),
    )
}


@dataclass(frozen=True)
class Dataset:
    """Labelled cells, ready to be split.

    Made by `load_dataset`, which checks what it takes in.
    """

    name: str
    adata: AnnData = field(repr=False)
    label_key: str
    matrix: sparse.csr_matrix = field(repr=False)
    """(n_cells, n_genes) CSR float32, log1p of counts per ten thousand."""
    genes: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.str_] = field(repr=False)
    """(n_cells,) label of every cell."""
    values: str
    """What the values were found to be: counts, log-normalised or normalised, not logged."""
    group_key: str | None = None
    notes: tuple[str, ...] = ()
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What strategies computed on these cells and share, such as frozen embeddings."""
    sets: tuple[str, ...] = ()
    """Names of the training and the test set, if `join_datasets` made this one."""
    origin: NDArray[np.str_] | None = field(default=None, repr=False)
    """(n_cells,) which of the `sets` a cell came from."""

    @property
    def cells(self) -> NDArray[np.str_]:
        """(n_cells,) cell ids, unique."""
        return np.asarray(self.adata.obs_names, dtype=str)

    @property
    def original_cells(self) -> NDArray[np.str_]:
        """(n_cells,) cell ids as they were before `join_datasets` put the name of the set in front."""
        if self.origin is None:
            return self.cells
        pairs = zip(self.cells, self.origin, strict=True)
        return np.array([cell.removeprefix(cell_prefix(name)) for cell, name in pairs], dtype=str)

    @property
    def groups(self) -> NDArray[np.str_] | None:
        """(n_cells,) group of every cell: donor, batch, study; None without a group column.

        Examples
        --------
        >>> sorted(set(load_dataset("pancreas").groups.tolist()))
        ['human1', 'human2', 'human3', 'human4']
        """
        if self.group_key is None:
            return None
        return np.asarray(self.adata.obs[self.group_key].astype(str), dtype=str)

    def __len__(self) -> int:
        return int(self.adata.n_obs)

    def expression(self, cells: NDArray[np.integer], genes: Sequence[str]) -> sparse.csr_matrix:
        """Log-normalised values of some cells and genes, (n_cells, n_genes) CSR float32."""
        position = {gene: i for i, gene in enumerate(self.genes)}
        absent = [gene for gene in genes if gene not in position]
        if absent:
            raise DatasetError(f"data set {self.name!r} lacks {len(absent)} genes, such as {absent[:3]}")
        return self.matrix[cells][:, [position[gene] for gene in genes]]

    def relabelled(self, label_key: str, group_key: str | None = None) -> Dataset:
        """Take other columns of obs for labels and groups; values, and what was computed on them, stay.

        Raises
        ------
        DatasetError
            A column does not exist, or labels or groups are missing.

        Examples
        --------
        >>> load_dataset("pbmc68k-reduced").relabelled("louvain").label_key
        'louvain'
        """
        if group_key is not None:
            _refuse_missing(_column(self.adata, group_key, "group"), group_key, "group")
            refuse_unwritable(f"adata.obs[{group_key!r}]", self.adata.obs[group_key].unique())
        cache = self.cache if group_key == self.group_key else {}
        labels = _labels(self.adata, label_key)
        return replace(self, label_key=label_key, labels=labels, group_key=group_key, cache=cache)

    def fingerprint(self) -> str:
        """Return the sha256 of cells, genes, labels and values."""
        digest = hashlib.sha256()
        for part in (self.cells, self.labels, self.genes):
            digest.update("\n".join(part).encode())
            digest.update(b"\0")
        for array in (
            self.matrix.indptr.astype(np.int64),
            self.matrix.indices.astype(np.int64),
            self.matrix.data,
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def summary(self) -> pd.DataFrame:
        """Cells per class, largest first.

        Examples
        --------
        >>> load_dataset("pbmc68k-reduced").summary().loc["Dendritic", "cells"]
        np.int64(240)
        """
        import pandas as pd

        counts = pd.Series(self.labels).value_counts()
        return pd.DataFrame({"cells": counts, "share": counts / counts.sum()}).rename_axis(self.label_key)


def load_dataset(
    source: str | Path | AnnData,
    label_key: str | None = None,
    *,
    group_key: str | None = None,
    layer: str | None = None,
    name: str | None = None,
) -> Dataset:
    """Load a labelled data set and check it.

    Parameters
    ----------
    source
        A name of `DATASETS`, the path of an .h5ad file, or an AnnData.
    label_key
        Column of obs with the labels; registered data sets have one by default.
    group_key
        Column of obs with donors, batches or studies.
    layer
        Where the counts or log-normalised values are: a key of layers, `raw`, or X when None.
    name
        What to call the data set in tables; its file name otherwise.

    Raises
    ------
    DatasetError
        The file cannot be read; a column or layer does not exist; there is one class only; labels, groups or
        values are missing; values are negative or infinite; cell or gene names are not unique.

    Examples
    --------
    >>> load_dataset("pbmc68k-reduced")
    Dataset(name='pbmc68k-reduced', label_key='bulk_labels', values='log-normalised', group_key=None, ...)
    """
    adata, spec, found_name = _open(source)
    notes: tuple[str, ...] = ()
    if spec is not None:
        label_key, group_key, layer = (
            label_key or spec.label_key,
            group_key or spec.group_key,
            layer or spec.layer,
        )
        notes = spec.notes
    labels = _labels(adata, label_key)
    if group_key is not None:
        _refuse_missing(_column(adata, group_key, "group"), group_key, "group")
        refuse_unwritable(f"adata.obs[{group_key!r}]", adata.obs[group_key].unique())
    raw_matrix, genes = _values(adata, layer)
    for kind, names in (("cell", adata.obs_names), ("gene", genes)):
        if not names.is_unique:
            remedy = "adata.obs_names_make_unique()" if kind == "cell" else "adata.var_names_make_unique()"
            repeated = names[names.duplicated()][0]
            raise DatasetError(f"{kind} names are not unique, for example {repeated!r}; call {remedy} first")
        refuse_unwritable("adata.obs_names" if kind == "cell" else "adata.var_names", names)
    refuse_unwritable("", [name, label_key, group_key, *adata.obsm])
    matrix, values = _log_normalise(raw_matrix, genes, adata.obs_names)
    assert label_key is not None  # _labels raised otherwise
    return Dataset(
        name or found_name, adata, label_key, matrix, tuple(map(str, genes)), labels, values, group_key, notes
    )


def cell_prefix(set_name: str) -> str:
    """What `join_datasets` puts in front of the cell ids of a set."""
    return f"{set_name}/"


def _open(source: str | Path | AnnData) -> tuple[AnnData, DatasetSpec | None, str]:
    from anndata import AnnData

    if isinstance(source, AnnData):
        return source, None, "AnnData"
    if str(source) in DATASETS:
        spec = DATASETS[str(source)]
        return spec.load(), spec, spec.name
    refuse_unknown_source(source)
    path = expanded(source)
    return read_h5ad(path), None, path.stem


def expanded(source: str | Path) -> Path:
    """Return a path with the home folder in place of `~`; a file whose name begins like that is left as it is."""
    return Path(os.path.expanduser(source))


def refuse_unknown_source(source: str | Path) -> None:
    """Refuse what is neither a registered name nor a file, without reading anything.

    Raises
    ------
    DatasetError
        Lists the registered names, or says that there is no such file.
    """
    path = expanded(source)
    if str(source) in DATASETS or path.is_file():
        return
    if path.suffix == ".h5ad":
        raise DatasetError(f"there is no file {path}")
    error = unknown("data set", str(source), DATASETS, remedy="The path of an .h5ad file works too")
    raise DatasetError(str(error))


def read_h5ad(path: Path) -> AnnData:
    """Read an .h5ad file, or say plainly why that is impossible.

    Raises
    ------
    DatasetError
        There is no such file, or it is truncated or no AnnData.
    """
    import anndata

    if not path.is_file():
        raise DatasetError(f"there is no file {path}")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata have many; to the reader they are one
        raise DatasetError(f"{path} cannot be read as .h5ad (truncated or not an AnnData file?): {error}") from error


def _column(adata: AnnData, key: str | None, kind: str) -> Any:
    columns = ", ".join(map(str, adata.obs.columns)) or "none"
    if key is None:
        raise DatasetError(f"name the {kind} column; obs has: {columns}")
    if key not in adata.obs:
        raise DatasetError(f"{kind} column {key!r} is not in obs, which has: {columns}")
    return adata.obs[key]


def _refuse_missing(column: Any, key: str, kind: str) -> None:
    if column.isna().any():
        what = "labelled ones" if kind == "label" else "others, or choose another column"
        raise DatasetError(
            f"{kind} column {key!r} is missing for {int(column.isna().sum()):,} of {len(column):,} cells; "
            f"compare on the {what}: adata[adata.obs[{key!r}].notna()]"
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
            f"pair); {f'run {replaced}' if place else 'rename it'}"
        )


def _labels(adata: AnnData, label_key: str | None) -> NDArray[np.str_]:
    column = _column(adata, label_key, "label")
    _refuse_missing(column, str(label_key), "label")
    refuse_unwritable(f"adata.obs[{label_key!r}]", column.unique())
    labels: NDArray[np.str_] = column.astype(str).to_numpy(dtype=str)
    classes = np.unique(labels)
    if len(classes) < 2:
        seen = f"only {str(classes[0])!r}" if len(classes) else "no cell at all"
        raise DatasetError(f"label column {label_key!r} has {seen}; a comparison needs two classes or more")
    if len(classes) > max(50, len(labels) // 3):
        raise DatasetError(
            f"label column {label_key!r} has {len(classes):,} different values in {len(labels):,} cells: "
            "these are no classes"
        )
    return labels


def _values(adata: AnnData, layer: str | None) -> tuple[Any, Any]:
    if layer == "raw":
        if adata.raw is None:
            raise DatasetError("layer 'raw' was asked for, but this AnnData has no .raw")
        return adata.raw.X, adata.raw.var_names
    if layer is not None and layer != "X":
        if layer not in adata.layers:
            known = ", ".join(["X", *(["raw"] if adata.raw is not None else []), *adata.layers])
            raise DatasetError(f"layer {layer!r} does not exist; this AnnData has: {known}")
        return adata.layers[layer], adata.var_names
    if adata.X is None:
        raise DatasetError("this AnnData has no X; name a layer")
    if _extremes(adata.X)[0] < 0:
        elsewhere = [*(["raw"] if adata.raw is not None else []), *adata.layers]
        remedy = f"name one of: {', '.join(elsewhere)}" if elsewhere else "load the data set before it was scaled"
        raise DatasetError(
            f"X holds negative values (smallest {_extremes(adata.X)[0]:.3g}): it looks scaled or batch-corrected. "
            f"Counts or log-normalised values are needed; {remedy} (layer=...)"
        )
    return adata.X, adata.var_names


def _extremes(matrix: Any) -> tuple[float, float]:
    values = matrix.data if hasattr(matrix, "indptr") else np.asarray(matrix)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _log_normalise(matrix: Any, genes: Any, cells: Any) -> tuple[sparse.csr_matrix, str]:
    """CSR float32 of log1p(counts per ten thousand), and what the values were."""
    from scipy import sparse

    csr = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    csr.eliminate_zeros()
    csr.sort_indices()
    refuse_bad_values(csr, genes, cells)
    if not csr.nnz:
        raise DatasetError("every value is zero")
    if np.array_equal(csr.data, np.rint(csr.data)):
        kind = "counts"
    elif csr.data.max() <= MAX_LOG_VALUE:
        return csr, "log-normalised"
    else:
        kind = "normalised, not logged"
    totals = np.asarray(csr.sum(axis=1)).ravel()
    csr.data *= np.repeat(np.divide(1e4, totals, where=totals > 0, out=np.zeros_like(totals)), np.diff(csr.indptr))
    np.log1p(csr.data, out=csr.data)
    return csr, kind


def refuse_bad_values(csr: sparse.csr_matrix, genes: Any, cells: Any) -> None:
    """Refuse values that are missing, infinite or negative; names the first cell and gene.

    Raises
    ------
    DatasetError
        There is such a value.
    """
    bad = np.flatnonzero(~np.isfinite(csr.data) | (csr.data < 0))
    if len(bad):
        cell = cells[np.searchsorted(csr.indptr, bad[0], side="right") - 1]
        gene = genes[csr.indices[bad[0]]]
        raise DatasetError(
            f"{len(bad):,} values are missing, infinite or negative, the first is {csr.data[bad[0]]} in cell "
            f"{cell!r}, gene {gene!r}; counts or log-normalised values are needed"
        )
