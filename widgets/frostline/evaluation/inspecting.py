"""Look at a data set before anything is done with it; what is refused is asked of the functions that refuse it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.gene_mapping import map_genes, refuse_other_species
from frostline.cells.gene_names import name_kinds
from frostline.cells.labels import read_labels, refuse_bad_groups
from frostline.cells.normalising import normalise
from frostline.cells.previews import Preview, preview_of
from frostline.cells.refusals import refuse_repeated_cells, refuse_scaled, refuse_unwritable
from frostline.cells.sources import Source, open_source
from frostline.cells.symbols import Symbols, read_symbols
from frostline.cells.values import TARGET, TOLERANCE, Values
from frostline.encoder.checkpoints import CHECKPOINTS, SPECIAL_TOKENS, find_folder
from frostline.encoder.layouts import read_vocabulary
from frostline.encoder.vocabulary import gene_totals
from frostline.errors import DatasetError
from frostline.evaluation.inspection import Coverage, Inspection, Matrix, Refusal
from frostline.evaluation.label_checks import Written, doubtful_names
from frostline.evaluation.leakage import same_profiles
from frostline.monitor import Monitor

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

    from frostline.records import Finding

LARGE = 2**30
"""Bytes of all matrices from which some cells are looked at instead of all."""
CELLS = 10_000
"""Cells that are then looked at."""
ALL = ("load_dataset", "adapt", "annotate")
LABELLED = ("load_dataset", "adapt")
ENCODED = ("annotate", "strategies with a checkpoint")
"""Who refuses what."""
MANY_MORE = 1.5
"""Times the genes of the matrix to take from which another one is mentioned."""


def inspect(
    source: str | Path | AnnData | Dataset,
    label_key: str | None = None,
    *,
    group_key: str | None = None,
    gene_column: str | None = None,
    monitor: Monitor | None = None,
) -> Inspection:
    """Look at what a data set holds, and at what will be refused of it.

    Nothing is refused here but what cannot be read at all. Of more than `LARGE` bytes the values of `CELLS` cells are
    looked at, which lie evenly; the report says so.

    Parameters
    ----------
    source
        A name of `DATASETS`, the path of an .h5ad file, an AnnData, or a loaded data set.
    label_key, group_key
        Columns of obs with labels and groups; the likeliest ones if not named.
    gene_column
        Column of var with the gene symbols, as for `load_dataset`.
    monitor
        Receives the progress, and is asked between matrices whether to stop with `Cancelled`.

    Raises
    ------
    DatasetError
        There is no such data set or file, or it cannot be read as .h5ad; says what was seen.

    Examples
    --------
    >>> report = inspect("pancreas")
    >>> report.recommended, report.matrix("X").kind, report.names.species, report.refusals
    ('X', 'counts', 'human', ())
    >>> report.command
    'frostline adapt pancreas --label cell_type --group donor -o pancreas-model'
    """
    opened, monitor = open_source(source), monitor or Monitor()
    asked = _asked(source, opened, preview_of(opened), label_key, group_key, gene_column)
    looks = []
    for number, name in enumerate(asked.outline.layers):
        monitor.step(number / len(asked.outline.layers), f"looking at {name}")
        looks.append(_look(asked, name))
    return _report(asked, looks)


@dataclass(frozen=True)
class _Asked:
    """What is looked at, and how it would be loaded."""

    source: Any
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


def _asked(
    source: Any,
    opened: Source,
    outline: Preview,
    label_key: str | None,
    group_key: str | None,
    gene_column: str | None,
) -> _Asked:
    known = source if isinstance(source, Dataset) else opened.spec
    layer = source.given.get("layer") if isinstance(source, Dataset) else opened.spec.layer if opened.spec else None
    own_group = known.group_key if known else next(iter(outline.groups), None)
    stored = [found[1] for name in outline.layers if (found := opened.storage(name)) is not None]
    all_cells = sum(stored) <= LARGE or opened.n_obs <= CELLS
    label_key = label_key or (known.label_key if known else outline.label_key)
    group_key = group_key or (own_group if own_group != label_key else None)
    said = opened.spec.values if opened.spec else None
    rows = None if all_cells else np.unique(np.linspace(0, opened.n_obs - 1, CELLS).astype(np.int64))
    return _Asked(source, opened, outline, label_key, group_key, gene_column, layer or "X", said, rows)


@dataclass(frozen=True)
class _Look:
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
        return _worth(self.matrix.values), -self.matrix.n_genes

    @property
    def can_be_taken(self) -> bool:
        """Whether it is loaded, perhaps after its line of code was run."""
        return self.matrix.values is not None and all(error.line for _, error in self.errors)


_READ, _CELLS, _NAMES, _VALUES, _SAVED = range(5)
"""Places in the order in which `load_dataset` refuses."""


def _look(asked: _Asked, name: str) -> _Look:
    opened, layers = asked.opened, asked.outline.layers
    table = opened.genes_of(name)
    errors: list[tuple[int, DatasetError]] = []
    own = Symbols(tuple(map(str, table.index)), "adata.raw.var_names" if name == "raw" else "adata.var_names")
    storage = opened.storage(name)
    stored = storage[0] if storage else "not there"
    try:
        matrix = opened.read(name, asked.rows)
    except DatasetError as error:
        return _Look(Matrix(name, len(table), stored, "cannot be read", str(error)), None, own, ((_READ, error),))
    symbols, refused = _tried(
        lambda: read_symbols(table, asked.gene_column, raw=name == "raw", totals=lambda: _sums(matrix)), own
    )
    errors += [(_NAMES, refused)] if refused else []
    seen = len(matrix.indptr) - 1
    n_values = round(matrix.nnz * opened.n_obs / max(1, seen))
    n_empty = int((np.diff(matrix.indptr) == 0).sum())
    cells = opened.obs.index if asked.rows is None else opened.obs.index[asked.rows]

    def values() -> Values:
        refuse_scaled(matrix, name, layers)
        said = asked.said if name == asked.default else None
        return normalise(matrix, name, layers=layers, genes=symbols.names, cells=cells, said=said)

    found, unfit = _tried(values, None)
    errors += [(_READ if unfit.values == "scaled" else _VALUES, unfit)] if unfit else []
    _, refused = _tried(lambda: refuse_unwritable(symbols.source, symbols.names), None)
    errors += [(_SAVED, refused)] if refused else []
    kind, evidence = _kind(found, unfit)
    shown = Matrix(name, len(table), stored, kind, evidence, n_values, n_empty, found)
    return _Look(shown, matrix if found else None, symbols, tuple(errors))


def _tried(work: Callable[[], Any], otherwise: Any) -> tuple[Any, DatasetError | None]:
    """What work returns, or the refusal."""
    try:
        return work(), None
    except DatasetError as error:
        return otherwise, error


def _kind(found: Values | None, error: DatasetError | None) -> tuple[str, str]:
    if found is not None:
        return found.name, found.evidence
    kind = "" if error is None else error.values
    return ("unknown: ask" if kind == "unknown" else kind or "one gene"), str(error)


def _sums(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()


def _worth(values: Values | None) -> int:
    """Place in the order of what to take: counts, log-normalised, what can be converted, what has no total."""
    if values is None:
        return 9
    if values.name == "counts":
        return 0
    if values.whole:  # a transform of counts, or presence
        return 1 if values.transform.name != "linear" else 6
    if values.total is None:
        return 4 if values.transform.name == "log1p" else 5
    return 2 if values.transform.name == "log1p" and abs(values.total / TARGET - 1) <= TOLERANCE else 3


_WHY = {
    0: "counts, which are normalised the same way for every strategy, and can be compared in depth",
    1: "counts under a transform that is undone",
    2: "log-normalised to ten thousand a cell, as strategies read it",
    3: "their total is known, so that they are converted",
    4: "logarithms as strategies read them, though the total of the cells is not known",
    5: "they are converted as far as they show what they are",
    6: "all that there is, though it tells presence alone",
}


def _report(asked: _Asked, looks: Sequence[_Look]) -> Inspection:
    opened = asked.opened
    default = next((look for look in looks if look.matrix.name == asked.default), looks[0])
    fit = sorted((look for look in looks if look.can_be_taken), key=lambda look: look.rank)
    best = fit[0] if fit else None
    shown = best or default
    _, label_error = _tried(lambda: read_labels(opened.obs, asked.label_key), None)
    refusals = tuple(_refusals(asked, default, best, label_error))
    code, command = _next(asked, best, refusals)
    return Inspection(
        outline=asked.outline,
        n_seen=opened.n_obs if asked.rows is None else len(asked.rows),
        matrices=tuple(look.matrix for look in looks),
        default=asked.default,
        recommended=best.matrix.name if best else None,
        why=_why(best, looks),
        names=name_kinds(tuple(map(str, opened.genes_of(shown.matrix.name).index))),
        gene_source=_source_of_names(shown),
        coverage=tuple(_coverage(shown)),
        label_key=asked.label_key,
        group_key=asked.group_key,
        classes=_classes(opened, asked.label_key),
        n_repeated=_repeated(opened, shown),
        findings=tuple(_findings(asked)),
        refusals=refusals,
        code=code,
        command=command,
        path=opened.path,
    )


def _why(best: _Look | None, looks: Sequence[_Look]) -> str:
    if best is None:
        return "each is refused, for the reason that stands beside it"
    text = _WHY[_worth(best.matrix.values)]
    more = max(looks, key=lambda look: look.matrix.n_genes if look.can_be_taken else 0).matrix
    if more.n_genes > MANY_MORE * best.matrix.n_genes:
        text += f"; {more.name} has {more.n_genes:,} genes, of which these are {best.matrix.n_genes:,}"
    return text


def _source_of_names(look: _Look) -> str:
    return f"{look.symbols.source}. {look.symbols.note}".removesuffix(". ")


def _coverage(look: _Look) -> Iterator[Coverage]:
    totals = None if look.logged is None else gene_totals(look.logged)
    for spec in CHECKPOINTS.values():
        if spec.is_here:
            vocabulary = read_vocabulary(find_folder(spec.name) / "vocab.json")
            tokens = tuple(token for token in vocabulary if token not in SPECIAL_TOKENS)
            yield Coverage(spec.name, map_genes(look.symbols.names, tokens, totals))


def _classes(opened: Source, label_key: str | None) -> dict[str, int]:
    column = columns_of(opened.obs).get(str(label_key))
    return {} if column is None else {str(name): int(n) for name, n in column.value_counts().items() if n}


def _repeated(opened: Source, look: _Look) -> dict[str, int]:
    table = opened.genes_of(look.matrix.name)
    twins = {} if look.logged is None else same_profiles(look.logged)
    return {
        "cells": int(opened.obs.index.astype(str).duplicated().sum()),
        "genes": int(table.index.astype(str).duplicated().sum()),
        "profiles": len(twins) - len(set(twins.values())),
    }


def _findings(asked: _Asked) -> Iterator[Finding]:
    found = columns_of(asked.opened.obs)
    columns = [
        Written(kind, key, found[key].dropna().astype(str).to_numpy(dtype=str))
        for kind, key in (("label", asked.label_key), ("group", asked.group_key))
        if key is not None and key in found and (kind == "label" or key != asked.label_key)
    ]
    yield from doubtful_names(columns)


def _refusals(asked: _Asked, default: _Look, best: _Look | None, label_error: DatasetError | None) -> Iterator[Refusal]:
    """What `load_dataset` will say, in its order, and what others will say after it."""
    obs = asked.opened.obs
    found: list[tuple[int, DatasetError, tuple[str, ...]]] = []
    for place, work in (
        (_READ - 1, lambda: refuse_bad_groups(obs, asked.group_key)),
        (_CELLS, lambda: refuse_repeated_cells(obs.index)),
        (_SAVED, lambda: refuse_unwritable("adata.obs_names", obs.index)),
    ):
        _, error = _tried(work, None)
        found += [(place, error, LABELLED if place < _READ else ALL)] if error else []
    found += [(place, error, _refused_by(error)) for place, error in default.errors]
    if best is not None and best is not default:
        found += [(place, error, _refused_by(error)) for place, error in best.errors]
    if label_error:
        yield Refusal(str(label_error), LABELLED, label_error.line)
    for _, error, by in sorted(found, key=lambda each: each[0]):
        solved = best is not None and best is not default and error in [each for _, each in default.errors]
        yield Refusal(str(error), by, _loading(asked, best) if solved and not error.line else error.line)
    _, error = _tried(lambda: refuse_other_species((best or default).symbols.names), None)
    if error:
        yield Refusal(str(error), ENCODED)


def _refused_by(error: DatasetError) -> tuple[str, ...]:
    return LABELLED if error.values in ("zero", "the same in all cells") else ALL


def _loading(asked: _Asked, best: _Look | None, source: str = "") -> str:
    """The line that loads the matrix to take."""
    what = source or (repr(str(asked.source)) if isinstance(asked.source, str | Path) else "adata")
    arguments = [what, repr(asked.label_key)]
    if asked.group_key is not None:
        arguments.append(f"group_key={asked.group_key!r}")
    if best is not None and best.matrix.name != asked.default:
        arguments.append(f"layer={best.matrix.name!r}")
    if asked.gene_column is not None:
        arguments.append(f"gene_column={asked.gene_column!r}")
    return f"cells = frostline.load_dataset({', '.join(arguments)})"


def _next(asked: _Asked, best: _Look | None, refusals: Sequence[Refusal]) -> tuple[str, str]:
    """Lines of Python that load it, and what to type in a terminal; empty where somebody has to choose first."""
    stops = [refusal for refusal in refusals if refusal.by != ENCODED]
    if best is None or asked.label_key is None or any(not refusal.line for refusal in stops):
        return "", ""
    mends = [refusal.line for refusal in stops if "load_dataset(" not in refusal.line]
    path = asked.opened.path
    if not mends:
        return f"import frostline\n\n{_loading(asked, best)}", _command(asked, best, path)
    lines = ["import frostline", "", *mends, _loading(asked, best, "adata")]
    if path is None:
        return "\n".join(lines), ""
    target = path.with_name(f"{path.stem}.mended.h5ad")
    lines = ["import anndata", *lines]
    lines[3:3] = [f"adata = anndata.read_h5ad({str(path)!r})"]
    return "\n".join([*lines, f"adata.write_h5ad({str(target)!r})"]), _command(asked, best, target)


def _command(asked: _Asked, best: _Look, path: Path | None) -> str:
    source = str(path) if path is not None else asked.opened.spec.name if asked.opened.spec else ""
    if not source:
        return ""
    words = ["frostline", "adapt", source, "--label", str(asked.label_key)]
    words += ["--group", asked.group_key] if asked.group_key is not None else []
    words += ["--layer", best.matrix.name] if best.matrix.name != asked.default else []
    words += ["--gene-column", asked.gene_column] if asked.gene_column is not None else []
    return shlex.join([*words, "-o", f"{asked.opened.name}-model"])
