"""Frozen embeddings: batches by length, the encoder in inference mode, and what was computed kept.

The cell embedding is the state of `<cls>` after the last layer, as on scGPT's official embedding path
(`scgpt.tasks.embed_data`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from frostline.bounds import MaxLength, Seed, hold
from frostline.cells.datasets import Dataset
from frostline.cells.gene_mapping import refuse_other_species
from frostline.cells.genes import GeneMatch, match_genes
from frostline.cells.matrices import refuse_bad_values, spans_of, values_of
from frostline.cells.symbols import Symbols, read_symbols
from frostline.encoder.checkpoints import Checkpoint, load_checkpoint
from frostline.encoder.devices import ahead, autocast, device_of, move, place_of, precision_of, side_by_side, to_host
from frostline.encoder.model import Encoder, EncoderConfig
from frostline.encoder.products import padded_length
from frostline.encoder.token_readers import TokenReader, ValueKind, expressing, ids_of
from frostline.encoder.tokens import BLOCK, MAX_LENGTH, TOGETHER, TokenBlocks, Tokens, runs, tokenize
from frostline.encoder.vocabulary import described, overlap, token_reader, token_values
from frostline.errors import CheckpointError, DatasetError
from frostline.monitor import Monitor

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

BATCH_TOKENS = {"cpu": 1_024, "mps": 8_192, "cuda": 131_072}
"""Padded tokens of the cells that pass an encoder at once on a device. On a CPU several passes run side by side: more
tokens take more memory and are no faster (book/decisions/0017-passes-side-by-side.md)."""
_ROWS = 4_096  # that are normalised at a time
_LISTED = 5  # cells that a line of code names one by one


def pad_tokens(tokens: Tokens, config: EncoderConfig, multiple: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Put `<cls>` in front of every cell and pad to the longest, or a few more where that makes products faster.

    Parameters
    ----------
    tokens
        Of n_cells.
    config
        The ids of `<cls>` and of padding.
    multiple
        The length is a multiple of it.

    Returns
    -------
    tuple
        (n_cells, S) int64 gene ids and (n_cells, S) float32 bins; -2 at `<cls>` and at padding.
    """
    lengths = tokens.lengths
    longest = -(-(1 + int(lengths.max())) // multiple) * multiple
    shape = (len(tokens), padded_length(len(tokens), longest, config.d_model))
    ids = np.full(shape, config.pad_id, dtype=np.int64)
    values = np.full(shape, config.pad_value, dtype=np.float32)
    ids[:, 0] = config.cls_id
    present = np.arange(shape[1] - 1) < lengths[:, None]
    ids[:, 1:][present] = tokens.gene_ids
    values[:, 1:][present] = tokens.bins
    return torch.from_numpy(ids), torch.from_numpy(values)


def batches_by_length(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows in batches of similar length, each at most `batch_tokens` with padding (or one cell)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // (int(lengths[order[start]]) + 1))
        yield order[start : start + size]
        start += size


def encode(
    encoder: Encoder,
    tokens: Tokens | TokenBlocks,
    *,
    precision: str = "fp32",
    batch_tokens: int | None = None,
    monitor: Monitor | None = None,
) -> NDArray[np.float32]:
    """Un-normalised `<cls>` states of tokenised cells, (n_cells, d) float32, computed where the encoder is.

    Raises
    ------
    CheckpointError
        States are not finite numbers, have no length, or are the same for all cells: the weights are damaged.
    """
    monitor = monitor or Monitor()
    states = np.empty((len(tokens), encoder.config.d_model), dtype=np.float32)
    done, device = 0, place_of(encoder)
    precision = precision_of(precision, device)
    batch_tokens = batch_tokens or BATCH_TOKENS[device.type]

    def computed(group: Tokens, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(device, precision):
            return to_host(encoder.cls_states(*move(pad_tokens(group.take(rows), encoder.config), device)))

    with side_by_side(device) as each:
        for group in ahead(tokens.groups(TOGETHER), device):
            found = states[done : done + len(group)]
            batches = list(batches_by_length(group.lengths, batch_tokens))
            made = each(partial(computed, group), batches)
            for rows in batches:
                monitor.step(done / len(tokens), f"{done:,} of {len(tokens):,} cells embedded")
                found[rows] = next(made)
                done += len(rows)
            _refuse_useless(found, group, encoder.source)
    return states


def _refuse_useless(states: NDArray[np.float32], tokens: Tokens, source: str) -> None:
    """Finite weights can give states that are not, or that tell no cell from another."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(states, axis=1)
    bad = int((~np.isfinite(lengths) | (lengths == 0)).sum())
    if bad:
        raise CheckpointError(
            f"{source} gives {bad:,} of {len(states):,} cells a state that is not finite or zero: its weights are "
            "damaged, or were trained until they diverged"
        )
    if len(states) > 1 and np.ptp(states, axis=0).max() <= 1e-7 * lengths.max() and _differ(tokens):
        raise CheckpointError(f"{source} gives all {len(states):,} cells the same state: its weights are damaged")


def _differ(tokens: Tokens) -> bool:
    """Whether two cells have other tokens."""
    n = int(tokens.lengths[0])
    rows = (tokens.gene_ids, tokens.bins)
    return bool((tokens.lengths != n).any()) or any(bool((v.reshape(-1, n) != v[:n]).any()) for v in rows)


def normalise(states: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Divide every row by its L2 norm, as the official embedding path does; into `out`, which may be `states`."""
    scaled = np.empty_like(states) if out is None else out
    for rows in (slice(start, start + _ROWS) for start in range(0, len(states), _ROWS)):
        np.divide(states[rows], np.linalg.norm(states[rows], axis=1, keepdims=True), out=scaled[rows])
    return scaled


def tokenize_cells(
    dataset: Dataset,
    cells: NDArray[np.integer],
    genes: Sequence[str],
    checkpoint: Checkpoint,
    *,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    long_cells: str = "random",
) -> Tokens:
    """Tokens of some cells of a data set, on one list of genes, which are mapped to tokens.

    Raises
    ------
    DatasetError
        As `token_blocks`.
    """
    how: dict[str, Any] = {"seed": seed, "max_length": max_length, "long_cells": long_cells}
    return token_blocks(dataset, cells, genes, checkpoint, **how).all()


def token_blocks(
    dataset: Dataset,
    cells: NDArray[np.integer],
    genes: Sequence[str],
    checkpoint: Checkpoint,
    *,
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    long_cells: str = "random",
) -> TokenBlocks:
    """As `tokenize_cells`, made a block at a time; whether every cell has a token is counted before.

    Raises
    ------
    DatasetError
        The genes are another species', none is in the vocabulary, or a cell expresses none of them; names the cells.
    """
    match = overlap(dataset, checkpoint)
    if match.severity:
        refuse_other_species(match.names)
    read, tokens = token_reader(dataset, genes, checkpoint)
    lengths = np.diff(dataset.matrix.indptr)[cells].astype(np.int64)
    known = _of_tokens(match, tokens)
    filled = [expressing(dataset.matrix[cells[run]], known) for run in runs(lengths, BLOCK)]
    without = ~np.concatenate([np.zeros(0, dtype=bool), *filled])
    if without.any():
        empty = dataset.cells[cells[without]]
        said = described(match, dataset.adata, dataset.gene_source, checkpoint)
        left = f"dataset.adata[frostline.embedding.readable(dataset.matrix, dataset.genes, {checkpoint.name!r})]"
        narrowed = known.sum() < (np.asarray(match.map.places) >= 0).sum()
        raise DatasetError(_without_known_genes(said, empty, len(cells), None if narrowed else left))
    ids = ids_of(tokens, checkpoint)
    how: dict[str, Any] = {"seed": seed, "max_length": max_length, "long_cells": long_cells}
    return TokenBlocks(lengths, lambda run: tokenize(read(cells[run]), ids, **how))


def _of_tokens(match: GeneMatch, tokens: Sequence[str]) -> NDArray[np.bool_]:
    """(n_names,) which names join one of the tokens."""
    wanted, target = set(tokens), match.map.target
    return np.array([place >= 0 and target[place] in wanted for place in match.map.places], dtype=bool)


def readable(
    matrix: NDArray[np.number] | sparse.csr_matrix, genes: Sequence[str], checkpoint: str | Path
) -> NDArray[np.bool_]:
    """Say which cells express a gene that a checkpoint knows; an encoder can read no others.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) values.
    genes
        Their names.
    checkpoint
        A name of `CHECKPOINTS` or a folder.

    Returns
    -------
    ndarray
        (n_cells,)

    Examples
    --------
    >>> readable(np.array([[0, 3], [2, 0]]), ["CD3D", "no gene"], "mini")
    array([False,  True])
    """
    from scipy import sparse

    known = match_genes(genes, load_checkpoint(checkpoint).vocabulary).ids >= 0
    return expressing(sparse.csr_matrix(matrix), known)


def _without_known_genes(said: str, empty: NDArray[np.str_], n_cells: int, left: str | None, before: str = "") -> str:
    """What is wrong, and the line that leaves the cells out: `left` where they are many, and it can say which.

    `before` is what must be done first.
    """
    if len(empty) == n_cells:
        return f"{said.removesuffix('.')}; no cell expresses a gene of the vocabulary that is read"
    left = without_cells(empty) or left
    return (
        f"{said.removesuffix('.')}; {len(empty):,} cell(s) express no gene of the vocabulary that is read, for example "
        f"{', '.join(map(str, empty[:3]))}. Leave them out{f': `{before}adata = {left}.copy()`' if left else ''}"
    )


def without_cells(names: NDArray[np.str_]) -> str:
    """Code for the other cells of `adata`; empty where the names are too many for a line.

    Examples
    --------
    >>> without_cells(np.array(["AAAC-1", "AAAG-1"]))
    "adata[~adata.obs_names.isin(['AAAC-1', 'AAAG-1'])]"
    """
    return f"adata[~adata.obs_names.isin({names.tolist()})]" if len(names) <= _LISTED else ""


def token_table(dataset: Dataset, cell: int, genes: Sequence[str], checkpoint: Checkpoint) -> pd.DataFrame:
    """Show one cell as the encoder reads it: gene, log-normalised value and bin, highest bins first.

    No row, where the cell expresses no gene of the vocabulary.
    """
    import pandas as pd

    matrix, names = token_values(dataset, np.array([cell]), genes, checkpoint)
    if not matrix.count_nonzero():
        return pd.DataFrame(columns=["gene", "log-normalised", "bin"])
    tokens = tokenize(matrix, ids_of(names, checkpoint))
    read = dict(zip(ids_of(names, checkpoint).tolist(), zip(names, matrix.toarray().ravel(), strict=True), strict=True))
    rows = [read[token] for token in tokens.gene_ids.tolist()]
    table = pd.DataFrame(rows, columns=["gene", "log-normalised"]).assign(bin=tokens.bins)
    return table.sort_values(["bin", "gene"], ascending=[False, True], ignore_index=True)


def embed(
    adata: AnnData,
    *,
    checkpoint: str | Path = "mini",
    seed: int = 0,
    max_length: int = MAX_LENGTH,
    long_cells: str = "random",
    gene_column: str | None = None,
    key_added: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    monitor: Monitor | None = None,
) -> NDArray[np.float32]:
    """Embed cells with a frozen encoder, as scGPT's `embed_data` does.

    Genes that the vocabulary has by another name are mapped, which `embed_data` does not do; what becomes of each,
    `frostline.genes.match_genes(adata.var_names, frostline.load_checkpoint(checkpoint).vocabulary)` says.

    Parameters
    ----------
    adata
        X holds counts or any strictly increasing per-cell transform of them (log-normalised, say).
    checkpoint
        A name of `CHECKPOINTS` or a folder in the official layout.
    seed
        Of the draws among tied bins and of the sample of genes in long cells.
    max_length
        Longest sequence, `<cls>` included.
    long_cells
        Genes that are kept of cells that express more: `random` ones, as in the official code, or the `highest`.
    gene_column
        Column of var with the gene symbols; `var_names` for the names themselves. When None, a column is taken if it
        holds clearly more of the vocabulary than the names do.
    key_added
        Also write the embedding to `adata.obsm[key_added]`.
    device
        auto, cpu, cuda or mps; auto takes CUDA where there is one.
    precision
        Of matrix products: fp32, bf16, or auto, which is bf16 where that pays
        (`frostline.encoder.devices.precision_of`).
    monitor
        Receives the progress, and is asked between batches whether to stop with `Cancelled`.

    Returns
    -------
    ndarray
        (n_obs, d) float32, rows of L2 norm 1.

    Raises
    ------
    DatasetError
        No gene in the vocabulary, genes of another species, negative or missing values, a damaged matrix, a cell
        without an expressed known gene.
    CheckpointError
        The checkpoint is unknown or does not match the encoder.

    Warns
    -----
    UserWarning
        The vocabulary knows fewer than 200 of the genes, or genes with less than 60 % of the counts.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> pbmc = load_dataset("pbmc68k-reduced").adata.raw.to_adata()
    >>> embed(pbmc[:5]).shape
    (5, 128)
    """
    seed, max_length = hold(Seed, "seed", seed), hold(MaxLength, "max_length", max_length)
    place = device_of(device)
    precision = precision_of(precision, place)
    opened = load_checkpoint(checkpoint)
    how: dict[str, Any] = {"seed": seed, "max_length": max_length, "long_cells": long_cells}
    tokens = _blocks_of(adata, symbols_of(adata, opened, gene_column), opened, how)
    states = encode(opened.encoder().to(place), tokens, precision=precision, monitor=monitor)
    embedding = normalise(states, out=states)
    if key_added is not None:
        adata.obsm[key_added] = embedding
    return embedding


def _blocks_of(adata: AnnData, symbols: Symbols, opened: Checkpoint, how: dict[str, Any]) -> TokenBlocks:
    """Look at all values of X, in blocks, then promise their tokens."""
    lengths, read = spans_of(adata)
    totals, kind = np.zeros(adata.n_vars), ValueKind()
    for run in runs(lengths, BLOCK):
        part = read(run)
        if not (np.isfinite(part.data) & (part.data >= 0)).all():
            refuse_bad_values(values_of(adata), adata.var_names, adata.obs_names)
        totals += np.asarray(part.sum(axis=0, dtype=np.float64)).ravel()
        kind = kind.joined(ValueKind.of(part))
    filled = lambda known: [expressing(read(run), known) for run in runs(lengths, BLOCK)]  # noqa: E731
    match = _match_all(adata, totals, filled, symbols, opened)
    reader = TokenReader.of(match, opened, logged=kind.logged, **how)
    return TokenBlocks(lengths, lambda run: reader.tokens(read(run)))


def symbols_of(adata: AnnData, checkpoint: Checkpoint, gene_column: str | None = None) -> Symbols:
    """Names of the genes of X as `embed` takes them, and where they are from.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> symbols_of(load_dataset("pancreas").adata, load_checkpoint("mini")).source
    'adata.var_names'
    """
    return read_symbols(
        adata.var,
        gene_column,
        totals=lambda: np.asarray(values_of(adata).sum(axis=0), dtype=np.float64).ravel(),
        known=checkpoint.vocabulary,
    )


def _match_all(
    adata: AnnData,
    totals: NDArray[np.float64],
    filled: Callable[[NDArray[np.bool_]], list[NDArray[np.bool_]]],
    symbols: Symbols,
    opened: Checkpoint,
) -> GeneMatch:
    """Match the genes; refuse cells without a known one, and warn of too few.

    `totals` are those of the genes, and `filled` says which cells have a value of the genes it is given.
    """
    match = match_genes(symbols.names, opened.vocabulary, totals)
    if match.severity:
        refuse_other_species(match.names)
    said = described(match, adata, symbols.source, opened)
    without = ~np.concatenate([np.zeros(0, dtype=bool), *filled(match.ids >= 0)])
    if without.any():
        empty = np.asarray(adata.obs_names[without], dtype=str)
        left = f"adata[frostline.embedding.readable(adata.X, {symbols.source}, {opened.name!r})]"
        # what a file backs can neither be copied nor read as a matrix
        before = "adata = adata.to_memory(); " if adata.isbacked else ""
        raise DatasetError(_without_known_genes(said, empty, adata.n_obs, left, before))
    if match.severity and adata.n_obs:
        warnings.warn(said, stacklevel=4)
    return match
