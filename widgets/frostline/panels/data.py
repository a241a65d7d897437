"""DataPanel: choose labelled cells, see what they are and what the checks find."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.previews import Preview, preview, shown_columns
from frostline.cells.splits import split
from frostline.cells.values import NAMES
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.vocabulary import overlap
from frostline.errors import FrostlineError
from frostline.escaping import for_html
from frostline.evaluation.checks import review
from frostline.evaluation.inspecting import inspect
from frostline.panels.base import Panel, alert, at_most, findings_html, replace_earlier, status, title
from frostline.panels.choices import Choice, offer_of_cells

if TYPE_CHECKING:
    from anndata import AnnData

CELLS = offer_of_cells(
    "Data",
    "A registered data set, an AnnData of this notebook, or a file",
    "Path of an .h5ad file with labels in obs",
)
SHOWN_CLASSES = 15


class DataPanel(Panel):
    """Choose a data set, its labels, its groups and its layer.

    Parameters
    ----------
    source
        What is shown at first: a registered name, a path, an AnnData, or a loaded data set.
    label_key, group_key, layer
        As for `load_dataset`; None takes what is likely.
    checkpoint
        Its vocabulary is matched with the genes.
    names
        `globals()` of the notebook, to offer its AnnDatas; by default those of the running notebook.

    Attributes
    ----------
    dataset
        The Dataset; None while none is loaded. To be observed.
    state
        empty, loading, ready or failed.
    error
        Why it could not be loaded, else None.
    findings
        What the checks found.
    locked
        Whether the controls are out of use, as during a run.

    Examples
    --------
    >>> panel = DataPanel("pbmc68k-reduced")
    >>> panel.settle()
    >>> panel.dataset.label_key, panel.state
    ('bulk_labels', 'ready')
    """

    dataset = traitlets.Instance(Dataset, allow_none=True)
    state = traitlets.Enum(["empty", "loading", "ready", "failed"], default_value="empty")
    error = traitlets.Instance(Exception, allow_none=True)
    findings = traitlets.Tuple()
    locked = traitlets.Bool(False)

    def __init__(
        self,
        source: str | Path | AnnData | Dataset | None = None,
        *,
        label_key: str | None = None,
        group_key: str | None = None,
        layer: str | None = None,
        checkpoint: str = "mini",
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self._source = Choice(CELLS, source, names, self._choose)
        self._wanted = {"label": label_key, "group": group_key, "layer": layer}
        self._quiet, self._offered = False, False
        self._make_controls()
        self._facts, self._checks, self._status = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._report, self._turn = widgets.HTML(), 0
        self._facts.layout.flex, self._checks.layout.flex = "0 1 auto", "1 1 420px"
        self._facts.layout.margin = "2px 24px 2px 2px"
        row = widgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                title("Data"),
                self._source,
                widgets.HBox([*self._columns, self._layer, self._values, self._genes], layout=row),
                self._status,
                widgets.HBox([self._facts, self._checks], layout=widgets.Layout(flex_flow="row wrap")),
                self._report,
            ],
            "frostline-data-panel",
        )
        self.observe(lambda _: self._lock(), "locked")
        for control in (*self._columns, *self._how):
            control.observe(lambda _: self._load(), "value")
        if isinstance(source, Dataset):
            self._take_over(source)
        elif source is not None:
            self._choose()
        else:
            self._say("Choose a data set.")
        replace_earlier(self)

    def _make_controls(self) -> None:
        self._label = widgets.Dropdown(
            description="Labels", layout=at_most(360), tooltip="Column of obs with the cell types"
        )
        self._group = widgets.Dropdown(
            description="Groups",
            layout=at_most(360),
            tooltip="Column of obs with donors, batches or studies, held out whole",
        )
        self._layer = widgets.Dropdown(
            description="Layer", layout=at_most(360), tooltip="Where the counts or log-normalised values are"
        )
        self._values = widgets.Dropdown(
            options=[("found by looking", ""), *((name, name) for name in NAMES)], description="Values",
            layout=at_most(360), tooltip="What the values are, where they do not show it",
        )  # fmt: skip
        self._genes = widgets.Combobox(
            placeholder="found by looking", description="Gene names", layout=at_most(360), continuous_update=False,
            tooltip="Column of var with the gene names; empty: found by looking",
        )  # fmt: skip
        self._columns, self._how = (self._label, self._group), (self._layer, self._values, self._genes)
        for control in self._how:
            control.style.description_width = "90px"

    @property
    def source(self) -> Any:
        """What is chosen, as `load_dataset` takes it; None when nothing is."""
        return self._source.value

    def _lock(self) -> None:
        """Put out of use what must not change, and what is of another file than the one that is chosen."""
        self._source.lock(locked=self.locked)
        for control in self._columns:
            control.disabled = self.locked or not self._offered
        for control in self._how:
            control.disabled = self.locked or not self._offered or isinstance(self.source, Dataset)

    def _choose(self) -> None:
        """Look at what the source offers, then load it with what is likely."""
        self._offered = False
        self._lock()
        source = self.source
        if source is None:
            self._reset("empty", "" if self._source.is_path else "Choose a data set.")
            return
        if isinstance(source, Dataset):
            self._take_over(source)
            return
        self._reset("loading", "Looking at the data ...")
        self.background.do("load", lambda: self._preview_and_load(source))

    def _take_over(self, dataset: Dataset) -> None:
        """Show a data set that is loaded already."""
        self._offer(preview(dataset), dataset.label_key, dataset.group_key)
        self._ready(dataset)
        self._inspect(dataset)

    def _preview_and_load(self, source: Any) -> None:
        try:
            found = preview(source)
            spec = DATASETS.get(source) if isinstance(source, str) else None
            label = self._wanted["label"] or (spec.label_key if spec else found.label_key)
            group = self._wanted["group"] or (spec.group_key if spec else None)
            self._offer(found, label, group, self._wanted["layer"] or (spec.layer if spec else None))
        except FrostlineError as error:
            self._failed(error)
            return
        self._load_now(source)

    def _offer(self, found: Preview, label: str | None, group: str | None, layer: str | None = None) -> None:
        """Fill the lists of columns and layers."""
        self._quiet = True
        columns = shown_columns(found.columns)
        names = [name for _, name in columns]
        columns += [(name, name) for name in (label, group) if name is not None and name not in names]
        likely = [entry for entry in columns if entry[1] in found.groups]
        others = [entry for entry in columns if entry[1] not in found.groups]
        # "" stands for none: a list whose value is None shows no choice at all
        self._label.options = [("Choose ...", ""), *dict.fromkeys(columns)]
        self._label.value = label or ""
        self._group.options = [("none", ""), *dict.fromkeys([*likely, *others])]
        self._group.value = group or ""
        self._layer.options = [(name, "" if name == "X" else name) for name in found.layers]
        if layer is not None and layer not in found.layers:
            self._layer.options = [*self._layer.options, (layer, layer)]
        self._layer.value = layer or ""
        self._values.value = self._genes.value = ""
        self._genes.options = found.var_columns
        given, self._offered = isinstance(self.source, Dataset), True
        self._lock()
        self._layer.tooltip = "The data set was loaded from its layer already" if given else "Where the values are"
        self._wanted = {"label": None, "group": None, "layer": None}
        self._quiet = False

    def _load(self) -> None:
        if self._quiet:
            return
        source = self.source
        self._reset("loading", "Loading ...")
        self.background.do("load", lambda: self._load_now(source))

    def _load_now(self, source: Any) -> None:
        label, group = self._label.value or None, self._group.value or None
        try:
            if label is None:
                raise FrostlineError("choose the column of obs that holds the cell types, in the list of labels")
            if isinstance(source, Dataset):
                dataset = source.relabelled(label, group)
            else:
                dataset = load_dataset(
                    source, label, group_key=group, layer=self._layer.value or None, name=self._source.variable,
                    values=self._values.value or None, gene_column=self._genes.value or None,
                )  # fmt: skip
                if group is None and dataset.group_key is not None:  # a registered one has groups of its own
                    dataset = dataset.relabelled(label)
        except Exception as error:  # whatever it is, it is shown, and the panel goes on
            self._failed(error)
        else:
            self._ready(dataset)
        self._inspect(source)

    def _reset(self, state: str, words: str) -> None:
        self._alert.value, self._facts.value, self._checks.value, self._report.value = "", "", "", ""
        self._turn += 1
        self.set_trait("error", None)
        self.set_trait("findings", ())
        self.set_trait("dataset", None)
        self.set_trait("state", state)
        self._say(words)

    def _failed(self, error: Exception) -> None:
        self._reset("failed", "The data could not be loaded.")
        self._alert.value = alert(error)
        self.set_trait("error", error)

    def _ready(self, dataset: Dataset) -> None:
        self._alert.value, self._checks.value = "", ""
        self.set_trait("error", None)
        self._facts.value = _facts_html(dataset, self.checkpoint)
        self.set_trait("dataset", dataset)
        self.set_trait("state", "ready")
        size = f"{len(dataset):,} cells x {len(dataset.genes):,} genes"
        self._say(f"{dataset.name}: {size}, labels in {dataset.label_key}.")
        self.background.do("check", lambda: self._check_now(dataset))

    def _check_now(self, dataset: Dataset) -> None:
        """Show what the checks find, before anything is trained."""
        try:
            found = review(dataset, split(dataset), self._readable_checkpoint())
        except Exception as error:  # such as too few cells to split
            self._checks.value = alert(error, "The checks cannot be made")
            return
        if self.dataset is dataset:
            self.set_trait("findings", tuple(found))
            self._checks.value = findings_html(found)

    def _inspect(self, source: Any) -> None:
        """Say what the file holds and what is refused of it, whether it could be loaded or not."""
        label, group, turn = self._label.value or None, self._group.value or None, self._turn

        def work() -> None:
            try:
                found = inspect(source, label, group_key=group)._repr_html_()
            except Exception as error:  # whatever it is, what loading said stays
                found = alert(error, "It cannot be inspected")
            if turn == self._turn:
                self._report.value = f"<details><summary>What is in this file</summary>{found}</details>"

        self.background.do("inspect", work)

    def _readable_checkpoint(self) -> str | None:
        """The checkpoint; None where it cannot be opened, as the line on the genes says."""
        try:
            return load_checkpoint(self.checkpoint).name
        except FrostlineError:
            return None

    def use_checkpoint(self, checkpoint: str) -> None:
        """Match the genes with another vocabulary, and check again."""
        self.checkpoint = checkpoint
        if self.dataset is not None:
            self._facts.value = _facts_html(self.dataset, checkpoint)
            dataset = self.dataset
            self.background.do("check", lambda: self._check_now(dataset))

    def _say(self, words: str) -> None:
        self._status.value = status(words)


def _facts_html(dataset: Dataset, checkpoint: str) -> str:
    """Cells per class as bars, the genes that the checkpoint knows, what was found about the values."""
    counts = dataset.summary()["cells"]
    rows = ""
    for name, n in list(counts.items())[:SHOWN_CLASSES]:
        width = max(1, round(160 * n / counts.iloc[0]))
        bar = f'<span class="frostline-bar" style="width:{width}px" aria-hidden="true"></span>'
        rows += f"<tr><td>{for_html(str(name))}</td><td>{bar} {n:,}</td></tr>"
    more = len(counts) - SHOWN_CLASSES
    rest = f"<p>and {more} smaller classes</p>" if more > 0 else ""
    groups = "" if dataset.groups is None else f"; {len(set(dataset.groups.tolist()))} groups in {dataset.group_key}"
    facts = [
        f"Values: {dataset.values_name} ({dataset.evidence}). {len(counts)} classes{groups}.",
        _overlap(dataset, checkpoint),
    ]
    lines = "".join(f"<div>{for_html(fact)}</div>" for fact in facts)
    caption = "<caption class='frostline-quiet'>Cells per class</caption>"
    return f"{lines}<table>{caption}<tbody>{rows}</tbody></table>{rest}"


def _overlap(dataset: Dataset, checkpoint: str) -> str:
    try:
        match = overlap(dataset, load_checkpoint(checkpoint))
    except FrostlineError as error:
        return f"Checkpoint {checkpoint}: {error}"
    unknown = f"; not, for example, {', '.join(match.unmatched[:3])}" if match.unmatched else ""
    counts = match.map.summary.partition("\n")[0]
    return f"{match.counted(f'checkpoint {checkpoint}')} ({counts}){unknown}."
