"""What a notebook shows and report.md says of a Comparison, in words and with its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from frostline.comparison import tables
from frostline.comparison.comparisons import Comparison
from frostline.comparison.glossary import explained
from frostline.comparison.grounds import ALPHA, MIN_CELLS, RELEVANT
from frostline.comparison.verdicts import spanned
from frostline.escaping import UNFORMULATED, for_code, for_html, for_markdown, html_table, one_line, visible
from frostline.evaluation.calibration import N_BINS
from frostline.evaluation.prediction_sets import COVERED, FEWEST
from frostline.records import Finding

if TYPE_CHECKING:
    import pandas as pd

SPLITS = {
    "stratified": "Stratified random split",
    "group": "Split by group, whole groups held out",
    "cross": "Trained on one data set, tested on another",
}
MEANS = {
    "groups": "mean over the groups of the macro-F1 of their own cells",
    "splits": "mean over the splits",
    "cells": "mean over the repeats",
    "none": "mean over the repeats",
}
"""What is independent -> of what a score is the mean."""
TESTS = {
    "groups": "Student's t over groups, with the noise of training",
    "splits": "Student's t over splits, with the noise of training",
    "cells": "swapped predictions of cells",
}
"""What is independent -> how differences are tested."""
SETS = (
    " Holds the class: share of the test cells whose set has theirs; least: of a group, or repeat, with "
    f"{MIN_CELLS} test cells or more; prediction_sets.csv has all."
)


def markdown_table(table: pd.DataFrame) -> str:
    """Pipe table of a frame of text."""
    head, *rows = [list(map(for_markdown, row)) for row in [table.columns, *table.to_numpy().tolist()]]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


class Shown:
    """What a notebook shows: HTML in a browser, text in a terminal."""

    def __init__(self, html: str, text: str) -> None:
        self._html, self._text = html, text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def shown(table: pd.DataFrame, *, index: bool = False) -> Shown:
    """Table for a notebook, in which whatever the classes and columns are called stays text.

    Parameters
    ----------
    table
        Any frame; numbers are shown as pandas shows them.
    index
        Whether the names of the rows are shown too.

    Examples
    --------
    >>> import pandas as pd
    >>> "<b>" in shown(pd.DataFrame({"Class": ["<b>"]}))._repr_html_()
    False
    >>> shown(pd.DataFrame({"Class": ["B", "T"], "Cells": [7, 12]}))
    Class  Cells
        B      7
        T     12
    """
    html = f'<div style="overflow-x:auto">{explained(html_table(table, index=index))}</div>'
    return Shown(html, visible(table).to_string(index=index))


def words(*texts: str) -> Shown:
    """Sentences for a notebook: one is a paragraph, several are a list.

    Examples
    --------
    >>> words("B cells lead.", "So do T cells.")
    - B cells lead.
    - So do T cells.
    """
    if len(texts) == 1:
        return Shown(f'<p class="{UNFORMULATED}">{for_html(texts[0])}</p>', one_line(texts[0]))
    items = "".join(f"<li>{for_html(text)}</li>" for text in texts)
    return Shown(
        f'<ul class="{UNFORMULATED}">{items}</ul>' if items else "", "\n".join(f"- {one_line(t)}" for t in texts)
    )


def found(findings: Sequence[Finding]) -> Shown:
    """What the checks found, for a notebook: a paragraph each.

    Examples
    --------
    >>> found([])
    The checks found nothing.
    """
    if not findings:
        return words("The checks found nothing.")
    html = "".join(
        f'<p class="{UNFORMULATED}"><strong>{for_html(f.severity)}: {for_html(f.title)}.</strong> '
        f"{for_html(f.explanation)} <em>{for_html(f.remedy)}</em></p>"
        for f in findings
    )
    texts = (f"{f.severity}: {f.title}. {f.explanation} {f.remedy}" for f in findings)
    return Shown(html, "\n".join(map(one_line, texts)))


def tests_table(comparison: Comparison) -> pd.DataFrame:
    """Every pair of strategies for a reader, the smallest p first."""
    return tables.tests(comparison.test_table())


def calibration_table(comparison: Comparison) -> pd.DataFrame:
    """Probabilities before and after temperature scaling, and what a confidence threshold buys."""
    return tables.calibration(comparison.leaderboard())


def prediction_sets_table(comparison: Comparison) -> pd.DataFrame:
    """How often prediction sets hold the class of a test cell, and how large they are, a row a strategy."""
    return tables.prediction_sets(comparison.prediction_sets())


def sets_in_words(comparison: Comparison) -> str:
    """Say what prediction sets are, and what of their coverage is promised.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> sets_in_words(frostline.compare([record])).partition(": ")[2]
    'promised for new cells of the same origin, on average over calibrations.'
    """
    numbers = comparison.prediction_sets()
    if numbers["limit"].isna().all():
        return f"No prediction sets: it takes {FEWEST} validation cells or more to calibrate them."
    text = f"Sets of classes that are to hold the class of at least {COVERED:.0%} of the cells"
    calibrating = numbers["calibration_groups"]
    if comparison.records[0].split_kind == "stratified":
        return f"{text}: promised for new cells of the same origin, on average over calibrations."
    if calibrating.isna().any():
        return f"{text}: nothing is promised for cells of another origin than those that calibrated."
    few = f"calibrated on {tables.span(calibrating)} of them, and a promise takes {FEWEST} or more"
    return f"{text}: for new groups that is no promise{f'; {few}' if calibrating.min() < FEWEST else ''}."


def class_metrics_table(comparison: Comparison) -> pd.DataFrame:
    """F1 by class and strategy, means over the repeats where it is defined, beside the support."""
    return tables.class_metrics(comparison.class_metrics())


def costs_table(comparison: Comparison) -> pd.DataFrame:
    """Where the seconds go, memory, parameters, bytes."""
    return tables.costs(comparison.leaderboard(), comparison.metrics())


def searches_table(comparison: Comparison) -> pd.DataFrame:
    """What each strategy was allowed to try, and what it chose in each repeat."""
    return tables.searches({name: comparison.of(name) for name in comparison.strategies})


def label_efficiency_table(comparison: Comparison) -> pd.DataFrame:
    """Macro-F1 with its interval, a row a strategy and a column a budget of labelled cells per class."""
    return tables.label_efficiency(comparison.label_efficiency())


def unknown_cells_table(comparison: Comparison) -> pd.DataFrame:
    """How well cells of a withheld class stand out, means over repeats."""
    return tables.unknown_cells(comparison.unknown_cells())


def findings_table(comparison: Comparison) -> pd.DataFrame:
    """What the checks found, why it matters, what to do."""
    return tables.findings(comparison.findings)


def reading(comparison: Comparison) -> str:
    """Say in words what to take, what the leaderboard shows, and how sure one may be.

    Returns
    -------
    str
        One paragraph: a verdict, the best macro-F1 with its interval, the paired tests against it.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> "Only pca_logistic was evaluated: there is nothing to choose from." in reading(frostline.compare([record]))
    True
    """
    best, evidence = comparison.best, comparison.evidence
    interval = comparison.intervals[best]
    text = f"{comparison.verdict} Highest macro-F1: {best}, {evidence.macro_f1[best]:.4f}"
    text += f" ({MEANS[evidence.unit]})" if len(comparison.repeats) > 1 or evidence.unit == "groups" else ""
    text += "." if interval is None else f", 95 % interval {spanned(interval.low, interval.high)}."
    leads = []
    for name in evidence.macro_f1:
        test = evidence.lead(best, name) if name != best else None
        if test is not None and test.interval is not None:
            p = "not testable" if test.p_adjusted is None else f"p {_p_in_words(test.p_adjusted)}"
            leads.append(
                f"{name} by {test.difference:+.4f} ({spanned(test.interval.low, test.interval.high, '+')}, {p})"
            )
    if not leads:
        return text
    return f"{text} It leads {'; '.join(leads)} ({TESTS[evidence.unit]}, p adjusted by Holm for all pairs)."


def _p_in_words(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def report_markdown(comparison: Comparison) -> str:
    """report.md: what was compared, on what, every table, what to know before believing it.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> record = frostline.evaluate(frostline.strategies.PcaLogistic(), pbmc, frostline.split(pbmc))
    >>> report_markdown(frostline.compare([record])).splitlines()[0]
    '# Cell type annotation of pbmc68k-reduced'
    """
    parts = [_heading(comparison), *_found(comparison), *_sections(comparison), *_notes(comparison)]
    return "\n\n".join(parts) + "\n"


def _heading(comparison: Comparison) -> str:
    record, sizes = comparison.records[0], comparison.records[0].sizes
    kind = SPLITS[record.split_kind] + (
        f" ({for_markdown(record.group_key)})" if record.group_key and record.groups else ""
    )
    return (
        f"# Cell type annotation of {for_markdown(record.dataset)}\n\n"
        f"Label column {for_code(record.label_key)}, {len(comparison.classes)} classes. Profile `{record.profile}`, "
        f"seed {record.seed}, {len(comparison.repeats)} repeat(s). {kind}: {sizes['train']} training, "
        f"{sizes['validation']} validation and {sizes['test']} test cells (first repeat), the same for every "
        f"strategy; {sizes['genes']} genes."
    )


def _sections(comparison: Comparison) -> list[str]:
    """Heading, table and explanation of everything that was measured."""
    scored = sorted({label for record in comparison.records for label in record.labels})
    parts: list[tuple[str, str, str]] = [
        ("Reading it", for_markdown(reading(comparison)), ""),
        (
            "Leaderboard",
            markdown_table(comparison.table()),
            f"Sorted by macro-F1 (mean F1 over the {len(scored)} classes that have a test cell; "
            f"{MEANS[comparison.ground.unit]}), then accuracy. "
            "AUROC: one against the rest, mean over classes. ECE: expected calibration error, before scaling. "
            "Silhouette: of the true classes of the test cells in the representation that the strategy classifies "
            "from. Seconds: loading, embedding, fitting and predicting, as if the strategy had been run alone. "
            "NA: undefined.",
        ),
    ]
    if comparison.tests:
        parts.append(
            (
                "Paired tests",
                markdown_table(tests_table(comparison)),
                _tested(comparison),
            )
        )
    parts.append(("Classes", markdown_table(class_metrics_table(comparison)), "F1, mean over repeats."))
    parts.append(
        (
            "Probabilities",
            markdown_table(calibration_table(comparison)),
            "Temperature and thresholds are chosen on validation cells. Brier: summed over classes, 0 to 2. ECE: "
            f"{N_BINS} bins of equal width. Confidence for 95 %: the lowest at which the validation cells that are as "
            "confident are 95 % right; covers: share of the test cells that are; at accuracy: share of those that "
            "is right.",
        )
    )
    explained = for_markdown(sets_in_words(comparison)) + SETS
    parts.append(("Prediction sets", markdown_table(prediction_sets_table(comparison)), explained))
    if comparison.budget_records:
        explained = "Macro-F1 with its 95 % interval against labelled cells per class, validation included."
        parts.append(("Label efficiency", markdown_table(label_efficiency_table(comparison)), explained))
    if comparison.unseen_records:
        explained = (
            "One class at a time is withheld from fitting; its test cells are to be distinguished from all others by "
            "low confidence, or by their distance to the training cells in the strategy's representation."
        )
        parts.append(("Unknown cells", markdown_table(unknown_cells_table(comparison)), explained))
    explained = "Every strategy's hyper-parameters, what it searched on training cells, and what it chose."
    parts.append(("Search", markdown_table(searches_table(comparison)), explained))
    explained = (
        "Peak memory: above what was in use before the strategy began. Parameters include a probe's coefficients."
    )
    parts.append(("Costs", markdown_table(costs_table(comparison)), explained))
    return [f"## {title}\n\n{body}" + (f"\n\n{text}" if text else "") for title, body, text in parts]


def _tested(comparison: Comparison) -> str:
    unit = comparison.ground.unit
    if unit == "none":
        return "Too few groups were tested for any test or interval."
    return (
        f"Of the macro-F1 difference: {TESTS[unit]}; p-values adjusted by Holm for all pairs; a strategy is called "
        f"better below {ALPHA:g}, and equivalent where two one-sided tests of {RELEVANT:g} are below it. "
        "Would have shown: the smallest difference that would have been detected. McNemar's exact test is of the "
        "accuracy in the first repeat, where cells are the unit. NA: cannot be tested."
    )


def _found(comparison: Comparison) -> list[str]:
    """What the checks found stands above everything that it qualifies."""
    return [f"## Checks\n\n{markdown_table(findings_table(comparison))}"] if comparison.findings else []


def _notes(comparison: Comparison) -> list[str]:
    parts = []
    if comparison.notes:
        parts.append("## Know before believing\n\n" + "\n".join(f"- {for_markdown(note)}" for note in comparison.notes))
    if "mini" in {str(record.parameters.get("checkpoint")) for record in comparison.records}:
        parts.append("The checkpoint `mini` is a small model for demonstration, not the official scGPT weights.")
    return parts
