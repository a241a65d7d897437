"""Checks of labels and groups as they are written: what means missing, what is one name twice, what is no group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.groups import PEOPLE_WORDS, group_columns
from frostline.cells.words import missing_names, renaming, spellings, usual
from frostline.evaluation.cases import Case, Check, covers, listed
from frostline.records import Finding

GROUPS_ARE_CELLS = 0.5
"""Groups per cell from which a column of groups names cells: an error."""
MANY_GROUPS = 0.2
"""Groups per cell from which a column of groups is doubtful: a warning."""
NEARLY_THE_SAME = 0.95
"""Adjusted Rand index of labels and groups from which they count as the same."""
MOST_NAMES = 2_000
"""Groups whose spelling is looked at; where there are more, that is the finding."""

_OF_TYPES = re.compile(r"type|label|annot|class|cluster", re.IGNORECASE)  # as in the cell types of a subject


@dataclass(frozen=True)
class Written:
    """A column of labels or groups of one data set."""

    kind: str
    """label or group."""
    key: str
    """Its name in that data set's obs."""
    names: NDArray[np.str_]
    """(n_cells,)"""
    of: str = ""
    """Name of the data set, where two were joined."""

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return f"{self.kind} column {self.key!r}{f' of {self.of}' if self.of else ''}"


def written(dataset: Dataset) -> list[Written]:
    """Columns of labels and groups as each data set has them.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> [column.title for column in written(load_dataset("pancreas"))]
    ["label column 'cell_type'", "group column 'donor'"]
    """
    found = []
    sets = dataset.sets or ("",)
    columns = dataset.set_columns or ((dataset.label_key, dataset.group_key),)
    for name, (label_key, group_key) in zip(sets, columns, strict=True):
        rows = np.arange(len(dataset)) if dataset.origin is None else np.flatnonzero(dataset.origin == name)
        found.append(Written("label", label_key, dataset.labels[rows], name))
        if group_key is not None and group_key != label_key and dataset.groups is not None:
            found.append(Written("group", group_key, dataset.groups[rows], name))
    return found


def doubtful_names(columns: Sequence[Written]) -> Iterator[Finding]:
    """Find names that say that there is none, and names that are one in several spellings.

    Examples
    --------
    >>> column = Written("label", "kind", np.array(["B cell", "nan", "B cells"]))
    >>> [finding.code for finding in doubtful_names([column])]
    ['missing-as-text', 'similar-names']
    """
    yield from _missing_as_text(columns)
    yield from _similar_names(columns)


def _as_written(case: Case) -> Iterator[Finding]:
    yield from doubtful_names(written(case.dataset))


def _missing_as_text(written: Sequence[Written]) -> Iterator[Finding]:
    found = [(column, names) for column in written if (names := missing_names(column.names.tolist()))]
    if not found:
        return
    titles = [f"{column.title} has {listed([_counted(each) for each in names.items()])}" for column, names in found]
    lines = [
        (column.of, f"adata = adata[~adata.obs[{column.key!r}].astype(str).isin({list(names)})].copy()")
        for column, names in found
    ]
    yield Finding(
        "missing-as-text",
        "warning",
        f"Names that say that there is none count as classes or groups: {'; '.join(titles)}",
        "These cells are no class: strategies are trained to predict, and scored on, that a label was missing. "
        "Groups of unknown origin may hold cells of any other group, so they may be on both sides of a split.",
        f"Leave these cells out before loading: {_code(lines)}. Or give them the names that they should have.",
    )


def _counted(name_and_cells: tuple[str, int]) -> str:
    name, n = name_and_cells
    return f"{name!r} ({n:,} cell{'' if n == 1 else 's'})"


def _code(lines: Sequence[tuple[str, str]]) -> str:
    """Lines of code, those for one data set together."""
    by_set: dict[str, list[str]] = {}
    for name, line in lines:
        by_set.setdefault(name, []).append(line)
    return "; ".join(f"`{'; '.join(code)}`{f' for {name}' if name else ''}" for name, code in by_set.items())


def _similar_names(written: Sequence[Written]) -> Iterator[Finding]:
    titles, lines = [], []
    for kind in ("label", "group"):
        columns = [column for column in written if column.kind == kind]
        counts: Counter[str] = Counter()
        for column in columns:
            counts.update(column.names.tolist())
        if len(counts) > MOST_NAMES:
            continue
        for names in spellings(counts):
            titles.append(f"{' and '.join(map(_counted, names.items()))} in {_places(columns, names)}")
        lines += respelled(columns)
    if not titles:
        return
    yield Finding(
        "similar-names",
        "warning",
        f"Names that differ only in spelling (blanks, case, plural, hyphens): {listed(titles)}",
        "They count as different classes or groups. If they are one, strategies are scored on telling apart what is "
        "the same, and cells of one donor may be on both sides of a split.",
        f"If they are one, give them one name before loading: {_code(lines)}. If they differ, give them names that "
        "say so.",
    )


