"""Labelled cells as an .h5ad file, wherever they came from; whole or not at all, and never onto what was read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from frostline.annotation.annotating import Annotation
from frostline.annotation.outputs import naming_parts, refuse_bad_output, written_whole
from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset
from frostline.errors import FrostlineError
from frostline.escaping import for_html
from frostline.plain_files import expanded

if TYPE_CHECKING:
    from anndata import AnnData

STYLE = (
    "body { font: 16px/1.5 sans-serif; max-width: 52em; margin: 2em auto; padding: 0 1em } "
    "table { border-collapse: collapse; margin: 1em 0 } caption { font-weight: bold; text-align: left } "
    "th, td { text-align: left; vertical-align: top; padding: .2em .8em .2em 0; border-bottom: 1px solid #ddd }"
)


def save_labelled(
    annotation: Annotation, query: str | Path | AnnData | Dataset, output: str | Path, *, overwrite: bool = False
) -> Path:
    """Write the cells of a query with the labels that they were given.

    Parameters
    ----------
    annotation, query
        What `annotate` returned, and what it was made of.
    output
        An .h5ad file that is not there yet.
    overwrite
        Whether one that is there may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FrostlineError
        It is the file that was read, is there already, is no .h5ad file, or cannot be written; the file that was read
        is gone or holds other cells by now; the AnnData does not hold the labels any more, or a part of it cannot be
        written.

    Examples
    --------
    >>> import tempfile, anndata, frostline
    >>> from frostline.annotation.annotating import annotate
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> model = frostline.annotation.keep(frostline.compare([record]), pbmc)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = save_labelled(annotate(model, pbmc), pbmc, f"{folder}/labelled.h5ad")
    ...     "frostline_confidence" in anndata.read_h5ad(saved).obs
    True
    """
    path, adata = expanded(output), _in_memory(annotation, query)
    own = annotation.source if adata is None else _file_behind(adata)
    refuse_bad_output(path, own, overwrite=overwrite)
    if own is not None:  # its file is copied, and the labels are written into the copy
        annotation.outputs.save(own, path, adata)
        return path
    assert adata is not None
    with written_whole(path) as scratch, naming_parts(adata):
        adata.write_h5ad(scratch)
    return path


def save_report(annotation: Annotation, output: str | Path) -> Path:
    """Write what is to be thought of the labels as a page of its own, figures included.

    Parameters
    ----------
    annotation
        What `annotate` returned.
    output
        An .html file; replaced where it exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    FrostlineError
        It cannot be written.

    Examples
    --------
    >>> import tempfile, frostline
    >>> from frostline.annotation.annotating import annotate
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> model = frostline.annotation.keep(frostline.compare([record]), pbmc)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_report(annotate(model, pbmc), f"{folder}/report.html").read_text(encoding="utf-8").count("<img")
    4
    """
    path = expanded(output)
    name = for_html(f"Labels of {annotation.report.facts['query']['name']}")
    head = f'<head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
    page = f'<!DOCTYPE html>\n<html lang="en">{head}<body><h1>{name}</h1>{annotation._repr_html_()}</body></html>\n'
    with written_whole(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return path


def _in_memory(annotation: Annotation, query: str | Path | AnnData | Dataset) -> AnnData | None:
    """The cells with their labels; None where they are in a file."""
    if annotation.source is not None:
        return None
    if isinstance(query, Dataset):
        adata = query.same_cells().copy()
        annotation.outputs.write(adata)
        return adata
    if isinstance(query, str | Path):
        adata = DATASETS[str(query)].load()
        annotation.outputs.write(adata)
        return adata
    obs, found = query.obs, annotation.obs
    if not (obs.index.equals(found.index) and all(name in obs and found[name].equals(obs[name]) for name in found)):
        raise FrostlineError(
            f"the AnnData does not hold the labels any more that were written to its obs[{annotation.key!r}]: cells or "
            "columns have been changed since. Annotate it again"
        )
    return query


def _file_behind(adata: AnnData) -> Path | None:
    return Path(str(adata.filename)) if adata.isbacked and not adata.is_view else None
