"""Data sets: an AnnData with a label column, its log-normalised values, and what was checked about it.

To add one, add a DatasetSpec to `DATASETS`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from frostline.cells.catalogue import DATASETS, DatasetSpec
from frostline.cells.columns import columns_of
from frostline.cells.labels import read_labels, refuse_bad_groups
from frostline.cells.matrices import in_memory, layer_names, parts_of, values_of
from frostline.cells.normalising import normalise
from frostline.cells.reading import problem
from frostline.cells.reading import read_h5ad as read_h5ad
from frostline.cells.refusals import refuse_repeated_cells, refuse_scaled, refuse_unwritable
from frostline.cells.symbols import Symbols, read_symbols
from frostline.cells.values import Values
from frostline.errors import DatasetError, unknown
from frostline.plain_files import expanded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse


@dataclass(frozen=True)
class Dataset:
    """Labelled cells, ready to be split.

    Made by `load_dataset`, which checks what it takes in.
    """

    name: str
    adata: AnnData = field(repr=False)
    label_key: str
    matrix: sparse.csr_matrix = field(repr=False)
    """(n_cells, n_genes) CSR float32, log1p of counts per ten thousand.

    Of a file it shares `indices` and `indptr` with the matrix of `adata` that it was made from: take values out of a
    copy of that, `adata.X = adata.X.copy()`, never in place.
    """
    genes: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.str_] = field(repr=False)
    """(n_cells,) label of every cell."""
    values_name: str
    """What the values were found to be, in a few words: counts, log-normalised, counts per million, not logged ..."""
    group_key: str | None = None
    notes: tuple[str, ...] = ()
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What strategies computed on these cells and share, such as frozen embeddings."""
    sets: tuple[str, ...] = ()
    """Names of the training and the test set, if `join_datasets` made this one."""
    origin: NDArray[np.str_] | None = field(default=None, repr=False)
    """(n_cells,) which of the `sets` a cell came from."""
    given: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What it was loaded from and how, by the parameters of a run: dataset, layer; of a second set, test_dataset ..."""
    evidence: str = ""
    """What was seen of the values that says what they are."""
    set_columns: tuple[tuple[str, str | None], ...] = ()
    """What the columns of labels and groups were called in each of the `sets`."""
    gene_source: str = "adata.var_names"
    """Where the names of the genes are from, in Python, such as `adata.raw.var['feature_name']`."""
    obs: pd.DataFrame = field(default=cast("pd.DataFrame", None), repr=False, compare=False)
    """Names and columns of the cells as they were loaded, whatever is done to `adata` since; by default those of it."""

    def __post_init__(self) -> None:
        """Take a copy of obs."""
        if self.obs is None:
            object.__setattr__(self, "obs", self.adata.obs.copy())

    @property
    def cells(self) -> NDArray[np.str_]:
        """(n_cells,) cell ids, unique."""
        return np.asarray(self.obs.index, dtype=str)

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
        return np.asarray(columns_of(self.obs)[str(self.group_key)].astype(str), dtype=str)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def same_cells(self) -> AnnData:
        """Return `adata`, for what is read of it later.

        Raises
        ------
        DatasetError
            Cells were left out or renamed in it since it was loaded.

        Examples
        --------
        >>> load_dataset("pancreas").same_cells().n_obs
        175
        """
        if not self.adata.obs_names.equals(self.obs.index):
            raise DatasetError(
                f"the AnnData of data set {self.name!r} has been changed since it was loaded: it holds other cells "
                f"({self.adata.n_obs:,}, {len(self):,} were loaded); load it again (load_dataset)"
            )
        return self.adata

    def expression(self, cells: NDArray[np.integer], genes: Sequence[str]) -> sparse.csr_matrix:
        """Log-normalised values of some cells and genes, (n_cells, n_genes) CSR float32."""
        places = _places(self.genes, tuple(genes))
        if -1 in places:
            absent = [gene for gene, place in zip(genes, places, strict=True) if place < 0]
            raise DatasetError(f"data set {self.name!r} lacks {len(absent)} genes, such as {absent[:3]}")
        return self.matrix[cells][:, places]

    def relabelled(self, label_key: str, group_key: str | None = None) -> Dataset:
        """Take other columns of obs for labels and groups; values, and what was computed on them, stay.

        Raises
        ------
        DatasetError
            A column does not exist, labels or groups are missing, or the AnnData holds other cells by now.

        Examples
        --------
        >>> load_dataset("pbmc68k-reduced").relabelled("louvain").label_key
        'louvain'
        """
        obs = self.same_cells().obs.copy()
        refuse_bad_groups(obs, group_key, label_key)
        cache = self.cache if group_key == self.group_key else {}
        labels = read_labels(obs, label_key)
        return replace(self, label_key=label_key, labels=labels, group_key=group_key, cache=cache, obs=obs)

    def part(self, cells: NDArray[np.integer]) -> Dataset:
        """Some of the cells, as a data set of its own.

        Parameters
        ----------
        cells
            (n_cells,) row numbers.

        Examples
        --------
        >>> len(load_dataset("pancreas").part(np.arange(20)))
        20
        """
        origin = None if self.origin is None else self.origin[cells]
        adata, obs = self.same_cells()[cells].copy(), self.obs.iloc[cells]
        chosen = {"adata": adata, "obs": obs, "matrix": self.matrix[cells], "labels": self.labels[cells]}
        return replace(self, **chosen, origin=origin, cache={})

    def fingerprint(self) -> str:
        """Return the sha256 of cells, genes, labels and values."""
        digest = hashlib.sha256()
        for names in (self.cells, self.labels, self.genes):
            digest.update("\n".join(names).encode())
            digest.update(b"\0")
        for array in (self.matrix.indptr, self.matrix.indices):
            for part in parts_of(array):
                digest.update(array[part].astype(np.int64).data)
        digest.update(np.ascontiguousarray(self.matrix.data).data)
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
    values: str | None = None,
    gene_column: str | None = None,
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
    values
        What they are, if they do not show it: counts, linear (normalised, not logged; decimals of
        ambient-corrected counts), log1p, log2 or log10 (of x + 1), log1p-twice or sqrt. They become log1p of counts
        per ten thousand.
    gene_column
        Column of var (with layer `raw` of raw.var) with the gene symbols; `var_names` for the names themselves. When
        None, a column is taken, and a note says so, if it holds clearly more human symbols than the names do.
    name
        What to call the data set in tables; its file name otherwise.

    Raises
    ------
    DatasetError
        The file cannot be read; a column or layer does not exist; there is one class only; labels, groups or
        values are missing; values are negative, infinite, the same in all cells, or it is unclear what they are;
        the matrix is damaged; cell or gene names are not unique.

    Examples
    --------
    >>> load_dataset("pbmc68k-reduced")
    Dataset(name='pbmc68k-reduced', label_key='bulk_labels', values_name='log1p, row sums differ', group_key=None, ...)
    """
    adata, spec, found_name = _open(source)
    if spec is not None:
        label_key, group_key = label_key or spec.label_key, group_key or spec.group_key
        layer, values = layer or spec.layer, values or spec.values
    own = adata is not source  # nobody else has it
    dataset = _checked(adata, name or found_name, label_key, group_key, (layer, values, gene_column), own)
    given = str(source) if isinstance(source, str | Path) else dataset.name
    notes = (*(spec.notes if spec else ()), *dataset.notes)
    return replace(dataset, notes=notes, given={"dataset": given, **dataset.given})


