"""How cells are drawn: at random within each class, by whole groups, or across two data sets.

A draw is a function of the seed, the cell ids and the names of the groups: reordering the rows of a data set does
not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.groups import group_columns
from frostline.errors import DatasetError

Rows = NDArray[np.int64]
PARTS = ("train", "validation", "test")
TEST_SHARE = 0.25
VALIDATION_SHARE = 0.15
OF_THE_REST = VALIDATION_SHARE / (1 - TEST_SHARE)
"""Share of the cells that do not test which validate: a fifth."""
MIN_CELLS = 3
"""A class needs one cell for each part; smaller classes are left out and listed."""


@dataclass(frozen=True)
class Draft:
    """Rows of each part, what was left out and what must be said."""

    parts: Mapping[str, Rows]
    left_out: Mapping[str, int]
    remarks: tuple[str, ...] = ()


def _stratified(dataset: Dataset, seed: int, repeat: int, max_cells: int, folds: int | None = None) -> Draft:
    if folds is not None:
        return _in_folds(dataset, seed, repeat, max_cells, folds)
    members, left_out = _classes(dataset, f"{seed}/{repeat}")
    sizes = _stratified_sizes({name: len(rows) for name, rows in members.items()}, max_cells)
    parts: dict[str, list[Rows]] = {part: [] for part in PARTS}
    for name, rows in members.items():
        n_test = max(1, round(TEST_SHARE * sizes[name]))
        n_validation = max(1, round(VALIDATION_SHARE * sizes[name]))
        chosen = rows[: sizes[name]]
        parts["test"].append(chosen[:n_test])
        parts["validation"].append(chosen[n_test : n_test + n_validation])
        parts["train"].append(chosen[n_test + n_validation :])
    drawn = {part: np.concatenate(rows) for part, rows in parts.items()}
    return Draft(drawn, left_out, (*_said_of_small(left_out), *_said_of_optimism(dataset)))


def all_cells(dataset: Dataset, seed: int) -> Draft:
    """No cell tests; 15 % of each class validate, at least one cell.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> {part: len(rows) for part, rows in all_cells(load_dataset("pancreas"), 42).parts.items()}
    {'train': 150, 'validation': 25, 'test': 0}
    """
    members, left_out = _classes(dataset, f"{seed}/all")
    counts = {name: max(1, round(VALIDATION_SHARE * len(rows))) for name, rows in members.items()}
    parts = {
        "train": joined_rows([rows[counts[name] :] for name, rows in members.items()]),
        "validation": joined_rows([rows[: counts[name]] for name, rows in members.items()]),
        "test": joined_rows([]),
    }
    return Draft(parts, left_out, _said_of_small(left_out))


def _in_folds(dataset: Dataset, seed: int, repeat: int, max_cells: int, folds: int) -> Draft:
    """Of every class another part tests in each repeat, so that `folds` repeats test every cell once.

    A fifth of the others validates, at least one cell. The classes take turns in which fold gets one cell more.
    """
    cycle, turn = divmod(repeat, folds)
    members, left_out = _classes(dataset, f"{seed}/folds/{cycle}")
    sizes = _stratified_sizes({name: len(rows) for name, rows in members.items()}, max_cells)
    parts: dict[str, list[Rows]] = {part: [] for part in PARTS}
    dealt = 0
    for name, rows in members.items():
        tests = (dealt + np.arange(sizes[name])) % folds == turn
        dealt += sizes[name]
        rest = np.roll(rows[: sizes[name]][~tests], -turn)  # others validate in another fold
        n_validation = max(1, round(OF_THE_REST * len(rest)))
        parts["test"].append(rows[: sizes[name]][tests])
        parts["validation"].append(rest[:n_validation])
        parts["train"].append(rest[n_validation:])
    drawn = {part: np.concatenate(rows) for part, rows in parts.items()}
    return Draft(drawn, left_out, (*_said_of_small(left_out), *_said_of_optimism(dataset)))


def random_across(dataset: Dataset) -> tuple[str, ...]:
    """Columns whose groups a random split would put on both sides: the group column, or what looks like one.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> random_across(load_dataset("pancreas")), random_across(load_dataset("pbmc68k-reduced"))
    (('donor',), ())
    """
    if dataset.group_key is not None:
        return (dataset.group_key,)
    return tuple(column for column in group_columns(dataset) if column != dataset.label_key)


def _said_of_optimism(dataset: Dataset) -> tuple[str, ...]:
    columns = random_across(dataset)
    if dataset.sets:
        return (f"A random split mixes the cells of {' and '.join(dataset.sets)}: optimistic for a new data set.",)
    if not columns:
        return ()
    obs = columns_of(dataset.obs)
    first, *others = (f"{column!r} ({obs[column].nunique()} groups)" for column in columns)
    also = f"; also {', '.join(others)}" if others else ""
    return (
        f"The split is random although obs has the column {first}{also}: cells of the same group both train and test, "
        "so the scores are optimistic for cells of a new one. "
        f"group_key={columns[0]!r} and kind='group' hold whole groups out.",
    )


def _said_of_small(left_out: Mapping[str, int]) -> tuple[str, ...]:
    return (f"Left out for having fewer than {MIN_CELLS} cells: {_counted(left_out)}.",) if left_out else ()


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def group_folds(n_groups: int) -> int:
    """Repeats in which each of the groups tests once, about a quarter of them at a time.

    Examples
    --------
    >>> [group_folds(n) for n in (2, 3, 4, 5, 6, 8, 20)]
    [2, 3, 4, 5, 3, 4, 4]
    """
    return -(-n_groups // max(1, round(TEST_SHARE * n_groups)))


def _by_groups(dataset: Dataset, seed: int, repeat: int, max_cells: int) -> Draft:
    members, left_out = _classes(dataset, f"{seed}/{repeat}")
    rows = np.concatenate(list(members.values()))
    groups = _groups_of(dataset)
    names = names_of(groups[rows])
    if len(names) < 2:
        others = [column for column in random_across(replace(dataset, group_key=None)) if column != dataset.group_key]
        other = f", or load with another group_key (columns like groups: {', '.join(others)})" if others else ""
        raise DatasetError(
            f"group column {dataset.group_key!r} has one group only ({', '.join(names)}), and holding groups out takes "
            f"two; choose kind='stratified'{other}"
        )
    n_validation = max(1, round(VALIDATION_SHARE * len(names))) if len(names) > 2 else 0
    order, n_test = _in_turn(names, group_folds(len(names)), seed, repeat)
    named = {"test": order[:n_test], "validation": order[n_test : n_test + n_validation]}
    named["train"] = order[n_test + n_validation :]
    parts = {part: rows[np.isin(groups[rows], list(named[part]))] for part in PARTS}
    remarks = _said_of_small(left_out)
    if not n_validation:
        parts["train"], parts["validation"] = _hold_out(dataset.labels, parts["train"])
        remarks += (
            f"With two groups in {dataset.group_key!r}, validation cells come from the training group "
            f"{named['train'][0]}: what is chosen on them, such as a confidence threshold, is optimistic.",
        )
    return Draft(_limited(dataset.labels, parts, max_cells), left_out, remarks)


def _groups_of(dataset: Dataset) -> NDArray[np.str_]:
    if dataset.groups is None:
        found = group_columns(dataset)
        remedy = f"load it with group_key={found[0]!r}" if found else "choose kind='stratified'"
        known = ", ".join(found) or "none, by their names; any column that tells donors or batches apart will do"
        raise DatasetError(
            "kind 'group' holds whole groups out, and this data set was loaded without group_key; "
            f"{remedy} (columns of obs that look like groups: {known})"
        )
    return dataset.groups


def _in_turn(names: Sequence[str], folds: int, seed: int, repeat: int) -> tuple[list[str], int]:
    """All groups, first those that this repeat holds out, and how many these are: each has one turn in `folds`."""
    cycle, turn = divmod(repeat, folds)
    order = np.array(names)[seeded_order(np.array(names), f"{seed}/groups/{cycle}")]
    sizes = [len(part) for part in np.array_split(order, folds)]
    return [str(name) for name in np.roll(order, -sum(sizes[:turn]))], sizes[turn]


def _across_sets(dataset: Dataset, seed: int, repeat: int, max_cells: int) -> Draft:
    if not dataset.sets or dataset.origin is None:
        raise DatasetError(
            f"kind 'cross' needs two data sets in one, and {dataset.name!r} is a single one; "
            "make one with frostline.join_datasets(train, test)"
        )
    labels, tests = dataset.labels, dataset.origin == dataset.sets[1]
    known, tested = (set(labels[side].tolist()) for side in (~tests, tests))
    foreign = {name: int((labels == name).sum()) for name in sorted(tested - known)}
    members, small = _classes(dataset, f"{seed}/{repeat}", without=foreign)
    rows = np.concatenate(list(members.values()))
    parts = {"train": rows[~tests[rows]], "test": rows[tests[rows]]}
    if not len(parts["test"]):
        raise DatasetError(
            f"no cell of {dataset.sets[1]!r} has a label that can be tested ({_counted(small)} left out): label at "
            f"least {MIN_CELLS} cells, in both sets together, of a class that both have"
        )
    remarks = list(_said_of_small(small))
    if foreign:
        remarks.append(f"Labels of {dataset.sets[1]} that {dataset.sets[0]} lacks, left out: {_counted(foreign)}.")
    if members.keys() - tested:
        absent = ", ".join(sorted(members.keys() - tested))
        remarks.append(f"Labels of {dataset.sets[0]} without a test cell in {dataset.sets[1]}: {absent}.")
    given = dataset.groups if dataset.set_columns[0][1] is not None else None
    groups = None if given is None else given[parts["train"]]
    names = () if groups is None else names_of(groups)
    if groups is not None and len(names) > 1:
        order, n = _in_turn(names, -(-len(names) // max(1, round(VALIDATION_SHARE * len(names)))), seed, repeat)
        held = np.isin(groups, order[:n])
        parts["train"], parts["validation"] = parts["train"][~held], parts["train"][held]
    else:
        parts["train"], parts["validation"] = _hold_out(labels, parts["train"])
    remarks.append(
        f"Validation cells come from {dataset.sets[0]}: what is chosen on them, such as a confidence threshold, is "
        f"optimistic for {dataset.sets[1]}."
    )
    return Draft(_limited(labels, parts, max_cells), {**small, **foreign}, tuple(remarks))


def _hold_out(labels: NDArray[np.str_], rows: Rows) -> tuple[Rows, Rows]:
    """Train and validation rows: of each class with two cells or more a fifth validates, at least one."""
    chosen = np.zeros(len(rows), dtype=bool)
    for name in np.unique(labels[rows]):
        places = np.flatnonzero(labels[rows] == name)
        if len(places) > 1:
            chosen[places[: max(1, round(OF_THE_REST * len(places)))]] = True
    return rows[~chosen], rows[chosen]


def _limited(labels: NDArray[np.str_], parts: Mapping[str, Rows], max_cells: int) -> dict[str, Rows]:
    """A sample of each part that keeps the shares of its classes, in all no more than the profile allows.

    Each part may take its usual share of the cells; what one does not need goes to the others, training first.
    """
    shares = {"train": 1 - TEST_SHARE - VALIDATION_SHARE, "test": TEST_SHARE, "validation": VALIDATION_SHARE}
    sizes = {part: min(len(parts[part]), round(share * max_cells)) for part, share in shares.items()}
    for part in sizes:
        sizes[part] += min(max(0, max_cells - sum(sizes.values())), len(parts[part]) - sizes[part])
    return {part: _sampled(labels, rows, sizes[part]) for part, rows in parts.items()}


def _sampled(labels: NDArray[np.str_], rows: Rows, size: int) -> Rows:
    members = {str(name): rows[labels[rows] == name] for name in np.unique(labels[rows])}
    sizes = _stratified_sizes({name: len(found) for name, found in members.items()}, size)
    return joined_rows([found[: sizes[name]] for name, found in members.items()])


def _classes(dataset: Dataset, salt: str, without: Iterable[str] = ()) -> tuple[dict[str, Rows], dict[str, int]]:
    """Rows of every class in seeded order, and the classes that are too small with their cells."""
    order = seeded_order(dataset.cells, salt)
    names = [name for name in np.unique(dataset.labels) if name not in set(without)]
    members = {name: order[dataset.labels[order] == name] for name in names}
    left_out = {str(name): len(rows) for name, rows in members.items() if len(rows) < MIN_CELLS}
    members = {str(name): rows for name, rows in members.items() if len(rows) >= MIN_CELLS}
    if len(members) < 2:
        raise DatasetError(
            f"label column {dataset.label_key!r} has {len(members)} class(es) of at least {MIN_CELLS} cells; "
            f"two are needed (seen: {dataset.summary()['cells'].to_dict()}); give rare types the name of a broader "
            "one, or load with another label_key"
        )
    return members, left_out


def _stratified_sizes(counts: Mapping[str, int], max_cells: int) -> dict[str, int]:
    """Cells to keep of each class: proportional, whole, at least MIN_CELLS if there are; largest remainders first.

    They sum to max_cells, unless MIN_CELLS of every class is more than that already.
    """
    total = sum(counts.values())
    if total <= max_cells:
        return dict(counts)
    exact = {name: count * max_cells / total for name, count in counts.items()}
    sizes = {name: max(min(MIN_CELLS, counts[name]), int(share)) for name, share in exact.items()}
    by_remainder = sorted(counts, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_remainder[: max(0, max_cells - sum(sizes.values()))]:
        sizes[name] = min(counts[name], sizes[name] + 1)
    while sum(sizes.values()) > max_cells and max(sizes.values()) > MIN_CELLS:
        sizes[max(sizes, key=lambda name: sizes[name])] -= 1  # what the small classes got too much
    return sizes


def names_of(values: NDArray[np.str_]) -> tuple[str, ...]:
    """Different values, sorted."""
    return tuple(np.unique(values).tolist())


def seeded_order(cells: NDArray[np.str_], salt: str) -> Rows:
    """Rows sorted by a hash of (salt, cell id): random, and independent of the rows' order."""
    keys = [hashlib.blake2b(f"{salt}/{cell}".encode(), digest_size=16).digest() for cell in cells]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Rows of all parts, of none too."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


DRAWS: dict[str, Callable[..., Draft]] = {
    "stratified": _stratified,
    "group": _by_groups,
    "cross": _across_sets,
}
"""Kind of split -> what draws it from a data set, with a seed, the number of the repeat and the most cells to draw."""
