"""Where the encoder computes and how precisely: tensors go to the device, and come back, through here alone.

A module is put on a device once; batches follow it (`move`), results leave as float32 of the host (`to_host`). Random
draws come from a seed of their own on every device (`seeded`), and what a seed trains is the same each time on the same
device. Devices differ in the order in which they add, so states agree between them to about 1e-5, not bit for bit.

Precision `auto` is bf16 where that pays, and fp32 elsewhere (`precision_of`). What it stood for is decided before
anything is computed, and is what records, saved strategies and the cache of embeddings hold.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from frostline.bounds import Device, Precision, hold
from frostline.errors import FrostlineError
from frostline.memory import Peak

T = TypeVar("T")
AT_ONCE = 16
"""Batches of inference that the CPU computes at once, at most; bounds the memory, not the result. Training takes half
as many: it keeps what its gradients need."""
_WORKSPACE = ":4096:8"  # cuBLAS then adds in the same order each time (CUDA's documentation of cublasSetWorkspace)
CPUINFO = Path("/proc/cpuinfo")
AMX = frozenset({"amx_tile", "amx_bf16"})
"""Flags of a CPU with instructions for products in bf16, as Linux names them."""
MARGIN = 3.0
"""A product must be so many times faster in bf16 than in fp32: half of encoding is no product. Where it was 2 times
faster (AVX-512 BF16), an encoder of the official size gained 1.4 times, and `mini` nothing on cells of 1,100 genes."""
_TIMED_ROWS, _TIMED_WIDTH, _TIMED = 256, 512, 4  # about 20 ms

_END = object()
_threads_are_set = threading.Lock()
_measured: list[Peak] = []
"""Blocks of `device_peak` that run."""


def is_there(device: str) -> bool:
    """Whether torch has cpu, cuda or mps here.

    Examples
    --------
    >>> is_there("cpu")
    True
    """
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}[device]


def device_of(asked: str) -> torch.device:
    """Return the device that a name stands for here, and refuse what it cannot compute.

    Raises
    ------
    FrostlineError
        The name is unknown, or torch has no such device here.

    Examples
    --------
    >>> device_of("cpu")
    device(type='cpu')
    """
    asked = hold(Device, "device", asked)
    name = ("cuda" if is_there("cuda") else "cpu") if asked == "auto" else asked
    if not is_there(name):
        raise FrostlineError(
            f"device is {asked!r}, and torch {torch.__version__} sees none here; take device='cpu', or install the "
            "build of torch for your device: https://pytorch.org/get-started/locally"
        )
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _WORKSPACE)  # read when the first product is computed
    return torch.device(name)


def precision_of(asked: str, device: torch.device) -> str:
    """Return fp32 or bf16; `auto` is the one that pays on a device.

    On CUDA that is bf16 where the GPU has it (compute capability 8.0 or higher). On a CPU it is bf16 where Linux says
    that matrix products have instructions of their own for it (AMX: `amx_tile` and `amx_bf16`); where it says nothing
    of these, both kinds of product are timed for some 20 ms, once a process, and bf16 is taken if it is at least 3
    times as fast. On mps it is fp32.

    Raises
    ------
    FrostlineError
        The name is unknown.

    Examples
    --------
    >>> precision_of("fp32", device_of("cpu"))
    'fp32'
    """
    asked = hold(Precision, "precision", asked)
    return ("bf16" if _bf16_pays(device.type) else "fp32") if asked == "auto" else asked


def _bf16_pays(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and (cpu_says("flags") >= AMX or _times_faster() >= MARGIN)


def cpu_says(key: str) -> set[str]:
    """Return what Linux says of the first processor under a key of /proc/cpuinfo, in words; nothing elsewhere.

    Examples
    --------
    >>> cpu_says("no such key")
    set()
    """
    try:
        lines = CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    said = (line.partition(":") for line in lines)
    return next((set(value.split()) for name, _, value in said if name.strip() == key), set())


@cache
def _times_faster() -> float:
    """How many times as fast as in fp32 a matrix product is in bf16; the best of a few, taken in turns."""
    x, weight = (torch.ones(rows, _TIMED_WIDTH) for rows in (_TIMED_ROWS, _TIMED_WIDTH))
    cpu = torch.device("cpu")
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with torch.inference_mode():
        for _ in range(1 + _TIMED):
            for precision, taken in seconds.items():
                started = time.perf_counter()
                with autocast(cpu, precision):
                    F.linear(x, weight)
                taken.append(time.perf_counter() - started)
    return min(seconds["fp32"][1:]) / min(seconds["bf16"][1:])  # the first of each sets things up


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
    """Compute matrix products in fp32 or bf16; weights, LayerNorm and sums stay in float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def side_by_side(
    device: torch.device, at_once: int = AT_ONCE
) -> Iterator[Callable[[Callable[[Any], T], Sequence[Any]], Iterator[T]]]:
    """Give a `map` for batches: as many at once as torch has threads on the CPU, else one by one.

    Each is computed by one thread. Divided among threads, a product is added up in another order, so that its last bits
    would depend on how many there are.

    Examples
    --------
    >>> with side_by_side(torch.device("cpu")) as each:
    ...     list(each(len, ["a", "bc"]))
    [1, 2]
    """
    if device.type != "cpu":
        yield map
        return
    threads = _threads_here(1)
    pool = ThreadPoolExecutor(min(threads, at_once), "frostline-encoder", initializer=_threads_here, initargs=(1,))
    try:
        yield map if threads == 1 else pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        with _threads_are_set:
            torch.set_num_threads(threads)


