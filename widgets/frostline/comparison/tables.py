"""Tables that readers are shown: frames of text, made of a Comparison's frames of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from frostline.comparison.glossary import explained
from frostline.comparison.grounds import MIN_CELLS, RELEVANT
from frostline.comparison.verdicts import spanned
from frostline.escaping import UNFORMULATED, for_html, html_table
from frostline.records import Finding, Record

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]
"""Heading and format of each column of numbers that is shown."""
STYLE = (
    ".frostline-leaderboard :is(th, td) {text-align: right !important; padding: 0.3em 0.8em; white-space: nowrap} "
    ".frostline-leaderboard :is(th, td):first-child {text-align: left !important}"
)


def as_text(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Columns of a table for a reader: heading and format of each; NA where a value is undefined.

    Examples
    --------
    >>> import pandas as pd
    >>> as_text(pd.DataFrame({"x": [0.25, None]}), {"x": ("X", "{:.1f}".format)})["X"].tolist()
    ['0.2', 'NA']
    """
    import pandas as pd

    shown = {
        heading: ["NA" if pd.isna(value) else to_text(value) for value in table[key]]
        for key, (heading, to_text) in columns.items()
    }
    return pd.DataFrame(shown, dtype=object)


def leaderboard(board: pd.DataFrame) -> pd.DataFrame:
    """Leaderboard, the columns that a reader is shown; report.csv has all metrics."""
    number = "{:.4f}".format
    wanted: Columns = {
        "strategy": ("Strategy", str),
        "macro_f1": ("Macro-F1", number),
        "interval": ("95 % interval", str),
        "accuracy": ("Accuracy", number),
        "auroc": ("AUROC", number),
        "ece": ("ECE", number),
        "silhouette": ("Silhouette", number),
        "seconds": ("Seconds", "{:.1f}".format),
        "trainable_parameters": ("Trained parameters", "{:,}".format),
        "peak_memory": ("Peak MB", _megabytes),
        **_on_gpu(board, "GPU MB"),
    }
    return _present(board.assign(interval=_intervals(board["macro_f1_low"], board["macro_f1_high"])), wanted)


def _megabytes(value: float) -> str:
    return f"{value / 2**20:,.0f}"


def _on_gpu(board: pd.DataFrame, heading: str) -> Columns:
    """Column of the memory on a GPU; none where nothing was computed on one."""
    return {"device_memory": (heading, _megabytes)} if board["device_memory"].notna().any() else {}


def _intervals(low: pd.Series, high: pd.Series, sign: str = "") -> list[str | None]:
    import pandas as pd

    return [None if pd.isna(a) else spanned(a, b, sign) for a, b in zip(low, high, strict=True)]


def with_words(table: pd.DataFrame, text: str, warnings: Sequence[str]) -> str:
    """HTML of the leaderboard, and above it what is said of it."""
    items = "".join(f"<li>{for_html(warning)}</li>" for warning in warnings)
    found = f'<ul class="{UNFORMULATED}">{items}</ul>' if warnings else ""
    board = explained(html_table(table, "frostline-leaderboard"))
    return (
        f'{found}<p class="{UNFORMULATED}">{for_html(text)}</p>'
        f'<div style="overflow-x:auto"><style>{STYLE}</style>{board}</div>'
    )


def tests(numbers: pd.DataFrame) -> pd.DataFrame:
    """Every pair of strategies, the smallest p first."""
    table = numbers.sort_values("p_adjusted", kind="stable")
    table["pair"] = table["first"] + " - " + table["second"]
    table["interval"] = _intervals(table["low"], table["high"], "+")
    return as_text(
        table,
        {
            "pair": ("Pair", str),
            "difference": ("Macro-F1 difference", "{:+.4f}".format),
            "interval": ("95 % interval", str),
            "p_adjusted": ("p (Holm)", _p),
            "p_equivalent": (f"p of {RELEVANT:g} or more", _p),
            "detectable": ("Would have shown", "{:.3f}".format),
            "mcnemar_p": ("McNemar p (Holm)", _p),
            "verdict": ("What it means", str),
        },
    )


