"""Cells without labels: opened, looked at once, and given out a run at a time as data sets.

What the values are is found on cells that are evenly spread over all; each run is normalised by that, so that a cell
gets the same values whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells import streams
from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset, refuse_unknown_source
from frostline.cells.matrices import in_memory, layer_names, refuse_bad_values, values_of
from frostline.cells.reading import read_h5ad
from frostline.cells.refusals import refuse_repeated_cells, refuse_scaled, refuse_unwritable
from frostline.cells.stores import CellNames, as_dataset_error, is_store, names_in, opened_store
from frostline.cells.symbols import Symbols, read_symbols
from frostline.cells.values import DECIMALS, LARGEST_LOG, TRANSFORMS, Values, describe, log_normalise
from frostline.errors import DatasetError
from frostline.plain_files import expanded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

NOTHING = Values(TRANSFORMS["log1p"], "no value", "no cell has a value")
"""Of cells that have none: there is nothing to normalise."""


@dataclass(frozen=True)
class Query:
    """Cells without labels, and what was found out about them."""

    name: str
    obs_names: pd.Index | CellNames = field(repr=False)
    symbols: Symbols = field(repr=False)
    values: Values
    rows: streams.Rows = field(repr=False)
    layer: str | None = None

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of its genes."""
        return self.symbols.names

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said about it."""
        return tuple(note for note in (self.symbols.note, self.rows.note) if note)

    def __len__(self) -> int:
        return self.rows.shape[0]

    def take(self, rows: NDArray[np.integer]) -> Dataset:
        """Some cells, in rising order."""
        return self._dataset(self.rows.take(rows), self.obs_names[rows])

    @property
    def sample(self) -> Dataset:
        """Some cells, evenly spread."""
        rows, matrix = self.rows.sample
        return self._dataset(matrix.copy(), self.obs_names[rows])

    def chunks(self, size: int) -> Iterator[tuple[int, Dataset]]:
        """(first row, cells) of all, `size` at a time."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield start, self._dataset(self.rows.span(start, stop), self.obs_names[start:stop])  # kept by nobody here

    def _dataset(self, matrix: sparse.csr_matrix, names: pd.Index) -> Dataset:
        import pandas as pd
        from anndata import AnnData

        _refuse_others(matrix, self, names)
        log_normalise(matrix, self.values)
        return Dataset(
            name=self.name,
            adata=AnnData(obs=pd.DataFrame(index=names.astype(str))),
            label_key="",
            matrix=matrix,
            genes=self.genes,
            labels=np.full(len(names), "", dtype=str),
            values_name=self.values.name,
            notes=self.notes,
            evidence=self.values.evidence,
            gene_source=self.symbols.source,
        )


@contextmanager
def open_cells(
    source: str | Path | AnnData | Dataset,
    *,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    name: str | None = None,
) -> Iterator[Query]:
    """Open cells, labelled or not, and check them; of a file no more is read than is asked for.

    Parameters
    ----------
    source
        A name of `DATASETS`, the path of an .h5ad file or of a zarr folder, an AnnData, or a data set.
    layer, values, gene_column, name
        As in `load_dataset`; a data set has its own, and takes none of the first three.

    Raises
    ------
    DatasetError
        The file cannot be read; a layer or column does not exist; values are negative or infinite, or it is unclear
        what they are; the matrix is damaged; cell or gene names are not unique; a data set is to be read otherwise
        than it was loaded.

    Examples
    --------
    >>> with open_cells("pancreas") as query:
    ...     query.values.name, [len(cells) for _, cells in query.chunks(100)]
    ('counts', [100, 75])
    """
    if isinstance(source, Dataset):
        said = {"layer": layer, "values": values, "gene_column": gene_column}
        without_effect = [option for option, value in said.items() if value is not None]
        if without_effect:
            raise DatasetError(
                f"{source.name!r} is loaded already, and {', '.join(without_effect)} would have no effect; leave it "
                "out, or pass what it was loaded from"
            )
        yield _of_dataset(source)
        return
    with ExitStack() as stack:
        if not isinstance(source, Path) and str(source) in DATASETS:
            spec = DATASETS[str(source)]
            source, name = spec.load(), name or spec.name
            layer, values = layer or spec.layer, values or spec.values
        found = _checked(_matrices(source, layer, stack), layer, values, gene_column, name)
        opened = stack.pop_all()
    with closing(opened):  # what is raised from here on is no fault of the file
        yield found


