"""Named checks of a data set, a split and a checkpoint: what a reader must know before believing a table.

Each is one function that yields findings, and one entry of `CHECKS`. An `error` makes results wrong, a `warning`
makes them look better or worse than they are, a `note` has to be said. They run before any training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset
from frostline.cells.gene_mapping import map_genes
from frostline.cells.partitions import Split
from frostline.encoder.checkpoints import CORPUS_GENES, find_folder, load_checkpoint, spec_of
from frostline.encoder.vocabulary import overlap
from frostline.evaluation import clusterings, label_checks, leakage, vocabulary_checks
from frostline.evaluation.cases import Case, Check
from frostline.records import SEVERITIES, Finding

if TYPE_CHECKING:
    import pandas as pd

MIN_TEST_CELLS = 10
"""Below this many test cells the F1 of a class is a rough guess."""
FEW_GENES = 3_000
"""A data set with fewer genes was probably cut down before it was split."""
RARELY = 5.0
"""Percent of the pre-training cells, in every set of the corpus, below which a gene is called rare."""
UNLIKE = 0.10
"""Excess of a typical cell's counts on rare genes, over that of the pre-training cells, which is reported."""
MIN_COMMON = 50
"""Genes that the data set and the corpus must have in common to be compared."""
_SAMPLE = 2_000  # cells that show whether a data set is unlike the corpus
_ON_PANCREAS = (
    " On pancreas, the frozen probe of mini reached a macro-F1 of 0.67 where PCA + logistic regression reached 0.98 "
    "(donors left out one by one; from the model card of mini, which make mini-report writes)."
)


