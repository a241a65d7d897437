"""What is on a panel: its parts by their label, and what they say."""

from __future__ import annotations

import re

from ipywidgets import HTML, Button, Checkbox, FloatProgress

from frostline.panels.base import walk
from frostline.panels.rows import StrategyRow


def html_of(panel) -> str:
    """All HTML that the panel shows at the moment."""
    return "\n".join(widget.value for widget in walk(panel) if isinstance(widget, HTML))


def button(panel, label: str) -> Button:
    return next(w for w in walk(panel) if isinstance(w, Button) and w.description == label)


def box(panel, strategy: str) -> Checkbox:
    return next(w for w in walk(panel) if isinstance(w, Checkbox) and f"({strategy})" in w.description)


def control(panel, label: str):
    return next(w for w in walk(panel) if getattr(w, "description", None) == label)


def said(panel) -> str:
    """Text of the run's status line."""
    shown = "\n".join(widget.value for widget in walk(panel.runner) if isinstance(widget, HTML))
    found = re.findall(r'<span role="status" aria-live="polite">(.*?)</span>', shown)
    assert found
    return found[-1]


def tab(panel, name: str) -> str:
    """HTML of a tab of the results, when it is drawn."""
    panel.settle(60)
    return panel.results._shown[name].value


def row_of(panel, strategy: str) -> str:
    """What a strategy's row says beside its checkbox."""
    panel.settle(60)
    (row,) = [w for w in walk(panel) if isinstance(w, StrategyRow) and w.name == strategy]
    return "\n".join(widget.value for widget in walk(row) if isinstance(widget, HTML))


def rows(panel) -> list[StrategyRow]:
    return [w for w in walk(panel) if isinstance(w, StrategyRow)]


def shown(panel, bar: FloatProgress) -> bool:
    """Whether a progress bar is in a row that is not hidden."""
    rows = [w for w in walk(panel) if isinstance(w, StrategyRow) and bar in list(walk(w))]
    return all(row.box.value for row in rows)
