"""What pre-training asks of an encoder, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from frostline.encoder.model import Encoder
from frostline.pretraining.recipes import Phase


@dataclass(frozen=True)
class Batch:
    """Two gene subsets of each of B cells, and what `<cls>` has to tell about them."""

    ids: Tensor
    """(2 B, S) vocabulary ids with `<cls>` in front; the second subsets after the first."""
    values: Tensor
    """(2 B, S) bins; -2 at `<cls>` and at padding."""
    components: Tensor
    """(B, n_targets) principal components, and their means over neighbours"""
    genes: Tensor
    """(B, G) vocabulary ids of the genes whose bins are asked for."""
    bins: Tensor
    """(B, G) their bins / 50, 0 where not expressed."""


def prediction_heads(d: int, n_targets: int) -> nn.ModuleDict:
    """Build what reads the objectives from `<cls>`; thrown away in the end."""
    w = nn.Linear(d, d, bias=False)
    parts = {"components": nn.Linear(d, n_targets), "gene2query": nn.Linear(d, d), "w": w}
    nn.init.zeros_(w.weight)
    return nn.ModuleDict(parts)


@dataclass(frozen=True)
class Predicted:
    """What a phase has to tell, and the heads that tell it."""

    heads: nn.ModuleDict
    components: NDArray[np.float32]
    """(n_cells, n_targets) the principal components, then their means over neighbours if the phase has those."""
    n_components: int

    def carry(self, old: Predicted) -> None:
        """Let the heads begin as earlier ones: each row as that of the same component, in its new units."""
        for name in ("gene2query", "w"):
            self.heads[name].load_state_dict(old.heads[name].state_dict())
        n_targets = self.components.shape[1]
        here = [i for i in range(n_targets) if i % self.n_components < old.n_components]
        there = [i % self.n_components for i in here]
        ratios = torch.from_numpy(self.components[:, here].std(axis=0) / old.components[:, there].std(axis=0))
        rows, old_rows = (dict(heads["components"].named_parameters()) for heads in (self.heads, old.heads))
        with torch.no_grad():
            rows["weight"][here] = old_rows["weight"][there] * ratios[:, None]
            rows["bias"][here] = old_rows["bias"][there] * ratios


def batch_losses(model: Encoder, heads: nn.ModuleDict, batch: Batch, phase: Phase, temperature: float) -> list[Tensor]:
    """Return the total loss of a phase, and its parts: components, mvc, contrast."""
    cls = model.cls_states(batch.ids, batch.values / VALUE_SCALE)  # (2 B, d)
    a, b = cls.chunk(2)
    components = F.mse_loss(heads["components"](cls), batch.components.repeat(2, 1))

    queries = torch.sigmoid(heads["gene2query"](model.encoder(batch.genes)))  # (B, G, d)
    predicted = heads["w"](torch.stack([a, b], dim=1)) @ queries.transpose(1, 2)  # (B, 2, G)
    mvc = F.mse_loss(predicted, batch.bins[:, None].expand_as(predicted))

    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature  # (B, B)
    own = torch.arange(len(a))
    contrast = (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2
    total = components + phase.mvc_weight * mvc + phase.contrast_weight * contrast
    return [total, components, mvc, contrast]


VALUE_SCALE = 10.0
"""Bins are divided by this in training; afterwards the value encoder's first layer takes it over."""