def _checked(
    adata: AnnData,
    name: str,
    label_key: str | None,
    group_key: str | None,
    how: tuple[str | None, str | None, str | None],
    own: bool,
) -> Dataset:
    """Data set of an AnnData; `how` are layer, values and gene column, as they were asked for.

    On an `own` one, X as it was read and its log-normalised values share what says where the values are.
    """
    labels = read_labels(adata.obs, label_key)
    refuse_bad_groups(adata.obs, group_key, label_key)
    matrix, symbols, found = _matrix(adata, *how, own)
    refuse_unwritable("adata.obs_names", adata.obs_names)
    refuse_unwritable(symbols.source, symbols.names)
    refuse_unwritable("", [name, label_key, group_key, *adata.obsm])
    return Dataset(
        name=name,
        adata=adata,
        label_key=str(label_key),
        matrix=matrix,
        genes=symbols.names,
        labels=labels,
        values_name=found.name,
        group_key=group_key,
        notes=(symbols.note,) if symbols.note else (),
        evidence=found.evidence,
        given={key: said or "" for key, said in zip(("layer", "values", "gene_column"), how, strict=True)},
        gene_source=symbols.source,
    )


def cell_prefix(set_name: str) -> str:
    """What `join_datasets` puts in front of the cell ids of a set."""
    return f"{set_name}/"


@functools.lru_cache(maxsize=8)
def _places(genes: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.int64]:
    """(n_wanted,) places among the genes, which are asked for once for each piece of a query; -1 for an absent one."""
    position = {gene: i for i, gene in enumerate(genes)}
    places = np.array([position.get(gene, -1) for gene in wanted], dtype=np.int64)
    places.flags.writeable = False
    return places


def _open(source: str | Path | AnnData) -> tuple[AnnData, DatasetSpec | None, str]:
    from anndata import AnnData

    if isinstance(source, AnnData):
        return in_memory(source), None, "AnnData"
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise DatasetError(f"a {kind} is no data set: give a name, the path of an .h5ad file, or an AnnData")
    if str(source) in DATASETS:
        spec = DATASETS[str(source)]
        return spec.load(), spec, spec.name
    refuse_unknown_source(source)
    path = expanded(source)
    return read_h5ad(path), None, path.stem


def refuse_unknown_source(source: str | Path) -> None:
    """Refuse what is neither a registered name nor an .h5ad file, without reading more than its first bytes.

    Raises
    ------
    DatasetError
        Lists the registered names, or says what is wrong with the file.
    """
    text = str(source)
    if text in DATASETS:
        return
    is_name = not isinstance(source, Path) and re.fullmatch(r"[^./\\]*", text)
    if is_name and (not text.strip() or not expanded(text).exists()):
        raise DatasetError(str(unknown("data set", text, DATASETS, remedy="The path of an .h5ad file works too")))
    said = problem(source)
    if said:
        raise DatasetError(said)


def _matrix(
    adata: AnnData, layer: str | None, said: str | None, gene_column: str | None, own: bool
) -> tuple[sparse.csr_matrix, Symbols, Values]:
    """CSR float32 of log1p(counts per ten thousand), its genes, and what the values were."""
    matrix, layers = values_of(adata, layer, shared=own), layer_names(adata)
    refuse_scaled(matrix, layer, layers)
    refuse_repeated_cells(adata.obs_names)
    raw = layer == "raw"
    totals = lambda: np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()  # noqa: E731 - seldom needed
    symbols = read_symbols(adata.raw.var if raw else adata.var, gene_column or None, raw=raw, totals=totals)
    found = normalise(matrix, layer, layers=layers, genes=symbols.names, cells=adata.obs_names, said=said)
    return matrix, symbols, found