def calibration(board: pd.DataFrame) -> pd.DataFrame:
    """Probabilities before and after temperature scaling, and what a confidence threshold buys."""
    number, percent = "{:.3f}".format, "{:.0%}".format
    wanted: Columns = {
        "strategy": ("Strategy", str),
        "log_loss": ("Log loss", number),
        "log_loss_scaled": ("Log loss, scaled", number),
        "brier": ("Brier", number),
        "brier_scaled": ("Brier, scaled", number),
        "ece": ("ECE", number),
        "ece_scaled": ("ECE, scaled", number),
        "temperature": ("Temperature", "{:.2f}".format),
        "aurc": ("AURC", number),
        "threshold_95": ("Confidence for 95 %", number),
        "coverage_95": ("covers (95 %)", percent),
        "accuracy_95": ("at accuracy (95 %)", percent),
        "threshold_99": ("Confidence for 99 %", number),
        "coverage_99": ("covers (99 %)", percent),
        "accuracy_99": ("at accuracy (99 %)", percent),
    }
    return _present(board, wanted)


def prediction_sets(numbers: pd.DataFrame) -> pd.DataFrame:
    """A row a strategy: how often its sets hold the class, over all test cells and where they do least; their size."""
    import pandas as pd

    rows = []
    for name, part in numbers.groupby("strategy", sort=False):
        row: dict[str, Any] = {"strategy": name, "calibration": span(part["calibration_cells"])}
        if part["coverage"].notna().all():
            weights = part["cells"] / part["cells"].sum()
            row |= {key: float((part[key] * weights).sum()) for key in ("coverage", "size", "singles")}
            row["lowest"] = _lowest(part)
        rows.append(row)
    keys = ["strategy", "coverage", "lowest", "size", "singles", "calibration"]
    percent = "{:.0%}".format
    return as_text(
        pd.DataFrame(rows, columns=keys),
        {
            "strategy": ("Strategy", str),
            "coverage": ("Holds the class", percent),
            "lowest": ("Least", str),
            "size": ("Classes in a set", "{:.2f}".format),
            "singles": ("Sets of one class", percent),
            "calibration": ("Calibration cells, by repeat", str),
        },
    )


def _lowest(part: pd.DataFrame) -> str | None:
    """Lowest coverage of a group, or repeat, of enough cells, and where."""
    enough = part[part["cells"] >= MIN_CELLS]
    if enough.empty:
        return None
    row = enough.loc[enough["coverage"].astype(float).idxmin()]
    where = f"repeat {row['repeat'] + 1}" if row["group"] is None else row["group"]
    return f"{row['coverage']:.0%} ({where})"


