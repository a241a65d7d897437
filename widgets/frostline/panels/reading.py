"""How cells are read that are to be annotated, and under which key their labels go."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from frostline.cells.values import NAMES
from frostline.panels.base import at_most


class ReadingControls:
    """Controls of layer, values, gene names, key and what it may replace.

    Parameters
    ----------
    key, layer, values, gene_column, overwrite
        What they show first; None where looking at the cells is to find it.

    Attributes
    ----------
    each
        The controls, by the name of the argument of `annotate`.

    Examples
    --------
    >>> ReadingControls("types", None, "log2", None).options
    {'layer': None, 'values': 'log2', 'gene_column': None}
    """

    def __init__(
        self, key: str, layer: str | None, values: str | None, gene_column: str | None, overwrite: bool = False
    ) -> None:
        self._wanted_layer = layer
        layers = [("recommended", "")] if layer is None else [("recommended", ""), (layer, layer)]
        self.each: dict[str, widgets.Widget] = {
            "key": widgets.Text(
                value=key, description="Key", layout=at_most(290), tooltip="Name of the columns of labels in obs"
            ),
            "layer": widgets.Dropdown(
                options=layers, value=layer or "", description="Layer", layout=at_most(290),
                tooltip="Where the counts or log-normalised values are",
            ),
            "values": widgets.Dropdown(
                options=[("found by looking", ""), *((name, name) for name in NAMES)], value=values or "",
                description="Values", layout=at_most(290), tooltip="What the values are, where they do not show it",
            ),
            "gene_column": widgets.Combobox(
                value=gene_column or "", placeholder="found by looking", description="Gene names", layout=at_most(290),
                continuous_update=False, tooltip="Column of var with the gene names; empty: found by looking",
            ),
            "overwrite": widgets.Checkbox(
                value=overwrite, description="Replace labels under this key", indent=False,
                layout=widgets.Layout(width="auto"), tooltip="That somebody else has put there",
            ),
        }  # fmt: skip
        for name in ("key", "layer", "values", "gene_column"):
            self.each[name].style.description_width = "90px"

    def row(self) -> widgets.HBox:
        """All of them, beside each other where there is room."""
        return widgets.HBox(list(self.each.values()), layout=widgets.Layout(flex_flow="row wrap"))

    @property
    def key(self) -> str:
        """Name of the columns of labels."""
        return str(self.each["key"].value)

    @property
    def overwrite(self) -> bool:
        """Whether what stands under the key may be replaced."""
        return bool(self.each["overwrite"].value)

    @property
    def options(self) -> dict[str, Any]:
        """How the cells are read, as `annotate` takes it: layer, values, gene_column."""
        return {name: self.each[name].value or None for name in ("layer", "values", "gene_column")}

    @property
    def said(self) -> dict[str, Any]:
        """What decides the labels, by the name that a reader knows it by."""
        return {str(w.description).lower(): w.value for name, w in self.each.items() if name != "overwrite"}

    def offer(self, found: Any, columns: list[str]) -> str:
        """Offer the layers of an inspected query and the columns of its genes; return the layer that is chosen."""
        layer, taken = self.each["layer"], self._wanted_layer or found.recommended or found.default
        names = [each.name for each in found.matrices]
        layer.options = [(name, name) for name in names]
        layer.value = taken if taken in names else found.default
        self._wanted_layer = None
        self.each["gene_column"].options = columns
        return str(layer.value)

    def enable(self, *, running: bool, looking: bool, loaded: bool) -> None:
        """Lock all in a run, some while cells are looked at, and how to read them where they are loaded."""
        for name, control in self.each.items():
            waits = looking and name in ("layer", "gene_column")
            control.disabled = running or waits or (loaded and name in self.options)
