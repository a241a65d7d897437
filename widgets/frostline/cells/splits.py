"""Splits: which cells train, which choose, which test; and the gene list, from training cells only.

Three kinds: `stratified` draws cells at random within each class; `group` holds whole donors, batches or studies
out; `cross` trains on one data set and tests on another. A split is a function of the seed, the cell ids and the
names of the groups: reordering the rows of a data set does not change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from frostline.bounds import Seed, hold
from frostline.cells.datasets import Dataset
from frostline.cells.draws import (
    DRAWS,
    MIN_CELLS,
    Draft,
    Rows,
    all_cells,
    group_folds,
    names_of,
)
from frostline.cells.partitions import Split, facts_of_parts, fingerprint_of_parts, in_order
from frostline.errors import DatasetError, unknown
from frostline.profiles import Profile, get_profile

if TYPE_CHECKING:
    pass

KINDS = tuple(DRAWS)
MIN_FOLDS = 3
"""Of which one tests and one validates."""
OTHER_SEEDS = 20
"""Seeds that are tried to name one that works."""


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
    FrostlineError
        The seed or the repeat is no whole number, or below 0.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> split(load_dataset("pbmc68k-reduced"), seed=42).sizes
    {'train': 420, 'validation': 104, 'test': 176, 'genes': 765}
    >>> split(load_dataset("pancreas"), seed=42).groups["test"]
    ('human1',)
    """
    seed, repeat = hold(Seed, "seed", seed), hold(Seed, "repeat", repeat)
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
    seed = hold(Seed, "seed", seed)
    profile = get_profile(profile) if isinstance(profile, str) else profile
    return _drawn(dataset, all_cells(dataset, seed), _kind_of(dataset, kind), seed, 0, profile)


def _drawn(dataset: Dataset, draft: Draft, kind: str, seed: int, repeat: int, profile: Profile) -> Split:
    parts = in_order(dataset.cells, draft.parts)
    return Split(
        classes=tuple(sorted({str(name) for rows in parts.values() for name in dataset.labels[rows]})),
        seed=seed,
        repeat=repeat,
        profile=profile,
        test_fingerprint=fingerprint_of_parts(dataset, parts["test"]),
        left_out=draft.left_out,
        kind=kind,
        group_key=dataset.group_key,
        remarks=draft.remarks,
        **facts_of_parts(dataset, parts, kind, profile),
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
        return not _untrainable(dataset, in_order(dataset.cells, parts))

    remedies = ["choose kind='stratified'"] if kind != "stratified" and works("stratified", seed) else []
    other = next((one for one in range(seed + 1, seed + 1 + OTHER_SEEDS) if works(kind, one)), None)
    remedies += [f"choose seed={other}"] if other is not None else []
    remedies += ["load with another group_key"] if kind == "group" else []
    return ", or ".join(remedies) or "label more cells of each class"