def span(whole: pd.Series) -> str:
    """Smallest and largest of whole numbers, or the one that all are."""
    low, high = whole.min(), whole.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _present(numbers: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Those columns that were measured."""
    return as_text(numbers, {key: value for key, value in columns.items() if key in numbers})


def class_metrics(numbers: pd.DataFrame) -> pd.DataFrame:
    """F1 by class and strategy, means over the repeats where it is defined, beside the support."""
    import pandas as pd

    classes, strategies = sorted(set(numbers["class"])), numbers["strategy"].unique()
    support = numbers.groupby("class")["support"].sum() / len(strategies)
    means = numbers.pivot_table(index="class", columns="strategy", values="f1", aggfunc="mean", dropna=False)
    text = {"Class": classes, "Test cells": [f"{support[name]:,.0f}" for name in classes]}
    for name in strategies:
        values = means[name].reindex(classes)
        text[name] = ["NA" if pd.isna(value) else f"{value:.3f}" for value in values]
    return pd.DataFrame(text)


def costs(board: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Where the seconds go, means over repeats; memory, parameters, bytes."""
    stages = [f"{stage}_seconds" for stage in ("load", "embed", "fit", "predict")]
    measured = [name for name in stages if name in metrics]
    means = metrics.groupby("strategy", sort=False)[measured].mean()
    whole = ["strategy", "trainable_parameters", "total_parameters", "peak_memory", "device_memory", "saved_bytes"]
    second = "{:.2f}".format
    return as_text(
        board[whole].join(means, on="strategy"),
        {
            "strategy": ("Strategy", str),
            **{name: (name.removesuffix("_seconds").capitalize() + " (s)", second) for name in measured},
            "peak_memory": ("Peak memory (MB)", _megabytes),
            **_on_gpu(board, "Peak memory of the GPU (MB)"),
            "trainable_parameters": ("Trained parameters", "{:,}".format),
            "total_parameters": ("All parameters", "{:,}".format),
            "saved_bytes": ("Saved (kB)", lambda value: f"{value / 1000:,.0f}"),
        },
    )


def searches(tried: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """What each strategy was allowed to try, and what it chose in each repeat."""
    import pandas as pd

    rows = []
    for name, records in tried.items():
        fixed = ", ".join(f"{key} {_said(value)}" for key, value in records[0].parameters.items()) or "none"
        chosen = ["; ".join(f"{key} {value:g}" for key, value in record.chosen.items()) for record in records]
        text = " / ".join(chosen) if any(chosen) else "nothing"
        rows.append({"Strategy": name, "Fixed": fixed, "Searched": records[0].searched, "Chosen, by repeat": text})
    return pd.DataFrame(rows)


def _said(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def label_efficiency(numbers: pd.DataFrame) -> pd.DataFrame:
    """Macro-F1 with its interval, a row a strategy and a column a budget of labelled cells per class."""
    import pandas as pd

    sizes = ["all" if pd.isna(value) else str(value) for value in numbers["budget"]]
    text: dict[str, list[str]] = {"Strategy": list(dict.fromkeys(numbers["strategy"]))}
    for budget in dict.fromkeys(sizes):
        rows = numbers[[size == budget for size in sizes]].set_index("strategy")
        spans = dict(zip(rows.index, _intervals(rows["low"], rows["high"]), strict=True))
        text[budget] = [
            "NA"
            if name not in spans  # it was studied with other budgets
            else f"{rows.loc[name, 'macro_f1']:.3f}" + ("" if spans[name] is None else f" ({spans[name]})")
            for name in text["Strategy"]
        ]
    return pd.DataFrame(text)


def unknown_cells(numbers: pd.DataFrame) -> pd.DataFrame:
    """How well cells of a withheld class stand out, means over repeats."""
    scores = ["auroc_confidence", "fpr95_confidence", "auroc_distance", "fpr95_distance"]
    means = numbers.groupby(["strategy", "unseen"], sort=False)[["n_unseen", *scores]].mean().reset_index()
    number = "{:.3f}".format
    return as_text(
        means,
        {
            "strategy": ("Strategy", str),
            "unseen": ("Withheld class", str),
            "n_unseen": ("Its test cells", "{:,.0f}".format),
            "auroc_confidence": ("AUROC by confidence", number),
            "fpr95_confidence": ("FPR at 95 % recall", number),
            "auroc_distance": ("AUROC by distance", number),
            "fpr95_distance": ("FPR at 95 % recall ", number),
        },
    )


def findings(found: Sequence[Finding]) -> pd.DataFrame:
    """What the checks found, why it matters, what to do."""
    import pandas as pd

    rows = [
        {"Check": f.code, "Severity": f.severity, "Found": f.title, "Why it matters": f.explanation, "Remedy": f.remedy}
        for f in found
    ]
    return pd.DataFrame(rows, columns=["Check", "Severity", "Found", "Why it matters", "Remedy"])


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
