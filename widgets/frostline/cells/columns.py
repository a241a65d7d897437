"""Columns of obs by their names: names that stand twice or are no text, and values that are lists."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def columns_of(table: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Columns by their names as text, without those whose name stands twice: nobody can say which one is meant.

    Those of lists, sets, arrays or tables are left out, too: their values cannot be distinguished.

    Examples
    --------
    >>> import pandas as pd
    >>> columns_of(pd.DataFrame([[1, 2, 3]], columns=["batch", "batch", 7]))["7"].tolist()
    [3]
    """
    names = [str(name) for name in table.columns]
    often = Counter(names)
    found = {name: table.iloc[:, place] for place, name in enumerate(names) if often[name] == 1}
    return {name: column for name, column in found.items() if collection_in(column) is None}


def collection_in(column: pd.Series[Any]) -> object:
    """First value that is a list or the like, not one value; None where there is none.

    Examples
    --------
    >>> import pandas as pd
    >>> collection_in(pd.Series(["B", ["T", "NK"]]))
    ['T', 'NK']
    """
    from pandas.api.types import infer_dtype, is_hashable

    if column.dtype != object or infer_dtype(column, skipna=True) != "mixed":
        return None
    return next((value for value in column if not is_hashable(value)), None)


def repeated_names(table: pd.DataFrame) -> tuple[str, ...]:
    """Names, as text, that more than one column has.

    Examples
    --------
    >>> import pandas as pd
    >>> repeated_names(pd.DataFrame([[1, 2, 3]], columns=["batch", "batch", 7]))
    ('batch',)
    """
    return tuple(name for name, n in Counter(map(str, table.columns)).items() if n > 1)
