"""One row of the RunPanel for each strategy: what it trains, what it costs, how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets

from frostline.comparison.jobs import Progress
from frostline.escaping import for_html
from frostline.evaluation.estimates import duration
from frostline.panels.wording import for_panel
from frostline.strategies import STRATEGIES, show

STYLES = {"running": "info", "done": "success", "failed": "danger", "stopped": "warning", "waiting": ""}
CURVE = (150, 44)


class StrategyRow(widgets.HBox):  # type: ignore[misc]
    """A checkbox, a few words, and a progress bar with a loss curve while the strategy runs.

    Examples
    --------
    >>> row = StrategyRow("pca_logistic", ticked=True)
    >>> row.box.description
    'PCA + logistic regression (pca_logistic)'
    """

    def __init__(self, name: str, *, ticked: bool) -> None:
        self.name, self._kind = name, STRATEGIES[name.partition(":")[0]]
        shown = show().loc[self._kind.name]
        self.box = widgets.Checkbox(
            value=ticked, description=f"{shown['title']} ({name})", indent=False,
            tooltip=f"Trains {shown['trains']} ({shown['reference']})",
            layout=widgets.Layout(flex="1 1 290px", width="auto"),
        )  # fmt: skip
        self._facts = widgets.HTML(layout=widgets.Layout(flex="2 1 320px", width="auto"))
        self._bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout=widgets.Layout(width="110px"))
        self._words = widgets.HTML(layout=widgets.Layout(flex="0 1 320px", width="auto"))
        self._curve = widgets.HTML()
        self._progress = widgets.HBox(
            [self._bar, self._words, self._curve],
            layout=widgets.Layout(flex="1 1 100%", flex_flow="row wrap", display="none", align_items="center"),
        )
        super().__init__(
            [self.box, self._facts, self._progress], layout=widgets.Layout(flex_flow="row wrap", width="auto")
        )
        self.add_class("frostline-row")
        self.describe("")

    def describe(self, words: str) -> None:
        """Say what it trains, and what is known of its cost."""
        price = " <strong>Expensive.</strong>" if self._kind.expensive else ""
        known = f" {for_html(words)}" if words else ""
        self._facts.value = f'<span class="frostline-quiet">Trains {for_html(self._kind.trains)}.{known}{price}</span>'

    def show(self, progress: Progress | None, expected: float | None = None) -> None:
        """Show how far the strategy is; nothing without progress."""
        self._progress.layout.display = None if progress else "none"
        self._mark(failed=progress is not None and progress.state == "failed")
        if progress is None:
            self._words.value, self._curve.value, self._bar.value = "", "", 0.0
            return
        self._bar.value = progress.fraction
        self._bar.bar_style = STYLES[progress.state]
        self._bar.tooltip = f"{self.name}: {progress.fraction:.0%}"
        left = _left(progress, expected)
        words = progress.message if progress.state != "waiting" else "waiting"
        state = "<strong>✖ failed</strong>" if progress.state == "failed" else for_html(progress.state)
        self._words.value = f"{state}: {for_html(for_panel(words))}" if words != progress.state else state
        if left:
            self._words.value += f", {left} left"
        self._curve.value = loss_curve(progress.history)

    def _mark(self, *, failed: bool) -> None:
        """Set a row apart whose strategy has failed."""
        (self.add_class if failed else self.remove_class)("frostline-failed")


def _left(progress: Progress, expected: float | None) -> str:
    if progress.state != "running" or progress.seconds < 1:
        return ""
    if progress.fraction > 0.05:
        return duration(progress.seconds * (1 - progress.fraction) / progress.fraction)
    return duration(max(1.0, expected - progress.seconds)) if expected else ""


def loss_curve(history: Sequence[Mapping[str, float]]) -> str:
    """Training and validation loss by epoch as a small picture: one solid, one dashed; empty before two epochs.

    Examples
    --------
    >>> loss_curve([{"epoch": 1, "train_loss": 1.0, "validation_loss": 1.2}])
    ''
    """
    if len(history) < 2:
        return ""
    losses = {name: [entry[f"{name}_loss"] for entry in history] for name in ("train", "validation")}
    top = max(max(values) for values in losses.values())
    low = min(min(values) for values in losses.values())
    width, height = CURVE
    lines = ""
    for name, dashes in (("train", ""), ("validation", ' stroke-dasharray="4 2"')):
        points = " ".join(
            f"{2 + (width - 4) * i / (len(history) - 1):.1f},{2 + (height - 4) * (top - y) / (top - low or 1):.1f}"
            for i, y in enumerate(losses[name])
        )
        lines += f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.4"{dashes}/>'
    said = f"epoch {len(history)}: training loss {losses['train'][-1]:.3f}, validation {losses['validation'][-1]:.3f}"
    return (
        f'<span style="display:inline-flex;align-items:center;gap:8px;flex-wrap:wrap">'
        f'<svg width="{width}" height="{height}" role="img" aria-label="Loss by epoch; {said}">{lines}</svg>'
        f'<span class="frostline-quiet">{said} (dashed)</span></span>'
    )
