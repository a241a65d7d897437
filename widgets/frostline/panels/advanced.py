"""Hyper-parameters of the strategies, folded away, made from the strategies' own fields and docstrings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from frostline.errors import FrostlineError
from frostline.escaping import for_html
from frostline.lists import list_of
from frostline.panels.base import status, wide
from frostline.strategies import Strategy

ELSEWHERE = ("checkpoint", "obsm_key", "most_genes")
"""Fields that have controls of their own, or are in the strategy's name."""


class HyperParameters(widgets.VBox):  # type: ignore[misc]
    """Change what a profile has set, one strategy at a time.

    A button folds them out: the accordion of ipywidgets cannot be opened with the keyboard.

    Parameters
    ----------
    changed
        Called when a value has been changed.

    Examples
    --------
    >>> from frostline.strategies import build
    >>> advanced = HyperParameters(lambda: None)
    >>> advanced.offer(build(["pca_knn"]))
    >>> advanced.change("pca_knn", "n_components", 7)
    >>> advanced.applied(build(["pca_knn"]))[0].parameters["n_components"]
    7
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._strategies: dict[str, Strategy] = {}
        self._changes: dict[str, dict[str, Any]] = {}
        self._putting_back, self._locked = False, False
        self._which = widgets.Dropdown(
            description="Strategy", layout=wide(), tooltip="Whose hyper-parameters are shown"
        )
        self._fields = widgets.VBox([])
        self._reset = widgets.Button(
            description="Back to the profile's values", layout=wide(), tooltip="Forget what was changed here"
        )
        self._words = widgets.HTML()
        self._which.observe(lambda _: self._show(), "value")
        self._reset.on_click(lambda _: self._forget())
        inside = widgets.VBox([self._which, self._fields, widgets.HBox([self._reset]), self._words])
        inside.layout.display = "none"
        self._inside, self.fold = inside, _fold()
        self.fold.observe(lambda _: self._show(), "value")
        super().__init__([self.fold, inside])

    @property
    def changes(self) -> dict[str, dict[str, Any]]:
        """Changed values by strategy and field."""
        return {name: dict(fields) for name, fields in self._changes.items() if fields}

    def offer(self, strategies: Sequence[Strategy]) -> None:
        """Offer the hyper-parameters of strategies as a profile has built them."""
        self._strategies = {strategy.name: strategy for strategy in strategies}
        before = self._which.value
        self._which.options = list(self._strategies)
        self._which.value = before if before in self._strategies else next(iter(self._strategies), None)
        self._show()

    def change(self, strategy: str, field: str, value: Any) -> None:
        """Set a value, as its control does.

        Raises
        ------
        FrostlineError
            The strategy refuses it.
        """
        built = self._strategies[strategy]
        changes = {**self._changes.get(strategy, {}), field: value}
        dataclasses.replace(built, **changes)
        self._changes[strategy] = {k: v for k, v in changes.items() if built.parameters[k] != v}
        self._changed()

    def applied(self, strategies: Sequence[Strategy]) -> list[Strategy]:
        """Strategies with the changed values."""
        return [dataclasses.replace(each, **self._changes.get(each.name, {})) for each in strategies]

    def lock(self, *, locked: bool) -> None:
        """Let nothing be changed, or anything again; what is set can be read meanwhile."""
        self._locked = self._reset.disabled = locked
        for row in self._fields.children:
            for part in getattr(row, "children", ()):
                if hasattr(part, "disabled"):
                    part.disabled = locked

    def _forget(self) -> None:
        self._changes.pop(self._which.value, None)
        self._changed()
        self._show()

    def _show(self) -> None:
        """Make the controls of one strategy, when somebody looks."""
        strategy = self._strategies.get(self._which.value)
        self._inside.layout.display = None if self.fold.value else "none"
        self.fold.icon = "caret-down" if self.fold.value else "caret-right"
        if not self.fold.value or strategy is None:
            return
        changes, rows = self._changes.get(strategy.name, {}), []
        for field, setting in strategy.settings().items():
            if field in ELSEWHERE:
                continue
            control = _control(field, changes.get(field, strategy.parameters[field]))
            control.tooltip, control.disabled = setting.meaning, self._locked
            control.observe(lambda change, field=field: self._set(strategy.name, field, change), "value")
            said = f"{setting.meaning} {setting.extent} ({setting.unit})."
            words = widgets.HTML(f"<span class='frostline-quiet'>{for_html(said)}</span>")
            words.layout.flex = "1 1 240px"
            rows.append(widgets.HBox([control, words], layout=widgets.Layout(flex_flow="row wrap")))
        nothing = widgets.HTML("<span class='frostline-quiet'>It has no hyper-parameters to set.</span>")
        for old in self._fields.children:
            for part in getattr(old, "children", ()):
                part.close()
            old.close()
        self._fields.children = rows or [nothing]
        self._words.value = ""

    def _set(self, strategy: str, field: str, change: Any) -> None:
        if self._putting_back:
            return
        try:
            self.change(strategy, field, _read(change.new, self._strategies[strategy].parameters[field]))
            self._words.value = ""
        except FrostlineError as error:
            self._words.value = status(f"{error}; the value before stays")
            self._putting_back = True
            change.owner.value = change.old
            self._putting_back = False


def _fold() -> widgets.ToggleButton:
    return widgets.ToggleButton(
        value=False,
        description="Advanced: hyper-parameters",
        icon="caret-right",
        tooltip="Show or hide the hyper-parameters",
        layout=wide(),
    )


def _control(field: str, value: Any) -> widgets.Widget:
    """Control that suits a value; none of those with a range, which change what is typed without a word."""
    look = {"description": field, "style": {"description_width": "130px"}, "layout": widgets.Layout(width="300px")}
    if isinstance(value, bool):
        return widgets.Checkbox(value=value, indent=False, **look)
    if isinstance(value, int):
        return widgets.IntText(value=value, **look)
    if isinstance(value, float):
        return widgets.FloatText(value=value, **look)
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return widgets.Text(value=text, continuous_update=False, **look)


def _read(value: Any, like: Any) -> Any:
    """Value of a control as the strategy takes it."""
    if isinstance(like, tuple):
        return tuple(list_of(str(value)))
    return value
