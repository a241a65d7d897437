"""AnnotatePanel: a kept model and new cells, from a look at them to labels that can be saved."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from frostline.annotation.annotating import Annotation, annotate
from frostline.annotation.facts import MODEL
from frostline.annotation.folders import load_model
from frostline.annotation.models import Model
from frostline.cells.datasets import Dataset
from frostline.cells.sources import open_source
from frostline.errors import Cancelled, FrostlineError
from frostline.evaluation.inspecting import inspect
from frostline.panels.base import Panel, alert, replace_earlier, title
from frostline.panels.choices import Choice, Offer, offer_of_cells
from frostline.panels.controls import RunButtons
from frostline.panels.labelled import LabelledPanel
from frostline.panels.progress import WorkProgress
from frostline.panels.reading import ReadingControls
from frostline.panels.tasks import Task
from frostline.panels.wording import ANNOTATING
from frostline.plain_files import expanded

if TYPE_CHECKING:
    from anndata import AnnData


def _model_problem(text: str) -> str:
    """Say what is wrong with a path of a model, as soon as it is typed."""
    if not text.strip():
        return "type the path of a folder that a model was saved in"
    folder = expanded(text)
    try:
        if (folder / MODEL).is_file():
            return ""
        kind = "no folder of a model: it holds no" if folder.is_dir() else "no folder that holds a"
    except (OSError, ValueError) as error:
        return f"{text} cannot be a folder ({error})"
    return (
        f"{text} is {kind} {MODEL}; choose a folder that the tab Keep of a comparison has written, or frostline adapt"
    )


def _models(names: dict[str, Any]) -> dict[str, str]:
    return {name: f"{name} ({value.strategy.name})" for name, value in names.items() if _is_own(name, value, Model)}


def _is_own(name: str, value: Any, kind: type) -> bool:
    return not name.startswith("_") and isinstance(value, kind)


MODELS = Offer(
    "Model",
    "A kept model of this notebook, or the folder of one",
    _models,
    lambda model: f"{model.strategy.name} of {len(model.classes)} classes (given)",
    ("A folder ...", "Folder", "models/pancreas", "Folder that a model was saved in"),
    _model_problem,
    lambda path: (path / MODEL).is_file(),
)
CELLS = offer_of_cells(
    "Cells",
    "Cells to annotate: an AnnData of this notebook, a file, or a registered data set",
    "Path of an .h5ad file; labels are not needed",
)


class AnnotatePanel(Panel):
    """Annotate new cells with a kept model.

    Parameters
    ----------
    model
        What `adapt` or `load_model` returned, or the folder of a model; None to choose in the panel.
    query
        Cells: the path of an .h5ad file, a registered name, an AnnData (which gets the labels in place) or a data set;
        None to choose in the panel.
    key
        Name of the columns of labels.
    layer, values, gene_column
        As for `annotate`; None takes what the look at the cells recommends.
    overwrite
        Whether labels that stand under the key already may be replaced; those of this panel may always be.
    names
        `globals()` of the notebook, to offer its models and AnnDatas; by default those of the running notebook.

    Attributes
    ----------
    state
        idle, running, done, failed or cancelled.
    annotation
        The Annotation that was made last; None before there is one. To be observed.
    error
        The exception of the last run if it failed, else None.
    model
        The Model that is chosen; None while none is loaded.

    Examples
    --------
    >>> panel = AnnotatePanel(query="pancreas", names={})
    >>> panel.settle()
    >>> panel.problem, panel.state
    ('Choose from the list Model.', 'idle')
    """

    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    annotation = traitlets.Instance(Annotation, allow_none=True)
    error = traitlets.Instance(BaseException, allow_none=True)
    model = traitlets.Instance(Model, allow_none=True)

    def __init__(
        self,
        model: Model | str | Path | None = None,
        query: str | Path | AnnData | Dataset | None = None,
        *,
        key: str = "frostline",
        layer: str | None = None,
        values: str | None = None,
        gene_column: str | None = None,
        overwrite: bool = False,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self._task = Task(self._enable)
        self._ran: dict[str, Any] = {}
        self._busy = {"model": "", "cells": ""}
        self._said_before = "Ready."
        self._wrote: list[tuple[weakref.ref[Any], str]] = []
        """Each AnnData and key under which this panel has written labels, which it may replace."""
        self._models = Choice(MODELS, model, names, self._take_model)
        self._cells = Choice(CELLS, query, names, self._look_at_cells)
        self._reading = ReadingControls(key, layer, values, gene_column, overwrite)
        self._buttons = RunButtons("Annotate the cells")
        self._buttons.run.description = "Annotate"
        self._progress = WorkProgress(self._task.stop)
        self._facts, self._found = widgets.HTML(), widgets.HTML()
        self.results = LabelledPanel()
        super().__init__(
            [
                title("Annotate"), self._models, self._facts, self._cells, self._found,
                self._reading.row(), *self._buttons, self._progress.bar, self._progress.words, self.results,
            ],
            "frostline-annotate-panel",
        )  # fmt: skip
        self._buttons.run.on_click(lambda _: self._start())
        self._buttons.cancel.on_click(lambda _: self.cancel())
        self.observe(lambda _: self._enable(), ["state", "model"])
        for control in self._reading.each.values():
            control.observe(lambda _: self._changed(), "value")
        self._take_model()
        self._look_at_cells()
        replace_earlier(self)

    # ------------------------------------------------------------------ what is chosen

    def _take_model(self) -> None:
        """Load the model that is chosen, beside the notebook's thread."""
        chosen, self._busy["model"] = self._models.value, ""
        self.background.drop("model")
        self._facts.value, self._alert.value = "", ""
        self.model = None
        if isinstance(chosen, Path):
            self._busy["model"] = "Loading the model ..."
            self.background.do("model", lambda: self._load_model(chosen))
        elif chosen is not None:
            self._show_model(chosen)
        self._changed()

    def _load_model(self, folder: Path) -> None:
        try:
            found = load_model(folder)
        except Exception as error:  # whatever it is, it is shown, and the panel goes on
            self._busy["model"] = "The model could not be loaded; choose another one."
            self._facts.value = alert(error, rules=ANNOTATING)
        else:
            self._busy["model"] = ""
            if self._models.value == folder:
                self._show_model(found)
        self._enable()

    def _show_model(self, model: Model) -> None:
        words = f"{model.strategy.name}, {len(model.classes)} classes. {model.calibration.certificate.sentence}"
        self._facts.value = _folded(words, model._repr_html_())
        self.model = model

    def _look_at_cells(self) -> None:
        """Look at the cells that are chosen, beside the notebook's thread."""
        chosen, self._busy["cells"] = self._cells.value, ""
        self.background.drop("cells")
        self._found.value = ""
        if chosen is not None:
            self._busy["cells"] = "Looking at the cells ..."
            self.background.do("cells", lambda: self._inspect(chosen))
        self._changed()

    def _inspect(self, chosen: Any) -> None:
        try:
            found = inspect(chosen).as_query()
            columns = [str(name) for name in open_source(chosen).var.columns]
        except Exception as error:
            self._busy["cells"] = "These cells cannot be read; choose others."
            self._found.value = alert(error, rules=ANNOTATING)
        else:
            self._busy["cells"] = ""
            if not self.background.waits("cells"):
                self._offer(found, columns)
        self._enable()

    def _offer(self, found: Any, columns: list[str]) -> None:
        """Offer layers and columns, the recommended ones first, and show the report."""
        layer = found.matrix(self._reading.offer(found, columns))
        size = f"{found.outline.n_cells:,} cells x {found.outline.n_genes:,} genes"
        self._found.value = _folded(
            f"{size}; {layer.name}: {layer.kind}", found._repr_html_(), is_open=layer.values is None
        )

    @property
    def problem(self) -> str:
        """Why nothing can be annotated; empty when it can."""
        return (
            self._models.problem or self._busy["model"] or self._cells.problem or self._busy["cells"]
        )  # fmt: skip

    @property
    def options(self) -> dict[str, Any]:
        """How the cells are read, as `annotate` takes it: layer, values, gene_column."""
        return self._reading.options

    @property
    def _chosen(self) -> dict[str, Any]:
        """What decides the labels, by the name that a reader knows it by."""
        return {"model": self._models.said, "cells": self._cells.said, **self._reading.said}

    def _changed(self) -> None:
        """Say what the labels are not of any more."""
        now = self._chosen
        self.results.stale = ", ".join(name for name in self._ran if now[name] != self._ran[name])
        self._enable()

    def _enable(self) -> None:
        running, problem = self.state == "running", self.problem
        for choice in (self._models, self._cells):
            choice.lock(locked=running)
        cells, looking = self._cells.value, bool(self._busy["cells"])
        self._reading.enable(running=running, looking=looking and cells is not None, loaded=isinstance(cells, Dataset))
        self._buttons.enable(running=running, held=self._task.held, problem=problem)
        if not running:
            self._progress.say(problem or self._said_before)

    # ------------------------------------------------------------------ the run

    def run(self, *, wait: bool = False) -> Annotation | None:
        """Annotate the chosen cells with the chosen model.

        Parameters
        ----------
        wait
            Whether to wait for the end. An interrupt of the cell is a cancel then.

        Returns
        -------
        Annotation or None
            What was found when waited for.

        Raises
        ------
        FrostlineError
            A run is under way, a model or cells are missing, or (when waited for) the cells are refused.
        Cancelled
            The run was cancelled, when waited for.
        """
        if self.state == "running":
            raise FrostlineError("cells are being annotated; cancel it or wait for it")
        self.background.settle()
        if self.problem or self.model is None:
            raise FrostlineError(self.problem or "no model is loaded")
        self._task.prepare(wait=wait)
        self._begin()
        model, query, arguments = self.model, self._cells.value, self._arguments()
        self._task.start(lambda: self._work(model, query, arguments))
        if not wait:
            return None
        self.settle()
        return self.wait()

    def _arguments(self) -> dict[str, Any]:
        key, cells = self._reading.key, self._cells.value
        mine = any(wrote() is cells and name == key for wrote, name in self._wrote)
        how = {} if isinstance(cells, Dataset) else self.options
        return {"key": key, "overwrite": self._reading.overwrite or mine, **how}

    def _begin(self) -> None:
        self.set_trait("error", None)
        self._alert.value = ""
        self._progress.begin()
        self.set_trait("state", "running")

    def _start(self) -> None:
        """Annotate from the button: whatever goes wrong is shown, since nobody would see a traceback."""
        if self.state == "running":  # a second click, sent before the browser had learnt of the first
            return
        try:
            self.run()
        except FrostlineError as error:
            self._alert.value = alert(error, rules=ANNOTATING)

    def cancel(self) -> None:
        """Stop within the current cells; nothing is written then, and earlier labels stay."""
        self._task.stop.set()
        if self.state == "running":
            self._progress.say("Stopping ...")

    def wait(self, timeout: float | None = None) -> Annotation:
        """Wait for the run and return what was found, or raise what went wrong.

        Raises
        ------
        TimeoutError
            The run is not over in time.
        FrostlineError
            Nothing has been annotated.
        """
        with self._task.waiting(running=self.state == "running"):
            self._task.join(timeout)
        if self.state == "running":
            raise TimeoutError(f"the cells are not annotated after {timeout} s")
        if self.error is not None:
            raise self.error
        if self.annotation is None:
            raise FrostlineError("nothing has been annotated yet; press Annotate, or call panel.run(wait=True)")
        return self.annotation

    def _work(self, model: Model, query: Any, arguments: dict[str, Any]) -> None:
        words = "The cells were not annotated."
        try:
            found = annotate(model, query, arguments.pop("key"), **arguments, monitor=self._progress.monitor)
            words = "The cells have labels, which cannot be shown."
            self._end(found, query)
        except (Cancelled, KeyboardInterrupt):
            words = "Cancelled; nothing was written." + (" Earlier labels stay." if self.annotation else "")
            self._finish("cancelled", Cancelled("the run was cancelled"), words)
        except BaseException as error:  # shown here, and raised again by wait()
            self._finish("failed", error, words)
            self._alert.value = alert(error, rules=ANNOTATING)

    def _end(self, found: Annotation, query: Any) -> None:
        self._ran = self._chosen
        if not _is_elsewhere(query):
            self._wrote.append((weakref.ref(query), found.key))
        self.results.query, self.results.stale = query, ""
        self.set_trait("annotation", found)
        self.results.annotation = found
        where = "the tab Save writes them into a file" if _is_elsewhere(query) else f"they are in obs[{found.key!r}]"
        self._finish("done", None, f"Done: {len(found):,} cells have labels; {where}.")

    def _finish(self, state: str, error: BaseException | None, words: str) -> None:
        self._said_before = words
        self._over(state, error)
        self._progress.end(state, words)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the labelled cells into an .h5ad file, as `LabelledPanel.save` does."""
        return self.results.save(path, overwrite=overwrite)

    def _stop(self) -> None:
        self._task.stop.set()


def _is_elsewhere(query: Any) -> bool:
    """Whether the labels are not in the object that was annotated."""
    return isinstance(query, str | Path | Dataset)


def _folded(words: str, content: str, *, is_open: bool = False) -> str:
    from frostline.escaping import for_html

    return f"<details{' open' if is_open else ''}><summary>{for_html(words)}</summary>{content}</details>"