def review(dataset: Dataset, split: Split, checkpoint: str | Path | None = None) -> tuple[Finding, ...]:
    """Look for what makes the results of a split wrong, optimistic or hard to read.

    Parameters
    ----------
    dataset, split
        What `load_dataset` and `split` returned.
    checkpoint
        A name of `CHECKPOINTS` or a folder; None leaves out what concerns pre-training.

    Returns
    -------
    tuple of Finding
        Errors first, then warnings, then notes.

    Raises
    ------
    CheckpointError
        There is no such checkpoint.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.cells.splits import split
    >>> pancreas = load_dataset("pancreas")
    >>> for finding in review(pancreas, split(pancreas, kind="stratified"), "mini"):
    ...     print(finding.severity, finding.code)
    warning shared-group
    warning optimistic-split
    warning few-test-cells
    warning unlike-pretraining
    note labels-from-clusters
    """
    case = Case(dataset, split, checkpoint)
    found = [finding for find in CHECKS for finding in find(case)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _few_test_cells(case: Case) -> Iterator[Finding]:
    counts = Counter(dict.fromkeys(case.split.classes, 0))
    counts.update(case.dataset.labels[case.split.test].tolist())
    few = {name: n for name, n in sorted(counts.items(), key=lambda item: item[1]) if n < MIN_TEST_CELLS}
    if few:
        listed = ", ".join(f"{name} ({n})" for name, n in few.items())
        yield Finding(
            "few-test-cells",
            "warning",
            f"{len(few)} of {len(counts)} classes have fewer than {MIN_TEST_CELLS} test cells: {listed}",
            "One cell more or less changes the F1 of such a class a lot, and with it the macro-F1; a class without "
            "test cells has no F1 at all.",
            "Read the intervals rather than the means, and label more cells of these classes. More repeats test other "
            "cells in turn, not more at once.",
        )


def _class_not_in_training(case: Case) -> Iterator[Finding]:
    labels = case.dataset.labels[case.split.test]
    for name in case.split.untrained:
        meant = name == case.split.unseen
        n = int((labels == name).sum())
        yield Finding(
            "class-not-in-training",
            "note" if meant else "warning",
            f"{n} of {len(labels):,} test cells have the class {name!r}, which no training cell has",
            "Every strategy errs on them: accuracy and macro-F1 cannot reach 1, and the F1 of the class is 0 for all.",
            "None is needed: the class was taken out on purpose, to see how its cells stand out."
            if meant
            else f"Another seed may hold out other groups; or compare without the class: "
            f"adata[adata.obs[{case.dataset.label_key!r}].astype(str) != {name!r}].",
        )


def _genes_chosen_on_all_cells(case: Case) -> Iterator[Finding]:
    dataset = case.dataset
    marked = _highly_variable(dataset)
    n = len(dataset.genes)
    if not marked and n >= FEW_GENES:
        return
    seen = "all marked highly_variable" if marked else f"fewer than {FEW_GENES:,}"
    yield Finding(
        "genes-chosen-on-all-cells",
        "note",
        f"The data set has {n:,} genes, {seen}: they were probably chosen on all cells, test cells included",
        "A gene list that knows the test cells helps every strategy a little, and takes genes away from a checkpoint "
        "that would have known them.",
        "Load all measured genes (adata.raw, or the file before the selection); frostline chooses genes on training "
        "cells. With a targeted panel there is nothing to do.",
    )


def _highly_variable(dataset: Dataset) -> bool:
    """Whether var marks every gene as highly variable."""
    raw = dataset.adata.raw
    for var in (dataset.adata.var, None if raw is None else raw.var):
        if var is not None and "highly_variable" in var and tuple(map(str, var.index)) == dataset.genes:
            return bool(var["highly_variable"].astype(str).eq("True").all())
    return False


def _seen_in_pretraining(case: Case) -> Iterator[Finding]:
    spec = None if case.checkpoint is None else spec_of(case.checkpoint)
    for name in case.dataset.sets or (case.dataset.name,):
        if spec is not None and name in spec.overlaps:
            yield Finding(
                "seen-in-pretraining",
                "warning",
                f"The checkpoint {spec.name} has seen the like of {name}",
                f"{spec.overlaps[name]} Strategies that start from it may look better here than on new donors.",
                "Compare on a data set that the checkpoint's pre-training did not touch.",
            )
        elif spec is not None and spec.drive_folder is not None and name in DATASETS:
            yield Finding(
                "seen-in-pretraining",
                "note",
                f"{name} is public, and {spec.name} was pre-trained on public cells",
                "Whether these cells are among them is not recorded; if they are, strategies that start from the "
                "checkpoint look better here than on new cells. Labels were not used in its pre-training.",
                "Compare on cells that were published after the checkpoint, or on your own.",
            )


def _unlike_pretraining(case: Case) -> Iterator[Finding]:
    table = None if case.checkpoint is None else _corpus_genes(case.checkpoint)
    genes = case.dataset.genes
    if case.checkpoint is None or table is None or len(map_genes(genes, tuple(table.index)).kept) < MIN_COMMON:
        return
    sides = case.sides if case.split.kind == "cross" else (np.concatenate(case.sides),)
    rows, shares, typical, expected = max((_typical_share(case, side, table) for side in sides), key=lambda m: m[2])
    if typical - expected <= UNLIKE:
        return
    labels = case.dataset.labels[rows]
    by_class = ", ".join(f"{name} {np.median(shares[labels == name]):.0%}" for name in np.unique(labels))
    unknown = len(overlap(case.dataset, load_checkpoint(case.checkpoint)).unmatched)
    name = case.dataset.name if case.split.kind != "cross" else case.dataset.origin[rows[0]]  # type: ignore[index]
    yield Finding(
        "unlike-pretraining",
        "warning",
        f"{name} is unlike the cells that {case.checkpoint} was pre-trained on: {typical:.0%} of a typical cell's "
        f"counts fall on genes that few of those express ({expected:.0%} in those themselves)",
        f"Measured on genes that fewer than {RARELY:g} % of the pre-training cells of every set express; by class: "
        f"{by_class}. Of the {len(genes):,} genes of the data set the checkpoint does not know {unknown:,}. It has "
        "not learned what tells these cells apart, so expect strategies that start from it to fall behind the "
        "classical baseline; that says nothing about a checkpoint of the right organ."
        + (_ON_PANCREAS if str(case.checkpoint) == "mini" else ""),
        "Use an official checkpoint of the organ, or whole-human (frostline checkpoints download whole-human), and "
        "read the classical baseline pca_logistic first.",
    )


def _typical_share(
    case: Case, rows: NDArray[np.int64], table: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float64], float, float]:
    """A sample of the rows, their shares on rare genes, the median of these and what was expected."""
    rows = rows[:: -(-len(rows) // _SAMPLE)]
    shares, expected = rare_shares(case.dataset, rows, table)
    return rows, shares, float(np.median(shares)), expected


def _corpus_genes(checkpoint: str | Path) -> pd.DataFrame | None:
    """What pre-training cells express, one row a gene; None for checkpoints without the file."""
    import pandas as pd

    path = find_folder(checkpoint) / CORPUS_GENES
    # a gene may be called NA
    return pd.read_csv(path, index_col="gene", keep_default_na=False) if path.is_file() else None


def rare_shares(
    dataset: Dataset, rows: NDArray[np.int64], corpus_genes: pd.DataFrame
) -> tuple[NDArray[np.float64], float]:
    """Share of each cell's counts on genes that few pre-training cells express, and the share expected of those.

    Both over the genes that the data set and the corpus have in common, so that neither a gene list nor the depth
    of sequencing decides it.

    Parameters
    ----------
    dataset, rows
        The cells.
    corpus_genes
        `percent_of_cells` and `mean_cpm` of each gene of the pre-training corpus.

    Returns
    -------
    ndarray, float
        (n,) one share a cell, 0 where it expresses none of the common genes; the share in the pre-training cells.

    Examples
    --------
    >>> import pandas as pd
    >>> from frostline.cells.datasets import load_dataset
    >>> pancreas = load_dataset("pancreas")
    >>> table = pd.DataFrame({"percent_of_cells": [0.1, 90.0], "mean_cpm": [1.0, 99.0]}, index=["SST", "ACTB"])
    >>> shares, expected = rare_shares(pancreas, np.flatnonzero(pancreas.labels == "delta"), table)
    >>> bool(np.median(shares) > 0.9), expected
    (True, 0.01)
    """
    found = map_genes(dataset.genes, tuple(corpus_genes.index))
    common = corpus_genes.iloc[found.kept]
    if common.empty:
        return np.zeros(0), 0.0
    rare = common["percent_of_cells"].to_numpy() < RARELY
    mean = common["mean_cpm"].to_numpy()
    values = found.merged(dataset.matrix[rows], logged=True).astype(np.float64)
    np.expm1(values.data, out=values.data)
    totals = np.asarray(values.sum(axis=1)).ravel()
    on_rare = values @ rare.astype(np.float64)
    shares = np.divide(on_rare, totals, where=totals > 0, out=np.zeros_like(totals))
    return shares, float(mean[rare].sum() / mean.sum()) if mean.sum() else 0.0


CHECKS: tuple[Check, ...] = (
    *leakage.CHECKS,
    *label_checks.CHECKS,
    *clusterings.CHECKS,
    *vocabulary_checks.CHECKS,
    _few_test_cells,
    _class_not_in_training,
    _genes_chosen_on_all_cells,
    _seen_in_pretraining,
    _unlike_pretraining,
)
