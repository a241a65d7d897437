"""What the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.records import Finding

NEARLY_ALL = 0.9
"""Share of the cells that must have a value in a column of obs before it is set against the labels of all cells. A
clustering of some cell types, or donors that are known of some cells, decides the labels of those cells at most."""


@dataclass(frozen=True)
class Case:
    """What is checked: a data set, how it was split, and perhaps a checkpoint.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.cells.splits import split
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


def covers(known: NDArray[np.bool_], labels: NDArray[np.str_]) -> bool:
    """Whether the cells that have a value are nearly all, and of two classes or more.

    Parameters
    ----------
    known
        (n_cells,)
    labels
        (n_cells,)

    Examples
    --------
    >>> labels = np.array(["B", "T", "T", "T"])
    >>> covers(np.array([True, True, True, True]), labels), covers(np.array([False, True, True, True]), labels)
    (True, False)
    """
    return bool(known.mean() >= NEARLY_ALL) and len(np.unique(labels[known])) > 1


Check = Callable[[Case], Iterator[Finding]]
"""Yields what it finds."""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence, the first few of many.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
