"""States below the blocks that train: of a cell that passes many times they stay the same, and are computed once."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frostline.encoder.devices import autocast, move, place_of, to_host
from frostline.encoder.embedding import pad_tokens
from frostline.encoder.graphs import MULTIPLE
from frostline.encoder.model import Encoder
from frostline.encoder.tokens import Tokens

MOST = 2_000_000_000
"""Bytes that are kept of one set of cells; what does not fit is computed each time."""


class LowerStates:
    """`<cls>` states of tokenised cells, whose way through the lower blocks is kept.

    Parameters
    ----------
    encoder
        Its upper blocks may change, the lower ones and the embeddings must not, and have no dropout.
    tokens
        Of all cells.
    n_upper
        Blocks, the last ones, that are computed each time.
    precision
        fp32 or bf16; what is kept is float32.
    most
        Bytes that are kept.
    """

    def __init__(self, encoder: Encoder, tokens: Tokens, n_upper: int, precision: str, most: int = MOST) -> None:
        self._encoder, self._tokens, self._precision, self._left = encoder, tokens, precision, most
        self._first = encoder.config.n_layers - n_upper
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._lock = threading.Lock()  # passes side by side count the same bytes

    def inputs(self, rows: NDArray[np.integer]) -> tuple[Tensor, ...]:
        """(B, S, d) states of some cells that enter the upper blocks, and their (B, S) gene ids."""
        config, place = self._encoder.config, place_of(self._encoder)
        gene_ids, _ = pad_tokens(self._tokens.take(rows), config, MULTIPLE.get(place.type, 1))
        states = np.zeros((*gene_ids.shape, config.d_model), dtype=np.float32)  # of what is padded none counts
        for padded, found in zip(states, self._below(rows), strict=True):
            padded[: len(found)] = found
        return move((torch.from_numpy(states), gene_ids), place)

    def cls_states(self, below: Tensor, gene_ids: Tensor) -> Tensor:
        """(B, d) un-normalised `<cls>` states, of what `inputs` gives."""
        with autocast(below.device, self._precision):
            return self._encoder.through(below, gene_ids, first=self._first, cls_only=True)[:, 0]

    def _below(self, rows: NDArray[np.integer]) -> list[NDArray[np.float32]]:
        """(1 + genes, d) states of each cell that enter the upper blocks."""
        new = np.array([row for row in rows if row not in self._kept], dtype=np.int64)
        found = dict(zip(new.tolist(), self._computed(new), strict=True)) if len(new) else {}
        with self._lock:
            for row, states in found.items():
                if states.nbytes <= self._left:
                    self._kept[row], self._left = states.copy(), self._left - states.nbytes
        return [found[row] if row in found else self._kept[row] for row in rows.tolist()]

    def _computed(self, rows: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        tokens, place = self._tokens.take(rows), place_of(self._encoder)
        gene_ids, values = move(pad_tokens(tokens, self._encoder.config), place)
        with torch.no_grad(), autocast(place, self._precision):
            states = self._encoder.through(self._encoder.embedded(gene_ids, values), gene_ids, last=self._first)
        return [padded[: 1 + length] for padded, length in zip(to_host(states), tokens.lengths, strict=True)]
