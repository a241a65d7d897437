"""Splits: which cells train, which choose, which test; and the gene list, from training cells only.

Three kinds: `stratified` draws cells at random within each class; `group` holds whole donors, batches or studies
out; `cross` trains on one data set and tests on another. A split is a function of the seed, the cell ids and the
names of the groups: reordering the rows of a data set does not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.draws import (
    DRAWS,
    MIN_CELLS,
    OF_THE_REST,
    PARTS,
    Draft,
    Rows,
    all_cells,
    group_folds,
    joined_rows,
    names_of,
    seeded_order,
)
from frostline.cells.variable_genes import variable_genes
from frostline.errors import DatasetError, unknown
from frostline.profiles import Profile, get_profile

if TYPE_CHECKING:
    import pandas as pd

KINDS = tuple(DRAWS)
MIN_BUDGET = 2
"""Labelled cells per class: one that trains, one that validates."""
MIN_FOLDS = 3
"""Of which one tests and one validates."""
OTHER_SEEDS = 20
"""Seeds that are tried to name one that works."""


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
        return self._with_parts(dataset, joined_rows(kept["train"]), joined_rows(kept["validation"]), budget=n)

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
            Its test cells or their labels are other ones.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).refuse_other(pbmc)
        """
        there = not len(self.test) or int(self.test.max()) < len(dataset)
        if not there or _fingerprint(dataset, self.test) != self.test_fingerprint:
            raise DatasetError(
                f"this split was drawn from another data set than {dataset.name!r}, of other cells or labels; draw one "
                "of this data set with frostline.split(dataset)"
            )

    def with_validation_trained(self, dataset: Dataset) -> Split:
        """Let the validation cells train, too, for a strategy that chooses nothing on them; genes are chosen again.

        Examples
        --------
        >>> from frostline.cells.datasets import load_dataset
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).with_validation_trained(pbmc).sizes
        {'train': 524, 'validation': 0, 'test': 176, 'genes': 765}
        """
        self.refuse_other(dataset)
        return self._with_parts(dataset, joined_rows([self.train, self.validation]), self.validation[:0])

    def _with_parts(self, dataset: Dataset, train: Rows, validation: Rows, **changes: Any) -> Split:
        parts = _in_order(dataset.cells, {"train": train, "validation": validation, "test": self.test})
        return replace(self, **_described(dataset, parts, self.kind, self.profile), **changes)


def split(
    dataset: Dataset,
    *,
    kind: str | None = None,
    seed: int = 42,
    profile: str | Profile = "quickstart",
    repeat: int = 0,
    folds: int | None = None,
) -> Split:
    """Split a data set into training, validation and test cells.

    - `stratified`: of every class a quarter tests and 15 % validate, at least one cell each. With `folds` each cell
      tests in one of as many repeats, and a fifth of the others validates.
    - `group`: about a quarter of the groups tests and 15 % validate, at least one each; `repeats_of` repeats test each
      group once. With two groups a fifth of the training group's cells validates.
    - `cross`: the second set of `join_datasets` tests; of the first, 15 % of the groups validate, or a fifth of its
      cells when it has no groups.

    Classes with fewer than three cells are left out and listed in `left_out`. When there are more cells than the
    profile allows, a sample is drawn that keeps the shares of the classes. The genes are those of the largest
    variance over the training cells.

    Parameters
    ----------
    dataset
        What `load_dataset` or `join_datasets` returned.
    kind
        One of `KINDS`. By default `cross` for joined data sets, `group` if there is a group column, else
        `stratified`.
    seed
        Of the sample and the split.
    profile
        A name of `PROFILES`, or a Profile.
    repeat
        0, 1, ...: further splits of the same seed.
    folds
        Of a stratified split: repeats in which every cell tests once; at least three. None draws each repeat by itself.

    Raises
    ------
    DatasetError
        Fewer than two classes have three cells, or training cells; there is one group only; the data set was not
        joined, or has no group column, and the kind asks for it; folds of another kind, or too few.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> split(load_dataset("pbmc68k-reduced"), seed=42).sizes
    {'train': 420, 'validation': 104, 'test': 176, 'genes': 765}
    >>> split(load_dataset("pancreas"), seed=42).groups["test"]
    ('human1',)
    """
    if isinstance(profile, str):
        profile = get_profile(profile)
    kind = _kind_of(dataset, kind)
    if folds is not None and (kind != "stratified" or folds < MIN_FOLDS):
        raise DatasetError(
            f"folds={folds} with kind={kind!r}: only kind='stratified' takes folds, {MIN_FOLDS} or more; "
            "the repeats of kind 'group' are folds by themselves"
        )
    dealt = {} if folds is None else {"folds": folds}
    draft = DRAWS[kind](dataset, seed, repeat, profile.max_cells, **dealt)
    problem = _untrainable(dataset, draft.parts)
    if problem:
        raise DatasetError(f"{problem}; {_trainable(dataset, kind, seed, repeat, profile)}")
    return _drawn(dataset, draft, kind, seed, repeat, profile)


