"""Gene identifiers and how they meet a checkpoint's vocabulary.

scGPT matches gene symbols exactly, case included, and drops the rest; so does frostline, and says
how many and which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.errors import DatasetError

_ENSEMBL = re.compile(r"^ENS[A-Z]{0,4}[GT]\d{6,}(\.\d+)?$")


@dataclass(frozen=True)
class GeneMatch:
    """Which genes of a data set a vocabulary knows."""

    names: tuple[str, ...]
    """All gene names asked for, in their own order."""
    ids: NDArray[np.int32]
    """(n_genes,) vocabulary ids, -1 where the vocabulary lacks the gene."""

    @property
    def n_matched(self) -> int:
        """Number of genes that the vocabulary holds."""
        return int((self.ids >= 0).sum())

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Names that the vocabulary lacks."""
        return tuple(name for name, gene_id in zip(self.names, self.ids, strict=True) if gene_id < 0)

    def __str__(self) -> str:
        text = f"{self.n_matched:,} of {len(self.names):,} genes are in the vocabulary"
        if self.unmatched:
            text += f"\nnot in it, for example: {', '.join(self.unmatched[:5])}"
        return text


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


def match_genes(names: Sequence[str], vocabulary: Mapping[str, int]) -> GeneMatch:
    """Match gene names with a vocabulary, exactly as the official code does.

    Raises
    ------
    DatasetError
        Not one gene is in the vocabulary; the message says whether the names look like Ensembl ids.

    Examples
    --------
    >>> match_genes(["CD3D", "nonsense"], {"CD3D": 7}).ids.tolist()
    [7, -1]
    """
    ids = np.fromiter((vocabulary.get(str(name), -1) for name in names), dtype=np.int32, count=len(names))
    match = GeneMatch(tuple(str(name) for name in names), ids)
    if match.n_matched == 0:
        raise DatasetError(_no_overlap(match.names, vocabulary))
    return match


def _no_overlap(names: tuple[str, ...], vocabulary: Mapping[str, int]) -> str:
    seen = ", ".join(names[:3])
    text = f"none of the {len(names):,} genes is in the checkpoint's vocabulary (seen: {seen}). "
    if looks_like_ensembl(names):
        return text + (
            "They look like Ensembl ids, and the vocabulary holds gene symbols: put the symbols into "
            "adata.var_names first, for example adata.var_names = adata.var['gene_name']."
        )
    if any(name.upper() in vocabulary for name in names[:500]):
        return text + "In upper case some of them would match: human gene symbols are upper case."
    return text + "The vocabulary holds human gene symbols such as CD3D, MS4A1, LYZ."
