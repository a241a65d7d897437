"""Figures of what a kept model promises, and of what it says of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.annotation.certificates import Certificate
from frostline.annotation.hierarchies import CONFUSED, Hierarchy
from frostline.annotation.shifts import Shift
from frostline.comparison.drawing import DPI
from frostline.comparison.lettering import Legend, named, title, width
from frostline.comparison.palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KNOWN, QUERY, LIMIT = COLOURS[0], COLOURS[5], "#444444"
"""Colours of labelled cells, of cells of a query, and of what was set beforehand."""
BINS = 20
FAINTEST = 1e-3
"""Confusion below which it is drawn as this much."""


def certificate_figure(certificate: Certificate) -> Figure:
    """Share of answers that is right against the share of cells that is answered, with the certified threshold.

    Examples
    --------
    >>> from frostline.annotation.certificates import certify
    >>> confidence = np.linspace(1, 0.3, 500)
    >>> len(certificate_figure(certify(confidence, confidence > 0.5)).axes)
    1
    """
    if not certificate.curve:
        return _absent("No labelled cell was predicted by a model that had not seen it: NA")
    figure, axes = _axes(5.0, 3.6)
    share, right, least = np.array(certificate.curve).T
    axes.plot(share, right, color=KNOWN, linewidth=1.4, label="labelled cells")
    axes.plot(share, least, color=KNOWN, linewidth=1.0, linestyle="--", label=f"bound at {1 - certificate.delta:.0%}")
    axes.axhline(certificate.target, color=LIMIT, linewidth=0.8, linestyle=":", label="promised")
    if certificate.threshold is not None:
        answered = certificate.answered / certificate.n
        accuracy = 1 - certificate.errors / certificate.answered
        label = f"certified: confidence {np.floor(certificate.threshold * 1000) / 1000:.3f}"
        axes.scatter(answered, accuracy, s=46, marker="D", color=QUERY, zorder=3, label=label)
    axes.set(xlabel="share of cells answered, most confident first", ylabel="share of them right")
    axes.set(xlim=(0, 1.02), ylim=(min(0.8, float(right.min()) - 0.02), 1.005))
    return _finished(figure, axes)


def known_figure(known: NDArray[np.floating], query: NDArray[np.floating], alpha: float) -> Figure:
    """How strange labelled cells and cells of a query are: p-values of being known, and the share called unknown.

    Parameters
    ----------
    known, query
        p-values of either, as `p_known` gives them; those of known cells are spread evenly.
    alpha
        Below which a cell is called unknown.

    Examples
    --------
    >>> len(known_figure(np.linspace(0, 1, 50), np.full(20, 0.01), 0.05).axes)
    1
    """
    figure, axes = _axes(5.0, 3.2)
    edges = np.linspace(0, 1, BINS + 1)
    for values, name, colour in ((known, "labelled", KNOWN), (query, "query", QUERY)):
        if len(values):
            said = f"{name}: {(np.asarray(values) < alpha).mean():.1%} of {len(values):,} cells unknown"
            _histogram(axes, values, edges, colour, said)
    axes.axvline(alpha, color=LIMIT, linewidth=0.9, linestyle=":", label=f"unknown below {alpha:g}")
    axes.set(xlabel="share of known cells that are as strange (p)", ylabel="share of cells", xlim=(0, 1))
    return _finished(figure, axes)


def hierarchy_figure(hierarchy: Hierarchy) -> Figure:
    """Classes as they are merged, the most confused first; thick where both parts together may be an answer.

    Examples
    --------
    >>> p = np.repeat([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]], 60, axis=0)
    >>> labels = np.repeat(["CD4 T", "CD8 T", "B"], 60)
    >>> len(hierarchy_figure(Hierarchy.learn(p, labels, ("CD4 T", "CD8 T", "B"))).axes)
    1
    """
    from scipy.cluster.hierarchy import leaves_list

    n, order = len(hierarchy.classes), leaves_list(hierarchy.merges)
    shown = list(named([hierarchy.classes[i] for i in order], 40).values())
    figure, axes = _axes(3.6 + width(shown, 8), 1.4 + 0.26 * n)
    x, y = [1.0] * n, [0.0] * n
    for row, i in enumerate(order):
        y[i] = float(row)
    for node, (first, second, apart, _) in enumerate(hierarchy.merges, start=n):
        a, b = int(first), int(second)
        confused = max(1 - float(apart), FAINTEST)
        thick = (
            {"color": QUERY, "linewidth": 2.2} if hierarchy.offered[node] else {"color": "#888888", "linewidth": 1.0}
        )
        axes.plot([x[a], confused, confused, x[b]], [y[a], y[a], y[b], y[b]], **thick)  # type: ignore[arg-type]
        x.append(confused)
        y.append((y[a] + y[b]) / 2)
    axes.axvline(CONFUSED, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(1.15, 0.7 * min(CONFUSED, *x))
    axes.set_yticks(range(n), shown, fontsize=8)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xlabel("confusion (mean probability of the other part)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def shift_figure(shift: Shift | None) -> Figure:
    """What a classifier that tells a query from the training data says of the cells of either.

    Examples
    --------
    >>> from frostline.annotation.shifts import compare
    >>> cells = np.random.default_rng(0).normal(size=(200, 3))
    >>> len(shift_figure(compare(cells[:100], cells[100:])).axes)
    1
    """
    if shift is None:
        return _absent("The model keeps no labelled cells to compare with: NA")
    if shift.auroc is None:
        return _absent(shift.sentence)
    figure, axes = _axes(5.0, 3.2)
    both = np.concatenate([shift.reference_scores, shift.query_scores])
    edges = np.linspace(both.min(), both.max(), 2 * BINS + 1)
    for scores, name, colour in (
        (shift.reference_scores, "training data", KNOWN),
        (shift.query_scores, "query", QUERY),
    ):
        _histogram(axes, scores, edges, colour, f"{name} ({len(scores):,} cells)")
    axes.set(xlabel="score for being of the query", ylabel="share of cells")
    verdict = "differs" if shift.differs else "not shown to differ"
    axes.set_title(f"AUROC {shift.auroc:.2f} ({shift.low:.2f} to {shift.high:.2f}): {verdict}", loc="left", fontsize=9)
    return _finished(figure, axes)


def _axes(inches: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(inches, height), dpi=DPI, layout="constrained")
    return figure, figure.add_subplot()


def _histogram(axes: Axes, values: NDArray[np.floating], edges: NDArray[np.float64], colour: str, label: str) -> None:
    shares, bins = np.full(len(values), 1 / len(values)), edges.tolist()
    axes.hist(values, bins=bins, weights=shares, histtype="stepfilled", color=colour, alpha=0.35, label=label)
    axes.hist(values, bins=bins, weights=shares, histtype="step", color=colour, linewidth=1.2)


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    Legend.of(axes).beside(figure)
    return figure


def _absent(text: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 2.0), dpi=DPI)
    figure.text(0.5, 0.5, title(text, 4.6, 9), ha="center", va="center", fontsize=9)
    return figure