def split_nothing_off(
    dataset: Dataset, *, kind: str | None = None, seed: int = 42, profile: str | Profile = "quickstart"
) -> Split:
    """Let all cells train, but 15 % of each class, at least one cell, that validate; none tests.

    Classes of fewer than three cells are left out, as of every split; the number of cells is not limited.

    Parameters
    ----------
    dataset, kind, seed, profile
        As for `split`; whole groups take part in the choice of hyper-parameters where the kind is `group`.

    Raises
    ------
    DatasetError
        Fewer than two classes have three cells.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> split_nothing_off(load_dataset("pbmc68k-reduced")).sizes
    {'train': 596, 'validation': 104, 'test': 0, 'genes': 765}
    """
    profile = get_profile(profile) if isinstance(profile, str) else profile
    return _drawn(dataset, all_cells(dataset, seed), _kind_of(dataset, kind), seed, 0, profile)


def _drawn(dataset: Dataset, draft: Draft, kind: str, seed: int, repeat: int, profile: Profile) -> Split:
    parts = _in_order(dataset.cells, draft.parts)
    return Split(
        classes=tuple(sorted({str(name) for rows in parts.values() for name in dataset.labels[rows]})),
        seed=seed,
        repeat=repeat,
        profile=profile,
        test_fingerprint=_fingerprint(dataset, parts["test"]),
        left_out=draft.left_out,
        kind=kind,
        group_key=dataset.group_key,
        remarks=draft.remarks,
        **_described(dataset, parts, kind, profile),
    )


def _kind_of(dataset: Dataset, kind: str | None) -> str:
    kind = kind or ("cross" if dataset.sets else "group" if dataset.group_key else "stratified")
    if kind not in KINDS:
        raise DatasetError(str(unknown("kind of split", kind, KINDS)))
    return kind


def repeats_of(dataset: Dataset, *, kind: str | None = None, profile: str | Profile = "quickstart") -> int:
    """Repeats that a profile asks for; by group as many more as it takes for every group to test equally often.

    Parameters
    ----------
    dataset, kind, profile
        As for `split`.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> repeats_of(load_dataset("pbmc68k-reduced")), repeats_of(load_dataset("pancreas"))
    (1, 4)
    """
    asked = (get_profile(profile) if isinstance(profile, str) else profile).repeats
    if _kind_of(dataset, kind) != "group" or dataset.groups is None:
        return asked
    _, place, counts = np.unique(dataset.labels, return_inverse=True, return_counts=True)
    folds = group_folds(len(np.unique(dataset.groups[counts[place] >= MIN_CELLS])))
    return folds * -(-asked // folds)


def _described(dataset: Dataset, parts: Mapping[str, Rows], kind: str, profile: Profile) -> dict[str, Any]:
    """The rows of the parts and what follows from them: genes, groups, classes without training, fingerprint."""
    groups, labels = dataset.groups, dataset.labels
    trained = set(labels[parts["train"]])
    names = {} if groups is None else {part: names_of(groups[rows]) for part, rows in parts.items()}
    return {
        **parts,
        "genes": variable_genes(dataset, parts["train"], profile.max_genes),
        "groups": names,
        "untrained": tuple(name for name in names_of(labels[parts["test"]]) if name not in trained),
        "fingerprint": _fingerprint(dataset, *(parts[part] for part in PARTS), kind=kind, groups=groups),
    }


def _untrainable(dataset: Dataset, parts: Mapping[str, Rows]) -> str:
    """Why nothing can be trained; empty when something can."""
    trained, validated = (set(dataset.labels[parts[part]].tolist()) for part in ("train", "validation"))
    groups = dataset.groups
    where = f" (group(s) {', '.join(names_of(groups[parts['train']])[:5])})" if groups is not None else ""
    if len(trained) < 2:
        return (
            f"the training cells{where} have {len(trained)} class(es) of column {dataset.label_key!r} "
            f"({', '.join(sorted(trained))}), and two are needed"
        )
    if not trained & validated:
        return (
            f"the validation cells have no class of column {dataset.label_key!r} that the training cells{where} have "
            f"(seen: {', '.join(sorted(validated)) or 'none'})"
        )
    return ""


def _trainable(dataset: Dataset, kind: str, seed: int, repeat: int, profile: Profile) -> str:
    """What to change so that something can be trained: tried here, so that it works."""

    def works(kind: str, seed: int) -> bool:
        parts = DRAWS[kind](dataset, seed, repeat, profile.max_cells).parts
        return not _untrainable(dataset, _in_order(dataset.cells, parts))

    remedies = ["choose kind='stratified'"] if kind != "stratified" and works("stratified", seed) else []
    other = next((one for one in range(seed + 1, seed + 1 + OTHER_SEEDS) if works(kind, one)), None)
    remedies += [f"choose seed={other}"] if other is not None else []
    remedies += ["load with another group_key"] if kind == "group" else []
    return ", or ".join(remedies) or "label more cells of each class"


def _shuffled(cells: NDArray[np.str_], rows: Rows, salt: str) -> Rows:
    return rows[seeded_order(cells[rows], salt)]


def _in_order(cells: NDArray[np.str_], parts: Mapping[str, Rows]) -> dict[str, Rows]:
    return {part: parts[part][np.argsort(cells[parts[part]])] for part in PARTS}


def _fingerprint(
    dataset: Dataset, *parts: Rows, kind: str = "stratified", groups: NDArray[np.str_] | None = None
) -> str:
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
