"""Look at a data set before anything is done with it; what is refused is asked of the functions that refuse it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.gene_mapping import map_genes, refuse_other_species
from frostline.cells.gene_names import name_kinds
from frostline.cells.labels import read_labels, refuse_bad_groups
from frostline.cells.partitions import Split
from frostline.cells.refusals import refuse_repeated_cells, refuse_unwritable
from frostline.cells.sources import Source
from frostline.cells.splits import split
from frostline.encoder.catalogue import CHECKPOINTS
from frostline.encoder.checkpoints import SPECIAL_TOKENS, find_folder
from frostline.encoder.layouts import read_vocabulary
from frostline.encoder.vocabulary import gene_totals
from frostline.errors import DatasetError
from frostline.evaluation.inspection import Coverage, Inspection, Refusal
from frostline.evaluation.label_checks import Written, doubtful_names
from frostline.evaluation.leakage import same_profiles
from frostline.evaluation.looks import (
    CELL_NAMES,
    GENE_NAMES,
    READ,
    SAVED,
    WHY,
    Asked,
    Look,
    asked_of,
    look_at,
    tried,
    worth,
)
from frostline.monitor import Monitor

if TYPE_CHECKING:
    from anndata import AnnData

    from frostline.records import Finding

ALL = ("load_dataset", "adapt", "annotate")
LABELLED = ("load_dataset", "adapt")
ENCODED = ("annotate", "strategies with a checkpoint")
SPLIT = ("split", "adapt")
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

    Nothing is refused here but what cannot be read at all. Of more than `looks.LARGE` bytes the values of `looks.CELLS`
    cells are looked at, which lie evenly; the report says so.

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
    monitor = monitor or Monitor()
    asked = asked_of(source, label_key, group_key, gene_column)
    looks = []
    for number, name in enumerate(asked.outline.layers):
        monitor.step(number / len(asked.outline.layers), f"looking at {name}")
        looks.append(look_at(asked, name))
    return _report(asked, looks)


def _report(asked: Asked, looks: Sequence[Look]) -> Inspection:
    opened = asked.opened
    default = next((look for look in looks if look.matrix.name == asked.default), looks[0])
    fit = sorted((look for look in looks if look.can_be_taken), key=lambda look: look.rank)
    best = fit[0] if fit else None
    shown = best or default
    _, label_error = tried(lambda: read_labels(opened.obs, asked.label_key), None)
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


def _why(best: Look | None, looks: Sequence[Look]) -> str:
    if best is None:
        return "each is refused, for the reason that stands beside it"
    text = WHY[worth(best.matrix.values)]
    more = max(looks, key=lambda look: look.matrix.n_genes if look.can_be_taken else 0).matrix
    if more.n_genes > MANY_MORE * best.matrix.n_genes:
        text += f"; {more.name} has {more.n_genes:,} genes, of which these are {best.matrix.n_genes:,}"
    return text


def _source_of_names(look: Look) -> str:
    return f"{look.symbols.source}. {look.symbols.note}".removesuffix(". ")


def _coverage(look: Look) -> Iterator[Coverage]:
    totals = None if look.logged is None else gene_totals(look.logged)
    for spec in CHECKPOINTS.values():
        if spec.is_here:
            vocabulary = read_vocabulary(find_folder(spec.name) / "vocab.json")
            tokens = tuple(token for token in vocabulary if token not in SPECIAL_TOKENS)
            yield Coverage(spec.name, map_genes(look.symbols.names, tokens, totals))


def _classes(opened: Source, label_key: str | None) -> dict[str, int]:
    column = columns_of(opened.obs).get(str(label_key))
    return {} if column is None else {str(name): int(n) for name, n in column.value_counts().items() if n}


def _repeated(opened: Source, look: Look) -> dict[str, int]:
    table = opened.genes_of(look.matrix.name)
    twins = {} if look.logged is None else same_profiles(look.logged)
    return {
        "cells": int(opened.obs.index.astype(str).duplicated().sum()),
        "genes": int(table.index.astype(str).duplicated().sum()),
        "profiles": len(twins) - len(set(twins.values())),
    }


def _findings(asked: Asked) -> Iterator[Finding]:
    found = columns_of(asked.opened.obs)
    columns = [
        Written(kind, key, found[key].dropna().astype(str).to_numpy(dtype=str))
        for kind, key in (("label", asked.label_key), ("group", asked.group_key))
        if key is not None and key in found and (kind == "label" or key != asked.label_key)
    ]
    yield from doubtful_names(columns)


def _refusals(asked: Asked, default: Look, best: Look | None, label_error: DatasetError | None) -> Iterator[Refusal]:
    """What `load_dataset` will say, in its order, and what others will say after it."""
    obs = asked.opened.obs
    found: list[tuple[int, DatasetError, tuple[str, ...]]] = []
    _, group_error = tried(lambda: refuse_bad_groups(obs, asked.group_key, asked.label_key), None)
    if group_error:
        found.append((READ - 1, group_error, LABELLED))
    for place, work in (
        (CELL_NAMES, lambda: refuse_repeated_cells(obs.index)),
        (SAVED, lambda: refuse_unwritable("adata.obs_names", obs.index)),
    ):
        _, error = tried(work, None)
        found += [(place, error, ALL)] if error else []
    found += [(place, error, _refused_by(place, error)) for place, error in default.errors]
    if best is not None and best is not default:
        found += [(place, error, _refused_by(place, error)) for place, error in best.errors]
    if label_error:
        yield Refusal(str(label_error), LABELLED, label_error.line)
    for _, error, by in sorted(found, key=lambda each: each[0]):
        solved = best is not None and best is not default and error in [each for _, each in default.errors]
        yield Refusal(str(error), by, _loading(asked, best) if solved and not error.line else error.line)
    _, error = tried(lambda: refuse_other_species((best or default).symbols.names), None)
    if error:
        yield Refusal(str(error), ENCODED)
    readable = label_error is None and group_error is None
    if best is not None and readable and all(place != CELL_NAMES for place, _, _ in found):
        _, error = tried(lambda: _split(asked, best), None)
        if error:
            yield Refusal(str(error), SPLIT)


def _split(asked: Asked, look: Look) -> Split:
    """Split the cells as a comparison does, which reads labels and groups alone."""
    from anndata import AnnData
    from scipy import sparse

    obs = asked.opened.obs.set_axis(asked.opened.obs.index.astype(str))
    empty = sparse.csr_matrix((len(obs), 0), dtype=np.float32)
    labels = read_labels(obs, asked.label_key)
    return split(
        Dataset(
            name=asked.opened.name,
            adata=AnnData(obs=obs),
            label_key=str(asked.label_key),
            matrix=empty,
            genes=(),
            labels=labels,
            values_name=look.matrix.kind,
            group_key=asked.group_key,
        )
    )


def _refused_by(place: int, error: DatasetError) -> tuple[str, ...]:
    repeated = place == GENE_NAMES and error.line  # of cells that are annotated, genes of one name are summed
    alike = error.values in ("zero", "the same in all cells")
    return LABELLED if repeated or alike else ALL


def _loading(asked: Asked, best: Look | None, source: str = "") -> str:
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


def _next(asked: Asked, best: Look | None, refusals: Sequence[Refusal]) -> tuple[str, str]:
    """Lines of Python that load it, and what to type in a terminal; empty where somebody has to choose first."""
    stops = [refusal for refusal in refusals if refusal.by not in (ENCODED, SPLIT)]
    if best is None or asked.label_key is None or any(not refusal.line for refusal in stops):
        return "", ""
    mends = [refusal.line for refusal in stops if "load_dataset(" not in refusal.line]
    path = asked.opened.path
    if not mends:
        return f"import frostline\n\n{_loading(asked, best)}", _command(asked, best, path, refusals)
    lines = ["import frostline", "", *mends, _loading(asked, best, "adata")]
    if path is None:
        return "\n".join(lines), ""
    target = path.with_name(f"{path.stem}.mended.h5ad")
    lines = ["import anndata", *lines]
    lines[3:3] = [f"adata = anndata.read_h5ad({str(path)!r})"]
    return "\n".join([*lines, f"adata.write_h5ad({str(target)!r})"]), _command(asked, best, target, refusals)


def _command(asked: Asked, best: Look, path: Path | None, refusals: Sequence[Refusal]) -> str:
    source = str(path) if path is not None else asked.opened.spec.name if asked.opened.spec else ""
    if not source or any(refusal.by == SPLIT for refusal in refusals):
        return ""
    words = ["frostline", "adapt", source, "--label", str(asked.label_key)]
    words += ["--group", asked.group_key] if asked.group_key is not None else []
    words += ["--layer", best.matrix.name] if best.matrix.name != asked.default else []
    words += ["--gene-column", asked.gene_column] if asked.gene_column is not None else []
    return shlex.join([*words, "-o", f"{asked.opened.name}-model"])
