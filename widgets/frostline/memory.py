"""Peak memory of one piece of work, which no earlier piece can have raised.

Linux keeps the highest resident size of a process and forgets it on request (proc(5), /proc/pid/clear_refs).
Elsewhere a thread reads the resident size every few milliseconds, which may miss a short peak.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
INTERVAL = 0.005  # seconds between two readings of the thread


@dataclass
class Peak:
    """What `peak_memory` found."""

    bytes: int | None = None
    """Highest resident memory above that at the start; None before the end and where it cannot be measured."""


@dataclass
class _Measurement:
    """Resident bytes."""

    start: int
    highest: int = 0


_running: list[_Measurement] = []
_lock = threading.Lock()


@contextmanager
def peak_memory(*, collect: bool = True) -> Iterator[Peak]:
    """Measure how far the process's resident memory rises while the block runs.

    Memory that earlier work has freed is given back to the system first: the block would otherwise use it
    without being seen to. Blocks may be nested. What other threads allocate meanwhile is counted too.

    Parameters
    ----------
    collect
        Free Python's unreachable objects first. It takes a quarter of a second among half a million objects, and
        can be left out inside a block that has done so.

    Examples
    --------
    >>> with peak_memory() as peak:
    ...     held = bytearray(b"x" * 20_000_000)
    >>> peak.bytes is None or peak.bytes > 15_000_000
    True
    """
    if collect:
        gc.collect()
    give_back()
    peak = Peak()
    with _lock:
        _note_highest()
        measure = _high_water_mark if _forget() else _sampled
    with measure(peak):
        yield peak


@contextmanager
def _high_water_mark(peak: Peak) -> Iterator[None]:
    measurement = _Measurement(_status("VmRSS"))
    with _lock:
        _running.append(measurement)
    try:
        yield
    finally:
        with _lock:
            _note_highest()
            # by identity: two measurements may hold equal numbers
            _running[:] = [other for other in _running if other is not measurement]
        peak.bytes = max(0, measurement.highest - measurement.start)


def _note_highest() -> None:
    """Keep the mark for all that run, since the next one makes the system forget it."""
    for measurement in _running:
        measurement.highest = max(measurement.highest, _status("VmHWM"))


def _forget() -> bool:
    """Make the system forget the mark; False where it cannot: no Linux, or a container that forbids it."""
    try:
        CLEAR_REFS.write_text("5")
        return _status("VmHWM") > 0
    except OSError:
        return False


@contextmanager
def _sampled(peak: Peak) -> Iterator[None]:
    resident = _resident()
    if resident is None:
        yield
        return
    measurement, stop = _Measurement(resident()), threading.Event()

    def watch() -> None:
        while not stop.wait(INTERVAL):
            measurement.highest = max(measurement.highest, resident())

    thread = threading.Thread(target=watch, name="frostline-memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        peak.bytes = max(0, measurement.highest - measurement.start, resident() - measurement.start)


def _resident() -> Callable[[], int] | None:
    """Return a function that reads the resident bytes; None where nothing can."""
    if STATUS.is_file():
        return lambda: _status("VmRSS")
    try:
        import psutil
    except ImportError:
        return None
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def larger(one: int | None, other: int | None) -> int | None:
    """Return the higher of two peaks, as far as they are known.

    Examples
    --------
    >>> larger(3, None), larger(3, 4), larger(None, None)
    (3, 4, None)
    """
    return max((found for found in (one, other) if found is not None), default=None)


def keep_freed() -> bool:
    """Let this process keep freed memory for what it computes next; returns whether that was set, as in glibc.

    Processes that Dask starts give it back at once (``MALLOC_TRIM_THRESHOLD_``). There an encoder, whose every batch
    asks for the same blocks again, waits for pages that are mapped and cleared each time.

    Examples
    --------
    >>> import platform
    >>> keep_freed() or platform.libc_ver()[0] != "glibc"
    True
    """
    if not STATUS.is_file():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(-3, 2**25) and mallopt(-1, 2**27))  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def _status(key: str) -> int:
    """Bytes of an entry of /proc/self/status; 0 for one that it lacks."""
    with STATUS.open(encoding="ascii", errors="replace") as lines:
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def give_back() -> None:
    """Give freed memory back to the system; only glibc can.

    Examples
    --------
    >>> give_back()
    """
    if STATUS.is_file():
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
