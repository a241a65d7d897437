"""Signals that end the work: whatever ends this process, kernels and temporary files end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType

GRACE = 20.0
"""Seconds for clearing up, after which the process ends as it stands: a callback of a library may swallow the end."""
ENDING = ("SIGTERM", "SIGHUP")


class Ended(SystemExit):
    """Another process ended this one."""


def clear_up_on_signals() -> None:
    """Let SIGTERM and SIGHUP clear up as Ctrl-C does; one that is ignored, as under nohup, stays so."""
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    limit = threading.Timer(GRACE, _end_now, (128 + number,))
    limit.daemon = True  # it must not itself keep the process
    limit.start()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(128 + number)


def _end_now(code: int) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)
