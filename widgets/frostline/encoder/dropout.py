"""Dropout whose draws cost little on a CPU.

torch draws one number after the other there, 7 ns for each value: a sixth of a step that trains LoRA. Sixteen random
bits are enough for a value, and four values share a draw.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

LEAST, LEVELS = -(2**15), 2**16
"""Lowest value of a 16-bit integer, and how many there are."""
_of_thread = threading.local()


@contextmanager
def drawn_from(*seeds: int) -> Iterator[None]:
    """In this block and this thread `Dropout` draws from a seed, of one number or several, whatever others draw.

    Examples
    --------
    >>> with drawn_from(1):
    ...     first = Dropout(0.5)(torch.ones(100))
    >>> with drawn_from(1):
    ...     torch.equal(first, Dropout(0.5)(torch.ones(100)))
    True
    """
    before = getattr(_of_thread, "seeds", None)
    _of_thread.seeds = np.random.SFC64(seeds)
    try:
        yield
    finally:
        _of_thread.seeds = before


def next_seed() -> int:
    """Draw a seed: in a block of `drawn_from` from that, elsewhere by torch's generator of the CPU.

    Examples
    --------
    >>> with drawn_from(1):
    ...     next_seed() == next_seed()
    False
    """
    seeds = getattr(_of_thread, "seeds", None)
    return int(torch.randint(2**62, ())) if seeds is None else int(seeds.random_raw())


class Dropout(nn.Dropout):
    """`nn.Dropout`, which on a CPU takes its random bits from NumPy's SFC64, seeded by `next_seed`.

    The share dropped is `p` to the next of 65,536 levels, and what is left is divided by the share that is kept: the
    expected value is the input. The same seed, of torch or of `drawn_from`, drops the same values.

    Examples
    --------
    >>> Dropout(0.5).eval()(torch.ones(2)).tolist()
    [1.0, 1.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        limit = LEAST + round(self.p * LEVELS)
        if not self.training or x.device.type != "cpu" or self.inplace or not LEAST < limit < -LEAST:
            return super().forward(x)
        draws = np.random.Generator(np.random.SFC64(next_seed()))  # which, unlike SFC64 itself, lets other threads run
        bits = draws.integers(2**64 - 1, size=(x.numel() + 3) // 4, dtype=np.uint64, endpoint=True).view(np.int16)
        # NumPy compares and converts in a sixth of the time that torch takes for it
        factors = np.multiply(bits[: x.numel()] >= limit, np.float32(LEVELS / (-LEAST - limit)), dtype=np.float32)
        return x * torch.from_numpy(factors).view(x.shape).to(x.dtype)


def with_fast_dropout(module: nn.Module) -> None:
    """Put `Dropout` in the place of every `nn.Dropout` below a module, of the same share.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    >>> with_fast_dropout(layers)
    >>> layers[1]
    Dropout(p=0.1, inplace=False)
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p, child.inplace))
