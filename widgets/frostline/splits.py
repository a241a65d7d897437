"""Splits: which cells train, which choose, which test; and the gene list, from training cells only.

A split is a function of the seed and the cell ids: reordering the rows of a data set does not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset
from frostline.errors import DatasetError
from frostline.profiles import Profile, get_profile

if TYPE_CHECKING:
    import pandas as pd

TEST_SHARE = 0.25
VALIDATION_SHARE = 0.15
MIN_CELLS = 3
"""A class needs one cell for each part; smaller classes are left out and listed."""


@dataclass(frozen=True)
class Split:
    """Which rows of a data set train, validate and test."""

    train: NDArray[np.int64] = field(repr=False)
    validation: NDArray[np.int64] = field(repr=False)
    test: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...]
    genes: tuple[str, ...] = field(repr=False)
    """The gene list of every strategy, chosen on training cells."""
    seed: int
    repeat: int
    profile: Profile = field(repr=False)
    fingerprint: str
    """sha256 of cell ids, labels and parts."""
    test_fingerprint: str
    """sha256 of the test cells' ids and labels."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Classes with fewer than MIN_CELLS cells, and their cells."""

    @property
    def sizes(self) -> dict[str, int]:
        """Cells in each part, and genes."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
            "genes": len(self.genes),
        }

    def table(self, dataset: Dataset) -> pd.DataFrame:
        """Cells of each class in each part."""
        import pandas as pd

        counts = {
            part: pd.Series(dataset.labels[getattr(self, part)]).value_counts()
            for part in ("train", "validation", "test")
        }
        return pd.DataFrame(counts).fillna(0).astype(int).rename_axis(dataset.label_key)

    @property
    def training_seed(self) -> int:
        """Seed of whatever trains on this split; each repeat has its own."""
        return (self.seed + 1_000_003 * self.repeat) % 2**32

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about the split."""
        if not self.left_out:
            return ()
        names = ", ".join(f"{name} ({count})" for name, count in self.left_out.items())
        return (f"Left out for having fewer than {MIN_CELLS} cells: {names}.",)


def split(dataset: Dataset, *, seed: int = 42, profile: str | Profile = "quickstart", repeat: int = 0) -> Split:
    """Draw a stratified split of a data set into training, validation and test cells.

    Of every class a quarter tests and 15 % validate, at least one cell each. Classes with fewer than three
    cells are left out and listed in `left_out`. When there are more cells than the profile allows, a
    stratified sample is drawn first. The genes are those of the largest variance over the training cells.

    Parameters
    ----------
    dataset
        What `load_dataset` returned.
    seed
        Of the sample and the split.
    profile
        A name of `PROFILES`, or a Profile.
    repeat
        0, 1, ...: further splits of the same seed.

    Raises
    ------
    DatasetError
        Fewer than two classes have three cells.

    Examples
    --------
    >>> from frostline.datasets import load_dataset
    >>> split(load_dataset("pbmc68k-reduced"), seed=42).sizes
    {'train': 420, 'validation': 104, 'test': 176, 'genes': 765}
    """
    if isinstance(profile, str):
        profile = get_profile(profile)
    members, left_out = _classes(dataset, f"{seed}/{repeat}")
    sizes = _stratified_sizes({name: len(rows) for name, rows in members.items()}, profile.max_cells)
    parts: dict[str, list[NDArray[np.int64]]] = {"train": [], "validation": [], "test": []}
    for name, rows in members.items():
        n_test = max(1, round(TEST_SHARE * sizes[name]))
        n_validation = max(1, round(VALIDATION_SHARE * sizes[name]))
        chosen = rows[: sizes[name]]
        parts["test"].append(chosen[:n_test])
        parts["validation"].append(chosen[n_test : n_test + n_validation])
        parts["train"].append(chosen[n_test + n_validation :])
    train, validation, test = (_in_order(dataset.cells, parts[part]) for part in parts)
    return Split(
        train=train,
        validation=validation,
        test=test,
        classes=tuple(members),
        genes=_variable_genes(dataset, train, profile.max_genes),
        seed=seed,
        repeat=repeat,
        profile=profile,
        fingerprint=_fingerprint(dataset, train, validation, test),
        test_fingerprint=_fingerprint(dataset, test),
        left_out=left_out,
    )


def _classes(dataset: Dataset, salt: str) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
    """Rows of every class in seeded order, and the classes that are too small with their cells."""
    order = _seeded_order(dataset.cells, salt)
    members = {name: order[dataset.labels[order] == name] for name in np.unique(dataset.labels)}
    left_out = {str(name): len(rows) for name, rows in members.items() if len(rows) < MIN_CELLS}
    members = {str(name): rows for name, rows in members.items() if len(rows) >= MIN_CELLS}
    if len(members) < 2:
        raise DatasetError(
            f"label column {dataset.label_key!r} has {len(members)} class(es) of at least {MIN_CELLS} cells; "
            f"two are needed (seen: {dataset.summary()['cells'].to_dict()})"
        )
    return members, left_out


def _seeded_order(cells: NDArray[np.str_], salt: str) -> NDArray[np.int64]:
    """Rows sorted by a hash of (salt, cell id): random, and independent of the rows' order."""
    keys = [hashlib.blake2b(f"{salt}/{cell}".encode(), digest_size=16).digest() for cell in cells]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _in_order(cells: NDArray[np.str_], parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    rows = np.concatenate(parts)
    return rows[np.argsort(cells[rows])]


def _stratified_sizes(counts: Mapping[str, int], max_cells: int) -> dict[str, int]:
    """Cells to keep of each class: proportional, whole, at least MIN_CELLS; largest remainders first.

    They sum to max_cells, unless MIN_CELLS of every class is more than that already.
    """
    total = sum(counts.values())
    if total <= max_cells:
        return dict(counts)
    exact = {name: count * max_cells / total for name, count in counts.items()}
    sizes = {name: max(MIN_CELLS, int(share)) for name, share in exact.items()}
    by_remainder = sorted(counts, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_remainder[: max(0, max_cells - sum(sizes.values()))]:
        sizes[name] = min(counts[name], sizes[name] + 1)
    while sum(sizes.values()) > max_cells and max(sizes.values()) > MIN_CELLS:
        sizes[max(sizes, key=lambda name: sizes[name])] -= 1  # what the small classes got too much
    return sizes


def _variable_genes(dataset: Dataset, train: NDArray[np.int64], max_genes: int) -> tuple[str, ...]:
    """Names of the genes with the largest variance over the training cells, in the data set's order."""
    if len(dataset.genes) <= max_genes:
        return dataset.genes
    matrix = dataset.matrix[train].astype(np.float64)
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    variance = np.asarray(matrix.power(2).mean(axis=0)).ravel() - mean**2
    chosen = np.sort(np.argsort(-variance, kind="stable")[:max_genes])
    return tuple(dataset.genes[i] for i in chosen)


def _fingerprint(dataset: Dataset, *parts: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for rows in parts:
        for cell, label in zip(dataset.cells[rows], dataset.labels[rows], strict=True):
            digest.update(f"{cell}\t{label}\n".encode())
        digest.update(b"\0")
    return digest.hexdigest()
