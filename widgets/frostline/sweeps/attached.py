"""The process of one run: `frostline run` that ends with whoever started it, and waits for another one of the same run.

Its standard input is a pipe that nobody writes to: when its other end is gone, so is the process that held it, however
that has ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE = 360.0
"""Seconds to wait for a process that is at work on the same run, such as one whose starter was killed just now.

Longer than runs go on of a sweep that is gone from another machine."""
CODE = "from frostline.sweeps.attached import attach; attach(); from frostline.cli import main; main()"
"""What the process runs; its arguments are the file of the lock and those of `frostline`."""
_held: list[Any] = []


def attach() -> None:
    """End when the other end of the standard input is gone; take the lock that the first argument names."""
    if hasattr(signal, "pthread_sigmask"):  # workers hear no interrupt; kernels do, by which a cell is stopped
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    lock = Path(sys.argv.pop(1))
    if not _locked(lock):
        print(f"error: another process is at work on {lock.parent}, and has been for {PATIENCE:.0f} s", flush=True)
        sys.exit(1)


def _end_with_the_pipe() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _locked(path: Path) -> bool:
    """Take a lock until the end of the process."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        return False
    _held.append(lock)  # one that is forgotten is released
    return True
