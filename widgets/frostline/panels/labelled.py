"""LabelledPanel: what an Annotation says, as tables, a map and a report; saved as .h5ad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import traitlets

from frostline.annotation.annotating import Annotation
from frostline.annotation.models import UNKNOWN
from frostline.annotation.promises import promises_html
from frostline.annotation.saving import save_labelled
from frostline.annotation.views import map_cells, unknown_cells
from frostline.errors import FrostlineError
from frostline.escaping import for_html
from frostline.panels.base import Panel, alert, at_most, note, replace_earlier, status, table, title
from frostline.panels.cellmap import CellMap
from frostline.panels.mapped import of_annotation
from frostline.panels.wording import SAVING

DPI = 96
LISTED = 20
"""Unknown cells that are listed."""
NOTHING = "<p>No labels yet: press Annotate.</p>"


class LabelledPanel(Panel):
    """Show the labels of cells, what is unknown and why, and where the cells lie among the labelled ones; save them.

    Parameters
    ----------
    annotation
        What `annotate` returned; None until the trait `annotation` is set.
    query
        What was annotated, if at hand: without it only what was read from a file can be saved.

    Attributes
    ----------
    annotation
        May be set at any time.
    map
        The CellMap of the tab Map; None until it is drawn.
    stale
        What has been changed since; shown above the labels when not empty.

    Examples
    --------
    >>> panel = LabelledPanel()
    >>> panel.annotation is None
    True
    """

    annotation = traitlets.Instance(Annotation, allow_none=True)
    stale = traitlets.Unicode("")

    def __init__(self, annotation: Annotation | None = None, query: Any = None) -> None:
        self.query = query
        self.map: CellMap | None = None
        self._draw_page: dict[str, Callable[[Annotation], str]] = {
            "Labels": _labels,
            "Map": self._mapped,
            "Unknown": _unknown,
            "Promises": lambda said: promises_html(said.calibration, said.shift, said.p_known, DPI),
            "Report": lambda annotation: annotation.report._repr_html_(),
        }
        self._shown = {name: widgets.HTML(NOTHING) for name in self._draw_page}
        self._boxes = {name: widgets.VBox([shown]) for name, shown in self._shown.items()}
        self._tabs = widgets.Tab(
            [*self._boxes.values(), self._save_box()], titles=[*self._shown, "Save"], selected_index=0
        )
        self._banner = widgets.HTML()
        super().__init__([title("Labels"), self._banner, self._tabs], "frostline-labelled-panel")
        self.observe(lambda _: self._new(), "annotation")
        self.observe(lambda _: self._mark(), ["stale", "annotation"])
        self.annotation = annotation
        replace_earlier(self)

    def _save_box(self) -> widgets.VBox:
        self._path = widgets.Text(
            value="labelled.h5ad", description="Save as", tooltip="Where the labelled cells go: an .h5ad file",
            layout=at_most(420),
        )  # fmt: skip
        self._replace = widgets.Checkbox(
            value=False, description="Replace a file that is there", indent=False, layout=widgets.Layout(width="auto"),
            tooltip="Never the file that was read, which stays as it is",
        )  # fmt: skip
        self._save = widgets.Button(
            description="Save", icon="download", disabled=True, tooltip="There are no labels to save yet"
        )
        self._saved = widgets.HTML()
        self._save.on_click(lambda _: self._save_clicked())
        words = widgets.HTML(
            "<p>All cells, with the labels in obs, representation and probabilities in obsm, the report in uns.</p>"
        )
        return widgets.VBox([words, self._path, self._replace, widgets.HBox([self._save]), self._saved])

    def _new(self) -> None:
        """Draw all tabs, the open one first, and the map, which takes longest, last."""
        annotation = self.annotation
        self._drop_map()
        self._saved.value = ""
        self._save.disabled = annotation is None
        self._save.tooltip = "There are no labels to save yet" if annotation is None else "Write the file"
        if annotation is None:
            for name, shown in self._shown.items():
                self.background.drop(name)
                shown.value = NOTHING
            return
        order = sorted(self._shown, key=lambda name: name == "Map")
        selected = self._tabs.selected_index or 0
        if selected < len(order):
            order.insert(0, order.pop(order.index(list(self._shown)[selected])))
        for name in order:
            self._shown[name].value = status("Drawing ...") if name == "Map" else ""
            self._draw(name)

    def _draw(self, name: str) -> None:
        """Draw a tab beside the notebook's thread."""
        annotation = self.annotation
        if annotation is None:
            return

        def draw() -> None:
            if self.annotation is not annotation:
                return
            try:
                self._shown[name].value = self._draw_page[name](annotation)
            except Exception as error:  # one tab must not take the others with it
                self._shown[name].value = alert(error, f"{name} cannot be drawn")

        self.background.do(name, draw)

    def _mark(self) -> None:
        text = f"These labels are of earlier choices. Changed since: {self.stale}. Press Annotate to label them again."
        self._banner.value = note(text, "stale") if self.stale and self.annotation is not None else ""

    def _mapped(self, annotation: Annotation) -> str:
        """Show the map; it has all words that there are, so that none are left for the tab."""
        found = of_annotation(annotation, map_cells(annotation))
        if self.map is None:
            self.map = CellMap()
            self._boxes["Map"].children += (self.map,)
        self.map.take(found)
        return ""

    def _drop_map(self) -> None:
        if self.map is not None:
            self._boxes["Map"].children = self._boxes["Map"].children[:-1]
            self.map.close()
            self.map = None

    # ------------------------------------------------------------------ saving

    def save(self, path: str | Path | None = None, *, overwrite: bool = False) -> Path:
        """Write the labelled cells into an .h5ad file.

        Parameters
        ----------
        path
            By default what the panel's field says.
        overwrite
            Whether a file that is there may be replaced; never the one that was read.

        Raises
        ------
        FrostlineError
            There are no labels yet, or the file cannot be written; says why.
        """
        if self.annotation is None:
            raise FrostlineError("there are no labels to save yet; annotate cells first")
        return save_labelled(self.annotation, self.query, path or self._path.value, overwrite=overwrite)

    def _save_clicked(self) -> None:
        path, overwrite = self._path.value, bool(self._replace.value)
        self._saved.value = status(f"Writing {path} ...")
        self._lock(locked=True)

        def work() -> None:
            try:
                self._saved.value = status(f"Written: {self.save(path, overwrite=overwrite).resolve()}")
            except Exception as error:  # shown where the reader looks
                self._saved.value = alert(error, rules=SAVING)
            finally:
                self._lock(locked=False)

        self.background.do("save", work)

    def _lock(self, *, locked: bool) -> None:
        self._path.disabled = self._replace.disabled = locked
        self._save.disabled = locked or self.annotation is None


