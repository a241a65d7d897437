"""Human genes as HGNC names them: Ensembl ids, current and previous symbols, aliases; installed with frostline."""

from __future__ import annotations

import functools
import lzma
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
_MONTHS = {"Mar": ("MARCH", "MARC"), "Sep": ("SEPT",), "Dec": ("DEC",)}
"""Stems of the symbols that a spreadsheet takes for dates: Ziemann et al. 2016, https://doi.org/10.1186/s13059-016-1044-7."""


@dataclass(frozen=True)
class GeneTable:
    """Genes, and the names that lead to them."""

    symbols: tuple[str, ...] = field(repr=False)
    """(n_genes,) current symbols."""
    ensembl: tuple[str, ...] = field(repr=False)
    """(n_genes,) Ensembl ids; empty where there is none."""
    lookups: Mapping[int, Mapping[str, int]] = field(repr=False)
    """For each of ENSEMBL, CURRENT, PREVIOUS, ALIAS the gene of a name; AMBIGUOUS where there are several."""
    shouted: Mapping[str, str] = field(repr=False)
    """Symbols with small letters (C1orf127), current or previous, by themselves in upper case."""

    def __len__(self) -> int:
        return len(self.symbols)

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
        >>> [(table.symbols[gene], CLAIMS[claim]) for gene, claim in map(table.find, ["ENSG00000167286", "SEPT9"])]
        [('CD3D', 'Ensembl id'), ('SEPTIN9', 'previous symbol')]
        >>> table.find("Cd3d")[0] == UNKNOWN, table.find("1-Mar")[0] == AMBIGUOUS
        (True, True)
        """
        for claim, genes in self.lookups.items():
            if name in genes:
                return genes[name], claim
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
    """Read the installed table, once.

    Examples
    --------
    >>> len(gene_table())
    44529
    """
    path = Path(__file__).parents[1] / "data" / "genes" / "hgnc.tsv.xz"
    rows = [row.split("\t") for row in lzma.decompress(path.read_bytes()).decode("utf-8").splitlines()[1:]]
    _, ids, symbols, previous, aliases, _ = zip(*rows, strict=True)
    ensembl = tuple(f"ENSG{number:0>11}" if number else "" for number in ids)
    current = {symbol: gene for gene, symbol in enumerate(symbols)}
    known_as = _genes_of(names.split("|") if names else [] for names in aliases)
    lookups = {
        ENSEMBL: _genes_of([number] if number else [] for number in ensembl),
        CURRENT: current,
        PREVIOUS: _genes_of(names.split("|") if names else [] for names in previous),
        # Met is an alias of SLTM: yet who writes it means MET, or the mouse's
        ALIAS: {name: gene for name, gene in known_as.items() if current.get(name.upper(), gene) == gene},
    }
    shouted: dict[str, str] = {}
    for claim in (CURRENT, PREVIOUS):
        for name in lookups[claim]:
            if not name.isupper():
                shouted.setdefault(name.upper(), name)
    return GeneTable(symbols, ensembl, lookups, shouted)


def _genes_of(names: Iterable[Sequence[str]]) -> dict[str, int]:
    """Gene of each name, given the names of each gene."""
    genes: dict[str, int] = {}
    for gene, own in enumerate(names):
        for name in own:
            genes[name] = gene if genes.get(name, gene) == gene else AMBIGUOUS
    return genes


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
    return tuple(next((table.ensembl[gene] for gene, _ in table.found(name, shouted)), "") for name in names)
