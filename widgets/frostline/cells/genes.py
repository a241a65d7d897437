"""How the genes of a data set meet a checkpoint's vocabulary: how many, by which names, with what share of the counts.

scGPT matches symbols exactly, case included, and drops the rest. Here an exact symbol wins, too, and of the rest those
are mapped that are known to be human genes by another name (`gene_mapping`); where few are, the likely cause is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from frostline.cells.gene_mapping import GeneMap, map_genes, other_species

FEW_MATCHED = 200
"""Fewer genes than these tell an encoder little."""
HARDLY_MATCHED = 50
"""Fewer genes than these tell it next to nothing: an error."""
LITTLE_COVERED = 0.6
"""Share of the counts on genes that the vocabulary holds, below which the encoder misses much of what was measured."""
PANEL = 1_000
"""A data set with fewer genes may be a targeted panel."""
_ENSEMBL = re.compile(r"^ENS[A-Z]{0,4}[GT]\d{6,}(\.\d+)?$")
_PATTERNS = (
    (re.compile(r"\d+(\.0)?"), "are numbers: Entrez ids, or places in a list"),
    (re.compile(r"[NX][MRP]_\d+(\.\d+)?"), "are RefSeq ids"),
    (re.compile(r"\d+(_[a-z])?_at"), "are probes of an array"),
    (re.compile(r"(chr)?[\dXYM]+T?[:_-]\d+[-_:]\d+"), "are places in the genome"),
)
"""What names can be that hold no symbol."""
_CHANGES = (
    ("end in a version", r"\.\d+$", ""),
    ("end in a number", r"[-_]\d+$", ""),
)
"""What is the matter with names, if a replacement of this pattern by that text makes many of them known."""


@dataclass(frozen=True)
class Cause:
    """Why a vocabulary lacks most genes of a data set."""

    words: str
    """What is the matter with the names."""
    advice: str
    """What to do about it."""
    change: str = ""
    """The method that mends an Index or a Series of the names; empty where none does."""


@dataclass(frozen=True)
class GeneMatch:
    """Which genes of a data set a vocabulary knows."""

    map: GeneMap
    """What became of each name; its target are the tokens of the vocabulary."""
    ids: NDArray[np.int32]
    """(n_genes,) vocabulary ids, -1 where a gene joins no token."""
    cause: Cause | None = field(default=None, repr=False)
    """What is likely the matter, where so few match that it has to be said."""

    @property
    def names(self) -> tuple[str, ...]:
        """All gene names asked for, in their own order."""
        return self.map.names

    @property
    def covered(self) -> float | None:
        """Share of the counts on genes that the vocabulary holds; None where no counts were given."""
        return self.map.covered

    @property
    def n_matched(self) -> int:
        """Number of genes that the vocabulary holds."""
        return int((self.ids >= 0).sum())

    @property
    def matched(self) -> tuple[str, ...]:
        """Names of those."""
        return tuple(name for name, gene_id in zip(self.names, self.ids, strict=True) if gene_id >= 0)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Names that the vocabulary lacks."""
        return tuple(name for name, gene_id in zip(self.names, self.ids, strict=True) if gene_id < 0)

    @property
    def severity(self) -> str:
        """`error` or `warning` where an encoder of this vocabulary sees too little of the cells; else empty."""
        if self.n_matched < HARDLY_MATCHED:
            return "error"
        little = self.n_matched < FEW_MATCHED or (self.covered is not None and self.covered < LITTLE_COVERED)
        return "warning" if little else ""

    def counted(self, checkpoint: str = "") -> str:
        """How many genes match the vocabulary of a checkpoint, and what share of the counts they carry."""
        share = "" if self.covered is None else f", with {_percent(self.covered)} of the counts"
        text = f"{self.n_matched:,} of {len(self.names):,} genes are in the vocabulary"
        return text + (f" of {checkpoint}" if checkpoint else "") + (share if self.n_matched else "")

    def __str__(self) -> str:
        text = f"{self.counted()}\n{self.map.summary}".rstrip()
        return text + (f"\n{self.cause.words}. {self.cause.advice}" if self.cause else "")


def _percent(share: float) -> str:
    """Share in whole percent; never 0 or 100 for what is neither."""
    if 0 < share < 0.01:
        return "less than 1 %"
    return "more than 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def looks_like_ensembl(names: Sequence[str]) -> bool:
    """Say whether most names are Ensembl identifiers.

    Examples
    --------
    >>> looks_like_ensembl(["ENSG00000139618", "ENSG00000141510.12"])
    True
    >>> looks_like_ensembl(["BRCA2", "TP53"])
    False
    """
    head = list(names)[:500]
    return bool(head) and sum(bool(_ENSEMBL.match(str(name))) for name in head) > len(head) / 2