def _labels(annotation: Annotation) -> str:
    """Cells of each label and of each reason, with what may be said of them first."""
    facts, counts = annotation.report.facts, annotation.report.labels
    lines = dict(annotation.report.lines)
    sentence, fit = for_html(lines["stated error"]), for_html(f"The model was {lines['fit']}.")
    like = for_html(facts["shift"]["sentence"])
    kind = "note" if facts["certificate"]["holds"] == "yes" else "stale"
    shown = counts.assign(share=[f"{100 * share:.1f} %" for share in counts["share"]])
    obs = f"obs[{annotation.key!r}]"
    again = "" if facts["fit"]["done"] == "as kept" else f"<div>{fit}</div>"
    blind = f"<div>{for_html(lines['unknown'])}</div>" if "why_none_unknown" in facts else ""
    box = f'<div class="frostline-{kind}" role="status">{again}<div>{sentence}</div><div>{like}</div>{blind}</div>'
    return (
        box
        + table(shown, f"Cells of each label, in {obs}; {UNKNOWN}: no label was given")
        + table(_reasons(annotation), "Cells whose label is in doubt, or that got none", "words")
    )


def _reasons(annotation: Annotation) -> Any:
    import pandas as pd

    reasons = annotation.report.facts["reasons"]
    meaning = {
        "low confidence": "labelled, but below the confidence of the stated error; the set has a coarser answer",
        "far from training": f"{UNKNOWN}: unlike the labelled cells",
        "too few genes": f"{UNKNOWN}: expresses too few of the genes that the model reads",
    }
    rows = [(reason, f"{n:,}", meaning[reason]) for reason, n in reasons.items()]
    return pd.DataFrame(rows, columns=["reason", "cells", "what it means"])


def _unknown(annotation: Annotation) -> str:
    found = unknown_cells(annotation)
    if not len(found):
        return "<p>Every cell got a label.</p>"
    shown = found.head(LISTED)
    numbers = {
        name: ["NA" if value != value else f"{value:.3g}" for value in shown[name]]
        for name in ("p_known", "confidence")
    }
    shown = shown.assign(**numbers, most_like=shown["most_like"].fillna("NA"))
    first = f"The {len(shown)} strangest of {len(found):,} unknown cells" if len(found) > LISTED else "Unknown cells"
    words = (
        f"{first}. p_known: how often a labelled cell is as strange; most_like: what would have been answered, with "
        "that confidence. NA: too few genes"
    )
    return table(shown, words, "words")
