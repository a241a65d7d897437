"""Bars that long functions report to: one for notebooks, one for what a panel does."""

from __future__ import annotations

import threading
import time

import ipywidgets as widgets

from frostline.monitor import Monitor
from frostline.panels.base import status, wide
from frostline.panels.tasks import PAUSE

STYLES = {"done": "success", "cancelled": "warning", "failed": "danger"}
"""Colour of the bar by how work has ended."""


class ProgressBar(widgets.HBox):  # type: ignore[misc]
    """Pass `Monitor(bar)` where a function takes a monitor; it is called with a fraction and a few words.

    Examples
    --------
    >>> bar = ProgressBar("Label efficiency")
    >>> bar(0.5, "head, 10 cells per class")
    >>> bar.fraction
    0.5
    """

    def __init__(self, title: str) -> None:
        self._bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, description=title, bar_style="info")
        self._bar.style.description_width = "initial"
        self._words = widgets.HTML()
        super().__init__([self._bar, self._words])

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return float(self._bar.value)

    def __call__(self, fraction: float, message: str) -> None:
        """Show how far the work is."""
        self._bar.value = fraction
        self._bar.bar_style = "success" if fraction >= 1 else "info"
        self._words.value = status(message)


class WorkProgress:
    """Bar and words of the work of a panel, one piece at a time, which can be asked to stop.

    Parameters
    ----------
    stop
        Set when the work is to end; one of its own if not given.
    tooltip
        Of the bar.

    Attributes
    ----------
    bar, words
        Widgets, for the panel to place.
    stop
        As given.

    Examples
    --------
    >>> progress = WorkProgress()
    >>> progress.begin()
    >>> progress.monitor.progress(0.5, "half")
    >>> progress.end("done", "Kept.")
    >>> progress.bar.value, progress.bar.bar_style
    (1.0, 'success')
    """

    def __init__(self, stop: threading.Event | None = None, tooltip: str = "Progress") -> None:
        self.stop = stop or threading.Event()
        self.bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout=wide(), tooltip=tooltip)
        self.words = widgets.HTML()
        self._last_shown = 0.0

    @property
    def monitor(self) -> Monitor:
        """What a long function takes."""
        return Monitor(self._tell, self.stop.is_set)

    def begin(self) -> None:
        """Show that work begins."""
        self.stop.clear()
        self.bar.value, self.bar.bar_style = 0.0, "info"
        self.say("Starting ...")

    def say(self, words: str) -> None:
        """Show words, which a screen reader announces."""
        self.words.value = status(words)

    def end(self, how: str, words: str) -> None:
        """Show how it has ended: done, cancelled or failed."""
        self.bar.bar_style = STYLES[how]
        if how == "done":
            self.bar.value = 1.0
        self.say(words)

    def _tell(self, fraction: float, message: str) -> None:
        """Show how far the work is, not more often than a browser follows; called from within its loops."""
        now = time.monotonic()
        if now - self._last_shown > PAUSE and not self.stop.is_set():
            self._last_shown = now
            self.bar.value = fraction
            self.say(message)
