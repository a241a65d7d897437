"""A progress bar that any long function can report to."""

from __future__ import annotations

import ipywidgets as widgets

from frostline.panels.base import status


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
