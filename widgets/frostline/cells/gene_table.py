"""Human genes as HGNC names them: Ensembl ids, current and previous symbols, aliases; installed with frostline."""

from __future__ import annotations

import functools
import lzma
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNKNOWN, AMBIGUOUS = -1, -2
"""In the place of a gene: the table lacks the name; it is that of several genes."""
CLAIMS = ("own name", "tidied name", "Ensembl id", "current symbol", "previous symbol", "alias", "other spelling")
"""By what a name stands for a gene, the strongest first."""
OWN, TIDIED, ENSEMBL, CURRENT, PREVIOUS, ALIAS, SPELLING = range(len(CLAIMS))
SHOUTED = 0.8
"""Where more of the names than this are in upper case, C1ORF127 is C1orf127."""
_GENOME = re.compile(r"(?i)^(?:GRCh\d+|hg\d+|human|homo_sapiens|gene)[-_:|. ]+")
_ENSEMBL = re.compile(r"(?:(?P<before>.+?)[-_|:;, ]+)?(?P<id>ENSG\d{11})(?:\.\d+)?(?:[-_|:;, ]+(?P<after>.+))?")
_DATE = re.compile(r"(?i)(?:(\d{1,2})-(Mar|Sep|Dec)|(Mar|Sep|Dec)-(\d{1,2}))")
LONGEST = 32
"""Bytes of the longest name."""
_MONTHS = {"Mar": ("MARCH", "MARC"), "Sep": ("SEPT",), "Dec": ("DEC",)}
"""Stems of the symbols that a spreadsheet takes for dates: Ziemann et al. 2016, https://doi.org/10.1186/s13059-016-1044-7."""


@dataclass(frozen=True)
class GeneTable:
    """Genes, and the names that lead to them."""

    names: NDArray[np.bytes_] = field(repr=False)
    """(n_names,) in order, in UTF-8: dictionaries of them would take a tenth of all memory of labelling."""
    genes: NDArray[np.int32] = field(repr=False)
    """(n_names,) gene of each; AMBIGUOUS where there are several."""
    claims: NDArray[np.int8] = field(repr=False)
    """(n_names,) the strongest of ENSEMBL, CURRENT, PREVIOUS, ALIAS by which it stands for them."""
    symbols: NDArray[np.int32] = field(repr=False)
    """(n_genes,) places of the current symbols among the names."""
    numbers: NDArray[np.int64] = field(repr=False)
    """(n_genes,) of the Ensembl ids; 0 where there is none."""
    shouted: Mapping[str, str] = field(repr=False)
    """Symbols with small letters (C1orf127), current or previous, by themselves in upper case."""

    def __len__(self) -> int:
        return len(self.symbols)

    def symbol(self, gene: int) -> str:
        """Current symbol of a gene."""
        return bytes(self.names[self.symbols[gene]]).decode()

    def ensembl(self, gene: int) -> str:
        """Ensembl id of a gene; empty where it has none."""
        return _ensembl(int(self.numbers[gene]))

    def find(self, name: str, shouted: bool = False) -> tuple[int, int]:
        """Gene of a name, and by which of the claims it is found.

        Parameters
        ----------
        name
            A symbol or an Ensembl id, tidied.
        shouted
            Whether it is from names in upper case.

        Examples
        --------
        >>> table = gene_table()
        >>> [(table.symbol(gene), CLAIMS[claim]) for gene, claim in map(table.find, ["ENSG00000167286", "SEPT9"])]
        [('CD3D', 'Ensembl id'), ('SEPTIN9', 'previous symbol')]
        >>> table.find("Cd3d")[0] == UNKNOWN, table.find("1-Mar")[0] == AMBIGUOUS
        (True, True)
        """
        key = name.encode("utf-8", "surrogatepass")
        place = int(self.names.searchsorted(key)) if len(key) <= self.names.itemsize else len(self.names)
        if place < len(self.names) and self.names[place] == key:
            return int(self.genes[place]), int(self.claims[place])
        if shouted and name in self.shouted:
            return self.find(self.shouted[name])[0], SPELLING
        return self._of_date(name), SPELLING

    def found(self, name: str, shouted: bool = False) -> Iterator[tuple[int, int]]:
        """Genes that the readings of a name lead to, the likeliest first, and by which claims."""
        for reading, strongest in readings(name):
            gene, claim = self.find(reading, shouted)
            if gene >= 0:
                yield gene, max(strongest, claim)

    def _of_date(self, name: str) -> int:
        """Gene whose symbol a spreadsheet has made a date; the symbols say which, if only one is left."""
        date = _DATE.fullmatch(name)
        if date is None:
            return UNKNOWN
        day, month = int(date[1] or date[4]), (date[2] or date[3]).title()
        genes = {self.find(f"{stem}{day}")[0] for stem in _MONTHS[month]} - {UNKNOWN}
        return genes.pop() if len(genes) == 1 else AMBIGUOUS if genes else UNKNOWN


