"""Figures, drawn from a Comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.classes import class_numbers, over_all_classes
from frostline.comparison import palette
from frostline.comparison.comparisons import Comparison
from frostline.comparison.drawing import DPI, scatter_kinds
from frostline.comparison.drawing import image_html as image_html
from frostline.comparison.drawing import png as png
from frostline.comparison.lettering import Grid, Legend, named, title, width
from frostline.comparison.palette import style
from frostline.errors import FrostlineError, unknown
from frostline.escaping import for_figure
from frostline.evaluation import calibration
from frostline.evaluation.islands import narrowed
from frostline.records import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def umap_figure(comparison: Comparison, strategy: str) -> Figure:
    """UMAP of the test cells of the first repeat, in the representation that a strategy classifies from.

    Colour and marker show the true class, a black ring a wrong prediction. Wide gaps are narrowed. Where the record
    has no map, since fewer than five cells tested, the figure says so.
    """
    from matplotlib.figure import Figure

    record = comparison.of(strategy)[0]
    if record.umap is None:
        figure = Figure(figsize=(6.2, 2.0), dpi=DPI)
        said = f"{for_figure(strategy)}: NA, {len(record.cells)} test cells are too few for a UMAP"
        figure.text(0.5, 0.5, title(said, 6.0, 10), ha="center")
        return figure
    labels = np.array(record.labels)
    wrong = labels != np.array(record.predicted)
    figure = Figure(figsize=(5.4, 4.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(8_000 / len(labels), 3, 36))
    points = narrowed(record.umap)
    scatter_kinds(axes, points, labels, comparison.classes, size, alpha=0.85, rasterized=len(labels) > 5_000)
    rings = points[wrong]
    axes.scatter(
        rings[:, 0],
        rings[:, 1],
        s=size * 2.6,
        facecolors="none",
        edgecolors="black",
        linewidths=0.8,
        label=f"wrongly predicted ({int(wrong.sum())})",
    )
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    said = f"{for_figure(strategy)}: {len(labels)} test cells of {for_figure(record.dataset)}"
    axes.set_title(title(said, 5.0, 11), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    Legend.of(axes).beside(figure)
    return figure


COLOURINGS = ("label", "prediction", "correctness", "confidence")
"""What the cells of `umaps_figure` may be coloured by."""


def umaps_figure(comparison: Comparison, strategies: Sequence[str], colour: str = "label") -> Figure:
    """UMAPs of the test cells of the first repeat, one for each strategy, side by side; wide gaps are narrowed.

    Parameters
    ----------
    comparison, strategies
        Whose representations are shown; those without a map say so.
    colour
        One of `COLOURINGS`: true class, predicted class, whether that is right, or the probability of the
        predicted class. Markers tell classes, and right from wrong, too.

    Raises
    ------
    FrostlineError
        The colouring or a strategy is unknown.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> len(umaps_figure(frostline.compare([record]), ["pca_logistic"], "correctness").axes)
    1
    """
    from matplotlib.figure import Figure

    if colour not in COLOURINGS:
        raise unknown("colouring", colour, COLOURINGS)
    inches = 3.9 * len(strategies) + (0.9 if colour == "confidence" else 0.2)
    figure = Figure(figsize=(inches, 3.9), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(strategies), squeeze=False).ravel()
    drawn = None
    shown = named(strategies)
    for axes, name in zip(grid, strategies, strict=True):
        record = comparison.of(name)[0]
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel("UMAP 1", fontsize=8)
        axes.set_ylabel("UMAP 2", fontsize=8)
        axes.set_title(title(shown[name], 3.6, 10), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if record.umap is None:
            axes.text(0.5, 0.5, "NA: no map of these cells", ha="center", transform=axes.transAxes, fontsize=9)
        elif colour == "confidence":
            drawn = _scatter_confidence(axes, narrowed(record.umap), record)
        else:
            size = float(np.clip(8_000 / len(record.cells), 2, 30))
            classes = palette.styles([record.labels.count(name) for name in comparison.classes])
            looks = (palette.RIGHT_WRONG if colour == "correctness" else classes).__getitem__
            kinds, names = _kinds(comparison, record, colour)
            points = narrowed(record.umap)
            scatter_kinds(axes, points, kinds, names, size, looks=looks, counted=False, alpha=0.85, rasterized=True)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(grid), label="probability of the predicted class", shrink=0.8)
    Legend.of(*grid).beside(figure)
    return figure


def _kinds(comparison: Comparison, record: Record, colour: str) -> tuple[np.ndarray, list[str]]:
    """Kind of each test cell, and all kinds in order."""
    if colour == "correctness":
        right = np.array(record.labels) == np.array(record.predicted)
        return np.where(right, "right", "wrong"), ["right", "wrong"]
    return np.array(record.labels if colour == "label" else record.predicted), list(comparison.classes)


def _scatter_confidence(axes: Axes, places: np.ndarray, record: Record) -> Any:
    confidence = record.probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")  # the doubtful ones on top
    size = float(np.clip(8_000 / len(order), 2, 30))
    points = places[order]
    look: dict[str, Any] = {"cmap": palette.RAMP, "vmin": 0, "vmax": 1, "linewidths": 0, "rasterized": True}
    return axes.scatter(points[:, 0], points[:, 1], s=size, c=confidence[order], **look)


def confusion_figure(comparison: Comparison, strategy: str, *, percent: bool = False) -> Figure:
    """Confusion matrix: counts (or percent of the true class) in the cells, shade by share of the true class."""
    from matplotlib.figure import Figure

    counts = comparison.confusion(strategy)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    names = list(named(comparison.classes).values())
    room = width(names, 8)
    across, down = Grid.of(len(names), 0.46, 2.0 + room), Grid.of(len(names), 0.40, 1.2 + 0.7 * room)
    repeats = f", {len(comparison.repeats)} repeats" if len(comparison.repeats) > 1 else ""
    unit = "percent of the true class, " if percent else ""
    said = title(f"{for_figure(strategy)}: {unit}{counts.sum()} test cells{repeats}", max(across.inches, 3.0), 11)
    inches = max(2.0 + room + across.inches, 0.7 + room + width(said.split("\n"), 11))
    figure = Figure(figsize=(inches, max(2.8, 1.2 + down.inches + 0.7 * room)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True) if down.holds_numbers else ():
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{100 * shares[row, column]:.0f}" if percent else f"{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(**across.ticks(names), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(**down.ticks(names))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(said, loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)
    return figure


MEASURED = {
    "groups": "mean over groups, 95 % interval for new groups",
    "splits": "mean over splits, 95 % interval for new cells",
    "cells": "95 % interval of these fitted models",
    "none": "too few groups for an interval",
}
"""What is independent -> what the points and lines of the intervals are."""


def interval_figure(comparison: Comparison) -> Figure:
    """Macro-F1 of every strategy with its 95 % interval, where there is one; the best on top.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> len(interval_figure(frostline.compare([record])).axes)
    1
    """
    import pandas as pd
    from matplotlib.figure import Figure

    board = comparison.leaderboard()
    names = [str(name) for name in board["strategy"]]
    shown = list(named(names).values())
    figure = Figure(figsize=(5.2 + width(shown, 9), 1.4 + 0.32 * len(names)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for i, (_, row) in enumerate(board.iterrows()):
        low, high = row["macro_f1_low"], row["macro_f1_high"]
        if not pd.isna(low):
            axes.plot([low, high], [i, i], color="#444444", linewidth=1.6, zorder=1)
        look = style(comparison.strategies.index(names[i]))
        axes.scatter(row["macro_f1"], i, s=42, color=look["color"], marker=look["marker"], zorder=2)
        right = row["macro_f1"] if pd.isna(high) else high
        axes.annotate(f"{row['macro_f1']:.3f}", (right, i), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), shown, fontsize=9)
    axes.invert_yaxis()
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel(f"macro-F1, {MEASURED[comparison.ground.unit]}")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def reliability_figure(comparison: Comparison) -> Figure:
    """Confidence against accuracy for every strategy, before and after temperature scaling; all repeats pooled."""
    from matplotlib.figure import Figure

    names = named(comparison.strategies, 40)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(3.2, 2.35 * columns), 2.7 * rows + 0.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (name, shown) in zip(grid, names.items(), strict=False):
        _draw_reliability(axes, comparison, name)
        axes.set_title(title(shown, 2.1, 9), fontsize=9, loc="left")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(names) - columns) : len(names)]:
        axes.tick_params(labelbottom=True)  # what stands below them may be hidden
    figure.supxlabel("confidence (probability of the predicted class)", fontsize=9)
    figure.supylabel("share predicted right", fontsize=9)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _draw_reliability(axes: Axes, comparison: Comparison, name: str) -> None:
    raw, scaled, columns = [], [], []
    for record in comparison.of(name):
        temperature = record.metrics.get("temperature")
        raw.append(over_all_classes(record.probabilities, record.classes, comparison.classes))
        scaled.append(raw[-1] if temperature is None else calibration.scale(raw[-1], temperature))
        columns.append(class_numbers(record.labels, comparison.classes))
    truth = np.concatenate(columns)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for label, parts, look in (("as predicted", raw, style(0)), ("temperature-scaled", scaled, style(14))):
        found = calibration.reliability(np.concatenate(parts), truth)
        full = found.cells > 0
        points = found.confidence[full], found.accuracy[full]
        axes.plot(*points, linewidth=0.9, alpha=0.6, color=look["color"], linestyle=look["linestyle"])
        sizes = 6 + 90 * found.cells[full] / found.cells.sum()  # a point of few cells says little
        axes.scatter(*points, s=sizes, color=look["color"], marker=look["marker"], linewidths=0, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def risk_coverage_figure(comparison: Comparison) -> Figure:
    """Share of errors among the most confident cells against the share of cells kept; all repeats pooled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for i, (name, shown) in enumerate(named(comparison.strategies).items()):
        records = comparison.of(name)
        probabilities = np.concatenate(
            [over_all_classes(r.probabilities, r.classes, comparison.classes) for r in records]
        )
        columns = np.concatenate([class_numbers(r.labels, comparison.classes) for r in records])
        coverage, risk = calibration.risk_coverage(probabilities, columns)
        look = {"markersize": 4, "linewidth": 1.3, **style(i)}
        axes.plot(coverage, risk, markevery=max(1, len(risk) // 8), label=shown, **look)
    axes.set(xlabel="share of test cells kept, most confident first", ylabel="share of them predicted wrong")
    axes.set(xlim=(0, 1.01), ylim=(0, None))
    _finish(figure, axes)
    return figure


def label_efficiency_figure(comparison: Comparison) -> Figure:
    """Macro-F1 against labelled cells per class, with 95 % intervals; the last point has all cells.

    Raises
    ------
    FrostlineError
        Label efficiency was not measured.
    """
    from matplotlib.figure import Figure

    table = comparison.label_efficiency()
    if table.empty:
        raise FrostlineError("label efficiency was not measured: no record has a budget")
    budgets = [int(value) for value in sorted(table["budget"].dropna().unique())]
    place = {budget: i for i, budget in enumerate([*budgets, None])}
    names = list(dict.fromkeys(table["strategy"]))
    figure = Figure(figsize=(5.0, 3.9), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for i, (name, shown) in enumerate(named(names).items()):
        rows = table[table["strategy"] == name]
        x = [place[None if row is None else row] for row in _plain_budgets(rows)]
        shift = 0.05 * (i - (len(names) - 1) / 2)
        y, low, high = (rows[key].to_numpy(dtype=float, na_value=np.nan) for key in ("macro_f1", "low", "high"))
        span = np.nan_to_num([y - low, high - y])  # none where there is no interval
        look = style(comparison.strategies.index(name))
        axes.errorbar(
            np.array(x) + shift,
            y,
            yerr=np.maximum(span, 0),
            capsize=2,
            markersize=5,
            linewidth=1.3,
            label=shown,
            **look,
        )
    axes.set_xticks(range(len(place)), [*map(str, budgets), "all"])
    axes.set(xlabel="labelled cells per class, validation included", ylabel="macro-F1, 95 % interval")
    _finish(figure, axes)
    return figure


def _plain_budgets(rows: pd.DataFrame) -> list[int | None]:
    missing = rows["budget"].isna()
    return [None if absent else int(value) for value, absent in zip(rows["budget"], missing, strict=True)]


def unknown_cells_figure(comparison: Comparison) -> Figure:
    """AUROC with which cells of a withheld class stand out, by strategy and class; mean over repeats.

    Raises
    ------
    FrostlineError
        It was not measured.
    """
    from matplotlib.figure import Figure

    table = comparison.unknown_cells()
    if table.empty:
        raise FrostlineError("unknown cells were not measured: no record has a withheld class")
    names, classes = list(dict.fromkeys(table["strategy"])), sorted(set(table["unseen"]))
    rows, columns = (list(named(each).values()) for each in (names, classes))
    across = Grid.of(len(classes), 0.62, 2.6 + width(rows, 8))
    height = 2.2 + 0.72 * len(names) + 0.7 * width(columns, across.points)
    figure = Figure(figsize=(2.6 + across.inches + width(rows, 8), height), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, 1, sharex=True)
    for axes, (means_of, key) in zip(
        grid, (("low confidence", "auroc_confidence"), ("far from the training cells", "auroc_distance")), strict=True
    ):
        means = table.pivot_table(index="strategy", columns="unseen", values=key, aggfunc="mean")
        values = means.reindex(index=names, columns=classes).to_numpy(dtype=float, na_value=np.nan)
        image = axes.imshow(values, cmap=palette.RAMP, vmin=0.5, vmax=1, aspect="auto")
        for row, column in np.ndindex(values.shape) if across.holds_numbers else ():
            value = values[row, column]
            text, colour = ("NA", "black") if np.isnan(value) else (f"{value:.2f}", "white" if value < 0.8 else "black")
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set_yticks(range(len(names)), rows, fontsize=8)
        axes.set_xticks(**across.ticks(columns))
        axes.tick_params(axis="x", rotation=45)
        axes.set_title(f"score: {means_of}", loc="left", fontsize=9)
    for label in grid[1].get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=list(grid), label="AUROC (0.5 is chance)", shrink=0.8)
    return figure


def _finish(figure: Figure, axes: Axes) -> None:
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    Legend.of(axes).beside(figure)
