"""Names of classes and groups as people type them: what only says that one is missing, what is one name twice."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

_NOTHING = (
    *("nan", "na", "n a", "nat", "none", "null", "nil", "missing", "blank", "empty", "-1", "tbd", "pd na", "unk"),
    *("unknown", "unassigned", "unannotated", "undefined", "unclassified", "unidentified", "undetermined"),
    *("unlabeled", "unlabelled", "unspecified", "unresolved", "unavailable", "uncertain", "unsure", "ambiguous"),
    *("not available", "not applicable", "not assigned", "not annotated", "not determined", "not known", "no label"),
    *("non assigned", "to be determined", "no annotation", "unkown", "unknow"),
    *("excluded", "exclude", "discarded", "filtered", "filtered out", "removed", "remove", "outlier", "outliers"),
    *("artifact", "artefact", "artifacts", "artefacts", "contamination", "contaminated", "noise", "junk", "bad"),
)
"""Names that say no more than that there is none."""
_NO_CELLS = ("doublet", "multiplet", "debris", "low quality", "low qual", "lowqual", "low qc", "empty droplet")
"""What droplets without one good cell are called, whatever else stands beside it."""
_BESIDE = {"cell", "cells", "type", "types", "celltype", "label", "labels", "cluster", "population", "donor", "sample"}
"""Words that add nothing to those names: an unknown cell is an unknown one."""
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"))
_JOINT = re.compile(r"(?<=[^\W_])[-_.](?=[^\W\d_])(?!cd\d)|(?<=[^\W\d_])[-_.](?=\d)|_|(?<=\d)[-.](?=\d)|[\"'`,;:]")
"""Marks that join words. A hyphen after which no word follows is a sign, as in CD4-."""
_PLURAL = re.compile(r"(?<=[^\W\d_]{3})(?<![sui])s(?![^\W_])")


def means_missing(name: str) -> bool:
    """Say whether a name only says that there is none, or that this is no single good cell.

    Examples
    --------
    >>> [means_missing(name) for name in ("nan", " Unknown cells", "<NA>", "-", "T/NK doublets 2", "cell")]
    [True, True, True, True, True, True]
    >>> [means_missing(name) for name in ("NK", "other", "1", "Undifferentiated", "CD4-", "T cell")]
    [False, False, False, False, False, False]
    """
    text = _folded(name)
    if text in _NOTHING or not re.search(r"[^\W_]", text):
        return True
    bare = " ".join(re.findall(r"[^\W_]+", text))
    if any(re.search(rf"\b{phrase}", bare) for phrase in _NO_CELLS):
        return True
    kept = [word for word in bare.split() if word not in _BESIDE]
    if not kept:
        return True
    return bare in _NOTHING or " ".join(word for word in kept if not word.isdecimal()) in _NOTHING


def plain(name: str) -> str:
    r"""Spelling that names share which differ in blanks, case, plural, hyphens or accents only.

    Plus and minus signs, digits and the marks between two digits stay.

    Examples
    --------
    >>> {plain(name) for name in ("T cell", "T cells", "t_cell", "T-cell ", "T\u00a0Cells", "Tcell", "T.cell")}
    {'tcell'}
    >>> plain("CD4+ T") == plain("CD4- T"), plain("CD16+ Monocyte") == plain("CD16 Monocyte")
    (False, False)
    >>> plain("Th1") == plain("Th17"), plain("cluster 1.2") == plain("cluster 12")
    (False, False)
    """
    text = re.sub(r"(?<=[A-Z]{2})s\b", "", unicodedata.normalize("NFKC", name))  # DCs are several DC
    text = _PLURAL.sub("", _JOINT.sub(" ", _folded(text)))
    text = re.sub(r"(?<=\d)\s+(?=\d)", "_", text.strip(" ."))
    return re.sub(r"\s+", "", text) or _folded(name)


def _folded(name: str) -> str:
    """Lower case, one kind of blank and of dash, no accents and nothing invisible."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name)).translate(_DASHES)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf"))
    return " ".join(text.casefold().split())


def missing_names(names: Iterable[str]) -> dict[str, int]:
    """Count the names that only say that there is none, the most frequent first.

    Examples
    --------
    >>> missing_names(["B", "nan", "T", "nan", "?"])
    {'nan': 2, '?': 1}
    """
    counts = Counter(names)
    return {name: n for name, n in counts.most_common() if means_missing(name)}


def spellings(counts: Mapping[str, int]) -> list[dict[str, int]]:
    """Names that are one name in several spellings, with their counts; of each the most frequent first.

    Names that mean missing are left out.

    Examples
    --------
    >>> spellings({"B cell": 3, "NK": 9, "B cells ": 5})
    [{'B cells ': 5, 'B cell': 3}]
    """
    found: dict[str, dict[str, int]] = {}
    for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if not means_missing(name):
            found.setdefault(plain(name), {})[name] = n
    return [names for names in found.values() if len(names) > 1]


def renaming(key: str, names: Mapping[str, str]) -> str:
    """Line of code that gives names of a column of obs other ones; cells without a name stay so.

    Examples
    --------
    >>> renaming("kind", {"B cells": "B cell"})
    "adata.obs['kind'] = adata.obs['kind'].astype(str).replace({'B cells': 'B cell'}).where(adata.obs['kind'].notna())"
    """
    column = f"adata.obs[{key!r}]"
    return f"{column} = {column}.astype(str).replace({dict(names)}).where({column}.notna())"


def usual(names: Mapping[str, int]) -> str:
    """Spelling to keep: the most frequent one, without blanks around it.

    Examples
    --------
    >>> usual({"B cells ": 5, "B cell": 3})
    'B cells'
    """
    return " ".join(next(iter(names)).split())