@functools.cache
def gene_table() -> GeneTable:
    """Read the installed table, once, without an object for each name: those would not be given back.

    Examples
    --------
    >>> len(gene_table())
    44529
    """
    texts, genes, claims, numbers = bytearray(), array("i"), array("b"), array("q")
    for gene, (number, *others) in enumerate(_rows()):
        numbers.append(int(number or 0))
        for claim, own in zip((ENSEMBL, CURRENT, PREVIOUS, ALIAS), (_ensembl(numbers[-1]), *others), strict=True):
            for name in own.split("|") if own else ():
                texts += name.encode().ljust(LONGEST, b"\0")
                genes.append(gene)
                claims.append(claim)
    given = np.frombuffer(texts, dtype=f"S{LONGEST}")
    by = np.array(claims)
    names, of, strongest = _strongest(given, np.array(genes), by)
    shouted: dict[str, str] = {}
    for claim in (CURRENT, PREVIOUS):
        some = given[by == claim]
        for text in some[~np.char.isupper(some)].tolist():
            shouted.setdefault(text.decode().upper(), text.decode())
    symbols = np.searchsorted(names, given[by == CURRENT]).astype(np.int32)
    return GeneTable(names, of, strongest, symbols, np.array(numbers), shouted)


def _strongest(
    names: NDArray[np.bytes_], genes: NDArray[np.int32], claims: NDArray[np.int8]
) -> tuple[NDArray[np.bytes_], NDArray[np.int32], NDArray[np.int8]]:
    """Each name once, in order, with its gene by the strongest claim, and that claim."""
    order = np.lexsort((genes, claims, names))
    names, genes, claims = names[order], genes[order], claims[order]
    other = names[1:] != names[:-1]
    first = np.concatenate([[True], other])
    starts = np.flatnonzero(np.concatenate([[True], other | (claims[1:] != claims[:-1])]))
    last = np.append(starts[1:], len(names)) - 1
    of = np.where(genes[starts] == genes[last], genes[starts], AMBIGUOUS)[first[starts]]
    names, claims = names[first], claims[first]
    # Met is an alias of SLTM: yet who writes it means MET, or the mouse's
    aliases = np.flatnonzero(claims == ALIAS)
    shouted = np.char.upper(names[aliases])
    place = np.minimum(np.searchsorted(names, shouted), len(names) - 1)
    taken = (names[place] == shouted) & (claims[place] == CURRENT) & (of[place] != of[aliases])
    left = np.delete(np.arange(len(names)), aliases[taken])
    return names[left], of[left], claims[left]


def _ensembl(number: int) -> str:
    """Ensembl id; empty where the number is 0."""
    return f"ENSG{number:011}" if number else ""


def _rows() -> Iterator[tuple[str, str, str, str]]:
    """Number of the Ensembl id, symbol, previous symbols and aliases of each gene, those of several parted by |."""
    with lzma.open(Path(__file__).parents[1] / "data" / "genes" / "hgnc.tsv.xz", "rt", encoding="utf-8") as file:
        next(file)
        for row in file:
            _, number, symbol, previous, aliases, _ = row.rstrip("\n").split("\t")
            yield number, symbol, previous, aliases


def readings(name: str) -> Iterator[tuple[str, int]]:
    """What a name may be read as, the likeliest first, and the strongest claim that such a reading can make.

    Without blanks and the name of a genome; the Ensembl id without its version, then the symbol beside it; with hyphens
    where R has put dots. None of a gene of the pseudoautosomal region of Y, which would be counted twice.

    Examples
    --------
    >>> [reading for reading, _ in readings("GRCh38_PTPRC_ENSG00000081237.20")]
    ['ENSG00000081237', 'PTPRC']
    >>> [reading for reading, _ in readings("HLA.DRA")], list(readings("ENSG00000002586.20_PAR_Y"))
    (['HLA.DRA', 'HLA-DRA'], [])
    """
    tidied = _GENOME.sub("", name.strip())
    if tidied.endswith("_PAR_Y"):
        return
    beside = _ENSEMBL.fullmatch(tidied) if "ENSG" in tidied else None
    if beside is not None:
        yield beside["id"], OWN if beside["id"] == name else TIDIED
        symbol = beside["before"] or beside["after"]
        if symbol:
            yield symbol, CURRENT
        return
    yield tidied, OWN if tidied == name else TIDIED
    if "." in tidied:
        yield tidied.replace(".", "-"), SPELLING
    if tidied.count(".") > 1:  # RP11.34P13.7 has a version
        yield tidied.replace(".", "-", tidied.count(".") - 1), SPELLING


def are_shouted(names: Sequence[str]) -> bool:
    """Say whether nearly all names are in upper case.

    Examples
    --------
    >>> are_shouted(["CD3D", "C1ORF127"]), are_shouted(["CD3D", "Cd3e"])
    (True, False)
    """
    return sum(name == name.upper() for name in names) > SHOUTED * len(names)


def ensembl_of(names: Sequence[str]) -> tuple[str, ...]:
    """Ensembl id of each gene; empty where its name is unknown or that of several genes.

    Examples
    --------
    >>> ensembl_of(["CD3D", "QARS", "GRCh38_LYZ", "ENSG00000167286.9"])
    ('ENSG00000167286', '', 'ENSG00000090382', 'ENSG00000167286')
    """
    table, shouted = gene_table(), are_shouted(names)
    return tuple(
        next((_ensembl(int(table.numbers[gene])) for gene, _ in table.found(name, shouted)), "") for name in names
    )
