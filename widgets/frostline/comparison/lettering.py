"""Names in figures: how wide they are, and where many or long ones go; figures stay whole, and of bounded size."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.escaping import for_figures

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_INCHES = 24.0
"""Of the longer side of any figure."""
LEGEND_ROWS, LEGEND_COLUMNS = 25, 3
"""Most entries of a legend; it says how many it leaves out."""
ROW = 0.019
"""Inches of a row of a legend, a point of type."""


def named(names: Iterable[Any], most: int = 60) -> dict[str, str]:
    """Each of some names -> what a figure shows, of so many characters at most."""
    names = list(dict.fromkeys(names))
    return dict(zip(names, for_figures(names, most), strict=True))


def width(texts: Iterable[str], points: float) -> float:
    """Inches that the longest of some texts takes up, in type of so many points.

    Examples
    --------
    >>> 0.5 < width(["B cell", "CD4+ T cell"], 8) < 0.8
    True
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points)
    sizes = [text_to_path.get_text_width_height_descent(text or " ", font, ismath=False)[0] for text in texts]
    return float(max(sizes, default=0.0)) / 72


def title(text: str, inches: float, points: float) -> str:
    """Break a title into lines that fit."""
    characters = int(len(text) * inches / max(width([text], points), 0.01))
    broken = textwrap.fill(text, max(characters, 12), break_on_hyphens=False)
    return broken.replace("\\\n$", "\n\\$")  # an escaped dollar stays whole


@dataclass(frozen=True)
class Grid:
    """A row of equal fields with a name each, such as one side of a matrix."""

    n: int
    field: float
    """Inches of a field."""

    @classmethod
    def of(cls, n: int, field: float, other: float) -> Grid:
        """As wide as is wished for, unless that with other parts of the figure would be too much."""
        return cls(n, min(field, (MOST_INCHES - other) / n))

    @property
    def inches(self) -> float:
        """All fields together."""
        return self.n * self.field

    @property
    def points(self) -> float:
        """Size of type that fits into a field."""
        return min(8.0, max(4.0, 56 * self.field))

    @property
    def holds_numbers(self) -> bool:
        """Whether a number can be read in a field."""
        return self.field > 0.25

    def ticks(self, names: Sequence[str]) -> dict[str, Any]:
        """Arguments of `set_xticks`: every name, or every second, third ... where they would lie on each other."""
        step = max(1, -(-int(self.points * 1000) // int(72_000 * self.field)))
        return {"ticks": range(0, self.n, step), "labels": list(names[::step]), "fontsize": self.points}


@dataclass(frozen=True)
class Legend:
    """Entries of a legend and the room that it needs."""

    handles: list[Artist]
    names: list[str]
    points: float

    @classmethod
    def of(cls, *axes: Axes, points: float = 8) -> Legend:
        """All that some axes show, each name once; of too many the first, the last, and how many are left out."""
        from matplotlib.lines import Line2D

        entries: dict[str, Artist] = {}
        for each in axes:
            entries |= dict(zip(*reversed(each.get_legend_handles_labels()), strict=True))
        room = LEGEND_ROWS * LEGEND_COLUMNS
        if len(entries) > room:
            listed = list(entries.items())
            rest = f"and {len(entries) - room + 1} more", Line2D([], [], linestyle="none")
            entries = dict([*listed[: room - 2], rest, listed[-1]])
        return cls(list(entries.values()), list(entries), points)

    @property
    def columns(self) -> int:
        """How many stand side by side."""
        return max(1, -(-len(self.names) // LEGEND_ROWS))

    @property
    def width(self) -> float:
        """Inches."""
        return self.columns * (0.4 + width(self.names, self.points)) + 0.1 if self.names else 0.0

    @property
    def height(self) -> float:
        """Inches."""
        return ROW * (self.points + 3) * -(-len(self.names) // self.columns)

    def below(self, axes: Axes) -> None:
        """Draw it below some axes, for which their figure must have the room."""
        axes.legend(
            self.handles,
            self.names,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.08),
            ncols=self.columns,
            frameon=False,
            fontsize=self.points,
        )

    def beside(self, figure: Figure) -> None:
        """Draw it on the right of a figure, which grows by as much."""
        w, h = figure.get_size_inches()
        figure.set_size_inches(w + self.width, max(h, self.height + 0.4))
        figure.legend(
            self.handles,
            self.names,
            loc="outside right center",
            ncols=self.columns,
            frameon=False,
            fontsize=self.points,
        )
