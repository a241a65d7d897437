"""Tables, figures and report.md, drawn from a Comparison."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from frostline.comparison import Comparison
from frostline.significance import CONFIDENCE, PairedTest, against

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too light on white; safe for colour-blind eyes
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "P", "X", "v")
DPI = 150


def markdown_table(table: pd.DataFrame) -> str:
    """Pipe table of a frame of text."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def _shown(name: str) -> str:
    """Class name as a figure can show it: matplotlib hides names with a leading underscore from legends."""
    return f" {name}" if name.startswith("_") else name


def _room(comparison: Comparison) -> float:
    """Inches that the longest class name needs."""
    return 0.07 * max(len(name) for name in comparison.classes)


def umap_figure(comparison: Comparison, strategy: str) -> Figure:
    """UMAP of the test cells of the first repeat, in the representation that a strategy classifies from.

    Colour and marker show the true class, a black ring a wrong prediction. Where the record has no map,
    since fewer than five cells tested, the figure says so.
    """
    from matplotlib.figure import Figure

    record = comparison.of(strategy)[0]
    if record.umap is None:
        figure = Figure(figsize=(6.2, 2.0), dpi=DPI)
        figure.text(0.5, 0.5, f"{strategy}: NA, {len(record.cells)} test cells are too few for a UMAP", ha="center")
        return figure
    labels = np.array(record.labels)
    wrong = labels != np.array(record.predicted)
    figure = Figure(figsize=(6.2 + _room(comparison), 4.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    size = float(np.clip(8_000 / len(labels), 3, 36))
    for i, name in enumerate(comparison.classes):
        points = record.umap[labels == name]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=size,
            c=COLOURS[i % len(COLOURS)],
            marker=MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
            linewidths=0,
            alpha=0.85,
            label=f"{_shown(name)} ({len(points)})",
            rasterized=len(labels) > 5_000,
        )
    rings = record.umap[wrong]
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
    axes.set_title(f"{strategy}: {len(labels)} test cells of {record.dataset}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def confusion_figure(comparison: Comparison, strategy: str) -> Figure:
    """Confusion matrix: counts in the cells, shade by share of the true class."""
    from matplotlib.figure import Figure

    counts = comparison.confusion(strategy)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    n, names = len(counts), [_shown(name) for name in comparison.classes]
    figure = Figure(
        figsize=(2.0 + 0.46 * n + _room(comparison), 1.2 + 0.40 * n + 0.7 * _room(comparison)),
        dpi=DPI,
        layout="constrained",
    )
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(n), names, fontsize=8)
    axes.set(xlabel="predicted class", ylabel="true class")
    repeats = f", {len(comparison.repeats)} repeats" if len(comparison.repeats) > 1 else ""
    axes.set_title(f"{strategy}: {counts.sum()} test cells{repeats}", loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.7)
    return figure


def png(figure: Figure) -> bytes:
    """Figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def image_html(figure: Figure, alt: str) -> str:
    """Figure as an HTML image with an alternative text."""
    import base64
    import html

    data = base64.b64encode(png(figure)).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" style="max-width:100%" src="data:image/png;base64,{data}">'


def reading(comparison: Comparison) -> str:
    """Say in words what the leaderboard shows, how sure one may be, and what to take.

    Returns
    -------
    str
        One paragraph: the best macro-F1 with its interval, the paired tests against it, a verdict.
    """
    first = [record for record in comparison.records if record.repeat == comparison.repeats[0]]
    predictions = {record.strategy: record.predicted for record in first}
    return reading_of(comparison.leaderboard(), first[0].labels, predictions, len(comparison.repeats))


def reading_of(
    board: pd.DataFrame, labels: Sequence[str], predictions: Mapping[str, Sequence[str]], n_repeats: int
) -> str:
    """Write the paragraph of `reading` from the leaderboard and the predictions of the first repeat.

    Parameters
    ----------
    board
        Columns strategy, macro_f1, seconds and trainable_parameters, best first.
    labels, predictions
        True classes of the test cells, and by strategy the predicted ones.
    n_repeats
        How many repeats the means of the leaderboard are of.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"strategy": ["head"], "macro_f1": [1.0], "seconds": [2.0], "trainable_parameters": [10]}
    >>> reading_of(pd.DataFrame(row), ["B", "T"], {"head": ["B", "T"]}, 1)[:31]
    'Highest macro-F1: head, 1.0000.'
    """
    best = str(board["strategy"].iloc[0])
    interval, tests = against(best, labels, predictions)
    where = f"the {len(labels)} test cells" + (" of the first repeat" if n_repeats > 1 else "")
    text = (
        f"Highest macro-F1: {best}, {board['macro_f1'].iloc[0]:.4f}. On {where} its 95 % interval is "
        f"{interval.low:.3f} to {interval.high:.3f}"
    )
    if not tests:
        return text + " (bootstrap over cells)."
    found = []
    for name, test in tests.items():
        span = f"{test.interval.low:+.3f} to {test.interval.high:+.3f}"
        found.append(f"{name} {test.difference:+.4f} ({span}, p {_p(test.p)})")
    return (
        f"{_verdict(best, board, tests)} {text}, and it leads the others by: {'; '.join(found)} (paired bootstrap "
        "over cells, p adjusted by Holm)."
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _verdict(best: str, board: pd.DataFrame, tests: Mapping[str, PairedTest]) -> str:
    """What to take: the cheapest of the strategies that the test cannot tell from the best."""
    equals = [name for name, test in tests.items() if test.p >= 1 - CONFIDENCE]
    if not equals:
        return f"{best} is detectably better than every other on these cells."
    costs = board.set_index("strategy")
    cheapest = min([best, *equals], key=lambda name: float(costs.loc[name, "seconds"]))
    seconds, parameters = costs.loc[cheapest, "seconds"], costs.loc[cheapest, "trainable_parameters"]
    return (
        f"No detectable difference between {best} and {', '.join(equals)}: take the cheapest of them, "
        f"{cheapest} ({seconds:.1f} s, {parameters:,} trained parameters)."
    )


def report_markdown(comparison: Comparison) -> str:
    """report.md: what was compared, on what, the leaderboard, what to know before believing it."""
    record = comparison.records[0]
    sizes = record.sizes
    lines = [
        f"# Cell type annotation of {record.dataset}",
        "",
        f"Label column `{record.label_key}`, {len(record.classes)} classes. Profile `{record.profile}`, "
        f"seed {record.seed}, {len(comparison.repeats)} repeat(s). Stratified random split: {sizes['train']} training, "
        f"{sizes['validation']} validation and {sizes['test']} test cells, the same for every strategy; "
        f"{sizes['genes']} genes.",
        "",
        "## Leaderboard",
        "",
        markdown_table(comparison.table()),
        "",
        "Sorted by macro-F1 (mean F1 over the classes that have a test cell), then accuracy. Silhouette: of the "
        "true classes of the test cells in the representation that the strategy classifies from. Seconds: loading, "
        "embedding, fitting and predicting, as if the strategy had been run alone. NA: undefined.",
        "",
        "## Reading it",
        "",
        reading(comparison),
    ]
    if comparison.notes:
        lines += ["", "## Know before believing", "", *[f"- {note}" for note in comparison.notes]]
    checkpoints = sorted({str(r.parameters["checkpoint"]) for r in comparison.records if "checkpoint" in r.parameters})
    if "mini" in checkpoints:
        lines += [
            "",
            "The checkpoint `mini` is a small model for demonstration, not the official scGPT weights.",
        ]
    return "\n".join(lines) + "\n"
