"""Splits: which cells train, which choose, which test; and the gene list, from training cells only.

Three kinds: `stratified` draws cells at random within each class; `group` holds whole donors, batches or studies
out; `cross` trains on one data set and tests on another. A split is a function of the seed, the cell ids and the
names of the groups: reordering the rows of a data set does not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset, group_columns
from frostline.errors import DatasetError, unknown
from frostline.profiles import Profile, get_profile

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]
PARTS = ("train", "validation", "test")
KINDS = ("stratified", "group", "cross")
TEST_SHARE = 0.25
VALIDATION_SHARE = 0.15
OF_THE_REST = VALIDATION_SHARE / (1 - TEST_SHARE)
"""Share of the cells that do not test which validate: a fifth."""
MIN_CELLS = 3
"""A class needs one cell for each part; smaller classes are left out and listed."""
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
        >>> from frostline.datasets import load_dataset
        >>> pancreas = load_dataset("pancreas")
        >>> split(pancreas, kind="stratified").with_budget(pancreas, 5).sizes
        {'train': 20, 'validation': 5, 'test': 45, 'genes': 2000}
        """
        if n < MIN_BUDGET:
            raise DatasetError(
                f"a budget of {n} labelled cell(s) per class is too small; give at least {MIN_BUDGET}, "
                "one that trains and one that validates"
            )
        kept: dict[str, list[Rows]] = {"train": [], "validation": []}
        salt = f"{self.seed}/{self.repeat}/budget"
        rows = {part: _shuffled(dataset.cells, getattr(self, part), salt) for part in kept}
        for name in self.classes:
            members = {part: rows[part][dataset.labels[rows[part]] == name] for part in kept}
            n_validation = min(max(1, round(OF_THE_REST * n)), len(members["validation"]))
            kept["validation"].append(members["validation"][:n_validation])
            kept["train"].append(members["train"][: n - n_validation])
        return self._with_parts(dataset, _joined(kept["train"]), _joined(kept["validation"]), budget=n)

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
        >>> from frostline.datasets import load_dataset
        >>> pbmc = load_dataset("pbmc68k-reduced")
        >>> split(pbmc).without_class(pbmc, "CD34+").untrained
        ('CD34+',)
        """
        if name not in self.classes:
            raise DatasetError(str(unknown("class", name, self.classes)))
        train, validation = (rows[dataset.labels[rows] != name] for rows in (self.train, self.validation))
        left = np.unique(dataset.labels[train])
        if len(left) < 2:
            raise DatasetError(
                f"without class {name!r} only {', '.join(left) or 'no class'} of column {dataset.label_key!r} would "
                "train; two are needed"
            )
        return self._with_parts(dataset, train, validation, unseen=name)

    def _with_parts(self, dataset: Dataset, train: Rows, validation: Rows, **changes: Any) -> Split:
        if _fingerprint(dataset, self.test) != self.test_fingerprint:
            raise DatasetError(f"this split was drawn from another data set than {dataset.name!r}")
        parts = _in_order(dataset.cells, {"train": train, "validation": validation, "test": self.test})
        return replace(self, **_described(dataset, parts, self.kind, self.profile), **changes)


@dataclass(frozen=True)
class _Draft:
    """Rows of each part, what was left out and what must be said."""

    parts: Mapping[str, Rows]
    left_out: Mapping[str, int]
    remarks: tuple[str, ...] = ()


def split(
    dataset: Dataset,
    *,
    kind: str | None = None,
    seed: int = 42,
    profile: str | Profile = "quickstart",
    repeat: int = 0,
) -> Split:
    """Split a data set into training, validation and test cells.

    - `stratified`: of every class a quarter tests and 15 % validate, at least one cell each.
    - `group`: a quarter of the groups tests and 15 % validate, at least one each; repeats go through the groups in
      turn. With two groups a fifth of the training group's cells validates.
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

    Raises
    ------
    DatasetError
        Fewer than two classes have three cells, or training cells; there is one group only; the data set was not
        joined, or has no group column, and the kind asks for it.

    Examples
    --------
    >>> from frostline.datasets import load_dataset
    >>> split(load_dataset("pbmc68k-reduced"), seed=42).sizes
    {'train': 420, 'validation': 104, 'test': 176, 'genes': 765}
    >>> split(load_dataset("pancreas"), seed=42).groups["test"]
    ('human1',)
    """
    if isinstance(profile, str):
        profile = get_profile(profile)
    kind = kind or ("cross" if dataset.sets else "group" if dataset.group_key else "stratified")
    if kind not in KINDS:
        raise DatasetError(str(unknown("kind of split", kind, KINDS)))
    draw = {"stratified": _stratified, "group": _by_groups, "cross": _across_sets}[kind]
    draft = draw(dataset, seed, repeat, profile.max_cells)
    parts = _in_order(dataset.cells, draft.parts)
    _refuse_untrainable(dataset, parts)
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


def _described(dataset: Dataset, parts: Mapping[str, Rows], kind: str, profile: Profile) -> dict[str, Any]:
    """The rows of the parts and what follows from them: genes, groups, classes without training, fingerprint."""
    groups, labels = dataset.groups, dataset.labels
    trained = set(labels[parts["train"]])
    names = {} if groups is None else {part: _names(groups[rows]) for part, rows in parts.items()}
    return {
        **parts,
        "genes": variable_genes(dataset, parts["train"], profile.max_genes),
        "groups": names,
        "untrained": tuple(name for name in _names(labels[parts["test"]]) if name not in trained),
        "fingerprint": _fingerprint(dataset, *(parts[part] for part in PARTS), kind=kind, groups=groups),
    }


def _names(values: NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(np.unique(values).tolist())


def _stratified(dataset: Dataset, seed: int, repeat: int, max_cells: int) -> _Draft:
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
    return _Draft(drawn, left_out, (*_said_of_small(left_out), *_said_of_optimism(dataset)))


def random_across(dataset: Dataset) -> tuple[str, ...]:
    """Columns whose groups a random split would put on both sides: the group column, or what looks like one.

    Examples
    --------
    >>> from frostline.datasets import load_dataset
    >>> random_across(load_dataset("pancreas")), random_across(load_dataset("pbmc68k-reduced"))
    (('donor',), ())
    """
    if dataset.group_key is not None:
        return (dataset.group_key,)
    return tuple(column for column in group_columns(dataset.adata) if column != dataset.label_key)


def _said_of_optimism(dataset: Dataset) -> tuple[str, ...]:
    columns = random_across(dataset)
    if dataset.sets:
        return (f"A random split mixes the cells of {' and '.join(dataset.sets)}: optimistic for a new data set.",)
    if not columns:
        return ()
    first, *others = (f"{column!r} ({dataset.adata.obs[column].nunique()} groups)" for column in columns)
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


def _by_groups(dataset: Dataset, seed: int, repeat: int, max_cells: int) -> _Draft:
    members, left_out = _classes(dataset, f"{seed}/{repeat}")
    rows = np.concatenate(list(members.values()))
    groups = _groups_of(dataset)
    names = _names(groups[rows])
    if len(names) < 2:
        others = [column for column in random_across(replace(dataset, group_key=None)) if column != dataset.group_key]
        raise DatasetError(
            f"group column {dataset.group_key!r} has one group only ({', '.join(names)}), and holding groups out takes "
            f"two; choose kind='stratified', or another column (group-like ones: {', '.join(others) or 'none'})"
        )
    n_test = max(1, round(TEST_SHARE * len(names)))
    n_validation = max(1, round(VALIDATION_SHARE * len(names))) if len(names) > 2 else 0
    order = _in_turn(names, n_test, seed, repeat)
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
    return _Draft(_limited(dataset.labels, parts, max_cells), left_out, remarks)


def _groups_of(dataset: Dataset) -> NDArray[np.str_]:
    if dataset.groups is None:
        found = ", ".join(group_columns(dataset.adata)) or "none"
        raise DatasetError(
            "kind 'group' holds whole groups out, and this data set was loaded without group_key; "
            f"columns of obs that look like groups: {found}"
        )
    return dataset.groups


def _in_turn(names: Sequence[str], n: int, seed: int, repeat: int) -> list[str]:
    """All groups, first the `n` that this repeat holds out: each has its turn before one has a second."""
    cycle, turn = divmod(repeat, -(-len(names) // n))
    order = np.array(names)[_seeded_order(np.array(names), f"{seed}/groups/{cycle}")]
    return [str(name) for name in np.roll(order, -n * turn)]


def _across_sets(dataset: Dataset, seed: int, repeat: int, max_cells: int) -> _Draft:
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
            f"no cell of {dataset.sets[1]!r} has a label that can be tested ({_counted(small)} left out)"
        )
    remarks = list(_said_of_small(small))
    if foreign:
        remarks.append(f"Labels of {dataset.sets[1]} that {dataset.sets[0]} lacks, left out: {_counted(foreign)}.")
    if members.keys() - tested:
        absent = ", ".join(sorted(members.keys() - tested))
        remarks.append(f"Labels of {dataset.sets[0]} without a test cell in {dataset.sets[1]}: {absent}.")
    groups = None if dataset.groups is None else dataset.groups[parts["train"]]
    names = () if groups is None else _names(groups)
    if groups is not None and len(names) > 1:
        n = max(1, round(VALIDATION_SHARE * len(names)))
        held = np.isin(groups, _in_turn(names, n, seed, repeat)[:n])
        parts["train"], parts["validation"] = parts["train"][~held], parts["train"][held]
    else:
        parts["train"], parts["validation"] = _hold_out(labels, parts["train"])
    remarks.append(
        f"Validation cells come from {dataset.sets[0]}: what is chosen on them, such as a confidence threshold, is "
        f"optimistic for {dataset.sets[1]}."
    )
    return _Draft(_limited(labels, parts, max_cells), {**small, **foreign}, tuple(remarks))


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
    return _joined([found[: sizes[name]] for name, found in members.items()])


def _refuse_untrainable(dataset: Dataset, parts: Mapping[str, Rows]) -> None:
    trained, validated = (set(dataset.labels[parts[part]].tolist()) for part in ("train", "validation"))
    groups = dataset.groups
    where = f" (group(s) {', '.join(_names(groups[parts['train']])[:5])})" if groups is not None else ""
    remedy = "choose another group column, another seed, or kind='stratified'"
    if len(trained) < 2:
        raise DatasetError(
            f"the training cells{where} have {len(trained)} class(es) of column {dataset.label_key!r} "
            f"({', '.join(sorted(trained))}), and two are needed; {remedy}"
        )
    if not trained & validated:
        raise DatasetError(
            f"the validation cells have no class of column {dataset.label_key!r} that the training cells{where} have "
            f"(seen: {', '.join(sorted(validated)) or 'none'}); {remedy}"
        )


def _classes(dataset: Dataset, salt: str, without: Iterable[str] = ()) -> tuple[dict[str, Rows], dict[str, int]]:
    """Rows of every class in seeded order, and the classes that are too small with their cells."""
    order = _seeded_order(dataset.cells, salt)
    names = [name for name in np.unique(dataset.labels) if name not in set(without)]
    members = {name: order[dataset.labels[order] == name] for name in names}
    left_out = {str(name): len(rows) for name, rows in members.items() if len(rows) < MIN_CELLS}
    members = {str(name): rows for name, rows in members.items() if len(rows) >= MIN_CELLS}
    if len(members) < 2:
        raise DatasetError(
            f"label column {dataset.label_key!r} has {len(members)} class(es) of at least {MIN_CELLS} cells; "
            f"two are needed (seen: {dataset.summary()['cells'].to_dict()})"
        )
    return members, left_out


def _seeded_order(cells: NDArray[np.str_], salt: str) -> Rows:
    """Rows sorted by a hash of (salt, cell id): random, and independent of the rows' order."""
    keys = [hashlib.blake2b(f"{salt}/{cell}".encode(), digest_size=16).digest() for cell in cells]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _shuffled(cells: NDArray[np.str_], rows: Rows, salt: str) -> Rows:
    return rows[_seeded_order(cells[rows], salt)]


def _in_order(cells: NDArray[np.str_], parts: Mapping[str, Rows]) -> dict[str, Rows]:
    return {part: parts[part][np.argsort(cells[parts[part]])] for part in PARTS}


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


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


def variable_genes(
    dataset: Dataset, train: Rows, max_genes: int, among: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Names of the genes with the largest variance over the training cells, in the data set's order.

    Parameters
    ----------
    dataset, train
        The data set and the rows of its training cells.
    max_genes
        How many at most.
    among
        Candidates; all genes of the data set by default.

    Examples
    --------
    >>> from frostline.datasets import load_dataset
    >>> pbmc = load_dataset("pbmc68k-reduced")
    >>> variable_genes(pbmc, np.arange(100), 3)
    ('HLA-DRA', 'LYZ', 'CST3')
    """
    names = dataset.genes if among is None else tuple(among)
    if len(names) <= max_genes:
        return names
    matrix = dataset.expression(train, names).astype(np.float64)
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    variance = np.asarray(matrix.power(2).mean(axis=0)).ravel() - mean**2
    chosen = np.sort(np.argsort(-variance, kind="stable")[:max_genes])
    return tuple(names[i] for i in chosen)


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