def load_cells(
    source: str | Path | AnnData | Dataset,
    *,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    name: str | None = None,
) -> Dataset:
    """Load cells that need no labels, all of them.

    Cells without a single count are let in, and so are one cell and no cell.

    Parameters
    ----------
    source, layer, values, gene_column, name
        As in `open_cells`.

    Raises
    ------
    DatasetError
        As in `open_cells`.

    Examples
    --------
    >>> cells = load_cells("pancreas")
    >>> len(cells), set(cells.labels.tolist())
    (175, {''})
    """
    with open_cells(source, layer=layer, values=values, gene_column=gene_column, name=name) as query:
        return query.take(np.arange(len(query)))


@dataclass(frozen=True)
class Matrices:
    """The tables of an AnnData or a file, and the matrix that is read."""

    name: str
    obs_names: pd.Index | CellNames = field(repr=False)
    var: pd.DataFrame = field(repr=False)
    rows: streams.Rows
    layers: tuple[str, ...]


@contextmanager
def open_matrices(path: Path, layer: str | None = None) -> Iterator[Matrices]:
    """Open a file or zarr folder of cells as it is; of the values nothing is checked.

    Parameters
    ----------
    path, layer
        As for `open_cells`.

    Raises
    ------
    DatasetError
        It cannot be read, or has no such layer.
    """
    with ExitStack() as stack:
        found = _matrices(path, layer, stack)
        opened = stack.pop_all()
    with closing(opened):
        yield found


def checked(found: Matrices, layer: str | None, said: str | None, gene_column: str | None) -> Query:
    """Cells as `open_cells` gives them, of what `open_matrices` has opened."""
    return _checked(found, layer, said, gene_column, None)


def _matrices(source: str | Path | AnnData, layer: str | None, stack: ExitStack) -> Matrices:
    from anndata import AnnData

    if isinstance(source, AnnData):
        if source.isbacked and not source.is_view:
            return _of_backed(source, layer, stack)
        return _of_adata(in_memory(source), layer, "AnnData")
    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise DatasetError(f"a {kind} holds no cells: give the path of an .h5ad file, an AnnData, or a data set")
    if not is_store(expanded(source)):
        refuse_unknown_source(source)
    return _of_file(expanded(source), layer, stack)


def _of_adata(adata: AnnData, layer: str | None, name: str) -> Matrices:
    rows = streams.in_memory(values_of(adata, layer))
    return Matrices(name, adata.obs_names, adata.raw.var if layer == "raw" else adata.var, rows, layer_names(adata))


def _of_backed(adata: AnnData, layer: str | None, stack: ExitStack) -> Matrices:
    """X and raw out of its file; names and all other layers as they are in the AnnData by now."""
    if layer not in (None, "X", "raw") or (layer == "raw" and adata.raw is None):
        return _of_adata(adata, layer, "AnnData")
    path, var = Path(str(adata.filename)), adata.raw.var if layer == "raw" else adata.var
    found = _of_file(path, layer, stack)
    if found.rows.shape != (adata.n_obs, len(var)):
        raise DatasetError(
            f"{path} has been written again since it was opened, with other cells or genes: open it again"
        )
    return replace(found, obs_names=adata.obs_names, var=var, layers=layer_names(adata))


