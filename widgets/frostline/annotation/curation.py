"""Labels that a curator should look at first: those that models which had not seen the cell find least likely.

A ranking by the out-of-fold probability of the given label (self-confidence, Northcutt et al. 2021, arXiv:1911.00068),
and never a verdict: the model may be wrong, and rare states of a cell are unlikely too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.classes import class_numbers, over_all_classes
from frostline.comparison.comparisons import Comparison, compare
from frostline.comparison.tables import as_text
from frostline.errors import DatasetError
from frostline.escaping import UNFORMULATED, for_html, for_terminal, html_table
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Labels that are shown; the table has all."""


@dataclass(frozen=True, repr=False)
class Suspects:
    """Labelled cells, those first whose label is the least likely."""

    strategy: str
    """Whose out-of-fold probabilities they are ranked by."""
    table: pd.DataFrame = field(repr=False)
    """One row a cell: cell, label, p_given, suggested, p_suggested, rank. NA in the last four where it never tested."""

    @property
    def sentence(self) -> str:
        """What the ranking is, and how many cells it leaves out."""
        tested = int(self.table["rank"].notna().sum())
        text = (
            f"Labels of {tested:,} cells by how likely {self.strategy} finds them, the least likely first, each by "
            "fits that had not seen the cell. A ranking of what to look at, not a verdict."
        )
        untested = len(self.table) - tested
        if not untested:
            return text
        return (
            f"{text} {untested:,} of {len(self.table):,} cells never tested and are not ranked; the repeats of "
            "frostline.split(dataset, kind='stratified', folds=5) test each once."
        )

    def _shown(self) -> pd.DataFrame:
        probability = "{:.4f}".format
        return as_text(
            self.table.head(SHOWN),
            {
                "rank": ("Rank", str),
                "cell": ("Cell", str),
                "label": ("Label", str),
                "p_given": ("Its probability", probability),
                "suggested": ("Most probable", str),
                "p_suggested": ("Probability", probability),
            },
        )

    def __repr__(self) -> str:
        return for_terminal(f"{self.sentence}\n{self._shown().to_string(index=False)}")

    def _repr_html_(self) -> str:
        return f'<p class="{UNFORMULATED}">{for_html(self.sentence)}</p>{html_table(self._shown())}'


def suspects(
    found: Comparison | Sequence[Record], dataset: Dataset | None = None, strategy: str | None = None
) -> Suspects:
    """Rank labelled cells by how likely their label is to models that had not seen them.

    Where a cell tested in several repeats the mean of its probabilities counts.

    Parameters
    ----------
    found
        A comparison, or its records; every cell is ranked where the repeats test each, as with `split(folds=5)`.
    dataset
        What was split, to list also the cells that neither tested nor validated; without it they are not known.
    strategy
        Whose predictions count; by default the first of the leaderboard.

    Raises
    ------
    FrostlineError
        There is no such strategy.
    DatasetError
        The data set has not the cells or labels of the records.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> found = frostline.suspects([record], pbmc)
    >>> len(found.table), int(found.table["rank"].count())
    (700, 176)
    """
    comparison = found if isinstance(found, Comparison) else compare(list(found))
    name = comparison.best if strategy is None else strategy
    records, classes = comparison.of(name), comparison.classes
    labels = _labels(records, dataset)
    place = {cell: i for i, cell in enumerate(labels)}
    sums, times = np.zeros((len(labels), len(classes))), np.zeros(len(labels), dtype=np.int64)
    for record in records:
        fair = ~np.isin(record.labels, record.untrained)  # of a class that no training cell has, nothing is learned
        rows = np.array([place[cell] for cell in record.cells], dtype=np.int64)[fair]
        sums[rows] += over_all_classes(record.probabilities, record.classes, classes)[fair]
        times[rows] += 1
    means = sums / np.maximum(times, 1)[:, None]
    table = ranking(np.array(list(labels.values())), means, classes, list(labels), times > 0)
    return Suspects(name, table)


def _labels(records: Sequence[Record], dataset: Dataset | None) -> dict[str, str]:
    """Label of every cell that is known of, in the order of the data set where there is one."""
    known: dict[str, str] = {}
    for record in records:
        known |= dict(zip(record.validation_cells, record.validation_labels, strict=True))
        known |= dict(zip(record.cells, record.labels, strict=True))
    if dataset is None:
        return known
    there = dict(zip(dataset.cells.tolist(), dataset.labels.tolist(), strict=True))
    other = next((cell for cell, label in known.items() if there.get(cell) != label), None)
    if other is not None:
        seen = f"label {there[other]!r}" if other in there else "no such cell"
        raise DatasetError(
            f"cell {other!r} has the label {known[other]!r} in the records and {seen} in data set {dataset.name!r}; "
            f"give the data set that was compared, {records[0].dataset!r} with label_key={records[0].label_key!r}"
        )
    return there


def ranking(
    labels: NDArray[np.str_],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    cells: Sequence[str],
    tested: NDArray[np.bool_],
) -> pd.DataFrame:
    """Rank cells by the probability of their label, the least likely first; those that never tested come last.

    Parameters
    ----------
    labels
        (n,) given labels; those of tested cells are among the classes.
    probabilities
        (n, n_classes) by fits that had not seen the cell.
    classes, cells
        Of the columns, and of the rows.
    tested
        (n,) whether there is such a fit.

    Returns
    -------
    DataFrame
        Columns cell, label, p_given, suggested (the most probable class), p_suggested, rank (from 1); the last four
        NA for cells that never tested.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.0, 0.0]])
    >>> ranking(np.array(["B", "T", "T"]), p, ("B", "T"), ["c1", "c2", "c3"], np.array([True, True, False]))
      cell label  p_given suggested  p_suggested  rank
    0   c2     T      0.2         B          0.8     1
    1   c1     B      0.9         B          0.9     2
    2   c3     T     <NA>      <NA>         <NA>  <NA>
    """
    import pandas as pd

    rows = np.flatnonzero(tested)
    p = np.asarray(probabilities, dtype=np.float64)[rows]
    given = p[np.arange(len(rows)), class_numbers(np.asarray(labels)[rows], classes)]
    order = np.lexsort((-p.max(axis=1, initial=0.0), given))  # of equals the one that something else is likelier for
    rows, p, given = rows[order], p[order], given[order]
    everything = np.concatenate([rows, np.flatnonzero(~np.asarray(tested))])
    table = pd.DataFrame({"cell": np.asarray(cells, str)[everything], "label": np.asarray(labels)[everything]})
    numbers = {
        "p_given": pd.Series(given, dtype="Float64"),
        "suggested": pd.Series(np.asarray(classes)[p.argmax(axis=1)] if len(rows) else [], dtype="string"),
        "p_suggested": pd.Series(p.max(axis=1, initial=0.0), dtype="Float64"),
        "rank": pd.Series(np.arange(1, len(rows) + 1), dtype="Int64"),
    }
    return table.join(pd.DataFrame(numbers))
