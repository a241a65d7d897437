"""Signals that end the work: whatever ends this process, kernels and temporary files end with it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

GRACE = 20.0
"""Seconds for clearing up, after which the process ends as it stands: a callback of a library may swallow the end."""
KERNEL_DIED = "the kernel died"
"""How a notebook has failed whose kernel was killed, in words."""
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class Ended(SystemExit):
    """Another process ended this one."""


@contextlib.contextmanager
def clearing_up() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clear up as Ctrl-C does; one that is ignored, as under nohup, stays so.

    Examples
    --------
    >>> with clearing_up():
    ...     handler = signal.getsignal(signal.SIGTERM)
    >>> handler is signal.getsignal(signal.SIGTERM)
    False
    """
    earlier = {number: signal.getsignal(number) for name in ENDING if (number := getattr(signal, name, None))}
    replaced = {
        number: handler
        for number, handler in earlier.items()
        if handler in (signal.SIG_DFL, signal.default_int_handler)
        and threading.current_thread() is threading.main_thread()
    }
    for number in replaced:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    logging.getLogger("asyncio").disabled = True  # it would tell of tasks that the end of a kernel has broken off
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