def _of_file(path: Path, layer: str | None, stack: ExitStack) -> Matrices:
    from anndata.io import read_elem

    file = stack.enter_context(opened_store(path))
    if not hasattr(file["obs"], "keys"):  # the layout is older than anndata 0.7
        return _of_adata(read_h5ad(path), layer, path.stem)
    own = [name for name in file.get("layers", ()) if name not in ("X", "raw")]
    has_raw = "raw" in file and hasattr(file["raw"], "keys")  # in zarr, None is written down
    layers = (*(["X"] if "X" in file else []), *(["raw"] if has_raw else []), *own)
    place, what = place_of(layer)
    if (layer or "X") not in layers or place not in file:
        there = ", ".join(layers) or "no matrix of cells and genes"
        raise DatasetError(f"layer {layer or 'X'!r} does not exist; {path.name} has: {there}")
    var, names = read_elem(file["raw/var" if layer == "raw" else "var"]), names_in(file["obs"])
    rows = streams.in_file(file[place], (len(names), len(var)), what, stack)

    def span(start: int, stop: int) -> sparse.csr_matrix:
        with as_dataset_error(path):
            return rows.span(start, stop)

    return Matrices(path.stem, names, var, replace(rows, span=span), layers)


def place_of(layer: str | None) -> tuple[str, str]:
    """Where a matrix is in a file, and what it is called in errors.

    Examples
    --------
    >>> place_of(None), place_of("raw"), place_of("counts")
    (('X', 'X'), ('raw/X', 'raw.X'), ('layers/counts', "layer 'counts'"))
    """
    places = {"X": ("X", "X"), "raw": ("raw/X", "raw.X")}
    return places.get(layer or "X", (f"layers/{layer}", f"layer {layer!r}"))


def _of_dataset(dataset: Dataset) -> Query:
    """A data set's own values, which are log-normalised."""
    values = Values(TRANSFORMS["log1p"], dataset.values_name, dataset.evidence)
    symbols = Symbols(dataset.genes, dataset.gene_source)
    return Query(dataset.name, dataset.obs.index, symbols, values, streams.in_memory(dataset.matrix))


def _checked(found: Matrices, layer: str | None, said: str | None, gene_column: str | None, name: str | None) -> Query:
    """Refuse what `load_dataset` refuses, as far as cells that are spread over all show it."""
    refuse_repeated_cells(found.obs_names)
    refuse_unwritable("adata.obs_names", found.obs_names)
    rows, sample = found.rows.sample
    refuse_scaled(sample, layer, found.layers)
    symbols = read_symbols(found.var, gene_column or None, raw=layer == "raw", summed=True)
    refuse_unwritable(symbols.source, symbols.names)
    refuse_bad_values(sample, symbols.names, found.obs_names[rows])
    values = describe(sample, said) if sample.nnz else NOTHING
    _ask_about_decimals(values, said)
    return Query(name or found.name, found.obs_names, symbols, values, found.rows, layer)


def _ask_about_decimals(values: Values, said: str | None) -> None:
    """Counts that were corrected for ambient ones can be read; those of reads by the length of a gene cannot."""
    if values.name == DECIMALS and said is None:
        raise DatasetError(
            f"the values are decimals, not logged, and no whole multiples ({values.evidence}): counts corrected for "
            "ambient RNA, or RPKM, which cannot be distinguished. Load the counts (layer=...); if they are corrected "
            "counts, say so: values='linear', for frostline annotate --values linear",
            values="unknown",
        )


def _refuse_others(matrix: sparse.csr_matrix, query: Query, names: pd.Index) -> None:
    """Refuse cells whose values cannot be of the kind that was found on others."""
    refuse_bad_values(matrix, query.genes, names)
    values, data = query.values, matrix.data
    logged = values.transform.name in ("log1p", "log2", "log10")
    if values.transform.name == "linear" and values.whole and values.total is None:
        bad = np.flatnonzero(data != np.rint(data))
    elif logged:
        bad = np.flatnonzero(data > LARGEST_LOG)
    else:
        return
    if len(bad):
        cell = names[np.searchsorted(matrix.indptr, bad[0], side="right") - 1]
        raise DatasetError(
            f"the cells hold different kinds of values: the values are {values.name} ({values.evidence}), but cell "
            f"{str(cell)!r} has {data[bad[0]]:g}; were sets joined that had been normalised differently? Bring them to "
            "one kind first, or name counts (layer=...)"
        )
