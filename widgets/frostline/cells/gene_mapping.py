"""Names of genes brought to those of a target, such as a checkpoint's vocabulary: offline, by one order of claims.

1. A name that is a token of the target takes it, always.
2. A name that is one once it is tidied (blanks, the name of a genome, the version of an Ensembl id) takes it.
3. Otherwise names of both sides are resolved to HGNC's genes, by Ensembl id, current symbol, unique previous symbol,
   unique alias, or another spelling (HLA.DRA, C1ORF127 among names in upper case, 2-Sep), and meet in the gene.
4. A weaker claim never joins a stronger one for the same token: it is shadowed. Equal claims are summed.
5. Names of several genes are ambiguous, and lost; so is what is not in the target. Small letters are never made
   capitals: Cd3d is a gene of the mouse.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.gene_table import AMBIGUOUS, CLAIMS, OWN, TIDIED, UNKNOWN, are_shouted, gene_table, readings
from frostline.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

KINDS = ("exact", "mapped", "summed", "shadowed", "ambiguous", "lost")
"""What became of a name: the first three join a token."""
_LISTED = 5
_OF_SPECIES = re.compile(r"ENS([A-Z]{3,4})[GT]\d{6,}")
_SPECIES = {"MUS": "mouse", "RNO": "rat", "DAR": "zebrafish", "MMU": "macaque", "SSC": "pig"}
_TITLE = re.compile(r"[A-Z][a-z0-9.-]*[a-z][a-z0-9.-]*[A-Z]?|(?i:mm\d+|mus_musculus|mouse)[-_:|. ]+.+")
_OPEN_FRAME = re.compile(r"C[\dXY]+orf\d+")


@dataclass(frozen=True)
class GeneMap:
    """What became of each name, and how values follow."""

    names: tuple[str, ...]
    """(n_names,) as they came."""
    target: tuple[str, ...] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    """(n_names,) place of each in the target; -1 where it joins no token."""
    kinds: NDArray[np.str_] = field(repr=False)
    """(n_names,) one of `KINDS`."""
    claims: tuple[str, ...] = field(repr=False)
    """(n_names,) one of `CLAIMS`; empty where a name is ambiguous or lost."""
    wanted: NDArray[np.int64] = field(repr=False)
    """(n_names,) `places`, and those that shadowed names did not get."""
    covered: float | None = None
    """Share of the counts on names that join a token; None where no counts were given."""

    @functools.cached_property
    def kept(self) -> NDArray[np.int64]:
        """(n_kept,) places in the target that a name joins, in the order of the names."""
        joined = self.places[self.places >= 0]
        return joined[np.sort(np.unique(joined, return_index=True)[1])]

    @functools.cached_property
    def tokens(self) -> tuple[str, ...]:
        """(n_kept,) tokens that a name joins, in the order of the names."""
        return tuple(self.target[place] for place in self.kept)

    @property
    def counts(self) -> dict[str, int]:
        """Number of names of each kind.

        Examples
        --------
        >>> map_genes(["CD3D", "SEPT9", "Cd3d"], ["SEPTIN9", "CD3D"]).counts
        {'exact': 1, 'mapped': 1, 'summed': 0, 'shadowed': 0, 'ambiguous': 0, 'lost': 1}
        """
        found = Counter(self.kinds.tolist())
        return {kind: found[kind] for kind in KINDS}

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Names of one kind."""
        return tuple(self.names[i] for i in np.flatnonzero(self.kinds == kind))

    def table(self) -> pd.DataFrame:
        """One row a name: what became of it, which token it joins or would have joined, by which claim.

        Examples
        --------
        >>> map_genes(["SEPTIN9", "SEPT9", "QARS"], ["SEPTIN9", "CD3D"]).table()["kind"].tolist()
        ['exact', 'shadowed', 'ambiguous']
        """
        import pandas as pd

        tokens = [self.target[place] if place >= 0 else "" for place in self.wanted]
        return pd.DataFrame({"name": self.names, "kind": self.kinds, "token": tokens, "claim": self.claims})

    @property
    def summary(self) -> str:
        """How many names are of each kind, and some of those that join no token."""
        text = ", ".join(f"{n:,} {kind}" for kind, n in self.counts.items() if n)
        for kind in KINDS[3:]:
            some = self.of_kind(kind)
            if some:
                text += f"\n{kind}: {', '.join(some[:_LISTED])}{', ...' * (len(some) > _LISTED)}"
        return text

    def __str__(self) -> str:
        text = f"{(self.places >= 0).sum():,} of {len(self.names):,} names join a gene of the target"
        if self.covered is not None:
            text += f", with {self.covered:.1%} of the counts".replace("%", " %")
        return f"{text}\n{self.summary}".rstrip()

    def merged(self, matrix: sparse.csr_matrix, logged: bool) -> sparse.csr_matrix:
        """Values of the tokens in `kept`, (n_cells, n_kept) CSR; of one name they are copied as they are.

        Parameters
        ----------
        matrix
            (n_cells, n_names) CSR.
        logged
            Whether values are log1p of what adds up: they are undone, summed and taken again.
        """
        from scipy import sparse

        used = np.flatnonzero(self.places >= 0)
        part = sparse.csr_matrix(matrix[:, used])
        if len(used) == len(self.kept):
            return part
        columns = np.argsort(self.kept)[np.searchsorted(np.sort(self.kept), self.places[used])]
        shared = np.bincount(columns) > 1
        data, of_shared = part.data.astype(np.float64), shared[columns][part.indices]
        if logged:
            data[of_shared] = np.expm1(data[of_shared])
        summed = sparse.csr_matrix((data, columns[part.indices], part.indptr), shape=(part.shape[0], len(self.kept)))
        summed.sum_duplicates()
        if logged:
            of_shared = shared[summed.indices]
            summed.data[of_shared] = np.log1p(summed.data[of_shared])
        return summed.astype(matrix.dtype)

    def apply(self, matrix: sparse.csr_matrix, logged: bool) -> sparse.csr_matrix:
        """Values in the genes of the target, (n_cells, n_target) CSR; those of `merged`, and zeros.

        Examples
        --------
        >>> from scipy import sparse
        >>> found = map_genes(["LYZ", "SEPT9", "MSF"], ["CD3D", "SEPTIN9", "LYZ"])
        >>> found.apply(sparse.csr_matrix([[1, 2, 4]]), logged=False).toarray().tolist()
        [[0, 6, 1]]
        """
        from scipy import sparse

        part = self.merged(matrix, logged)
        shape = (part.shape[0], len(self.target))
        found = sparse.csr_matrix((part.data, self.kept[part.indices], part.indptr), shape=shape)
        found.sort_indices()
        return found


