"""Named checks of a data set, a split and a checkpoint: what a reader must know before believing a table.

Each is one function that yields findings, and one entry of `CHECKS`. An `error` makes results wrong, a `warning`
makes them look better or worse than they are, a `note` has to be said. They run before any training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.checkpoints import CHECKPOINTS, CORPUS_GENES, find_folder, load_checkpoint
from frostline.datasets import DATASETS, Dataset
from frostline.draws import random_across
from frostline.groups import PEOPLE_WORDS, group_columns
from frostline.records import SEVERITIES, Finding
from frostline.splits import Split

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

MIN_TEST_CELLS = 10
"""Below this many test cells the F1 of a class is a rough guess."""
SAME_CLUSTERING = 0.9
"""Adjusted Rand index from which labels count as made from a clustering."""
FEW_GENES = 3_000
"""A data set with fewer genes was probably cut down before it was split."""
MIN_EXPRESSED = 5
"""Cells that express fewer genes may have the same profile by chance."""
BARCODES = 737_280
"""Barcodes of the smallest 10x list: cells of different libraries share one by chance."""
CHANCE = 1e-3
"""Shared barcodes that are less probable than this are no coincidence."""
RARELY = 5.0
"""Percent of the pre-training cells, in every set of the corpus, below which a gene is called rare."""
UNLIKE = 0.10
"""Excess of a typical cell's counts on rare genes, over that of the pre-training cells, which is reported."""
MIN_COMMON = 50
"""Genes that the data set and the corpus must have in common to be compared."""
_SAMPLE = 2_000  # cells that show whether a data set is unlike the corpus
_CLUSTERING = re.compile(r"leiden|louvain|cluster|phenograph|kmeans|k_means|(snn|rna|sct)_res", re.IGNORECASE)
_BARCODE = re.compile(r"[ACGT]{10,}")
_ON_PANCREAS = (
    " On pancreas, the frozen probe of mini reached a macro-F1 of 0.67 where PCA + logistic regression reached 0.98 "
    "(donors left out one by one)."
)
_COUNTER = re.compile(r"[A-Za-z]{0,6}[-_ .]?\d+")  # ids such as cell12 that any two data sets share


