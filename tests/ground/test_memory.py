"""Peak memory: of this block alone, nested or not, and NA where nothing can measure it."""

from __future__ import annotations

import builtins
import ctypes
import gc
import mmap
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from frostline import memory
from frostline.memory import peak_memory

MB = 1_000_000


def taken(megabytes: int) -> np.ndarray:
    """Touch every page of a block that the system gives: the heap may hold as much that earlier tests have freed."""
    held = np.frombuffer(mmap.mmap(-1, megabytes * MB), dtype=np.uint8)
    held[:] = 1
    return held


def allocate(megabytes: int) -> None:
    """Take memory, hold it until a thread that reads along has seen it, then give it back."""
    held = taken(megabytes)
    readers = sum(thread.name == "frostline-memory" for thread in threading.enumerate())
    seen = len(_readings)
    while readers and len(_readings) < seen + 2 * readers:
        time.sleep(0.001)
    del held


_readings: list[int] = []


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    """Count what threads that read along have read."""
    original = memory._resident

    def resident():
        read = original()
        return read and (lambda: _readings.append(read()) or _readings[-1])

    monkeypatch.setattr(memory, "_resident", resident)


@pytest.fixture(params=["system", "thread"])
def way(request, monkeypatch):
    """The system's own mark, or the thread that reads along where there is none."""
    if request.param == "thread":
        monkeypatch.setattr(memory, "_forget", lambda: False)
    elif not memory._forget():
        pytest.skip("no Linux, or a container that forbids writing /proc/self/clear_refs: only the thread can measure")


@pytest.mark.usefixtures("way")
class TestPeak:
    def test_one_block_cannot_inherit_the_peak_of_another(self):
        with peak_memory() as large:
            allocate(300)
        with peak_memory() as small:
            allocate(30)
        assert large.bytes == pytest.approx(300 * MB, abs=20 * MB)
        assert small.bytes == pytest.approx(30 * MB, abs=10 * MB)

    def test_what_was_in_use_before_is_not_counted(self):
        held = taken(200)
        with peak_memory() as peak:
            allocate(30)
        assert held.nbytes > 5 * peak.bytes

    def test_memory_that_was_freed_inside_counts(self):
        with peak_memory() as peak:
            allocate(100)
            allocate(10)
        assert peak.bytes == pytest.approx(100 * MB, abs=20 * MB)

    def test_an_inner_block_takes_nothing_from_the_outer_one(self):
        with peak_memory() as outer:
            allocate(200)
            with peak_memory() as inner:
                allocate(30)
            allocate(10)
        assert outer.bytes == pytest.approx(200 * MB, abs=20 * MB)
        assert inner.bytes == pytest.approx(30 * MB, abs=10 * MB)

    def test_the_peak_of_an_inner_block_is_one_of_the_outer_one_too(self):
        with peak_memory() as outer:
            with peak_memory() as inner:
                allocate(100)
            assert inner.bytes == pytest.approx(100 * MB, abs=20 * MB)
        assert outer.bytes >= inner.bytes - 10 * MB

    def test_unreachable_objects_are_freed_first(self):
        class Loop:
            def __init__(self):
                self.held, self.me = taken(100), self

        gc.disable()
        try:
            Loop()
            with peak_memory() as peak:
                gc.collect()
                allocate(30)
        finally:
            gc.enable()
        assert peak.bytes == pytest.approx(30 * MB, abs=10 * MB)

    def test_it_is_known_after_an_error_too(self):
        with pytest.raises(KeyError), peak_memory() as peak:  # noqa: PT012 - the allocation belongs inside
            allocate(50)
            raise KeyError
        assert peak.bytes == pytest.approx(50 * MB, abs=15 * MB)
        assert memory._running == []
        assert all(thread.name != "frostline-memory" for thread in threading.enumerate())


def test_a_system_that_forbids_it_is_read_along(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    assert not memory._forget()
    with peak_memory() as peak:
        allocate(50)
    assert peak.bytes == pytest.approx(50 * MB, abs=15 * MB)


class TestElsewhere:
    @pytest.fixture(autouse=True)
    def _no_proc(self, monkeypatch, tmp_path):
        monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
        monkeypatch.setattr(memory, "STATUS", tmp_path / "status")

    def test_psutil_reads_along(self):
        with peak_memory() as peak:
            allocate(50)
        assert peak.bytes == pytest.approx(50 * MB, abs=15 * MB)

    def test_without_psutil_it_is_not_known(self, monkeypatch):
        original = builtins.__import__

        def no_psutil(name, *args, **kwargs):
            if name == "psutil":
                raise ImportError(name)
            return original(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, "psutil", raising=False)
        monkeypatch.setattr(builtins, "__import__", no_psutil)
        with peak_memory() as peak:
            allocate(10)
        assert peak.bytes is None


FAULTS = """
import resource, sys
import numpy as np
from frostline.memory import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        np.ones(2**17)  # 1 MB: below what is given as one huge page
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed(), faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be asked to")
def test_memory_that_a_process_would_give_back_is_kept_for_the_next_block():
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask starts its workers
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    before, kept, after = done.stdout.split()
    assert kept == "True"
    assert int(before) > 10 * int(after)  # each page once, not two hundred times
