"""Long work that a panel begins: in a thread, which a cell may wait for, and which can be asked to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 0.15
"""Seconds between two messages to the browser: a batch may take a hundredth of one."""


class Task:
    """A piece of work, one at a time.

    Parameters
    ----------
    changed
        Called when a cell begins to wait, or ends waiting.

    Examples
    --------
    >>> task = Task(lambda: None)
    >>> task.prepare(wait=True)
    >>> task.start(lambda: print("done"))
    done
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.stop = threading.Event()
        """Set when the work is to end."""
        self.held = ""
        """What a cell waits for: `run`, which it began itself, or `wait`; empty while no cell does."""
        self.thread: threading.Thread | None = None
        self._ended = threading.Event()  # of its own: an interrupt of Thread.join makes Python 3.11 call a thread ended
        self._changed = changed

    def prepare(self, *, wait: bool) -> None:
        """Say whether a cell will wait, before anything is shown of the work that begins."""
        self.stop.clear()
        self.held = "run" if wait else ""

    def start(self, work: Callable[[], None]) -> None:
        """Begin, and wait if a cell does; an interrupt then stops the work, and is raised when that has ended."""
        self._ended.clear()
        self.thread = threading.Thread(target=self._work, args=(work,), name="frostline-run", daemon=True)
        if not self.held:
            self.thread.start()
            return
        try:
            self.thread.start()
            self.join()
        except KeyboardInterrupt:
            self.stop.set()
            self.join()
            raise
        finally:
            self.held = ""
            self._changed()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._ended.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the work; an interrupt is heard in between, on every system."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.thread is not None and not self._ended.wait(PAUSE) and (end is None or time.monotonic() < end):
            pass

    @contextmanager
    def waiting(self, *, running: bool) -> Iterator[None]:
        """Say that a cell waits, while one does for work that was started with a button."""
        if not running or self.held:
            yield
            return
        self.held = "wait"
        self._changed()
        try:
            yield
        finally:
            self.held = ""
            self._changed()
