"""What abbreviations and names of scores mean, said where they stand: in a table's headings and below it."""

from __future__ import annotations

import re

from frostline.escaping import for_html

TERMS = {
    "Macro-F1": "mean of the classes' F1, each the harmonic mean of precision and recall: rare classes count as much "
    "as common ones; 1 is best",
    "AUROC": "area under the receiver operating characteristic: how often a cell of the class gets a higher "
    "probability for it than a cell of another class; 0.5 is chance, 1 is best",
    "ECE": "expected calibration error: how far confidence and accuracy lie apart on average; 0 is best",
    "Silhouette": "how much nearer cells lie to their own class than to the nearest other one, in the representation "
    "that the strategy classifies from; -1 to 1, 1 is best",
    "AURC": "area under the risk-coverage curve: the share of errors among the most confident cells, averaged over how "
    "many of them are kept; 0 is best",
    "Brier": "Brier score: squared distance of the probabilities to what was right, summed over classes; 0 to 2, 0 is "
    "best",
    "Log loss": "minus the mean logarithm of the probability that the true class got; 0 is best",
    "F1": "harmonic mean of precision and recall of a class; 1 is best",
    "McNemar": "McNemar's exact test: whether one strategy is right more often on the cells where just one of two is",
    "Holm": "p-values are adjusted by Holm's method for the number of pairs",
    "NA": "not available: undefined here",
}
"""Term as it stands in headings -> what it means."""


def explained(html: str) -> str:
    """Explain the terms in a table's headings and caption: as titles, and in a list below that opens with the keyboard.

    Parameters
    ----------
    html
        A table.

    Examples
    --------
    >>> html = explained("<table><thead><tr><th>ECE, scaled</th></tr></thead></table>")
    >>> html.partition("<th>")[2].partition(", scaled")[0][:50]
    '<abbr title="expected calibration error: how far c'
    >>> html.count("<dt>")
    1
    """
    head, end, rest = html.partition("</thead>")
    found = [term for term in TERMS if _pattern(term).search(re.sub("<[^>]*>", " ", head))]
    if "<td>NA</td>" in rest:
        found.append("NA")
    for term in found:
        said = for_html(TERMS[term])
        head = _in_headings(head, term, f'<abbr title="{said}">{term}</abbr>')
    if not found:
        return html
    items = "".join(f"<dt>{term}</dt><dd>{for_html(TERMS[term])}</dd>" for term in dict.fromkeys(found))
    names = ", ".join(dict.fromkeys(found))
    below = f"<details class='frostline-terms'><summary>{names}: what is meant</summary><dl>{items}</dl></details>"
    return f"{head}{end}{rest}{below}"


def _pattern(term: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(term)}(?![\w-])")


def _in_headings(head: str, term: str, marked: str) -> str:
    """Mark a term in the cells of a heading, and in no tag."""

    def mark(cell: re.Match[str]) -> str:
        return f"{cell[1]}{_pattern(term).sub(lambda _: marked, cell[2])}{cell[3]}"

    return re.sub(r"(<th[^>]*>)([^<]*)(</th>)", mark, head)
