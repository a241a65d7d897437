"""Gene symbols in a column of var, as CELLxGENE, 10x and Seurat files keep them beside Ensembl ids."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

SYMBOL_COLUMNS = (
    *("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "hgnc_symbol", "symbol", "symbols"),
    *("gene_short_name", "external_gene_name", "features", "feature", "gene", "genes", "names", "name", "_index"),
)
"""Names of var columns that usually hold symbols; among columns that are equally good the first is taken."""
CLEARLY = 2
"""A column is taken when it holds more than so many times the known symbols of the names themselves."""
_LEAST = 0.02  # share of the genes that must be known symbols: even of a whole annotation with peaks more are
_NO_SYMBOL = {"", "nan", "none", "na", "<na>", "n/a", "null", "-", "."}
_ITSELF = ("var_names", "index")


@dataclass(frozen=True)
class Symbols:
    """Names of the genes of a matrix, and where they are from."""

    names: tuple[str, ...]
    source: str
    """Where the names are, in Python: `adata.var_names`, `adata.raw.var['feature_name']`."""
    note: str = ""
    """What must be said: which column was taken, for how many genes; empty for var_names."""


@functools.cache
def known_symbols() -> frozenset[str]:
    """Human symbols that tell a column of symbols: those of the vocabulary of `mini`.

    Examples
    --------
    >>> "CD3D" in known_symbols(), "ENSG00000167286" in known_symbols()
    (True, False)
    """
    path = Path(__file__).parents[1] / "data" / "mini" / "vocab.json"
    return frozenset(name for name in json.loads(path.read_text(encoding="utf-8")) if not name.startswith("<"))


def read_symbols(
    var: pd.DataFrame,
    gene_column: str | None = None,
    *,
    raw: bool = False,
    totals: Callable[[], NDArray[np.floating]] | None = None,
    known: Collection[str] | None = None,
    summed: bool = False,
) -> Symbols:
    """Take gene names from var, or from the column of it that holds the symbols.

    Without `gene_column` a column is taken when it holds clearly more known symbols than the names themselves. A gene
    without a symbol keeps its name; of several genes of one symbol the one with most counts gets it.

    Parameters
    ----------
    var
        The table of the genes; that of raw where the values are those of raw.
    gene_column
        A column of it, or `var_names`.
    raw
        Whether it is that of raw: for words.
    totals
        Gives the counts of each gene, should symbols be shared.
    known
        Symbols that tell a column of symbols; by default `known_symbols`.
    summed
        Whether genes of one name will be summed, so that names may repeat.

    Raises
    ------
    DatasetError
        There is no such column, or it holds no symbol; the names are not unique, and will not be summed.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"feature_name": ["CD3D", "LYZ"]}, index=["ENSG00000167286", "ENSG00000090382"])
    >>> read_symbols(table).names, read_symbols(table).source
    (('CD3D', 'LYZ'), "adata.var['feature_name']")
    """
    place = "adata.raw.var" if raw else "adata.var"
    own = tuple(map(str, var.index))
    chosen = best_column(var, known) if gene_column is None else _asked_for(var, gene_column, place)
    if chosen is None:
        if not summed:
            _refuse_repeated(own, raw)
        return Symbols(own, f"{place}_names")
    symbols = _texts(var[chosen])
    if not any(symbols):
        raise DatasetError(f"{place}[{chosen!r}] holds no gene symbol; {_columns(var, place)}")
    names, n_shared = tuple(symbol or name for symbol, name in zip(symbols, own, strict=True)), 0
    if not summed:
        names, n_shared = _without_repeats(own, symbols, totals)
        _refuse_repeated(names, raw)
    source = f"{place}[{chosen!r}]"
    return Symbols(names, source, _note(source, f"{place}_names", own, symbols, n_shared))


def best_column(var: pd.DataFrame, known: Collection[str] | None = None) -> str | None:
    """Column of var that holds clearly more known symbols than its names do; None where none does.

    Examples
    --------
    >>> import pandas as pd
    >>> best_column(pd.DataFrame({"gene_symbols": ["CD3D", "LYZ"]}, index=["CD3D", "LYZ"])) is None
    True
    """
    if not len(var.columns):
        return None
    known = known_symbols() if known is None else known
    least = max(CLEARLY * _n_known(var.index, known), _LEAST * len(var))
    places = {name: i for i, name in enumerate(SYMBOL_COLUMNS)}
    found = []
    for column in dict.fromkeys(var.columns):
        values = var[column]
        if values.ndim > 1 or not _is_text(values):  # two columns of one name
            continue
        texts = [text for text in _texts(values) if text]
        n = _n_known(texts, known)
        if n > least and len(set(texts)) > len(texts) / 2:
            found.append((-n, places.get(str(column).lower(), len(places)), column))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _n_known(names: Sequence[Any], known: Collection[str]) -> int:
    return sum(name in known for name in set(map(str, names)))


def _is_text(values: pd.Series) -> bool:
    return values.dtype == object or str(values.dtype) in ("category", "string", "str")


def _texts(values: pd.Series) -> tuple[str, ...]:
    """Symbol of each gene; empty where there is none."""
    texts = ["" if gone else str(value).strip() for value, gone in zip(values, values.isna(), strict=True)]
    return tuple("" if text.lower() in _NO_SYMBOL else text for text in texts)


def _asked_for(var: pd.DataFrame, gene_column: str, place: str) -> Any:
    """The column, by the name that it has in the table, be it a number; None for the names themselves."""
    named = [column for column in var.columns if str(column) == str(gene_column)]
    if len(named) > 1:
        raise DatasetError(f"{place} has two columns {gene_column!r}; give one of them another name")
    if named:
        return named[0]
    if gene_column in _ITSELF or gene_column == var.index.name:
        return None
    raise DatasetError(f"gene column {gene_column!r} is not in {place}; {_columns(var, place)}")


def _columns(var: pd.DataFrame, place: str) -> str:
    return f"it has: {', '.join(map(str, var.columns)) or 'no column'}; 'var_names' stands for {place}_names"


def _without_repeats(
    own: Sequence[str], symbols: Sequence[str], totals: Callable[[], NDArray[np.floating]] | None
) -> tuple[tuple[str, ...], int]:
    """Names, each once, and how many genes had to give their symbol to another one."""
    names = [symbol or name for symbol, name in zip(symbols, own, strict=True)]
    n_shared, sums = 0, None
    while repeated := _places_of_repeats(names):
        if sums is None:
            sums = np.zeros(len(names)) if totals is None else totals()
        changed = 0
        for places in repeated:
            keeps = max(places, key=lambda i: (names[i] == own[i], sums[i], -i))
            for i in places:
                if i != keeps and names[i] != own[i]:
                    names[i], changed = own[i], changed + 1
        n_shared += changed
        if not changed:  # the names themselves repeat
            break
    return tuple(names), n_shared


def _places_of_repeats(names: Sequence[str]) -> list[list[int]]:
    places = defaultdict(list)
    for i, name in enumerate(names):
        places[name].append(i)
    return [found for found in places.values() if len(found) > 1]


def _note(source: str, otherwise: str, own: Sequence[str], symbols: Sequence[str], n_shared: int) -> str:
    n = sum(bool(symbol) for symbol in symbols) - n_shared
    text = (
        f"Gene symbols are from {source}, not {otherwise} ({', '.join(own[:2])}): {n:,} of {len(own):,} genes have one"
    )
    if n_shared:
        text += f"; {n_shared:,} whose symbol a gene with more counts has keep their name"
    return f"{text}."


def _refuse_repeated(names: Sequence[str], raw: bool) -> None:
    repeated = _places_of_repeats(names)
    if repeated:
        call = "adata.var_names = adata.var_names.astype(str); adata.var_names_make_unique()"
        if raw:
            call = "raw = adata.raw.to_adata(); raw.var_names = raw.var_names.astype(str); "
            call += "raw.var_names_make_unique(); adata.raw = raw"
        raise DatasetError(
            f"gene names are not unique, for example {names[repeated[0][0]]!r}; call {call} first", line=call
        )
