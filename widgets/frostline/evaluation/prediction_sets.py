"""Prediction sets: the classes that a cell may have, so that nine cells in ten have one of theirs.

A set holds the most probable class and every other whose probability is at least one minus a limit. The limit is split
conformal: the smallest one at which so many validation cells have their true class in the set that, of exchangeable
cells, at least 90 % will (Vovk et al. 2005; the score is that of Sadinle et al. 2019,
https://doi.org/10.1080/01621459.2017.1395341).
Cells of one group are more alike than cells of another, so each group of validation cells has a limit of its own and
the largest holds. What that does not promise is coverage in new groups: for that nine groups or more must calibrate
(Lee et al. 2023, https://doi.org/10.48550/arXiv.2306.06342).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.classes import class_numbers
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd

COVERED = 0.9
"""Share of cells whose set is to hold their class, at least."""
FEWEST = math.ceil(COVERED / (1 - COVERED) - 1e-9)
"""Validation cells from which on there is a limit; groups too, for a promise about new ones."""
ROOM = 1e-12  # 1 - p is not the same to the last bit everywhere


@dataclass(frozen=True)
class SetCoverage:
    """What the sets of some test cells are worth."""

    group: str | None
    """Group of the cells; None where groups are not known."""
    cells: int
    coverage: float
    """Share of the cells whose set holds their class."""
    size: float
    """Mean number of classes in a set."""
    singles: float
    """Share of sets of one class."""


def limit_of(
    probabilities: NDArray[np.float64], columns: NDArray[np.integer], groups: Sequence[str] | None = None
) -> float | None:
    """Limit of one minus the probability, from validation cells; None with fewer than nine.

    Parameters
    ----------
    probabilities
        (n_cells, n_classes)
    columns
        (n_cells,) column of each cell's true class.
    groups
        (n_cells,) group of each cell; those of nine cells or more have a limit of their own, and the largest counts.

    Examples
    --------
    >>> p = np.array([[1 - x, x] for x in np.arange(1, 11) / 100])
    >>> round(limit_of(p, np.zeros(10, int)), 3), limit_of(p[:8], np.zeros(8, int))
    (0.1, None)
    """
    scores = 1 - probabilities[np.arange(len(columns)), columns]
    named = np.full(len(scores), "") if groups is None else np.asarray(groups)
    parts = [scores, *(scores[named == name] for name in np.unique(named))]
    limits = [_quantile(part) for part in parts if len(part) >= FEWEST]
    return max(limits) if limits else None


def _quantile(scores: NDArray[np.float64]) -> float:
    """The k-th smallest of n, k = ceil(0.9 (n + 1)): of n + 1 exchangeable scores the last is as small in 90 %."""
    k = math.ceil(COVERED * (len(scores) + 1) - 1e-9)
    return float(np.sort(scores)[k - 1])


def members(probabilities: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    """Which classes the sets of cells hold, (n_cells, n_classes); the most probable one always.

    Examples
    --------
    >>> members(np.array([[0.5, 0.3, 0.2], [0.15, 0.15, 0.7]]), 0.75).tolist()
    [[True, True, False], [False, False, True]]
    """
    held: NDArray[np.bool_] = 1 - probabilities <= limit + ROOM
    held[np.arange(len(held)), probabilities.argmax(axis=1)] = True
    return held


def coverage_by_group(
    probabilities: NDArray[np.float64],
    columns: NDArray[np.integer],
    limit: float,
    groups: Sequence[str] | None = None,
) -> Iterator[SetCoverage]:
    """Say what the sets of test cells are worth, group by group; all at once where there are no groups.

    Parameters
    ----------
    probabilities, columns, groups
        As for `limit_of`; at least one cell.
    limit
        What `limit_of` returned for the validation cells.

    Examples
    --------
    >>> p = np.array([[0.75, 0.25], [0.4, 0.6]])
    >>> [(found.group, found.coverage, found.size) for found in coverage_by_group(p, np.array([0, 0]), 0.7, ["x", "y"])]
    [('x', 1.0, 1.0), ('y', 1.0, 2.0)]
    """
    held = members(probabilities, limit)
    right, sizes = held[np.arange(len(held)), columns], held.sum(axis=1)
    for name in [None] if groups is None else sorted(set(groups)):
        rows = np.full(len(held), True) if name is None else np.asarray(groups) == name
        single = (sizes[rows] == 1).mean()
        yield SetCoverage(name, int(rows.sum()), float(right[rows].mean()), float(sizes[rows].mean()), float(single))


def coverage_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record and group of test cells: what its sets are worth there, and what they were calibrated on.

    Columns: strategy, repeat, group, cells, calibration_cells, calibration_groups, limit, coverage, size, singles; the
    last four NA where fewer than nine validation cells calibrate, groups NA where they are not known.
    """
    import pandas as pd

    rows = [row for record in records for row in _rows(record)]
    whole, numbers = ("cells", "calibration_cells", "calibration_groups"), ("limit", "coverage", "size", "singles")
    kinds = {**dict.fromkeys(whole, "Int64"), **dict.fromkeys(numbers, "Float64")}
    return pd.DataFrame(rows, columns=["strategy", "repeat", "group", *kinds]).astype(kinds)


def _rows(record: Record) -> Iterator[dict[str, object]]:
    known, limit = record.validation_groups, None
    if record.validation_probabilities is not None:
        calibrating = record.validation_probabilities, class_numbers(record.validation_labels, record.classes)
        limit = limit_of(*calibrating, known)
    found = coverage_by_group(
        record.probabilities, class_numbers(record.labels, record.classes), limit or 0.0, record.groups
    )
    for part in found:
        measured = {"limit": limit, "coverage": part.coverage, "size": part.size, "singles": part.singles}
        yield {
            "strategy": record.strategy,
            "repeat": record.repeat,
            "group": part.group,
            "cells": part.cells,
            "calibration_cells": len(record.validation_cells),
            "calibration_groups": None if known is None else len(set(known)),
            **(measured if limit is not None else dict.fromkeys(measured)),
        }
