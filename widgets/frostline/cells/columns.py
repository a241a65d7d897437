"""Columns of obs by their names, as pandas permits them: names that stand twice, and names that are no text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def columns_of(table: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Columns by their names as text, without those whose name stands twice: nobody can say which one is meant.

    Examples
    --------
    >>> import pandas as pd
    >>> columns_of(pd.DataFrame([[1, 2, 3]], columns=["batch", "batch", 7]))["7"].tolist()
    [3]
    """
    names = [str(name) for name in table.columns]
    often = Counter(names)
    return {name: table.iloc[:, place] for place, name in enumerate(names) if often[name] == 1}


def repeated_names(table: pd.DataFrame) -> tuple[str, ...]:
    """Names, as text, that more than one column has.

    Examples
    --------
    >>> import pandas as pd
    >>> repeated_names(pd.DataFrame([[1, 2, 3]], columns=["batch", "batch", 7]))
    ('batch',)
    """
    return tuple(name for name, n in Counter(map(str, table.columns)).items() if n > 1)
