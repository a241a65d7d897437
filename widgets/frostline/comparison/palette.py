"""Colours and markers of kinds: one palette for every figure and every map.

Ten colours that stay apart for most kinds of colour vision, times three markers, give thirty looks; of more kinds the
rarest are grey. Right and wrong, and probabilities, have colours of their own. Any two of the ten differ by 11.5 of
CIEDE2000 or more, also as deuteranopia, protanopia and tritanopia show them; a test holds them to it. Where that does
not do, there are the names on the map, pointing, and the legend, which selects its cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#92dadd", "#b9ac70", "#717581", "#94a4a2",
)  # fmt: skip
"""Petroff 2021, arXiv:2107.02270, ten colours; its two greys stand last, since grey is for what is no kind here."""
MARKERS = ("o", "s", "^")
LINES = ("-", "--", "-.", ":")
LOOKS = len(COLOURS) * len(MARKERS)
GREY = "#b8b8b8"
"""Of cells whose kind has no look of its own, and of those in the background."""
DARK = "#707070"
"""Of cells that are known to be of no kind, drawn as crosses."""
RIGHT_WRONG = ({"color": COLOURS[0], "marker": "o"}, {"color": COLOURS[2], "marker": "X"})
RAMP = "cividis"
"""matplotlib's name of the colours of probabilities."""


def style(i: int) -> dict[str, Any]:
    """Colour, marker and line of the i-th of several things: no two alike before the 31st.

    Examples
    --------
    >>> style(11)
    {'color': '#ffa90e', 'marker': 's', 'linestyle': '--'}
    """
    kind = i // len(COLOURS)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[kind % len(MARKERS)],
        "linestyle": LINES[kind % len(LINES)],
    }


def looks_of(counts: Sequence[int]) -> list[int]:
    """Number of the look of each of several kinds; -1, which is grey, where there are too many of them.

    Up to thirty kinds have the looks 0 to 29 in their order. Of more, the 29 with the most cells have: the first of
    equals.

    Parameters
    ----------
    counts
        Cells of each kind.

    Examples
    --------
    >>> looks_of([3, 8])
    [0, 1]
    >>> looks_of([1] * 29 + [5, 9])[-4:]
    [-1, -1, 27, 28]
    """
    if len(counts) <= LOOKS:
        return list(range(len(counts)))
    largest = np.sort(np.argsort(-np.asarray(counts), kind="stable")[: LOOKS - 1])
    place = {int(kind): i for i, kind in enumerate(largest)}
    return [place.get(i, -1) for i in range(len(counts))]


def styles(counts: Sequence[int]) -> list[dict[str, Any]]:
    """Colour and marker of each of several kinds, as `looks_of` shares them out."""
    grey = {"color": GREY, "marker": "o", "linestyle": "-"}
    return [grey if look < 0 else style(look) for look in looks_of(counts)]


def ramp(n: int = 16) -> list[str]:
    """Colours of probabilities from 0 to 1, evenly spaced."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[RAMP](i / (n - 1))) for i in range(n)]