def _places(columns: Sequence[Written], names: Mapping[str, int]) -> str:
    return " and ".join(column.title for column in columns if np.isin(column.names, list(names)).any())


def respelled(columns: Sequence[Written]) -> list[tuple[str, str]]:
    """Lines of code that give names in several spellings one, with the data set that each is for.

    Examples
    --------
    >>> column = Written("label", "kind", np.array(["B cell", "B cells", "B cell"]))
    >>> respelled([column])
    [('', "adata.obs['kind'] = adata.obs['kind'].astype(str).replace({'B cells': 'B cell'})...")]
    """
    counts: Counter[str] = Counter()
    for column in columns:
        counts.update(column.names.tolist())
    kept = {name: usual(names) for names in spellings(counts) for name in names if name != usual(names)}
    lines = []
    for column in columns:
        here = {name: kept[name] for name in dict.fromkeys(column.names.tolist()) if name in kept}
        if here:
            lines.append((column.of, renaming(column.key, here)))
    return lines


def _labels_are_groups(case: Case) -> Iterator[Finding]:
    dataset = case.dataset
    people = group_columns(dataset, PEOPLE_WORDS)
    columns = dict.fromkeys([dataset.group_key, *people] if dataset.group_key else people)
    if dataset.label_key in columns and not _OF_TYPES.search(dataset.label_key):
        yield _confounded(f"The label column {dataset.label_key!r} holds groups, not cell types", "error")
        return
    for column in columns:
        if column == dataset.label_key:
            continue
        groups = columns_of(dataset.obs)[column]
        known = groups.notna().to_numpy()
        if not covers(known, dataset.labels):
            continue
        found = _confusion(dataset.labels[known], groups[known].astype(str).to_numpy(dtype=str))
        if found is not None:
            yield _confounded(
                found[1].format(f"label column {dataset.label_key!r}", f"group column {column!r}"), found[0]
            )
            return


def _confusion(labels: NDArray[np.str_], groups: NDArray[np.str_]) -> tuple[str, str] | None:
    """Severity and words, where labels and groups are one partition or groups hold one class each."""
    from sklearn.metrics import adjusted_rand_score

    n_groups, n_pairs = len(set(groups.tolist())), len(set(zip(labels.tolist(), groups.tolist(), strict=True)))
    if n_groups < 2 or n_groups >= MANY_GROUPS * len(groups):
        return None
    index = adjusted_rand_score(labels, groups)
    if n_pairs == n_groups == len(set(labels.tolist())):
        return "error", "The {0} divides the cells as the {1} does, under other names"
    if index >= NEARLY_THE_SAME:
        return "error", f"The {{0}} divides the cells nearly as the {{1}} does (adjusted Rand index {index:.2f})"
    if n_pairs == n_groups:
        return "warning", f"Each of the {n_groups:,} groups of the {{1}} has one class of the {{0}} only"
    return None


def _confounded(title: str, severity: str) -> Finding:
    return Finding(
        "labels-are-groups",
        severity,
        title,
        "What tells the groups apart, such as batch effects, tells the classes apart, too: a strategy that learned "
        "nothing but the batch scores well on cells of the same groups, and new groups bring classes unknown to it.",
        "Choose the column of cell types as label_key, and donors or batches that hold several types as group_key.",
    )


def _no_groups(case: Case) -> Iterator[Finding]:
    groups, key, n = case.dataset.groups, case.dataset.group_key, len(case.dataset)
    if groups is None:
        return
    n_groups = len(set(groups.tolist()))
    if n_groups == 1:
        yield Finding(
            "one-group",
            "warning",
            f"Group column {key!r} has one group only, {str(groups[0])!r}",
            "No group can be held out, so the scores say nothing about cells of another donor or batch.",
            "Choose a column of donors, samples or batches, or none.",
        )
    elif n_groups >= MANY_GROUPS * n:
        yield Finding(
            "groups-are-cells",
            "error" if n_groups >= GROUPS_ARE_CELLS * n else "warning",
            f"Group column {key!r} has {n_groups:,} groups for {n:,} cells",
            "Groups of one or two cells are cells: to hold them out is to draw cells at random, and the scores are "
            "those of a random split under another name.",
            "Choose a column of donors, samples or batches, or none.",
        )


CHECKS: tuple[Check, ...] = (_as_written, _labels_are_groups, _no_groups)
