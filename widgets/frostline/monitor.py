"""How long work reports its progress and is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from frostline.errors import Cancelled


def _silent(_fraction: float, _message: str) -> None:
    pass


def _unheard(_entry: Mapping[str, float]) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Monitor:
    """Passed down to every loop that a user waits for.

    Examples
    --------
    >>> Monitor(progress=lambda fraction, message: print(f"{fraction:.0%} {message}")).step(0.5, "half way")
    50% half way
    """

    progress: Callable[[float, str], None] = _silent
    """Called with a fraction from 0 to 1 and a few words."""
    cancelled: Callable[[], bool] = _never
    """Asked between steps; once it says True, Cancelled is raised."""
    epoch: Callable[[Mapping[str, float]], None] = _unheard
    """Receives every epoch of training as it ends: its number and its losses."""

    def step(self, fraction: float, message: str) -> None:
        """Report, and stop here if asked to."""
        if self.cancelled():
            raise Cancelled(message)
        self.progress(min(max(fraction, 0.0), 1.0), message)

    def part(self, start: float, stop: float, prefix: str = "") -> Monitor:
        """Return a monitor for the part of the work between two fractions."""

        def progress(fraction: float, message: str) -> None:
            self.progress(start + (stop - start) * fraction, prefix + message)

        return Monitor(progress, self.cancelled, self.epoch)
