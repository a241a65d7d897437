"""Checks of what lies on both sides of a split: the same cells, the same donors, random splits across them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import columns_of
from frostline.cells.draws import random_across
from frostline.cells.groups import PEOPLE_WORDS, group_columns
from frostline.evaluation.cases import Case, Check, listed
from frostline.records import Finding

if TYPE_CHECKING:
    from scipy import sparse

MIN_EXPRESSED = 5
"""Cells that express fewer genes may have the same profile by chance."""
BARCODES = 737_280
"""Barcodes of the smallest 10x list: cells of different libraries share one by chance."""
CHANCE = 1e-3
"""Shared barcodes that are less probable than this are no coincidence."""
_BARCODE = re.compile(r"[ACGT]{10,}")
_COUNTER = re.compile(r"[A-Za-z]{0,6}[-_ .]?\d+")  # ids such as cell12 that any two data sets share


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
    profiles = {int(rows[row]): name for row, name in same_profiles(case.dataset.matrix[rows]).items()}
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


def same_profiles(matrix: sparse.csr_matrix) -> dict[int, int]:
    """Row -> a number that rows of the same proportions share, for rows that may have such a twin.

    Proportions, since two data sets may have been normalised on different genes.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) log1p of values.

    Examples
    --------
    >>> from scipy import sparse
    >>> same_profiles(sparse.csr_matrix(np.log1p([[1.0, 2, 3, 4, 5], [5, 4, 3, 2, 1], [2, 4, 6, 8, 10]])))
    {...0: 0...2: 0...}
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
        columns += [column for column in group_columns(case.dataset, PEOPLE_WORDS) if column not in columns]
    for column in columns:
        values = columns_of(case.dataset.obs)[column]
        rest, test = (set(values.iloc[rows].dropna().astype(str)) for rows in case.sides)
        both = sorted(rest & test)
        if both:
            yield Finding(
                "shared-group",
                "warning",
                f"{len(both)} of {len(test)} test groups of {column!r} have training or validation cells too "
                f"({listed(both)})",
                "Cells of one group share its batch and its biology, so the scores are optimistic for cells of a new "
                "group, and the cells are not independent.",
                f"Load with group_key={column!r} and split with kind='group'; where two data sets only happen to use "
                "the same names, rename the groups of one.",
            )


def _optimistic_split(case: Case) -> Iterator[Finding]:
    columns = random_across(case.dataset)
    if case.split.kind != "stratified" or not (columns or case.dataset.sets):
        return
    obs = columns_of(case.dataset.obs)
    seen = ", ".join(f"{column!r} with {obs[column].nunique()} groups" for column in columns)
    yield Finding(
        "optimistic-split",
        "warning",
        f"Random split across {seen or ' and '.join(case.dataset.sets)}: optimistic",
        "Test cells come from the same groups as training cells. Labels of new donors, batches or studies are harder "
        "to predict, and the order of the strategies may be another one there.",
        f"Load with group_key={columns[0]!r} and split with kind='group'." if columns else "Split with kind='cross'.",
    )


CHECKS: tuple[Check, ...] = (_same_barcode, _same_profile, _shared_group, _optimistic_split)