@dataclass(frozen=True)
class Case:
    """What is checked: a data set, how it was split, and perhaps a checkpoint.

    Examples
    --------
    >>> from frostline.datasets import load_dataset
    >>> from frostline.splits import split
    >>> pbmc = load_dataset("pbmc68k-reduced")
    >>> [len(rows) for rows in Case(pbmc, split(pbmc)).sides]
    [524, 176]
    """

    dataset: Dataset
    split: Split
    checkpoint: str | Path | None = None

    @property
    def sides(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows that strategies learn or choose from, and rows that test."""
        return np.concatenate([self.split.train, self.split.validation]), self.split.test


def check(dataset: Dataset, split: Split, checkpoint: str | Path | None = None) -> tuple[Finding, ...]:
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
    >>> from frostline.datasets import load_dataset
    >>> from frostline.splits import split
    >>> pancreas = load_dataset("pancreas")
    >>> for finding in check(pancreas, split(pancreas, kind="stratified"), "mini"):
    ...     print(finding.severity, finding.code)
    warning shared-group
    warning optimistic-split
    warning few-test-cells
    warning unlike-pretraining
    """
    case = Case(dataset, split, checkpoint)
    found = [finding for find in CHECKS for finding in find(case)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _same_barcode(case: Case) -> Iterator[Finding]:
    rest, test = case.sides
    ids = case.dataset.original_cells
    known = set(ids.tolist())
    keys = [_identity(cell, known, joined=bool(case.dataset.sets)) for cell in ids.tolist()]
    by_kind: dict[str, list[tuple[int, int]]] = {"barcode": [], "id": []}
    for row, twin in _twins(keys, rest, test):
        by_kind[keys[row][0]].append((row, twin))  # type: ignore[index]
    expected = _shared_by_chance(keys, rest, test)
    if _probability(len(by_kind["barcode"]), expected) >= CHANCE:
        by_kind["barcode"] = []
    pairs = [pair for found in by_kind.values() for pair in found]
    if not pairs:
        return
    one, other = (str(case.dataset.cells[row]) for row in pairs[0])
    yield Finding(
        "same-barcode",
        "error",
        f"{len(pairs):,} of {len(test):,} test cells have the barcode or id of a training or validation cell "
        f"({one!r} and {other!r}, for example)",
        "The same cells seem to be on both sides: a strategy can answer from memory, and the scores say nothing about "
        f"new cells. By chance, cells of different libraries would share about {expected:.2g} barcodes here.",
        "Keep each cell once before splitting, or load with a group_key that keeps its copies together.",
    )


def _identity(cell: str, known: set[str], *, joined: bool) -> tuple[str, str] | None:
    """What two ids of one cell have in common: its barcode, else the id without the mark of a repetition."""
    barcode = "".join(_BARCODE.findall(cell))
    if barcode:
        return "barcode", barcode
    if _COUNTER.fullmatch(cell):
        return None
    stem = re.sub(r"-\d+$", "", cell)  # what obs_names_make_unique puts there
    return "id", cell if joined or stem not in known else stem


def _twins(keys: Sequence[Any], rest: NDArray[np.int64], test: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of a test row and a row of the rest with the same key."""
    known = {keys[row]: int(row) for row in rest[::-1] if keys[row] is not None}
    return [(int(row), known[keys[row]]) for row in test if keys[row] in known]


def _shared_by_chance(keys: Sequence[Any], rest: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    """Pairs of cells of different 10x libraries that share a barcode, on average."""
    n_rest, n_test = (sum(keys[row] is not None and keys[row][0] == "barcode" for row in rows) for rows in (rest, test))
    return float(n_rest * n_test / BARCODES)


def _probability(n: int, expected: float) -> float:
    """Of at least `n` events where `expected` come on average (Poisson)."""
    from scipy.stats import poisson

    return float(poisson.sf(n - 1, expected)) if n else 1.0


def _same_profile(case: Case) -> Iterator[Finding]:
    rest, test = case.sides
    rows = np.concatenate([rest, test])
    profiles = {int(rows[row]): name for row, name in _profiles(case.dataset.matrix[rows]).items()}
    pairs = _twins([profiles.get(row) for row in range(len(case.dataset))], rest, test)
    if not pairs:
        return
    cells = case.dataset.cells
    examples = "; ".join(f"{cells[row]} = {cells[twin]}" for row, twin in pairs[:3])
    yield Finding(
        "same-profile",
        "error",
        f"{len(pairs):,} of {len(test):,} test cells have exactly the expression of a training or validation cell",
        f"They are the same cells under other names ({examples}): a strategy can answer from memory, and the scores "
        "say nothing about new cells.",
        "Remove the copies before splitting; they often come from joining files that share cells.",
    )


def _profiles(matrix: sparse.csr_matrix) -> dict[int, int]:
    """Row -> a number that rows of the same proportions share, for rows that may have such a twin.

    Proportions, since two data sets may have been normalised on different genes.
    """
    lengths = np.diff(matrix.indptr)
    alike = _repeated(lengths, _pattern_sums(matrix)) & (lengths >= MIN_EXPRESSED)
    rows = np.flatnonzero(alike)
    matrix = matrix[rows].astype(np.float64)
    matrix.sort_indices()
    np.expm1(matrix.data, out=matrix.data)
    matrix.data /= np.repeat(np.asarray(matrix.sum(axis=1)).ravel(), lengths[rows])
    names: dict[int, int] = {}
    order = np.lexsort((matrix @ np.random.default_rng(0).random(matrix.shape[1]), _pattern_sums(matrix)))
    for place, here in enumerate(order):
        before = order[max(place - 1, 0)]
        same = place > 0 and _equal_rows(matrix, here, before)
        names[int(rows[here])] = names[int(rows[before])] if same else int(rows[here])
    return names


def _pattern_sums(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """A sum over the expressed genes of each row: the same for the same genes, hardly ever for others."""
    from scipy import sparse

    ones = np.ones(matrix.nnz, dtype=np.float32)
    weights = np.random.default_rng(1).random(matrix.shape[1], dtype=np.float32)
    sums: NDArray[np.float32] = sparse.csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape) @ weights
    return sums


def _repeated(*keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Which places hold a combination of keys that another place holds too."""
    order = np.lexsort(keys)
    same = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    out = np.zeros(len(order), dtype=bool)
    out[order[1:]] |= same
    out[order[:-1]] |= same
    return out


def _equal_rows(matrix: sparse.csr_matrix, one: int, other: int) -> bool:
    a, b = (slice(matrix.indptr[row], matrix.indptr[row + 1]) for row in (one, other))
    if not np.array_equal(matrix.indices[a], matrix.indices[b]):
        return False
    return bool(np.allclose(matrix.data[a], matrix.data[b], rtol=1e-3, atol=0))


def _shared_group(case: Case) -> Iterator[Finding]:
    columns = [case.dataset.group_key] if case.dataset.group_key else []
    if case.split.kind != "stratified":  # a random split shares all of them, as optimistic-split says
        columns += [column for column in group_columns(case.dataset.adata, PEOPLE_WORDS) if column not in columns]
    for column in columns:
        values = case.dataset.adata.obs[column]
        rest, test = (set(values.iloc[rows].dropna().astype(str)) for rows in case.sides)
        both = sorted(rest & test)
        if both:
            yield Finding(
                "shared-group",
                "warning",
                f"{len(both)} of {len(test)} test groups of {column!r} have training or validation cells too "
                f"({_listed(both)})",
                "Cells of one group share its batch and its biology, so the scores are optimistic for cells of a new "
                "group, and the cells are not independent.",
                f"Load with group_key={column!r} and split with kind='group'; where two data sets only happen to use "
                "the same names, rename the groups of one.",
            )


def _optimistic_split(case: Case) -> Iterator[Finding]:
    columns = random_across(case.dataset)
    if case.split.kind != "stratified" or not (columns or case.dataset.sets):
        return
    obs = case.dataset.adata.obs
    seen = ", ".join(f"{column!r} with {obs[column].nunique()} groups" for column in columns)
    yield Finding(
        "optimistic-split",
        "warning",
        f"Random split across {seen or ' and '.join(case.dataset.sets)}: optimistic",
        "Test cells come from the same groups as training cells. Labels of new donors, batches or studies are harder "
        "to predict, and the order of the strategies may be another one there.",
        f"Load with group_key={columns[0]!r} and split with kind='group'." if columns else "Split with kind='cross'.",
    )


def _labels_from_clusters(case: Case) -> Iterator[Finding]:
    key = case.dataset.label_key
    same = _matching_clusterings(case.dataset)
    named = bool(_CLUSTERING.search(key))
    if same:
        columns = ", ".join(f"{column!r} (adjusted Rand index {value:.2f})" for column, value in same.items())
        yield _clustered(f"The labels {key!r} equal a clustering of the cells: {columns}")
    elif named:
        yield _clustered(f"The label column {key!r} is named after a clustering")
    for name in case.dataset.sets or (case.dataset.name,):
        spec = DATASETS.get(name)
        if spec and spec.derived_labels and spec.label_key == key and not (same or named):
            yield _clustered(f"The labels {key!r} of {name} were derived from expression", "note", *spec.notes)


def _clustered(title: str, severity: str = "warning", *notes: str) -> Finding:
    return Finding(
        "labels-from-clusters",
        severity,
        title,
        " ".join(notes)
        or "Labels that were made from the clusters of the same matrix can be read off its principal components, which "
        "favours PCA-based strategies and makes all scores optimistic.",
        "Say so beside the results; labels that come from sorting, from surface proteins or from experts who did not "
        "see the clusters are a fairer test.",
    )


def _matching_clusterings(dataset: Dataset) -> dict[str, float]:
    """Columns of obs that hold a clustering which the labels repeat, and their adjusted Rand index."""
    from sklearn.metrics import adjusted_rand_score

    found = {}
    for column in map(str, dataset.adata.obs.columns):
        if column == dataset.label_key or not _CLUSTERING.search(column):
            continue
        values = dataset.adata.obs[column]
        known = values.notna().to_numpy()
        if 2 <= values.nunique() <= known.sum() / 2:
            index = float(adjusted_rand_score(dataset.labels[known], values[known].astype(str)))
            if index >= SAME_CLUSTERING:
                found[column] = index
    return dict(sorted(found.items(), key=lambda item: -item[1]))


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
    spec = CHECKPOINTS.get(str(case.checkpoint))
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
    if case.checkpoint is None or table is None or sum(gene in table.index for gene in genes) < MIN_COMMON:
        return
    sides = case.sides if case.split.kind == "cross" else (np.concatenate(case.sides),)
    rows, shares, typical, expected = max((_typical_share(case, side, table) for side in sides), key=lambda m: m[2])
    if typical - expected <= UNLIKE:
        return
    labels = case.dataset.labels[rows]
    by_class = ", ".join(f"{name} {np.median(shares[labels == name]):.0%}" for name in np.unique(labels))
    vocabulary = load_checkpoint(case.checkpoint).vocabulary
    unknown = sum(gene not in vocabulary for gene in genes)
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
    >>> from frostline.datasets import load_dataset
    >>> pancreas = load_dataset("pancreas")
    >>> table = pd.DataFrame({"percent_of_cells": [0.1, 90.0], "mean_cpm": [1.0, 99.0]}, index=["SST", "ACTB"])
    >>> shares, expected = rare_shares(pancreas, np.flatnonzero(pancreas.labels == "delta"), table)
    >>> bool(np.median(shares) > 0.9), expected
    (True, 0.01)
    """
    common = corpus_genes.loc[[gene for gene in dataset.genes if gene in corpus_genes.index]]
    if common.empty:
        return np.zeros(0), 0.0
    rare = common["percent_of_cells"].to_numpy() < RARELY
    mean = common["mean_cpm"].to_numpy()
    values = dataset.expression(rows, tuple(common.index)).astype(np.float64)
    np.expm1(values.data, out=values.data)
    totals = np.asarray(values.sum(axis=1)).ravel()
    on_rare = values @ rare.astype(np.float64)
    shares = np.divide(on_rare, totals, where=totals > 0, out=np.zeros_like(totals))
    return shares, float(mean[rare].sum() / mean.sum()) if mean.sum() else 0.0


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _same_barcode,
    _same_profile,
    _shared_group,
    _optimistic_split,
    _labels_from_clusters,
    _few_test_cells,
    _class_not_in_training,
    _genes_chosen_on_all_cells,
    _seen_in_pretraining,
    _unlike_pretraining,
)