def map_genes(names: Sequence[str], target: Sequence[str], totals: NDArray[np.floating] | None = None) -> GeneMap:
    """Bring names of genes to those of a target, by the order of claims that heads this module.

    Parameters
    ----------
    names
        Of the genes of a matrix: symbols, Ensembl ids, both in one.
    target
        Names to reach, such as a checkpoint's vocabulary.
    totals
        (n_names,) counts of each, to say what share of them joins.

    Source: HGNC (Seal et al. 2023, https://doi.org/10.1093/nar/gkac888), the table installed with frostline.

    Examples
    --------
    >>> print(map_genes(["CD3D", "ENSG00000090382.7", "GRCh38_MS4A1", "QARS", "Cd3e"], ["CD3D", "LYZ", "MS4A1"]))
    3 of 5 names join a gene of the target
    1 exact, 2 mapped, 1 ambiguous, 1 lost
    ambiguous: QARS
    lost: Cd3e
    """
    texts, goal = tuple(map(str, names)), _target(tuple(target))
    shouted = are_shouted(texts)
    found = [(goal.places[name], OWN) if name in goal.places else goal.claimed(name, shouted) for name in texts]
    wanted = np.array([place for place, _ in found], dtype=np.int64)
    claims = np.array([claim for _, claim in found], dtype=np.int64)
    kinds = _kinds(wanted, claims)
    joins = np.isin(kinds, KINDS[:3])
    return GeneMap(
        texts,
        goal.tokens,
        np.where(joins, wanted, -1),
        kinds,
        tuple(CLAIMS[claim] if place >= 0 else "" for place, claim in found),
        np.maximum(wanted, -1),
        float(totals[joins].sum() / totals.sum()) if totals is not None and totals.sum() > 0 else None,
    )


