"""Columns of obs that look like groups: donors, samples, batches, studies, technologies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.cells.columns import columns_of

if TYPE_CHECKING:
    from anndata import AnnData

    from frostline.cells.datasets import Dataset

PEOPLE_WORDS = ("donor", "patient", "individual", "subject")
GROUP_WORDS = (
    *PEOPLE_WORDS,
    *("origident", "sample", "library", "replicate", "batch", "lane", "study", "dataset"),
    *("chemistry", "chem", "technology", "tech", "protocol", "assay", "platform"),
)
"""Words in the names of obs columns that hold groups; what tells people apart comes first."""
_ABBREVIATED = ("chem", "tech", "lane")  # these only as whole words, the others also as in donorID or samples
_MEASURES = {"size", "score", "scores", "count", "counts", "n", "num", "total", "pct", "percent", "age", "weight"}


def group_columns(adata: AnnData | Dataset, words: Sequence[str] = GROUP_WORDS) -> tuple[str, ...]:
    """Find the columns of obs that look like donors, samples, batches, studies or technologies.

    By name, with at least two groups and two cells a group on average, in the order of the words: those that tell
    people apart come first.

    Parameters
    ----------
    adata
        AnnData, or data set; its obs is looked at.
    words
        What to look for in names, such as `PEOPLE_WORDS`.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> group_columns(load_dataset("pancreas").adata)
    ('donor',)
    """
    columns = columns_of(adata.obs)
    places = {name: _group_place(name, words) for name in columns}
    found = [name for name, place in places.items() if place is not None and _holds_groups(columns[name])]
    return tuple(sorted(found, key=lambda name: (places[name], found.index(name))))


def _group_place(name: str, words: Sequence[str]) -> int | None:
    """Place of the first of the words that is in a column's name; None for other columns."""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if _MEASURES.intersection(parts):
        return None
    for place, word in enumerate(words):
        begins = word not in _ABBREVIATED and any(part.startswith(word) for part in parts)
        if begins or word in (*parts, "".join(parts)):
            return place
    return None


def _holds_groups(column: Any) -> bool:
    if column.ndim > 1:  # two columns of one name
        return False
    values = column.dropna()
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        return False
    return bool(2 <= values.nunique() <= len(values) / 2)
