"""KeepPanel: make a model of a strategy that was compared, and keep it in a folder."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as widgets
import traitlets

from frostline.annotation import adapting, places
from frostline.annotation.models import Model
from frostline.cells.datasets import Dataset
from frostline.comparison.comparisons import Comparison
from frostline.comparison.verdicts import recommended, to_keep
from frostline.errors import Cancelled, FrostlineError
from frostline.escaping import for_html
from frostline.panels.base import Panel, alert, at_most, replace_earlier
from frostline.panels.progress import WorkProgress

NO_RESULTS = "There is nothing to keep yet: run the strategies first"
NO_DATA = "The data set of these results is not in this session: load it, and run or compare again"


class KeepPanel(Panel):
    """Fit the strategy to keep on all labelled cells, calibrate it, and save it, beside the notebook's thread.

    Attributes
    ----------
    comparison, dataset, checkpoint
        What can be kept, what it was made on, and where its checkpoint is if that is a folder; may be set at any time.
    model
        What was kept last.
    folder
        Where it is.
    running
        Whether a model is being made.

    Examples
    --------
    >>> panel = KeepPanel()
    >>> panel.button.tooltip
    'There is nothing to keep yet: run the strategies first'
    """

    comparison = traitlets.Instance(Comparison, allow_none=True)
    dataset = traitlets.Instance(Dataset, allow_none=True)
    checkpoint = traitlets.Unicode(None, allow_none=True)
    model = traitlets.Instance(Model, allow_none=True)
    folder = traitlets.Instance(Path, allow_none=True)
    running = traitlets.Bool(False)

    def __init__(self) -> None:
        self._offered, self._said, self._progress = "", "", WorkProgress()
        self._strategy = widgets.Dropdown(
            description="Keep", tooltip="What is fitted on all labelled cells", layout=at_most(420)
        )
        self._folder = widgets.Text(
            value="frostline-model", description="Keep in", layout=at_most(420),
            tooltip="Where the model goes: a new folder, or one that holds a model, which is replaced",
        )  # fmt: skip
        self._reference = widgets.BoundedIntText(
            value=200, min=0, max=100_000, description="Cells kept", layout=at_most(290),
            tooltip="Labelled cells of each class to keep, to fit again on other genes; 0: none, else 3 or more",
        )  # fmt: skip
        self.button = widgets.Button(description="Keep this one", button_style="primary", icon="archive")
        self.cancel_button = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self._shown = widgets.HTML()
        words = widgets.HTML(
            "<p>The strategy is fitted on all labelled cells, and what its confidence means is found on cells that "
            "were left out of a fit. The folder labels other cells: "
            "<code>frostline.load_model(FOLDER).annotate(...)</code>.</p>"
        )
        buttons = widgets.HBox([self.button, self.cancel_button], layout=widgets.Layout(flex_flow="row wrap"))
        controls = [self._strategy, self._folder, self._reference, buttons]
        followed = [self._progress.bar, self._progress.words, self._shown]
        super().__init__([words, *controls, *followed], "frostline-keep-panel")
        self.button.on_click(lambda _: self._clicked())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.observe(lambda _: self._new(), ["comparison", "dataset"])
        self._new()
        replace_earlier(self)

    @property
    def problem(self) -> str:
        """Why nothing can be kept; empty when something can."""
        if self.comparison is None:
            return NO_RESULTS
        return NO_DATA if self.dataset is None else ""

    def _new(self) -> None:
        """Offer the strategies of a new comparison; its own choice, unless the reader has chosen another one."""
        comparison = self.comparison
        if comparison is not None:
            take, chosen = recommended(comparison.evidence), self._strategy.value
            by_hand = chosen != self._offered and chosen in comparison.strategies
            self._offered = to_keep(comparison.evidence) or comparison.best
            self._strategy.options = [
                (f"{name} (recommended)" if name == take else name, name) for name in comparison.strategies
            ]
            self._strategy.value = chosen if by_hand else self._offered
        self._enable()

    def _enable(self) -> None:
        self.button.disabled = self.running or bool(self.problem)
        under_way = "A model is being made; cancel it first"
        self.button.tooltip = under_way if self.running else self.problem or "Fit, calibrate and save this strategy"
        self.cancel_button.disabled = not self.running
        stop = "Stop within the current batch; nothing is written"
        self.cancel_button.tooltip = stop if self.running else "Nothing is being made"
        for control in (self._strategy, self._folder, self._reference):
            control.disabled = self.running
        if not self.running:
            self._progress.say(f"{self.problem}." if self.problem else self._said)

    def keep(self, folder: str | Path | None = None, strategy: str | None = None) -> Model:
        """Make the model and save it; returns when that is done.

        Parameters
        ----------
        folder, strategy
            By default what the panel's controls say.

        Raises
        ------
        FrostlineError
            There is nothing to keep, or the data set is not at hand; the folder holds something else; as of
            `frostline.annotation.keep`.
        Cancelled
            It was cancelled.
        """
        comparison, dataset = self.comparison, self.dataset
        if comparison is None or dataset is None:
            raise FrostlineError(self.problem)
        place = places.refuse_bad_target(folder or self._folder.value)
        model = adapting.keep(
            comparison,
            dataset,
            strategy or self._strategy.value,
            checkpoint=self.checkpoint,
            reference_cells=self._reference.value,
            monitor=self._progress.monitor,
        )
        model.save(place)
        self.set_trait("folder", place)
        self.set_trait("model", model)
        return model

    def cancel(self) -> None:
        """Stop within the current batch; nothing is written."""
        self._progress.stop.set()
        if self.running:
            self._progress.say("Stopping after the current batch ...")

    def _clicked(self) -> None:
        if self.running or self.problem:
            return
        self.running = True
        self._shown.value = ""
        self._progress.begin()
        self._enable()
        self.background.do("keep", self._work)

    def _work(self) -> None:
        try:
            self._show(self.keep())
        except Cancelled:
            self._ended("cancelled", "Cancelled; nothing was written.")
        except Exception as error:  # shown where the reader looks
            self._ended("failed", "Nothing was kept.")
            self._shown.value = alert(error)
        finally:
            self.running = False
            self._enable()

    def _show(self, model: Model) -> None:
        self._ended("done", f"Kept: {model.strategy.name}, in {self.folder}.")
        certificate = for_html(model.calibration.certificate.sentence)
        self._shown.value = f"<p>{certificate}</p>{model._repr_html_()}"

    def _ended(self, how: str, words: str) -> None:
        self._said = words
        self._progress.end(how, words)

    def _stop(self) -> None:
        self._progress.stop.set()
