"""What is mapped as numbers for the browser: one deflated buffer, which it reads at once.

Coordinates and the probability of the likeliest class are parts of 65,534, by which cells are ranked; those of the next
classes are in percent, as they are shown; names of classes and groups are their positions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.comparison import palette
from frostline.escaping import one_line
from frostline.panels.mapped import MapColumn, Mapped, View

FULL, ABSENT = 65_534, 65_535
"""Of a coordinate or a probability: the largest, and one that is not there."""
STRANGE = -2
"""In the place of the number of a look: a grey cross."""


def packed(found: Mapped) -> tuple[dict[str, Any], bytes]:
    """Facts as JSON, and one buffer of arrays that they tell the places of.

    Names and codes of cells repeat themselves: deflated, the buffer of 1,000 cells takes half the room on a page.

    Returns
    -------
    facts
        `arrays`: key -> kind (u1, u2, u4), first byte, number of values; what the maps say and show; and the checksum
        of the arrays, so that other cells are other facts, too.
    data
        The arrays, each beginning at a multiple of four bytes, deflated (RFC 1950).
    """
    arrays: dict[str, NDArray[Any]] = {"names": _text(found.names)}
    for column in found.columns:
        arrays[column.key] = _codes(column.codes, len(column.names))
    for i, view in enumerate(found.views):
        if view.points is not None:
            arrays[f"points{i}"] = _coordinates(_drawn(found, view))
        if view.islands is not None:
            arrays[f"islands{i}"] = _codes(view.islands.codes, len(view.islands.shifts))
        if view.best is not None and view.chances is not None:
            arrays[f"tops{i}"] = _codes(view.best, len(found.classes))
            arrays[f"chances{i}"] = _parts(view.chances[:, 0])
            arrays[f"others{i}"] = _percent(view.chances[:, 1:])
        if view.front is not None:
            arrays[f"front{i}"] = view.front.astype(np.uint8)
    places, data = _joined(arrays)
    facts = {
        "arrays": places,
        "crc": zlib.crc32(data),
        "n": len(found.names),
        "title": one_line(found.title),
        "views": [_facts_of(found, view) for view in found.views],
        "columns": [
            {"key": c.key, "title": one_line(c.title), "names": list(map(_shown, c.names)), "looks": _looks(c)}
            for c in found.columns
        ],
        "classes": list(map(_shown, found.classes)),
        "looks": _class_looks(found),
        "colourings": found.colourings,
        "truth": found.truth,
        "same_plane": found.same_plane,
        "narrow": found.narrow,
        "note": one_line(found.note),
        "palette": _palette(),
    }  # fmt: skip
    return facts, zlib.compress(data)


def _drawn(found: Mapped, view: View) -> NDArray[np.floating]:
    """Where the cells of a map lie at first."""
    assert view.points is not None
    return view.points if view.islands is None or not found.narrow else view.islands.nearer(view.points)


def _moves(found: Mapped, view: View) -> list[list[float]]:
    """How far each island lies from its other place, in parts of the extent that is drawn at first."""
    if view.islands is None:
        return []
    drawn = _drawn(found, view)
    spans = np.nanmax(drawn, axis=0) - np.nanmin(drawn, axis=0)
    parts = view.islands.shifts / np.where(spans > 0, spans, 1) * (-1 if found.narrow else 1)
    return [[round(float(x), 6), round(float(y), 6)] for x, y in parts]


def _facts_of(found: Mapped, view: View) -> dict[str, Any]:
    k = 0 if view.best is None else view.best.shape[1]
    placed, front = view.points is not None, view.front is not None
    return {
        "name": _shown(view.name), "title": one_line(view.title), "placed": placed, "tops": k, "front": front,
        "moves": _moves(found, view),
    }  # fmt: skip


def _palette() -> dict[str, Any]:
    right, wrong = (look["color"] for look in palette.RIGHT_WRONG)
    return {"colours": palette.COLOURS, "right": right, "wrong": wrong, "strange": palette.DARK, "ramp": palette.ramp()}


def _shown(name: str) -> str:
    return one_line(name) or "(empty)"


def _looks(column: MapColumn) -> list[int]:
    """Number of the look of each name: -1 is grey, `STRANGE` a grey cross."""
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.names))
    looks = palette.looks_of(counts.tolist())
    return [STRANGE if name == column.strange else look for name, look in zip(column.names, looks, strict=True)]


def _class_looks(found: Mapped) -> list[int]:
    """Looks of the predicted classes: those of the true ones where these are the same."""
    for column in found.columns:
        if column.key == "label" and column.names == found.classes:
            return _looks(column)
    codes = [view.best[:, 0] for view in found.views if view.best is not None]
    return _looks(MapColumn("prediction", "", found.classes, np.concatenate(codes))) if codes else []


def _text(names: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(map(_shown, names)).encode("utf-8", "replace"), dtype=np.uint8)


def _codes(codes: NDArray[np.int64], n: int) -> NDArray[Any]:
    """Positions as the smallest whole numbers that hold them; -1 becomes the largest."""
    kind = np.uint8 if n < 255 else np.uint16
    return codes.astype(kind)


def _parts(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    finite = np.isfinite(values)
    return np.where(finite, np.rint(np.where(finite, values, 0) * FULL), ABSENT).astype(np.uint16)


def _percent(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    finite = np.isfinite(values)
    return np.where(finite, np.rint(np.where(finite, values, 0) * 100), 255).astype(np.uint8)


def _coordinates(points: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Each axis from its smallest to its largest value; cells without a place are absent."""
    there = np.isfinite(points).all(axis=1)
    if not there.any():
        return np.full(points.shape, ABSENT, dtype=np.uint16)
    low, high = points[there].min(axis=0), points[there].max(axis=0)
    span = np.where(high > low, high - low, 1)
    return _parts(np.where(there[:, None], (points - low) / span, np.nan))


def _joined(arrays: dict[str, NDArray[Any]]) -> tuple[dict[str, tuple[str, int, int]], bytes]:
    places, parts, start = {}, [], 0
    for key, array in arrays.items():
        content = np.ascontiguousarray(array).tobytes()
        places[key] = (f"u{array.dtype.itemsize}", start, array.size)
        parts.append(content + bytes(-len(content) % 4))
        start += len(parts[-1])
    return places, b"".join(parts)
