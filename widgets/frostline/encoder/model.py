"""The scGPT encoder in one file: modern torch, no fused layers, no flash-attn, no torchtext.

Post-norm transformer over a set of genes: there is no positional encoding, so the order of genes does not
matter. Each projection is an `nn.Linear` of its own that is always called as a module, so an adapter put on
any of them takes part in training and in inference alike.

Shapes: B cells, S tokens (with `<cls>` at 0), d width, h feed-forward width, nh heads, hs = d / nh.

Source: Cui et al., Nature Methods 2024 (10.1038/s41592-024-02201-0); official code v0.2.5.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from frostline.encoder.dropout import Dropout, drawn_from, next_seed
from frostline.encoder.products import Projection

MAX_VALUE = 512.0  # values are clamped from above; -2 of <cls> passes through


@dataclass(frozen=True)
class EncoderConfig:
    """Dimensions of an encoder, as read from args.json and vocab.json."""

    n_tokens: int
    """Rows of the gene embedding: genes and special tokens."""
    d_model: int
    n_heads: int
    d_hid: int
    """Feed-forward width; 512 in the released models, not 4 x d_model."""
    n_layers: int
    dropout: float = 0.2
    pad_id: int = 0
    cls_id: int = 1
    pad_value: float = -2.0
    """Value of padding and, on the embedding path, of `<cls>`."""

    @property
    def n_parameters(self) -> int:
        """Of the whole encoder.

        Examples
        --------
        >>> EncoderConfig(60_697, 512, 8, 512, 12).n_parameters
        50278400
        """
        d, h = self.d_model, self.d_hid
        block = 4 * (d * d + d) + (d * h + h) + (h * d + d) + 4 * d
        return self.n_tokens * d + 2 * d + (2 * d + d * d + d + 2 * d) + self.n_layers * block

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"embsize {self.d_model} is not divisible by nheads {self.n_heads}")


class GeneEncoder(nn.Module):
    """Gene ids to vectors: lookup, then LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        table = torch.empty(config.n_tokens, config.d_model)
        if table.is_meta:  # a normal draw without storage loads torch's compiler, for more than a second
            self.embedding = nn.Embedding(config.n_tokens, config.d_model, config.pad_id, _weight=table)
        else:
            self.embedding = nn.Embedding(config.n_tokens, config.d_model, padding_idx=config.pad_id)
        self.enc_norm = nn.LayerNorm(config.d_model)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, gene_ids: Tensor) -> Tensor:
        """(B, S) -> (B, S, d)."""
        out: Tensor = self.enc_norm(self.embedding(gene_ids))
        return out


class ValueEncoder(nn.Module):
    """Binned values to vectors."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, config.d_model)
        self.linear2 = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, values: Tensor) -> Tensor:
        """(B, S) -> (B, S, d)."""
        if values.device.type == "cpu" and not torch.is_grad_enabled():
            # bins: some fifty, however many tokens
            levels, places = values.unique(return_inverse=True)  # type: ignore[no-untyped-call]
            encoded = F.embedding(places, self._encoded(levels))
        else:
            encoded = self._encoded(values)
        out: Tensor = self.dropout(encoded)
        return out

    def _encoded(self, values: Tensor) -> Tensor:
        x = values.clamp(max=MAX_VALUE).unsqueeze(-1)  # (..., 1)
        out: Tensor = self.norm(self.linear2(F.relu(self.linear1(x), inplace=True)))
        return out


class Attention(nn.Module):
    """Multi-head attention whose padded keys are masked."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = Dropout(config.dropout)
        self.q_proj = Projection(config.d_model, config.d_model)
        self.k_proj = Projection(config.d_model, config.d_model)
        self.v_proj = Projection(config.d_model, config.d_model)
        self.out_proj = Projection(config.d_model, config.d_model)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)  # (B, nh, S, hs)

    def forward(self, queries: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, Q, d) queries over (B, S, d) -> (B, Q, d); mask (B, 1, 1, S) is True where a key counts."""
        drops = self.training and self.dropout.p > 0
        y = (self._dropping if drops and x.device.type == "cpu" else F.scaled_dot_product_attention)(
            self._heads(self.q_proj(queries)),  # none of the three has a name, which would keep it until the end
            self._heads(self.k_proj(x)),
            self._heads(self.v_proj(x)),
            attn_mask=mask,
            dropout_p=self.dropout.p if drops else 0.0,
        )  # (B, nh, Q, hs)
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return out

    def _dropping(self, q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor | None, dropout_p: float) -> Tensor:
        """Compute it as torch does on a CPU when it drops weights, which `Dropout` draws here."""
        scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)  # (B, nh, Q, S)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        out: Tensor = self.dropout(scores.softmax(-1)) @ v
        return out


class Block(nn.Module):
    """One post-norm layer: attention, then a ReLU feed-forward, each added and normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.linear1 = Projection(config.d_model, config.d_hid)
        self.linear2 = Projection(config.d_hid, config.d_model)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, *, cls_only: bool = False) -> Tensor:
        """(B, S, d) -> (B, S, d), or (B, 1, d) when only `<cls>` is wanted."""
        queries = x[:, :1] if cls_only else x
        y = self.norm1(queries + self.dropout(self.self_attn(queries, x, mask)))
        out: Tensor = self.norm2(y + self.dropout(self.linear2(self._hidden(y))))
        return out

    def _hidden(self, y: Tensor) -> Tensor:
        """(B, Q, d) -> (B, Q, h)."""
        hidden: Tensor = self.dropout(F.relu(self.linear1(y), inplace=True))
        return hidden


