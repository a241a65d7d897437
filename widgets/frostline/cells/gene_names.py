"""What the names of genes are: current or older symbols, Ensembl ids, places in a list; of which species."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from frostline.cells.gene_mapping import other_species
from frostline.cells.gene_table import AMBIGUOUS, CLAIMS, ENSEMBL, UNKNOWN, are_shouted, gene_table

_BARE_ID = re.compile(r"ENS[A-Z]{0,4}[GT]\d{6,}(\.\d+)?(_PAR_Y)?")
_BESIDE = re.compile(r".+[-_|:;, ]ENS[A-Z]{0,4}[GT]\d{6,}(\.\d+)?|ENS[A-Z]{0,4}[GT]\d{6,}(\.\d+)?[-_|:;, ].+")
_GENOME = re.compile(r"(?i)(?:GRC[hm]\d+|hg\d+|mm\d+|human|mouse|homo_sapiens|mus_musculus)[-_:|. ]+")
_OTHERS = (
    (re.compile(r"\d+(\.0)?"), "number (Entrez id, or place in a list)"),
    (re.compile(r"[NX][MRP]_\d+(\.\d+)?"), "RefSeq id"),
    (re.compile(r"\d+(_[a-z])?_at"), "probe of an array"),
    (re.compile(r"(chr)?[\dXYM]+T?[:_-]\d+[-_:]\d+"), "place in the genome"),
)
_SHOWN = 3


@dataclass(frozen=True)
class GeneNames:
    """Kinds of names, the most frequent first."""

    kinds: dict[str, int]
    """Names of each kind, all of them together all names."""
    examples: dict[str, tuple[str, ...]]
    """A few of each kind."""
    species: str
    """`human` where most are known; another species as far as names tell it; else empty."""
    n_versions: int
    """Ensembl ids that end in a version."""
    n_prefixed: int
    """Names with that of a genome in front."""

    def __str__(self) -> str:
        parts = [f"{kind}: {n:,} ({', '.join(self.examples[kind])})" for kind, n in self.kinds.items()]
        if self.n_versions:
            parts.append(f"{self.n_versions:,} end in a version")
        if self.n_prefixed:
            parts.append(f"{self.n_prefixed:,} have the name of a genome in front")
        return "; ".join(parts) or "no gene"


def name_kinds(names: Sequence[str]) -> GeneNames:
    """Sort names of genes by what they are.

    Parameters
    ----------
    names
        As they come.

    Source: HGNC (Seal et al. 2023, https://doi.org/10.1093/nar/gkac888), the table installed with frostline.

    Examples
    --------
    >>> print(name_kinds(["CD3D", "LYZ", "SEPT9", "ENSG00000167286.9"]))
    current symbol: 2 (CD3D, LYZ); previous symbol: 1 (SEPT9); Ensembl id: 1 (ENSG00000167286.9); 1 end in a version
    """
    texts = [str(name) for name in names]
    shouted = are_shouted(texts)
    kinds = [_kind(name, shouted) for name in texts]
    counts = dict(Counter(kinds).most_common())
    examples: dict[str, list[str]] = {kind: [] for kind in counts}
    for name, kind in zip(texts, kinds, strict=True):
        if len(examples[kind]) < _SHOWN:
            examples[kind].append(name)
    known = sum(n for kind, n in counts.items() if kind in CLAIMS or kind == "symbol beside an Ensembl id")
    return GeneNames(
        counts,
        {kind: tuple(some) for kind, some in examples.items()},
        other_species(texts) or ("human" if known > len(texts) / 2 else ""),
        sum(bool(found and found[1]) for found in map(_BARE_ID.fullmatch, texts)),
        sum(bool(_GENOME.match(name)) for name in texts),
    )


def _kind(name: str, shouted: bool) -> str:
    bare = _GENOME.sub("", name.strip())
    if _BARE_ID.fullmatch(bare):
        return CLAIMS[ENSEMBL] if bare.startswith("ENSG") else "Ensembl id of another species"
    if _BESIDE.fullmatch(bare):
        return "symbol beside an Ensembl id"
    gene, claim = next(gene_table().found(bare, shouted), (UNKNOWN, 0))
    if gene >= 0:
        return CLAIMS[claim]
    if gene_table().find(bare, shouted)[0] == AMBIGUOUS:
        return "symbol of several genes"
    other = next((words for pattern, words in _OTHERS if pattern.fullmatch(name)), "")
    if other:
        return other
    return "symbol as of a mouse" if re.fullmatch(r"[A-Z][a-z0-9.-]*[a-z][a-z0-9.-]*", bare) else "unknown to HGNC"
