"""What figures share: scattered cells with a legend, PNG, HTML."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.comparison import palette
from frostline.comparison.lettering import named
from frostline.escaping import for_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 150


def scatter_kinds(
    axes: Axes,
    points: np.ndarray,
    kinds: np.ndarray,
    names: Iterable[Any],
    size: float,
    *,
    looks: Callable[[int], Mapping[str, Any]] | None = None,
    counted: bool = True,
    **shape: Any,
) -> None:
    """Scatter cells whose kinds differ in colour and marker, with an entry of the legend for each.

    Parameters
    ----------
    axes, points
        Where, and (n_cells, 2).
    kinds, names
        Kind of each cell, and all kinds in order; one without a cell has its entry too.
    size
        Of a marker, in square points.
    looks
        Colour and marker of the i-th kind; by default those of `palette.styles`. Grey kinds share an entry.
    counted
        Whether the legend says how many cells are of a kind.
    shape
        Further arguments of `Axes.scatter`, of all kinds.
    """
    shown = named(names)
    if looks is None:
        looks = palette.styles([int((kinds == name).sum()) for name in shown]).__getitem__
    of_kind = [{key: value for key, value in looks(i).items() if key != "linestyle"} for i in range(len(shown))]
    rare = [name for name, look in zip(shown, of_kind, strict=True) if look["color"] == palette.GREY]
    entries = [
        ([name], text, look) for (name, text), look in zip(shown.items(), of_kind, strict=True) if name not in rare
    ]
    if rare:
        entries.append((rare, f"{len(rare)} rarer kinds", {"color": palette.GREY, "marker": "o", "zorder": 0.5}))
    for members, text, look in entries:
        part = points[np.isin(kinds, members)]
        label = f"{text} ({len(part)})" if counted else text
        axes.scatter(part[:, 0], part[:, 1], s=size, linewidths=0, label=label, **look, **shape)


def png(figure: Figure, **facts: str) -> bytes:
    """Figure as PNG that carries facts about itself, such as Title and Source, as text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata=facts)
    return buffer.getvalue()


def image_html(figure: Figure, alt: str, *, dpi: int = DPI, colours: int | None = None) -> str:
    """Figure as an HTML image with an alternative text.

    Parameters
    ----------
    figure, alt
        What is shown, and what is said instead.
    dpi
        Pixels of an inch.
    colours
        How many at most, in a palette, which takes a third of the bytes; None for all.
    """
    import base64

    figure.set_dpi(dpi)
    content = png(figure) if colours is None else _in_colours(png(figure), colours)
    data = base64.b64encode(content).decode()
    return f'<img alt="{for_html(alt)}" style="max-width:100%" src="data:image/png;base64,{data}">'


def _in_colours(content: bytes, n: int) -> bytes:
    """PNG with a palette of n colours, from one with more."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").quantize(n, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            buffer, "png", optimize=True
        )
    return buffer.getvalue()
