"""Where the encoder computes and how precisely: tensors go to the device, and come back, through here alone.

A module is put on a device once; batches follow it (`move`), results leave as float32 of the host (`to_host`). Random
draws come from a seed of their own on every device (`seeded`), and what a seed trains is the same each time on the same
device. Devices differ in the order in which they add, so states agree between them to about 1e-5, not bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.bounds import Device, Precision, hold
from frostline.errors import FrostlineError

T = TypeVar("T")
AT_ONCE = 16
"""Batches of inference that the CPU computes at once, at most; bounds the memory, not the result."""
_WORKSPACE = ":4096:8"  # cuBLAS then adds in the same order each time (CUDA's documentation of cublasSetWorkspace)


def device_of(asked: str, precision: str = "fp32") -> torch.device:
    """Return the device that a name stands for here, and refuse what it cannot compute.

    Raises
    ------
    FrostlineError
        A name is unknown, or torch has no such device here.

    Examples
    --------
    >>> device_of("cpu")
    device(type='cpu')
    """
    hold(Precision, "precision", precision)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    asked = hold(Device, "device", asked)
    name = ("cuda" if there["cuda"] else "cpu") if asked == "auto" else asked
    if not there[name]:
        raise FrostlineError(
            f"device is {asked!r}, and torch {torch.__version__} sees none here; take device='cpu', or install the "
            "build of torch for your device: https://pytorch.org/get-started/locally"
        )
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORKSPACE)  # read when the first product is computed
    return torch.device(name)


def place_of(module: nn.Module) -> torch.device:
    """Return the device that a module's parameters are on."""
    return next(module.parameters()).device


def move(tensors: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """Put a batch where the module is; from pinned memory, so that copying overlaps with computing."""
    if device.type == "cuda":
        return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
    return tuple(tensor.to(device) for tensor in tensors)


def to_host(tensor: Tensor) -> NDArray[np.float32]:
    """Bring a result back, as float32."""
    values: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return values


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Compute matrix products in a precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def side_by_side(device: torch.device) -> Iterator[Callable[[Callable[[Any], T], Sequence[Any]], Iterator[T]]]:
    """Give a `map` for batches of inference: as many at once as torch has threads on the CPU, else one by one.

    Each is computed by one thread. Divided among threads, a product is added up in another order, so that its last bits
    would depend on how many there are.

    Examples
    --------
    >>> with side_by_side(torch.device("cpu")) as each:
    ...     list(each(len, ["a", "bc"]))
    [1, 2]
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield map
        return
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(min(threads, AT_ONCE), thread_name_prefix="frostline-encoder")
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed inside the block, on host and device, and compute the same each time.

    The random streams outside the block, and torch's choice of algorithms, are what they were afterwards.
    """
    of_device = [device.index or 0] if device.type in ("cuda", "mps") else []
    kind = device.type if of_device else "cuda"
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=of_device, device_type=kind):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(before or device.type == "cuda")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
