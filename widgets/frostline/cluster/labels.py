"""What is decided before an atlas is handed out, and what is made of all of its parts in the end."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.labelling import landmarks_of, names_in, shift_of, summary_of, unique_names
from frostline.annotation.outputs import names_of
from frostline.annotation.reports import facts_of
from frostline.cells.gene_mapping import refuse_other_species
from frostline.cells.genes import match_genes
from frostline.cells.symbols import read_symbols
from frostline.cluster.arrays import ARRAY
from frostline.cluster.parts import CODES, Unfinished, group_of
from frostline.encoder.token_readers import TokenReader, ValueKind
from frostline.encoder.vocabulary import described
from frostline.errors import DatasetError

if TYPE_CHECKING:
    from frostline.annotation.models import Model
    from frostline.annotation.refitting import Reading
    from frostline.cells.queries import Matrices, Query
    from frostline.encoder.checkpoints import Checkpoint

RUN = 8_192
"""Cells whose counts are summed at once."""


def token_reader(
    found: Matrices, checkpoint: Checkpoint, gene_column: str | None, *, seed: int, max_length: int
) -> tuple[TokenReader, tuple[str, ...]]:
    """How the cells of an atlas become tokens, by 2,000 that lie evenly over it; and the names of its genes.

    Raises
    ------
    DatasetError
        The genes are of another species, or none of them is known.

    Warns
    -----
    UserWarning
        Few of the genes are known, or those with few of the counts.
    """
    from anndata import AnnData

    symbols = read_symbols(found.var, gene_column, totals=lambda: _totals(found), known=checkpoint.vocabulary)
    _, sample = found.rows.sample
    totals = np.asarray(sample.sum(axis=0), dtype=np.float64).ravel()
    match = match_genes(symbols.names, checkpoint.vocabulary, totals)
    if match.severity:
        refuse_other_species(match.names)
        said = described(match, AnnData(var=found.var), symbols.source, checkpoint)
        if not match.n_matched:
            raise DatasetError(said)
        warnings.warn(said, stacklevel=3)
    logged = ValueKind.of(sample).logged
    return TokenReader.of(match, checkpoint, logged=logged, seed=seed, max_length=max_length), symbols.names


def _totals(found: Matrices) -> NDArray[np.float64]:
    """(n_genes,) sums over all cells."""
    totals = np.zeros(found.rows.shape[1])
    for _, matrix in found.rows.chunks(RUN):
        totals += np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
    return totals


def light(query: Query) -> Query:
    """The same query without the names of its cells and without what reads them."""
    from scipy import sparse

    from frostline.cells.streams import in_memory

    nothing = in_memory(sparse.csr_matrix((0, query.rows.shape[1]), dtype=np.float32))
    return replace(query, obs_names=query.obs_names[:0], rows=replace(nothing, note=query.rows.note))


def finish(
    model: Model,
    query: Query,
    reading: Reading,
    key: str,
    unfinished: Unfinished,
    facts: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the columns of names, and say what was found, as `frostline.annotation.annotate` does."""
    classes = reading.calibration.hierarchy.classes
    answers: dict[tuple[str, ...], int] = {classes: 0}
    places = {part: _merged(facts[part]["answers"], answers) for part in sorted(facts)}
    counts = {end: _counts(end, facts, places) for end in names_in(classes, answers)}
    for end, names in names_in(classes, answers).items():
        _column(unfinished, f"{key}{end}", end, names, counts[end], places)
    _order(unfinished, key)
    shift = shift_of(classes, _watch(facts), landmarks_of(reading))
    summary = summary_of(classes, counts, model.calibration.alpha)
    return {key: facts_of(model, query, reading, shift, summary)}


def _merged(found: list[list[str]], answers: dict[tuple[str, ...], int]) -> NDArray[np.int64]:
    """Place among all answers of each answer of a part, in the order in which cells first got them; then Unknown's."""
    return np.array([*(answers.setdefault(tuple(answer), len(answers)) for answer in found), -1], dtype=np.int64)


def _counts(end: str, facts: Mapping[int, Mapping[str, Any]], places: Mapping[int, NDArray[np.int64]]) -> Counter[int]:
    """Cells of each place in the names of a column."""
    counts: Counter[int] = Counter()
    for part, each in facts.items():
        for place, cells in each["counts"][end]:
            counts[int(places[part][place]) if end == "_set" else int(place)] += int(cells)
    return counts


def _column(
    unfinished: Unfinished,
    name: str,
    end: str,
    names: list[str],
    counts: Mapping[int, int],
    places: Mapping[int, NDArray[np.int64]],
) -> None:
    """Write a column of names as anndata does, part by part; names that no cell has are left out."""
    import pandas as pd
    from anndata.io import write_elem

    unique, where = unique_names(names)
    used = sorted({int(where[place]) for place, cells in counts.items() if cells})
    table = np.array([used.index(place) if place in used else -1 for place in where.tolist()], dtype=np.int64)
    obs = group_of(unfinished.store / "obs")
    empty = pd.Categorical.from_codes([], categories=[unique[place] for place in used])
    write_elem(obs, name, empty)
    codes = obs[name].create_array(
        "codes",
        shape=(unfinished.plan.n_cells,),
        chunks=(unfinished.plan.rows,),
        dtype=empty.codes.dtype,
        attributes=dict(ARRAY),
        overwrite=True,
    )
    for part, values in _codes(unfinished, end):
        own = places[part][values] if end == "_set" else values
        start, stop = unfinished.plan.span(part)
        codes[start:stop] = table[own].astype(codes.dtype)


def _codes(unfinished: Unfinished, end: str) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """What workers have kept of a column, part by part."""
    import zarr

    array: Any = zarr.open_array(unfinished.folder / CODES / f"label{end}", mode="r")
    for part in range(len(unfinished.plan)):
        start, stop = unfinished.plan.span(part)
        yield part, np.asarray(array[start:stop]).astype(np.int64)


def _order(unfinished: Unfinished, key: str) -> None:
    """List the new columns behind the others."""
    obs = group_of(unfinished.store / "obs")
    new = names_of(key)["obs"]
    obs.attrs["column-order"] = [*(name for name in obs.attrs["column-order"] if name not in new), *new]


def _watch(facts: Mapping[int, Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Of the cells that are compared with the reference cells what `shift_of` needs."""
    rows = [facts[part]["watch"] for part in sorted(facts)]
    kinds = {"features": np.float64, "reasons": np.int8, "best": np.int32}
    return {
        name: np.concatenate([np.asarray(each[name], dtype=kind) for each in rows if each["best"]])
        for name, kind in kinds.items()
    }
