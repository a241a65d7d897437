"""How the values of cells become tokens, decided once for all cells of a matrix, and then applied to any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.cells.gene_mapping import GeneMap
from frostline.cells.genes import GeneMatch
from frostline.cells.values import LARGEST_LOG
from frostline.encoder.checkpoints import Checkpoint
from frostline.encoder.tokens import MAX_LENGTH, Tokens, tokenize
from frostline.errors import DatasetError

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class ValueKind:
    """What of values shows whether they are logarithms.

    Examples
    --------
    >>> ValueKind(3.2, decimals=True).joined(ValueKind(900.0)).logged
    False
    """

    highest: float = 0.0
    decimals: bool = False

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> ValueKind:
        """Of some cells."""
        return cls(float(matrix.data.max(initial=0)), bool((matrix.data != np.rint(matrix.data)).any()))

    def joined(self, other: ValueKind) -> ValueKind:
        """Of the cells of both."""
        return ValueKind(max(self.highest, other.highest), self.decimals or other.decimals)

    @property
    def logged(self) -> bool:
        """Whether they look like logarithms."""
        return self.highest <= LARGEST_LOG and self.decimals


@dataclass(frozen=True)
class TokenReader:
    """How the cells of a matrix become tokens: which genes are which, and what is known of the values."""

    map: GeneMap = field(repr=False)
    """From the genes to tokens."""
    ids: NDArray[np.int32] = field(repr=False)
    """(n_tokens,) of the vocabulary, of what `map.merged` gives."""
    logged: bool
    """Whether the values look like logarithms, for the few that are summed; of what is binned no more need be known."""
    seed: int = 0
    max_length: int = MAX_LENGTH
    long_cells: str = "random"

    @classmethod
    def of(
        cls,
        match: GeneMatch,
        checkpoint: Checkpoint,
        *,
        logged: bool,
        seed: int = 0,
        max_length: int = MAX_LENGTH,
        long_cells: str = "random",
    ) -> TokenReader:
        """Read cells whose genes are matched with the vocabulary of a checkpoint."""
        return cls(match.map, ids_of(match.map.tokens, checkpoint), logged, seed, max_length, long_cells)

    def tokens(self, matrix: sparse.csr_matrix) -> Tokens:
        """Tokens of cells; each expresses a known gene."""
        merged = self.map.merged(matrix, logged=self.logged)
        return tokenize(merged, self.ids, seed=self.seed, max_length=self.max_length, long_cells=self.long_cells)

    def expressing(self, matrix: sparse.csr_matrix) -> NDArray[np.bool_]:
        """(n_cells,) whether a cell expresses a known gene."""
        return expressing(matrix, np.asarray(self.map.places) >= 0)

    def refuse_others(self, matrix: sparse.csr_matrix, name: str) -> None:
        """Refuse cells whose values are of another kind than those it was made of, where that decides a sum.

        Raises
        ------
        DatasetError
            Names the largest value.
        """
        if not self.map.counts["summed"]:
            return
        kind = ValueKind.of(matrix)
        if kind.highest > LARGEST_LOG if self.logged else kind.logged:
            raise DatasetError(
                f"the cells of {name} hold different kinds of values: in some they look like {_KINDS[self.logged]}, in "
                f"others (largest value {kind.highest:g}) like {_KINDS[not self.logged]}; bring them to one kind"
            )


_KINDS = {True: "logarithms", False: "counts"}


def ids_of(tokens: Sequence[str], checkpoint: Checkpoint) -> NDArray[np.int32]:
    """Vocabulary id of each token."""
    return np.array([checkpoint.vocabulary[token] for token in tokens], dtype=np.int32)


def expressing(matrix: sparse.csr_matrix, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n_cells,) whether a cell has a value of a known gene, (n_genes,).

    Examples
    --------
    >>> from scipy import sparse
    >>> expressing(sparse.csr_matrix([[0, 2], [3, 0]]), np.array([False, True]))
    array([ True, False])
    """
    filled = known[matrix.indices] & (matrix.data != 0)
    seen: NDArray[np.bool_] = np.diff(np.concatenate([[0], np.cumsum(filled)])[matrix.indptr]) > 0
    return seen
