"""From a kept model and a query to labels, and what is to be thought of each.

A cell's label depends on the cell alone, and on what was decided once about its file: which genes it has, what its
values are, how deep it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Interval, Unit
from numpy.typing import NDArray

from frostline.annotation.labelling import PIECE, Found, Landmarks, landmarks_of, shift_of, watched_of
from frostline.annotation.models import Calibration, Model
from frostline.annotation.outputs import Outputs, Spool, refuse_bad_output, refuse_taken
from frostline.annotation.refitting import read_query
from frostline.annotation.reports import Report, facts_of
from frostline.annotation.shifts import Shift
from frostline.bounds import Whole, hold
from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset
from frostline.cells.queries import open_cells
from frostline.errors import FrostlineError
from frostline.memory import give_back
from frostline.monitor import Monitor
from frostline.plain_files import expanded

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Chunk = Annotated[Whole, Interval(ge=1, le=10_000_000), Unit("cells")]


@dataclass(frozen=True)
class Annotation:
    """Labels of the cells of a query."""

    report: Report
    outputs: Outputs = field(repr=False)
    classes: tuple[str, ...]
    """Of the columns of `probabilities`."""
    source: Path | None = None
    """File that was read; None where the cells were in memory."""
    landmarks: Landmarks | None = None
    """Labelled cells to compare with; None where the model keeps none."""
    calibration: Calibration | None = field(default=None, repr=False)
    """What the confidence of the model meant for these cells; after a refit, that of the refit."""
    shift: Shift | None = field(default=None, repr=False)
    """Whether they differ from the labelled cells; None where the model keeps none."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Layer, values and gene column that were named, by the parameters of `annotate`."""

    @property
    def key(self) -> str:
        """Name of the columns."""
        return self.outputs.key

    @property
    def obs(self) -> pd.DataFrame:
        """(n_cells, 6) label, confidence, second label, set, p_known and reason of each cell."""
        return self.outputs.table

    @property
    def p_known(self) -> NDArray[np.float64]:
        """(n_known,) p that a cell is of a known class, of the cells that express enough genes."""
        found: NDArray[np.float64] = self.outputs.columns[f"{self.key}_p_known"]
        return found[~np.isnan(found)]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(n_cells, n_classes) after temperature scaling; NaN where too few genes are expressed."""
        return self.outputs.probabilities.array()

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(n_cells, d) that the model classifies from, or its scores where that are genes; NaN as above."""
        return self.outputs.embedding.array()

    def save(self, output: str | Path) -> Path:
        """Write a copy of the file that was read, with the labels in it.

        Parameters
        ----------
        output
            An .h5ad file, which is replaced where it exists; not the one that was read.

        Raises
        ------
        FrostlineError
            The cells were in memory, the file that was read is gone or holds other cells by now, the output is that
            file, is no .h5ad file, or cannot be written.
        """
        path = expanded(output)
        if self.source is None:
            raise FrostlineError(
                "these cells were in memory, and there is no file to copy; with `cells` for what was annotated: from "
                f"frostline.annotation.saving import save_labelled; save_labelled(annotation, cells, {str(output)!r})"
            )
        refuse_bad_output(path, self.source, overwrite=True)
        self.outputs.save(self.source, path)
        return path

    def __len__(self) -> int:
        return len(self.outputs.obs_names)

    def __str__(self) -> str:
        return str(self.report)

    def _repr_html_(self) -> str:
        from frostline.annotation.promises import promises_html  # matplotlib

        return self.report._repr_html_() + promises_html(self.calibration, self.shift, self.p_known)


def annotate(
    model: Model,
    query: str | Path | AnnData | Dataset,
    key: str = "frostline",
    *,
    layer: str | None = None,
    values: str | None = None,
    gene_column: str | None = None,
    chunk: int = PIECE,
    overwrite: bool = False,
    monitor: Monitor | None = None,
) -> Annotation:
    """Label cells with a kept model, and say which are unknown, of which the label is unsure, and why.

    An AnnData gets the labels in place; of a file a labelled copy is written with `Annotation.save`. Under `key` stand
    in obs: the label, or "Unknown" where the cell is unlike the labelled ones or expresses too few genes;
    `_confidence`, `_second` (the next label), `_set` (the label where it is safe, else several, else "Unknown"),
    `_p_known` (how often a known cell is as strange) and `_reason`; in obsm `X_` + key and `_probabilities`; in uns
    the report.

    Parameters
    ----------
    model
        What `adapt` or `load_model` returned.
    query
        Cells, labelled or not: an AnnData, the path of an .h5ad file, or a data set. A file is read in runs of cells.
    key
        Name of the columns.
    layer, values, gene_column
        As for `load_dataset`.
    chunk
        Cells that are read at once, rounded up to a multiple of 256; the result does not depend on it.
    overwrite
        Whether what stands under the key may be replaced.
    monitor
        Receives the progress, and is asked between steps whether to stop with `Cancelled`; nothing is written then.

    Raises
    ------
    DatasetError
        As of `load_cells`; too few genes are those of the model, or of another species; the model must be fitted again
        and has no reference cells; something stands under the key already.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> model = frostline.annotation.keep(frostline.compare([record]), pbmc)
    >>> query = pbmc.adata.raw.to_adata()
    >>> annotate(model, query).classes == model.classes, list(query.obs)[-6:][:2]
    (True, ['frostline', 'frostline_confidence'])
    """
    from anndata import AnnData

    chunk, monitor = hold(Chunk, "chunk", chunk), monitor or Monitor()
    path = _file_of(query)
    refuse_taken(query if path is None else path, key, overwrite=overwrite)
    with open_cells(query, layer=layer, values=values, gene_column=gene_column) as cells:
        monitor.step(0.0, "genes and values")
        reading = read_query(model, cells, monitor.part(0.0, 0.15, "fitting again: "))
        cells.rows.forget()
        monitor.step(0.15, "reading the reference cells")
        landmarks = landmarks_of(reading)
        give_back()  # what they took, before there is anything of the query
        spool = Spool if path is None else Spool.on_disk
        found = Found.of(reading, cells, watched_of(len(cells)), spool, chunk, monitor.part(0.2, 0.95))
        monitor.step(0.95, "comparing with the reference cells")
        give_back()  # what an encoder has used, before tables are made
        shift = shift_of(found.classes, found.watch, landmarks)
        facts = facts_of(model, cells, reading, shift, found.summary(model.calibration.alpha))
    outputs = found.outputs(key, cells, facts)
    if isinstance(query, AnnData):
        outputs.write(query)
    monitor.progress(1.0, "done")  # it is too late to stop
    given = {"layer": layer, "values": values, "gene_column": gene_column}
    options = {name: value for name, value in given.items() if value is not None}
    return Annotation(Report(facts), outputs, found.classes, path, landmarks, reading.calibration, shift, options)


def _file_of(query: str | Path | AnnData | Dataset) -> Path | None:
    if isinstance(query, Path) or (isinstance(query, str) and query not in DATASETS):
        return expanded(query)
    return None