@dataclass(frozen=True)
class _Target:
    """Names to reach, and the genes that they stand for."""

    tokens: tuple[str, ...]

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """Place of each token; the first of a repeated one."""
        return {token: place for place, token in reversed(list(enumerate(self.tokens)))}

    @functools.cached_property
    def holders(self) -> dict[int, int]:
        """Place of the token that stands for each gene: its symbol, else that of the strongest claim, the first."""
        table, shouted = gene_table(), are_shouted(self.tokens)
        best: dict[int, tuple[bool, int, int]] = {}
        for place, token in enumerate(self.tokens):
            gene, claim = next(table.found(token, shouted), (UNKNOWN, OWN))
            if gene >= 0:
                own = (token != table.symbol(gene), claim, place)
                best[gene] = min(own, best.get(gene, own))
        return {gene: place for gene, (*_, place) in best.items()}

    def claimed(self, name: str, shouted: bool) -> tuple[int, int]:
        """Place that a name claims which is no token itself, and how strongly; AMBIGUOUS or -1 in the place of none.

        An Ensembl id leads to the token of its gene; where several are, to the symbol that stands beside the id.
        """
        found = [(reading, strongest, *gene_table().find(reading, shouted)) for reading, strongest in readings(name)]
        for reading, strongest, gene, claim in found:
            if reading in self.places:
                return self.places[reading], max(strongest, TIDIED)
            if gene in self.holders:
                beside = (self.places[each] for each, _, of, _ in found if of == gene and each in self.places)
                return next(beside, self.holders[gene]), max(strongest, claim)
        return (AMBIGUOUS if any(gene == AMBIGUOUS for _, _, gene, _ in found) else -1), OWN


@functools.lru_cache(maxsize=8)
def _target(tokens: tuple[str, ...]) -> _Target:
    return _Target(tokens)


def _kinds(wanted: NDArray[np.int64], claims: NDArray[np.int64]) -> NDArray[np.str_]:
    """(n_names,) what becomes of names that want a place (-1, AMBIGUOUS: none) by claims of some strength."""
    kinds = np.where(wanted == AMBIGUOUS, "ambiguous", np.full(len(wanted), "lost", dtype="<U9"))
    claimed = np.flatnonzero(wanted >= 0)
    strongest = np.full(wanted.max(initial=-1) + 1, len(CLAIMS))
    np.minimum.at(strongest, wanted[claimed], claims[claimed])
    wins = claims[claimed] == strongest[wanted[claimed]]
    n_equal = np.bincount(wanted[claimed][wins], minlength=len(strongest))
    alone = np.where(claims[claimed] == OWN, "exact", "mapped")
    kinds[claimed] = np.where(~wins, "shadowed", np.where(n_equal[wanted[claimed]] > 1, "summed", alone))
    return kinds


def other_species(names: Sequence[str]) -> str:
    """Species that most names are of, if it is not the human; empty otherwise.

    Examples
    --------
    >>> other_species(["ENSMUSG00000032094"]), other_species(["Cd3d", "Ms4a1"]), other_species(["CD3D", "C1orf127"])
    ('mouse', 'mouse or rat', '')
    """
    codes = Counter(found[1] for name in names if (found := _OF_SPECIES.match(name)))
    if codes.total() > len(names) / 2:
        code = codes.most_common(1)[0][0]
        return _SPECIES.get(code, f"another species (ENS{code}G)")
    titled = sum(bool(_TITLE.fullmatch(name)) and not _OPEN_FRAME.fullmatch(name) for name in names)
    return "mouse or rat" if titled > len(names) / 2 else ""


def refuse_other_species(names: Sequence[str]) -> None:
    """Refuse names of another species' genes, where human ones are needed.

    Raises
    ------
    DatasetError
        Names the species, and what to do.

    Examples
    --------
    >>> refuse_other_species(["CD3D", "MS4A1"])
    """
    texts = tuple(map(str, names))
    species = other_species(texts)
    if species:
        raise DatasetError(
            f"the genes are those of {species} ({', '.join(texts[:3])}), and human ones are needed: take a model of "
            "that species, or put the symbols of human orthologues into var_names; capitals do not make them human"
        )
