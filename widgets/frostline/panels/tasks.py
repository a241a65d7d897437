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
        self._changed = changed

    def prepare(self, *, wait: bool) -> None:
        """Say whether a cell will wait, before anything is shown of the work that begins."""
        self.stop.clear()
        self.held = "run" if wait else ""

    def start(self, work: Callable[[], None]) -> None:
        """Begin, and wait if a cell does; an interrupt then stops the work, and is raised when that has ended."""
        self.thread = threading.Thread(target=work, name="frostline-run", daemon=True)
        self.thread.start()
        if not self.held:
            return
        try:
            self.join()
        except KeyboardInterrupt:
            self.stop.set()
            self.join()
            raise
        finally:
            self.held = ""
            self._changed()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread; an interrupt is heard in between, on every system."""
        thread, end = self.thread, None if timeout is None else time.monotonic() + timeout
        while thread is not None and thread.is_alive() and (end is None or time.monotonic() < end):
            thread.join(PAUSE)

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
