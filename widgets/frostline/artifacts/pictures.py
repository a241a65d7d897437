"""The pictures of a comparison: which there are, drawn under one style, and held to what they are drawn from."""

from __future__ import annotations

import hashlib
import io
import platform
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.comparison import figures
from frostline.comparison.comparisons import Comparison
from frostline.records import kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

ALWAYS: dict[str, Callable[[Comparison], Figure]] = {
    "best_strategy_confusion_matrix.png": lambda comparison: figures.confusion_figure(comparison, comparison.best),
    "macro_f1_intervals.png": lambda comparison: figures.interval_figure(comparison),
    "reliability.png": lambda comparison: figures.reliability_figure(comparison),
    "risk_coverage.png": lambda comparison: figures.risk_coverage_figure(comparison),
}
OF_STUDIES: dict[str, Callable[[Comparison], Figure]] = {
    "label_efficiency": lambda comparison: figures.label_efficiency_figure(comparison),
    "unknown_cells": lambda comparison: figures.unknown_cells_figure(comparison),
}
MAPS = {"frozen_embedding_umap.png": ("frozen_probe", "head"), "lora_embedding_umap.png": ("lora",)}
"""Picture -> kinds of strategies, of which the first that was run is mapped."""
LARGEST = 50_000_000
"""Pixels of a picture; one of a comparison has some hundred thousands."""
DRAWN_BY = ("matplotlib", "freetype", "system")
"""Versions on which the pixels depend."""
KEPT = 64
_drawn: dict[tuple[str, str], str] = {}
"""(sha256 of the data, name) -> sha256 of the pixels, of pictures that this process has drawn."""


def names_of(strategies: Sequence[str], studies: Sequence[str] = ()) -> list[str]:
    """Names of the pictures that a comparison of these strategies has.

    Examples
    --------
    >>> names_of(["lora"])[-1]
    'lora_embedding_umap.png'
    """
    maps = [name for name in MAPS if _mapped(strategies, name) is not None]
    return [*ALWAYS, *maps, *(f"{study}.png" for study in studies)]


def _mapped(strategies: Iterable[str], picture: str) -> str | None:
    return next((name for kind in MAPS[picture] for name in strategies if kind_of(name) == kind), None)


def draw(comparison: Comparison, name: str, source: str) -> bytes:
    """Draw one of `names_of` as PNG; it carries the sha256 of the predictions."""
    return rendered(lambda: _figure(comparison, name), name, source)


def rendered(figure: Callable[[], Figure], name: str, source: str) -> bytes:
    """Draw a figure as PNG, whatever style the caller has set.

    Parameters
    ----------
    figure
        Makes it.
    name
        Of the file; the picture carries it.
    source
        sha256 of what it is drawn from; the picture carries it.
    """
    import matplotlib.style

    with matplotlib.style.context("default"):
        return figures.png(figure(), Title=name, Source=source)


def _figure(comparison: Comparison, name: str) -> Figure:
    if name in ALWAYS:
        return ALWAYS[name](comparison)
    if name in MAPS:
        return figures.umap_figure(comparison, str(_mapped(comparison.strategies, name)))
    return OF_STUDIES[name.removesuffix(".png")](comparison)


def drawing_versions() -> dict[str, str]:
    """Versions on which the pixels of a picture depend.

    Examples
    --------
    >>> sorted(drawing_versions())
    ['freetype', 'matplotlib', 'system']
    """
    import matplotlib
    from matplotlib import ft2font

    system = f"{platform.system()} {platform.machine()}"
    return {"matplotlib": matplotlib.__version__, "freetype": ft2font.__freetype_version__, "system": system}


def other_drawing(versions: Mapping[str, str]) -> str | None:
    """Why pictures cannot be compared pixel for pixel here; None when they can."""
    here = drawing_versions()
    other = [f"{name} {versions.get(name, 'unknown')}, here {here[name]}" for name in DRAWN_BY]
    other = [text for name, text in zip(DRAWN_BY, other, strict=True) if versions.get(name) != here[name]]
    return f"pictures were not drawn again: they are by {'; '.join(other)}" if other else None


def remember(data: str, name: str, content: bytes) -> str:
    """Note what this process has drawn from data of a hash, so that its own check need not draw it again.

    Returns
    -------
    str
        sha256 of the pixels.
    """
    if len(_drawn) >= KEPT:
        _drawn.clear()
    _drawn[data, name] = found = _pixels(_opened(io.BytesIO(content)))
    return found


def redrawn_problems(folder: Path, names: Iterable[str], data: str, redraw: Callable[[str], bytes]) -> list[str]:
    """Hold pictures to what their data give, pixel for pixel.

    Parameters
    ----------
    folder, names
        Where they are; each can be opened.
    data
        sha256 of all that they are drawn from.
    redraw
        Draws one by its name.
    """
    wrong = []
    for name in names:
        wanted = _drawn.get((data, name)) or remember(data, name, redraw(name))  # another thread may clear them
        if _pixels(_opened(folder / name)) != wanted:
            wrong.append(f"{name}: is not what the saved records give when it is drawn again")
    return wrong


def _opened(source: object) -> Image:
    from PIL import Image

    with Image.open(source) as image:  # type: ignore[arg-type]
        image.load()
        return image.copy()


def _pixels(image: Image) -> str:
    return hashlib.sha256(f"{image.size}".encode() + image.convert("RGBA").tobytes()).hexdigest()


def problems(path: Path, source: str | None) -> list[str]:
    """Hold a picture to its kind, its name and its source.

    Parameters
    ----------
    path
        Of the PNG.
    source
        What it must say that it was drawn from.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of a bomb before it refuses a larger one
            with Image.open(path) as image:
                width, height = image.size
                if width * height > LARGEST:
                    return [f"has {width:,} x {height:,} pixels; at most {LARGEST:,} are opened"]
                image.load()
                kind, facts, bands = image.format, image.info, image.convert("RGB").split()
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        return [f"is no readable picture ({error})"]
    found = [] if kind == "PNG" else [f"is {kind}, not PNG"]
    if min(width, height) < 200:
        found.append(f"is only {width} x {height} pixels")
    if all(low == high for low, high in (band.getextrema() for band in bands)):
        found.append("is blank")
    if facts.get("Title") != path.name:
        found.append(f"says that it is {facts.get('Title', 'nothing')}")
    if facts.get("Source") != source:
        found.append("was drawn from other predictions")
    return found
