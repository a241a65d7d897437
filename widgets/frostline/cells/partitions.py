"""A split: which cells train, which choose, which test, and the genes that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.datasets import Dataset
from frostline.cells.draws import (
    PARTS,
    Rows,
    names_of,
)
from frostline.cells.variable_genes import variable_genes
from frostline.errors import DatasetError, unknown
from frostline.profiles import Profile

if TYPE_CHECKING:
    pass


import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from frostline.cells.draws import (
    OF_THE_REST,
    joined_rows,
    seeded_order,
)

if TYPE_CHECKING:
    import pandas as pd

MIN_BUDGET = 2
"""Labelled cells per class: one that trains, one that validates."""


@dataclass(frozen=True)
class Split:
    """Which rows of a data set train, validate and test."""

    train: Rows = field(repr=False)
    validation: Rows = field(repr=False)
    test: Rows = field(repr=False)
    classes: tuple[str, ...]
    """Classes of all parts, sorted."""
    genes: tuple[str, ...] = field(repr=False)
    """The gene list of every strategy, chosen on training cells."""
    seed: int
    repeat: int
    profile: Profile = field(repr=False)
    fingerprint: str
    """sha256 of cell ids, labels and parts; of the kind and the groups too, where there are groups."""
    test_fingerprint: str
    """sha256 of the test cells' ids and labels."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Classes that no part holds, and their cells: too few, or unknown to the training set of a cross split."""
    kind: str = "stratified"
    """`stratified`, `group` or `cross`."""
    group_key: str | None = None
    """Column of obs with the groups; None without groups."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Part -> names of the groups that have cells in it; empty without groups."""
    untrained: tuple[str, ...] = ()
    """Classes that have test cells and no training cell: every strategy errs on them."""
    budget: int | None = None
    """Labelled cells that a class has at most, validation included; None for all."""
    unseen: str | None = None
    """Class that `without_class` took out of training and validation."""
    remarks: tuple[str, ...] = field(default=(), repr=False)
    """What was noted when the cells were drawn."""

    @property
    def sizes(self) -> dict[str, int]:
        """Cells in each part, and genes."""
        return {**{part: len(getattr(self, part)) for part in PARTS}, "genes": len(self.genes)}

    def table(self, dataset: Dataset) -> pd.DataFrame:
        """Cells of each class in each part."""
        import pandas as pd

        counts = {part: pd.Series(dataset.labels[getattr(self, part)]).value_counts() for part in PARTS}
        return pd.DataFrame(counts).fillna(0).astype(int).rename_axis(dataset.label_key)

    @property
    def training_seed(self) -> int:
        """Seed of whatever trains on this split; each repeat has its own."""
        return (self.seed + 1_000_003 * self.repeat) % 2**32

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about the split."""
        notes = list(self.remarks)
        absent = [name for name in self.untrained if name != self.unseen]
        if absent:
            notes.append(f"No training cell has the class(es) {', '.join(absent)}: every strategy errs on them.")
        if self.budget is not None:
            notes.append(f"At most {self.budget} labelled cells of each class, validation included.")
        if self.unseen is not None:
            notes.append(f"Class {self.unseen} was taken out of training and validation on purpose.")
        return tuple(notes)

    def with_budget(self, dataset: Dataset, n: int) -> Split:
        """Keep at most `n` labelled cells of each class, training and validation together; the test stays.

        A fifth of them validates, at least one. The cells of a smaller budget are among those of a larger one.
        Genes are chosen again, on the training cells that remain.

        Parameters
        ----------
        dataset
            What was split.
        n
            At least two: one cell that trains and one that validates.

        Raises
        ------
        DatasetError
            `n` is smaller than two, or the data set is not the one that was split.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> from frostline.cells.splits import split
        >>> pancreas = load_dataset("pancreas")
        >>> split(pancreas, kind="stratified").with_budget(pancreas, 5).sizes
        {'train': 20, 'validation': 5, 'test': 45, 'genes': 2000}
        """
        if n < MIN_BUDGET:
            raise DatasetError(
                f"a budget of {n} labelled cell(s) per class is too small; give at least {MIN_BUDGET}, "
                "one that trains and one that validates"
            )
        self.refuse_other(dataset)
        kept: dict[str, list[Rows]] = {"train": [], "validation": []}
        salt = f"{self.seed}/{self.repeat}/budget"
        rows = {part: _shuffled(dataset.cells, getattr(self, part), salt) for part in kept}
        for name in self.classes:
            members = {part: rows[part][dataset.labels[rows[part]] == name] for part in kept}
            n_validation = min(max(1, round(OF_THE_REST * n)), len(members["validation"]))
            kept["validation"].append(members["validation"][:n_validation])
            kept["train"].append(members["train"][: n - n_validation])
        return self._with_parts(dataset, joined_rows(kept["train"]), joined_rows(kept["validation"]), budget=int(n))

    def without_class(self, dataset: Dataset, name: str) -> Split:
        """Take a class out of training and validation, to see how its test cells stand out.

        Genes are chosen again, on the training cells that remain.

        Parameters
        ----------
        dataset
            What was split.
        name
            One of `classes`.

        Raises
        ------
        DatasetError
            There is no such class, or fewer than two others train, or the data set is not the one that was split.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> from frostline.cells.splits import split
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).without_class(pbmc, "CD34+").untrained
        ('CD34+',)
        """
        if name not in self.classes:
            raise DatasetError(str(unknown("class", name, self.classes)))
        self.refuse_other(dataset)
        train, validation = (rows[dataset.labels[rows] != name] for rows in (self.train, self.validation))
        left = np.unique(dataset.labels[train])
        if len(left) < 2:
            raise DatasetError(
                f"without class {name!r} only {', '.join(left) or 'no class'} of column {dataset.label_key!r} would "
                "train; two are needed: load with another label_key"
            )
        return self._with_parts(dataset, train, validation, unseen=name)

    def refuse_other(self, dataset: Dataset) -> None:
        """Do nothing when this is the data set that was split.

        Raises
        ------
        DatasetError
            Its test cells, their labels or their groups are other ones.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> from frostline.cells.splits import split
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).refuse_other(pbmc)
        """
        there = not len(self.test) or int(self.test.max()) < len(dataset)
        if not there or fingerprint_of_parts(dataset, self.test) != self.test_fingerprint:
            raise DatasetError(
                f"this split was drawn from another data set than {dataset.name!r}, of other cells or labels; draw one "
                "of this data set with frostline.split(dataset)"
            )
        groups = () if dataset.groups is None else names_of(dataset.groups[self.test])
        if (self.group_key, self.groups.get("test", ())) != (dataset.group_key, groups):
            raise DatasetError(
                f"this split was drawn with {_of_groups(self.group_key, self.groups.get('test', ()))}, and "
                f"{dataset.name!r} has {_of_groups(dataset.group_key, groups)}; draw one of this data set with "
                "frostline.split(dataset), or load it with the groups that it had then"
            )

    def with_validation_trained(self, dataset: Dataset) -> Split:
        """Let the validation cells train, too, for a strategy that chooses nothing on them; genes are chosen again.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> from frostline.cells.splits import split
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).with_validation_trained(pbmc).sizes
        {'train': 524, 'validation': 0, 'test': 176, 'genes': 765}
        """
        self.refuse_other(dataset)
        return self._with_parts(dataset, joined_rows([self.train, self.validation]), self.validation[:0])

    def _with_parts(self, dataset: Dataset, train: Rows, validation: Rows, **changes: Any) -> Split:
        parts = in_order(dataset.cells, {"train": train, "validation": validation, "test": self.test})
        return replace(self, **facts_of_parts(dataset, parts, self.kind, self.profile), **changes)


def _of_groups(group_key: str | None, tested: Sequence[str]) -> str:
    shown = ", ".join(tested[:5]) + (", ..." if len(tested) > 5 else "")
    return "no groups" if group_key is None else f"groups in {group_key!r} ({shown} of its test cells)"


def _shuffled(cells: NDArray[np.str_], rows: Rows, salt: str) -> Rows:
    return rows[seeded_order(cells[rows], salt)]


def in_order(cells: NDArray[np.str_], parts: Mapping[str, Rows]) -> dict[str, Rows]:
    """Order the rows of each part by the ids of their cells.

    Examples
    --------
    >>> rows = np.array([0, 1])
    >>> in_order(np.array(["b", "a"]), {"train": rows, "validation": rows[:0], "test": rows[:1]})["train"]
    array([1, 0])
    """
    return {part: parts[part][np.argsort(cells[parts[part]])] for part in PARTS}


def fingerprint_of_parts(
    dataset: Dataset, *parts: Rows, kind: str = "stratified", groups: NDArray[np.str_] | None = None
) -> str:
    """Hash the cells of each part, their labels and, where groups matter, their groups."""
    digest = hashlib.sha256()
    if kind != "stratified" or groups is not None:
        digest.update(f"{kind}\0".encode())
    for rows in parts:
        for cell, label in zip(dataset.cells[rows], dataset.labels[rows], strict=True):
            digest.update(f"{cell}\t{label}\n".encode())
        if groups is not None:
            digest.update("\n".join(groups[rows]).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def facts_of_parts(dataset: Dataset, parts: Mapping[str, Rows], kind: str, profile: Profile) -> dict[str, Any]:
    """The rows of the parts and what follows from them: genes, groups, classes without training, fingerprint."""
    groups, labels = dataset.groups, dataset.labels
    trained = set(labels[parts["train"]])
    names = {} if groups is None else {part: names_of(groups[rows]) for part, rows in parts.items()}
    return {
        **parts,
        "genes": variable_genes(dataset, parts["train"], profile.max_genes),
        "groups": names,
        "untrained": tuple(name for name in names_of(labels[parts["test"]]) if name not in trained),
        "fingerprint": fingerprint_of_parts(dataset, *(parts[part] for part in PARTS), kind=kind, groups=groups),
    }
