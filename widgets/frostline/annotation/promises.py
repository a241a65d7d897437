"""What labels promise, in pictures: stated error, unknown cells, coarser answers, and whether the query differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from frostline.annotation import novelty
from frostline.annotation.figures import certificate_figure, hierarchy_figure, known_figure, shift_figure
from frostline.comparison.drawing import DPI, image_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from frostline.annotation.models import Calibration
    from frostline.annotation.shifts import Shift


Drawing: TypeAlias = "Callable[[Calibration, Shift | None, NDArray[np.float64]], Figure]"


def _known(found: Calibration, _: Shift | None, p_known: NDArray[np.float64]) -> Figure:
    labelled = novelty.p_known(found.energies, found.distances, found.energies, found.distances)
    return known_figure(labelled, p_known, found.alpha)


PROMISES: dict[str, tuple[str, Drawing]] = {
    "Stated error": (
        "Share of answers that is right against the share answered, with the promised accuracy and the bound",
        lambda found, *_: certificate_figure(found.certificate),
    ),
    "Unknown cells": (
        "Histogram of how often a labelled cell is as strange, of labelled cells and of the query",
        _known,
    ),
    "Coarser answers": (
        "Tree of the classes by how much they are confused",
        lambda found, *_: hierarchy_figure(found.hierarchy),
    ),
    "Like the training data?": (
        "Histogram of how much a cell looks like one of the query, of training data and query",
        lambda _, shift, __: shift_figure(shift),
    ),
}
"""By heading the alternative text, and what draws it."""


def promise_figures(
    calibration: Calibration | None, shift: Shift | None, p_known: NDArray[np.float64]
) -> list[tuple[str, Figure, str]]:
    """Draw what the labels promise: heading, figure and alternative text of each.

    The stated error, how strange the cells are beside labelled ones, which classes may be answered together, and
    whether the query differs; of the last it is said so where the model keeps no cells to compare with.

    Parameters
    ----------
    calibration, shift
        Of an annotation; without a calibration there is nothing to draw.
    p_known
        (n_cells,) of the cells of the query that have one.

    Examples
    --------
    >>> import frostline
    >>> from frostline.annotation.annotating import annotate
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> found = annotate(frostline.annotation.keep(frostline.compare([record]), pbmc), pbmc)
    >>> [heading for heading, *_ in promise_figures(found.calibration, found.shift, found.p_known)]
    ['Stated error', 'Unknown cells', 'Coarser answers', 'Like the training data?']
    """
    if calibration is None:
        return []
    return [(name, draw(calibration, shift, p_known), alt) for name, (alt, draw) in PROMISES.items()]


def promises_html(
    calibration: Calibration | None, shift: Shift | None, p_known: NDArray[np.float64], dpi: int = DPI
) -> str:
    """Headings and pictures of `promise_figures`.

    Examples
    --------
    >>> promises_html(None, None, np.empty(0))
    ''
    """
    drawn = promise_figures(calibration, shift, p_known)
    return "".join(f"<h4>{heading}</h4>{image_html(figure, alt, dpi=dpi)}" for heading, figure, alt in drawn)