class Layers(nn.Module):
    """The stack of blocks; a module of its own so that tensors are named as in the official file."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))


class Encoder(nn.Module):
    """scGPT without its pre-training heads.

    Examples
    --------
    >>> import torch
    >>> config = EncoderConfig(n_tokens=10, d_model=8, n_heads=2, d_hid=16, n_layers=2, pad_id=0, cls_id=1)
    >>> encoder = Encoder(config).eval()
    >>> encoder.cls_states(torch.tensor([[1, 5, 6]]), torch.tensor([[-2.0, 3.0, 50.0]])).shape
    torch.Size([1, 8])
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.source = "this encoder"
        self.recompute = False
        """In training, keep of each block only what enters it, and compute the rest again for the gradients."""
        self.encoder = GeneEncoder(config)
        self.value_encoder = ValueEncoder(config)
        self.transformer_encoder = Layers(config)

    def forward(self, gene_ids: Tensor, values: Tensor, *, cls_only: bool = False) -> Tensor:
        """Hidden states after the last layer; those at padded positions mean nothing.

        Parameters
        ----------
        gene_ids
            (B, S) int64, `<cls>` first, padded with the pad id.
        values
            (B, S) float32 bins; -2 at `<cls>` and at padding.
        cls_only
            Compute only position 0 in the last layer.

        Returns
        -------
        Tensor
            (B, S, d), or (B, 1, d) with `cls_only`.
        """
        return self.through(self.embedded(gene_ids, values), gene_ids, cls_only=cls_only)

    def embedded(self, gene_ids: Tensor, values: Tensor) -> Tensor:
        """(B, S, d) what enters the first block."""
        x: Tensor = self.encoder(gene_ids) + self.value_encoder(values)
        return x

    def through(
        self, x: Tensor, gene_ids: Tensor, *, first: int = 0, last: int | None = None, cls_only: bool = False
    ) -> Tensor:
        """States after the blocks `first` to `last`, the latter left out; x is what enters them, (B, S, d)."""
        present = gene_ids != self.config.pad_id
        # asked of a GPU, the question would wait for all that it has still to compute
        whole = present.device.type == "cpu" and bool(present.all())
        mask = None if whole else present[:, None, None, :]  # (B, 1, 1, S)
        blocks = self.transformer_encoder.layers[first:last]
        trains = self.training and torch.is_grad_enabled()
        seed = next_seed() if trains else 0
        for i, block in enumerate(blocks, start=first):
            short = cls_only and i + 1 == first + len(blocks)
            if trains and self.recompute:
                again = partial(_drawn_twice, seed, i)
                x = checkpoint(block, x, mask, cls_only=short, use_reentrant=False, context_fn=again)
            else:
                with drawn_from(seed, i) if trains else nullcontext():  # what a block drops depends on nothing else
                    x = block(x, mask, cls_only=short)
        return x

    def cls_states(self, gene_ids: Tensor, values: Tensor) -> Tensor:
        """(B, d) un-normalised states of `<cls>`: the cell embedding before its L2 norm."""
        states: Tensor = self(gene_ids, values, cls_only=True)
        return states[:, 0]


def _drawn_twice(*seeds: int) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Give the blocks that `checkpoint` computes in and computes again in."""
    return drawn_from(*seeds), drawn_from(*seeds)


def set_dropout(module: nn.Module, share: float) -> None:
    """Drop so much of the values in training, wherever the module drops any."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = share


class ClsDecoder(nn.Module):
    """The official classification head: [Linear, ReLU, LayerNorm] x (n_layers - 1), then Linear."""

    def __init__(self, d_model: int, n_classes: int, n_layers: int = 3) -> None:
        super().__init__()
        blocks = [(nn.Linear(d_model, d_model), nn.ReLU(), nn.LayerNorm(d_model)) for _ in range(n_layers - 1)]
        self._decoder = nn.ModuleList(layer for block in blocks for layer in block)
        self.out_layer = nn.Linear(d_model, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) un-normalised `<cls>` states -> (B, n_classes) logits."""
        for layer in self._decoder:
            x = layer(x)
        out: Tensor = self.out_layer(x)
        return out


class Head(nn.Module):
    """The head of the `head` and `lora` strategies: LayerNorm, dropout, linear.

    LayerNorm takes the scale of the `<cls>` state out of the learning rate's hands.
    """

    def __init__(self, d_model: int, n_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(d_model, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) un-normalised `<cls>` states -> (B, n_classes) logits."""
        out: Tensor = self.linear(self.dropout(self.norm(x)))
        return out
