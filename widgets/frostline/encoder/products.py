"""Products with weights that do not train, by the library that is faster on the CPU at hand.

torch leaves products in fp32 to MKL. On AMD processors with AVX-512, oneDNN, which torch brings along, takes an eighth
less time. It keeps half a megabyte for every number of rows that it meets, for good: few numbers of rows go there.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frostline.encoder.devices import cpu_says

ROWS = 16
"""oneDNN computes products whose rows, cells times tokens, are a multiple of this."""
FEWEST, NARROWEST = 512, 256
"""Rows, and inputs or outputs of a weight, below which it gains little."""


class Projection(nn.Linear):
    """`nn.Linear`, whose product oneDNN computes where that is faster and the weight does not train.

    It does so in fp32, with weights of at least 256 inputs and outputs, from 512 rows on, if they are a multiple of 16,
    on a CPU of which `onednn_pays` says so. Results agree with those of `nn.Linear` to about 1e-6 of the largest.

    Examples
    --------
    >>> Projection(2, 3)(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        records = torch.is_grad_enabled()
        if (records and (self.weight.requires_grad or self.bias.requires_grad)) or not _suits(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        if not records:
            return _product(x, self.weight, self.bias)
        out: Tensor = _Frozen.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out


class _Frozen(torch.autograd.Function):
    """The product and that of its gradient, which have the same weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _product(gradient.contiguous(), weight.t(), None), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _suits(x: Tensor, weight: Tensor) -> bool:
    rows = x.numel() // x.shape[-1]
    return (
        x.device.type == "cpu"
        and rows >= FEWEST
        and rows % ROWS == 0
        and min(weight.shape) >= NARROWEST
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and onednn_pays()
    )


def padded_length(n_cells: int, length: int, width: int) -> int:
    """Return the length, or the next that makes the rows of a batch a multiple of 16, for a wide encoder on such a CPU.

    Examples
    --------
    >>> padded_length(8, 231, 128)
    231
    """
    if width < NARROWEST or n_cells * length < FEWEST or not onednn_pays():
        return length
    step = ROWS // math.gcd(n_cells, ROWS)
    return -(-length // step) * step


@cache
def onednn_pays() -> bool:
    """Whether Linux names AMD as the processor's maker, and torch has oneDNN and finds AVX-512.

    What is faster is not timed: the last bits of a result would depend on what else the machine does.
    """
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there and wide and "AuthenticAMD" in cpu_says("vendor_id"))
