"""How much of a data set a checkpoint's vocabulary knows, and what to do where it is too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.genes import GeneMatch, match_genes
from frostline.cells.symbols import best_column
from frostline.encoder.checkpoints import Checkpoint

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

_CHUNK = 2**20  # values at a time


def overlap(dataset: Dataset, checkpoint: Checkpoint) -> GeneMatch:
    """Match all genes of a data set with a vocabulary, and say what share of its counts they carry.

    The counts are those behind the log-normalised values, so that every cell has the same weight.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.encoder.checkpoints import load_checkpoint
    >>> print(overlap(load_dataset("pancreas"), load_checkpoint("mini")))
    7,483 of 12,474 genes are in the vocabulary, with 71 % of the counts
    7,424 exact, 59 mapped, 1 shadowed, 4,990 lost
    shadowed: RSC1A1
    lost: A1CF, A4GALT, AADAC, AARD, AARS2, ...
    """
    key = ("genes", dataset.genes, tuple(checkpoint.vocabulary.items()))
    if key not in dataset.cache:
        dataset.cache[key] = match_genes(dataset.genes, checkpoint.vocabulary, gene_totals(dataset.matrix))
    match: GeneMatch = dataset.cache[key]
    return match


def token_values(
    dataset: Dataset, cells: NDArray[np.integer], genes: Sequence[str], checkpoint: Checkpoint
) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """Values of some genes as a checkpoint sees them: those of one token summed, the others left out.

    Parameters
    ----------
    dataset, cells
        The cells.
    genes
        Names, of this data set or of another one, which are mapped to tokens; or tokens.
    checkpoint
        Whose tokens.

    Returns
    -------
    csr_matrix, tuple
        (n_cells, n_tokens) log-normalised values, and the tokens, in the order of `genes`. A token that the data set
        lacks is left out: a gene that was not measured is no token, as one that is not expressed.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.encoder.checkpoints import load_checkpoint
    >>> pbmc, mini = load_dataset("pbmc68k-reduced"), load_checkpoint("mini")
    >>> token_values(pbmc, np.arange(5), ["ENSG00000090382", "nonsense"], mini)[1]
    ('LYZ',)
    """
    read, tokens = token_reader(dataset, genes, checkpoint)
    return read(cells), tokens


def token_reader(
    dataset: Dataset, genes: Sequence[str], checkpoint: Checkpoint
) -> tuple[Callable[[NDArray[np.integer]], sparse.csr_matrix], tuple[str, ...]]:
    """Return what `token_values` is of any cells, as a function of them, and the tokens: genes are matched once."""
    found = overlap(dataset, checkpoint).map
    places = {token: place for place, token in enumerate(found.tokens)}
    tokens = tuple(token for token in match_genes(genes, checkpoint.vocabulary).map.tokens if token in places)
    columns = np.array([places[token] for token in tokens], dtype=np.intp)
    return lambda cells: found.merged(dataset.matrix[cells], logged=True)[:, columns], tokens


def mapping_note(dataset: Dataset, checkpoint: Checkpoint) -> str:
    """Sentence for a record on genes that have another name in a vocabulary; empty where none has.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> from frostline.encoder.checkpoints import load_checkpoint
    >>> mapping_note(load_dataset("pancreas"), load_checkpoint("mini"))
    'Genes and the vocabulary of mini: 7,424 exact, 59 mapped, 1 shadowed, 4,990 lost (frostline.vocabulary.overlap).'
    """
    found = overlap(dataset, checkpoint).map
    if not found.counts["mapped"] + found.counts["summed"]:
        return ""
    counts = found.summary.partition("\n")[0]
    return f"Genes and the vocabulary of {checkpoint.label}: {counts} (frostline.vocabulary.overlap)."


def gene_totals(matrix: sparse.csr_matrix) -> NDArray[np.float64]:
    """(n_genes,) sums over the cells of expm1 of log-normalised values.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> gene_totals(csr_matrix(np.log1p([[1.0, 0.0], [2.0, 5.0]]))).round(6).tolist()
    [3.0, 5.0]
    """
    totals = np.zeros(matrix.shape[1])
    for start in range(0, matrix.nnz, _CHUNK):
        part = slice(start, start + _CHUNK)
        values = np.expm1(matrix.data[part], dtype=np.float64)
        totals += np.bincount(matrix.indices[part], values, minlength=matrix.shape[1])
    return totals


def advice(match: GeneMatch, adata: AnnData, source: str, vocabulary: Any) -> tuple[str, str]:
    """Say why so few genes match, and what to do: the column of var that would do better, else the likely cause.

    Parameters
    ----------
    match
        Of too few genes.
    adata
        Where they are from.
    source
        Where their names are, as `Dataset.gene_source` has it.
    vocabulary
        That they were matched with.

    Returns
    -------
    tuple
        Two texts of whole sentences; the second may hold a line of code between backticks.
    """
    raw = source.startswith("adata.raw.")
    tables = adata.raw if raw else adata  # none of raw, where two data sets were joined
    better = best_column(tables.var, vocabulary) if tables is not None and tables.n_vars == len(match.names) else None
    place = f"{'adata.raw.var' if raw else 'adata.var'}[{better!r}]"
    if better is not None and place != source:
        seen = f"The names ({', '.join(match.unmatched[:2])}) are not the symbols, which seem to be in {place}."
        return seen, f"Load with gene_column={better!r} (GENE_COLUMN of a notebook)."
    if match.cause is None:
        return "", "Use a checkpoint that knows more of the genes."
    if not match.cause.change:
        return f"{match.cause.words}.", _of_raw(match.cause.advice) if raw else match.cause.advice
    target = source.replace("adata.raw.var_names", "adata.raw.var.index")
    line = f"{target} = {target}.astype(str){match.cause.change}"
    return f"{match.cause.words}.", f"{match.cause.advice} The line is `{line}`, before loading."


def _of_raw(advice: str) -> str:
    """Advice on the table of the genes of raw, which `adata.var` and its names say nothing of."""
    return advice.replace("column of var ", "column of adata.raw.var ").replace(
        "adata.var_names", "adata.raw.var.index"
    )


def described(match: GeneMatch, adata: AnnData, source: str, checkpoint: Checkpoint) -> str:
    """Sentence for an error: how many genes match, and if they are too few why and what to do."""
    text = match.counted(checkpoint.label)
    if not match.severity:
        return text
    cause, remedy = advice(match, adata, source, checkpoint.vocabulary)
    return f"{text}. {cause} {remedy}"
