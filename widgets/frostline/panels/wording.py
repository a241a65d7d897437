"""What messages ask for, said with the controls of a panel: most were written for whoever types a line of Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

from frostline.comparison.comparisons import Comparison

_NAME = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
"""A text as Python writes it."""

Rules = Sequence[tuple[str, str]]
"""What messages say, and what a panel says instead; `{}` stands for a name in it."""

SAME: Rules = (
    (r"(?i)load with gene_column=@ \(GENE_COLUMN of a notebook\)", "Choose {} under Gene names"),
    (r"say what they are: load_dataset\([^)]*values=@\), in a notebook VALUES = @, [^,;]*", "choose {} under Values"),
    (r"values=@ was said", "{} was chosen under Values"),
    (r"is values=@", "is {}"),
    (r"name one of: (?P<list>[^;()]*) \(layer=\.\.\.\)", "choose one of these under Layer: {list}"),
    (r"(?i)(?:load|name) (?:the )?counts \(layer=\.\.\.\)", "choose counts under Layer"),
    (r"name a layer \(layer=\.\.\.\)", "choose another under Layer"),
    (r"say so: values=@, for frostline annotate [^,;]*", "choose {} under Values"),
    (r"(?:load with )?gene_column=\.\.\.", "choose it under Gene names"),
)
"""Of all panels that read cells."""

COMPARING: Rules = (
    (r"Load with group_key=@ and split with kind=@", "Choose {} under Groups, and {} under Split"),
    (r"group_key=@ and kind=@ hold whole groups out", "{} under Groups, and {} under Split, hold whole groups out"),
    (r"load it with group_key=@", "choose {} under Groups"),
    (r"load with another group_key", "choose another column under Groups"),
    (r"this data set was loaded without group_key", "no column is chosen under Groups"),
    (r"load with another label_key", "choose another column under Labels"),
    (r"name the label column;", "choose the label column under Labels;"),
    (r"Split with kind='cross'", "Choose what suits the data under Split"),
    (r"kind 'group' holds", "a split by group holds"),
    (r"kind=@", "{} under Split"),
    (r"choose seed=(?P<list>\d+)", "set Seed to {list}"),
    *SAME,
)
"""Of the panels that compare strategies."""

ANNOTATING: Rules = (
    (r"write under another key \(key=@, [^)]*\)", "choose another Key, such as {}"),
    (r"replace it \(overwrite=True, --overwrite\)", "tick Replace labels under this key"),
    *SAME,
)
"""Of the panel that labels other cells."""

SAVING: Rules = ((r"let it be replaced \(overwrite=True\)", "tick Replace a file that is there"),)
"""Of the tab that writes a file."""


def for_panel(message: str, rules: Rules = COMPARING) -> str:
    """Return a message in the words of a panel.

    Parameters
    ----------
    message
        Of an error, or the remedy of a finding.
    rules
        Those of the panel.

    Examples
    --------
    >>> for_panel("Load with group_key='donor' and split with kind='group'.")
    'Choose donor under Groups, and group under Split.'
    >>> for_panel("choose kind='stratified', or choose seed=43")
    'choose stratified under Split, or set Seed to 43'
    """
    for pattern, said in rules:
        message = re.sub(pattern.replace("@", _NAME), lambda found, said=said: _filled(found, said), message)  # type: ignore[misc]
    return message


def _filled(found: re.Match[str], said: str) -> str:
    names = found.groupdict()
    quoted = [ast.literal_eval(text) for text in found.groups() if text and text[0] in "'\""]
    return said.format(*quoted, **names)


def held_out(column: str | None, tested: Mapping[int, Sequence[str]], most: int = 12) -> str:
    """Name the groups that the test cells are of; empty without groups.

    Parameters
    ----------
    column
        Of the groups.
    tested
        Repeat -> the groups that it tests.
    most
        Groups that are named in a repeat.

    Examples
    --------
    >>> held_out("donor", {0: ["d1"], 1: ["d2", "d3"]})
    'Held out for the test, by donor: d1 (repeat 1); d2, d3 (repeat 2).'
    """
    parts = []
    for repeat, names in sorted(tested.items()):
        shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
        if names:
            parts.append(f"{shown} (repeat {repeat + 1})" if len(tested) > 1 else shown)
    return f"Held out for the test, by {column}: {'; '.join(parts)}." if column and parts else ""


def held_out_of(comparison: Comparison) -> str:
    """Name the groups that a comparison was tested on; empty where no groups were held out."""
    first = {record.repeat: record for record in comparison.records}
    tested = {repeat: sorted(set(record.groups or ())) for repeat, record in first.items()}
    kind = comparison.records[0].split_kind
    return held_out(comparison.records[0].group_key, tested) if kind == "group" else ""