def match_genes(
    names: Sequence[str], vocabulary: Mapping[str, int], totals: NDArray[np.floating] | None = None
) -> GeneMatch:
    """Match gene names with a vocabulary: an exact token wins, other names are mapped.

    Parameters
    ----------
    names
        Of the genes.
    vocabulary
        Token -> id.
    totals
        (n_genes,) counts of each gene, to say what share of them the matched ones carry.

    Examples
    --------
    >>> match_genes(["ENSG00000167286.9", "nonsense"], {"CD3D": 7}).ids.tolist()
    [7, -1]
    >>> print(match_genes(["Cd3d", "Ms4a1"], {"CD3D": 7, "MS4A1": 8}))
    0 of 2 genes are in the vocabulary
    2 lost
    lost: Cd3d, Ms4a1
    The names look like those of mouse or rat (Cd3d, Ms4a1), and the vocabulary holds human genes. ...
    """
    found = map_genes(names, tuple(vocabulary), totals)
    ids = np.array([*vocabulary.values(), -1], dtype=np.int32)[found.places]
    match = GeneMatch(found, ids)
    return replace(match, cause=_cause(match, vocabulary)) if match.severity and found.names else match


def _cause(match: GeneMatch, vocabulary: Mapping[str, int]) -> Cause:
    return (
        _of_species(match.names)
        or _other_spelling(match, vocabulary)
        or _no_symbols(match)
        or _targeted(match)
        or _other_organ(match)
        or Cause(
            f"The names (seen: {_seen(match.unmatched)}) are none that it knows",
            "It holds human gene symbols such as CD3D, MS4A1, LYZ: put those into the names of the genes.",
        )
    )


def _seen(names: Sequence[str]) -> str:
    return ", ".join(names[:3])


def _of_species(names: Sequence[str]) -> Cause | None:
    """Names of another species, or Ensembl ids of which the vocabulary knows few."""
    species = other_species(names)
    if species:
        return Cause(
            f"The names look like those of {species} ({_seen(names)}), and the vocabulary holds human genes",
            "Cells of another species need a checkpoint of their own, or genes mapped to human orthologues; capitals "
            "do not make them human.",
        )
    if looks_like_ensembl(names):
        return Cause(
            f"The names look like human Ensembl ids ({_seen(names)}), and few of them are genes that it knows",
            "It holds genes, not transcripts (ENST): sum those up. Otherwise put the symbols into a column of var and "
            "load with gene_column=..., or put them into adata.var_names.",
        )
    return None


def _other_spelling(match: GeneMatch, vocabulary: Mapping[str, int]) -> Cause | None:
    """What, done to the names, makes many of them known."""
    if _clear_gain(match, vocabulary, str.upper):
        return _lower_case(match.unmatched)
    for words, pattern, text in (*_CHANGES, *_common_beginning(match.unmatched)):
        if _clear_gain(match, vocabulary, lambda name: re.sub(pattern, text, name)):  # noqa: B023 - called at once
            return Cause(
                f"The names {words} ({_seen(match.unmatched)}); without that many are human symbols",
                "Mend the names and load again.",
                f".str.replace({pattern!r}, {text!r}, regex=True)",
            )
    return None


def _common_beginning(names: Sequence[str]) -> list[tuple[str, str, str]]:
    if len(names) < 2:
        return []
    first, last = min(names), max(names)  # what these share all share
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    shared = re.match(r".*[-_:|. ]", first[:n])
    return [(f"all begin with {shared[0]!r}", f"^{re.escape(shared[0])}", "")] if shared else []


def _clear_gain(match: GeneMatch, vocabulary: Mapping[str, int], change: Callable[[str], str]) -> bool:
    """Whether a change makes at least twice as many names known, and a twentieth of all."""
    known = match.n_matched + sum(change(name) in vocabulary for name in match.unmatched)
    return known > 2 * match.n_matched and known - match.n_matched >= max(1, len(match.names) / 20)


def _lower_case(names: Sequence[str]) -> Cause:
    return Cause(
        f"The names are in lower case ({_seen(names)}); in upper case many are human symbols",
        "The vocabulary holds human genes. Cells of another species need a checkpoint of their own; upper case is "
        "right for human cells only.",
        ".str.upper()",
    )


def _no_symbols(match: GeneMatch) -> Cause | None:
    stems = Counter(re.sub(r"\d+$", "", name) for name in match.unmatched if name[-1:].isdigit())
    stem = max(stems, key=lambda each: stems[each], default="")
    numbered = (re.compile(rf"{re.escape(stem)}\d+"), "are numbered names, which tell nothing of the genes")
    for pattern, words in (*_PATTERNS, numbered):
        if sum(bool(pattern.fullmatch(name)) for name in match.unmatched) > len(match.names) / 2:
            return Cause(
                f"The names {words} ({_seen(match.unmatched)}), and the vocabulary holds symbols such as CD3D",
                "Put the symbols into a column of var and load with gene_column=..., or put them into adata.var_names.",
            )
    return None


def _targeted(match: GeneMatch) -> Cause | None:
    n, n_all = match.n_matched, len(match.names)
    if n_all >= PANEL or n < n_all / 2:
        return None
    return Cause(
        f"The names are human symbols; the data set has only {n_all:,} genes, as targeted panels have",
        "Nothing is to be mended: the encoder sees little of each cell, so a baseline on the same genes may do better.",
    )


def _other_organ(match: GeneMatch) -> Cause | None:
    symbols = sum(bool(re.fullmatch(r"[A-Z][A-Z0-9orf.-]*", name)) for name in match.unmatched)
    if symbols <= len(match.unmatched) / 2 or match.n_matched < HARDLY_MATCHED:
        return None
    return Cause(
        f"The other names look like human symbols ({_seen(match.unmatched)}) that this checkpoint has not learned",
        "Use a checkpoint that knows them, such as whole-human (frostline checkpoints download whole-human).",
    )