def _threads_here(n: int) -> int:
    """Let torch divide what this thread computes among so many threads; returns how many it has elsewhere.

    `torch.set_num_threads` alone also decides for each thread that is yet to compute for the first time, and that
    thread keeps what it finds: one that began meanwhile stayed at one thread.
    """
    with _threads_are_set, ThreadPoolExecutor(1) as new:
        elsewhere = new.submit(torch.get_num_threads).result()
        torch.get_num_threads()  # the first call in a thread takes the number of all
        torch.set_num_threads(n)
        new.submit(torch.set_num_threads, elsewhere).result()
    return elsewhere


def ahead(items: Iterator[T], device: torch.device) -> Iterator[T]:
    """Make each item while a GPU computes with the one before it; on the CPU, which computes itself, when it is asked.

    Examples
    --------
    >>> list(ahead(iter("ab"), torch.device("cpu")))
    ['a', 'b']
    """
    if device.type == "cpu":
        yield from items
        return
    with ThreadPoolExecutor(1, thread_name_prefix="frostline-ahead") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield cast(T, item)


_DRAWING = {Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, torch.randn}
"""What torch and PEFT draw parameters with."""


class _DrawsFrom(TorchFunctionMode):
    """Lets what initialises parameters in this thread draw from a generator, and not from the one of all threads."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, with the generator if it draws."""
        kwargs = dict(kwargs or {})
        if func in _DRAWING:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


def made_with(draws: torch.Generator, make: Callable[[], T]) -> T:
    """Make a module whose parameters are drawn from a generator, whatever other threads draw meanwhile.

    Examples
    --------
    >>> one, other = (made_with(torch.Generator().manual_seed(5), lambda: nn.Linear(2, 3)) for _ in range(2))
    >>> torch.equal(one.weight, other.weight)
    True
    """
    with _DrawsFrom(draws):
        return make()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Give a generator of the CPU; in the block a GPU draws from the same seed, and computes the same each time.

    The random streams outside the block, and torch's choice of algorithms, are what they were afterwards.
    """
    draws = torch.Generator().manual_seed(seed)
    if device.type == "cpu":
        yield draws
        return
    before, choices = torch.are_deterministic_algorithms_enabled(), cast(Any, torch.utils.deterministic)
    fills = choices.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[device.index or 0], device_type=device.type):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(before or device.type == "cuda")
        choices.fill_uninitialized_memory = before and fills  # each tensor was filled before it was written to
        try:
            yield draws
        finally:
            torch.use_deterministic_algorithms(before)
            choices.fill_uninitialized_memory = fills


@contextmanager
def device_peak(device: torch.device) -> Iterator[Peak]:
    """Measure how far the memory that torch holds on a GPU rises while the block runs; blocks may be nested.

    Nothing is found on other devices: the CPU's memory is the host's (`frostline.memory`), and mps keeps no peak.

    Examples
    --------
    >>> with device_peak(device_of("cpu")) as peak:
    ...     held = torch.ones(10)
    >>> peak.bytes is None
    True
    """
    peak = Peak()
    if device.type != "cuda":
        yield peak
        return
    _note_peaks(device)
    torch.cuda.reset_peak_memory_stats(device)
    peak.bytes = start = torch.cuda.memory_allocated(device)
    _measured.append(peak)
    try:
        yield peak
    finally:
        _note_peaks(device)
        _measured[:] = [other for other in _measured if other is not peak]
        peak.bytes -= start


def _note_peaks(device: torch.device) -> None:
    """Keep the highest for all blocks that run, since the next one makes torch forget it."""
    for peak in _measured:
        peak.bytes = max(peak.bytes or 0, torch.cuda.max_memory_allocated(device))
