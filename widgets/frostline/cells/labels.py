"""Columns of labels and groups: taken as they are, or refused with the line that mends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.columns import collection_in, repeated_names
from frostline.cells.refusals import refuse_missing, refuse_unwritable
from frostline.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd


def read_labels(obs: pd.DataFrame, label_key: str | None) -> NDArray[np.str_]:
    """Take the label of every cell from its column.

    Parameters
    ----------
    obs
        The table of the cells.
    label_key
        Its column of labels.

    Returns
    -------
    ndarray
        (n_cells,) labels of two classes or more.

    Raises
    ------
    DatasetError
        There is no such column, a label is missing or cannot be saved, or the values are no classes.

    Examples
    --------
    >>> import pandas as pd
    >>> read_labels(pd.DataFrame({"kind": ["B", "T", "B"]}), "kind").tolist()
    ['B', 'T', 'B']
    """
    column = _column(obs, label_key, "label")
    known = column.dropna().astype(str)  # what is left once cells without a label are left out
    classes = known.unique()
    if len(classes) < 2:
        seen = f"only {str(classes[0])!r}" if len(classes) else "no label at all" if len(column) else "no cell at all"
        remedy = "load with another label_key" if len(column) else "load a data set with cells"
        raise DatasetError(f"label column {label_key!r} has {seen}; a comparison needs two classes or more: {remedy}")
    if len(classes) > max(50, len(known) // 3):
        raise DatasetError(
            f"label column {label_key!r} has {len(classes):,} different values in {len(known):,} cells: "
            "these are no classes; load with another label_key"
        )
    refuse_missing(column, str(label_key), "label")
    refuse_unwritable(f"adata.obs[{label_key!r}]", column.unique())
    labels: NDArray[np.str_] = column.astype(str).to_numpy(dtype=str)
    return labels


def refuse_bad_groups(obs: pd.DataFrame, group_key: str | None, label_key: str | None = None) -> None:
    """Refuse a column of groups that does not exist, is that of the labels, lacks a cell's group, or cannot be saved.

    Raises
    ------
    DatasetError
        Says which, and how to mend it; never without a column.
    """
    if group_key is None:
        return
    column = _column(obs, group_key, "group")
    if str(group_key) == str(label_key):
        raise DatasetError(
            f"column {group_key!r} is given for labels and for groups: a group held out would hold out its only class; "
            "name the column of donors or batches as group_key, or leave it out"
        )
    if len(column) and column.isna().all():
        raise DatasetError(f"group column {group_key!r} has no group of any cell; load with another group_key, or none")
    refuse_missing(column, group_key, "group")
    refuse_unwritable(f"adata.obs[{group_key!r}]", column.unique())


def _column(obs: pd.DataFrame, key: str | None, kind: str) -> Any:
    columns = ", ".join(dict.fromkeys(map(str, obs.columns))) or "none"
    if key is None:
        raise DatasetError(f"name the {kind} column; obs has: {columns}")
    if str(key) in repeated_names(obs):
        line = "adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()]"
        raise DatasetError(
            f"{kind} column {key!r} stands more than once in obs; keep the first of each name: {line}", line=line
        )
    places = [str(name) for name in obs.columns]
    if str(key) not in places:
        raise DatasetError(f"{kind} column {key!r} is not in obs, which has: {columns}")
    column = obs.iloc[:, places.index(str(key))]
    several = collection_in(column)
    if several is not None:
        raise DatasetError(
            f"{kind} column {key!r} holds {several!r}, and must have one value a cell; make a column of one value each"
        )
    return column
