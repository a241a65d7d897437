"""The panel of the first tutorial: choose a profile and strategies, run them, see who does what."""

from __future__ import annotations

import html
import threading
import traceback
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from frostline import figures, report
from frostline.comparison import Comparison, compare
from frostline.datasets import Dataset
from frostline.errors import Cancelled, FrostlineError
from frostline.evaluation import evaluate_all
from frostline.profiles import PROFILES, get_profile
from frostline.records import Record
from frostline.splits import split as draw_split
from frostline.strategies import STRATEGIES, ProbeObsm, Strategy, build

TICK = "Tick at least one strategy to run."
MAP = 2
"""Columns of what is a picture of an embedding, such as X_umap, and no embedding to classify from."""
WIDE = widgets.Layout(width="auto")


class AnnotationPanel(widgets.VBox):  # type: ignore[misc]
    """Compare annotation strategies on one data set.

    Parameters
    ----------
    dataset
        What `frostline.load_dataset` returned.
    profile, strategies, checkpoint, seed
        What the controls show at first.
    split, repeats
        Kind of split and number of splits; by default what suits the data set, and the profile's number.

    Attributes
    ----------
    state
        idle, running, done, failed or cancelled.
    records
        Records of the strategies that finished, also after a cancel or a failure.
    comparison
        The Comparison, None before a run is done.
    error
        The exception of a failed run, else None.

    Raises
    ------
    FrostlineError
        The profile, a strategy or the checkpoint is unknown, or the data set does not suit them.

    Examples
    --------
    >>> import frostline
    >>> panel = AnnotationPanel(frostline.load_dataset("pbmc68k-reduced"), strategies=["pca_logistic"])
    >>> panel.state
    'idle'
    """

    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    comparison = traitlets.Any(None, allow_none=True)
    records = traitlets.Tuple()
    error = traitlets.Any(None, allow_none=True)

    def __init__(
        self,
        dataset: Dataset,
        *,
        profile: str = "quickstart",
        strategies: Sequence[str] | None = None,
        checkpoint: str = "mini",
        seed: int = 42,
        split: str | None = None,
        repeats: int | None = None,
    ) -> None:
        get_profile(profile)
        chosen = [strategy.name for strategy in build(strategies, profile=profile, checkpoint=checkpoint)]
        self.dataset = dataset
        self.checkpoint = checkpoint
        self.split, self.repeats = split, repeats
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._make_controls(profile, chosen, seed)
        self._make_displays()
        super().__init__(
            [
                self._heading,
                widgets.HBox([self._profile, self._seed], layout=widgets.Layout(flex_flow="row wrap")),
                widgets.VBox(list(self._boxes.values())),
                widgets.HBox([self._run_button, self._cancel_button]),
                self._progress,
                self._status,
                self._alert,
                self._results,
            ]
        )
        self.add_class("frostline-annotation-panel")
        self._profile.observe(self._describe_strategies, "value")
        for box in self._boxes.values():
            box.observe(self._enable, "value")
        self.observe(self._enable, "state")
        self._describe_strategies()
        self._enable()

    def _make_controls(self, profile: str, chosen: Sequence[str], seed: int) -> None:
        self._profile = widgets.Dropdown(
            options=list(PROFILES), value=profile, description="Profile", tooltip="How many cells, how long to train"
        )
        self._seed = widgets.BoundedIntText(
            value=seed, min=0, max=2**32 - 1, description="Seed", tooltip="Of the split and of all training"
        )
        self._boxes = {
            name: widgets.Checkbox(value=name in chosen, indent=False, layout=WIDE, tooltip=f"Trains {kind.trains}")
            for name, kind in self._offered(chosen)
        }
        self._run_button = widgets.Button(description="Run", button_style="primary", icon="play")
        self._cancel_button = widgets.Button(
            description="Cancel", icon="stop", tooltip="Stop after the current training step; finished results stay"
        )
        self._run_button.on_click(lambda _: self._start())
        self._cancel_button.on_click(lambda _: self.cancel())

    def _offered(self, chosen: Sequence[str]) -> list[tuple[str, type[Strategy]]]:
        """Every strategy; the probe of obsm once for each embedding that the data set carries."""
        obsm = self.dataset.adata.obsm
        embeddings = [f"{ProbeObsm.name}:{key}" for key in obsm if obsm[key].shape[1] > MAP]
        names = [name for name in STRATEGIES if name != ProbeObsm.name] + embeddings
        names += [name for name in chosen if name not in names]
        return [(name, STRATEGIES[name.partition(":")[0]]) for name in names]

    def _make_displays(self) -> None:
        data = self.dataset
        text = f"{data.name}: {len(data):,} cells x {len(data.genes):,} genes, labels in {data.label_key}"
        self._heading = widgets.HTML(f"<strong>{html.escape(text)}</strong>")
        self._progress = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout=WIDE)
        self._status = widgets.HTML()
        self._alert = widgets.HTML()
        self._results = widgets.VBox([])

    @property
    def chosen(self) -> list[str]:
        """Names of the ticked strategies."""
        return [name for name, box in self._boxes.items() if box.value]

    def _describe_strategies(self, _change: object = None) -> None:
        """Write beside each checkbox how many parameters it would train on this split."""
        cut = draw_split(self.dataset, kind=self.split, seed=self._seed.value, profile=self._profile.value)
        for name, box in self._boxes.items():
            (strategy,) = build([name], profile=self._profile.value, checkpoint=self.checkpoint)
            count = strategy.planned_parameters(cut, self.dataset)
            price = "; expensive" if strategy.expensive else ""
            box.description = f"{strategy.title} ({name}): {count:,} trained parameters{price}"

    def _enable(self, _change: object = None) -> None:
        running = self.state == "running"
        for control in (self._profile, self._seed, *self._boxes.values()):
            control.disabled = running
        self._cancel_button.disabled = not running
        self._run_button.disabled = running or not self.chosen
        self._run_button.tooltip = (
            "A run is under way" if running else "Evaluate the ticked strategies" if self.chosen else "Tick a strategy"
        )
        if not running and not self.chosen:
            self._say(TICK)
        elif self.state == "idle" or TICK in self._status.value:
            self._say("Ready.")

    def _say(self, message: str) -> None:
        self._status.value = f'<span role="status" aria-live="polite">{html.escape(message)}</span>'

    def run(self, *, wait: bool = False) -> Comparison | None:
        """Run the ticked strategies.

        Parameters
        ----------
        wait
            Return when the run is over, as a batch notebook must; otherwise at once.

        Returns
        -------
        Comparison or None
            The comparison when waited for.

        Raises
        ------
        FrostlineError
            A run is under way, no strategy is ticked, or (when waited for) the run failed.
        Cancelled
            The run was cancelled, when waited for.
        """
        if self.state == "running":
            raise FrostlineError("a run is under way; cancel it or wait for it")
        if not self.chosen:
            raise FrostlineError("tick at least one strategy")
        self._cancel.clear()
        self.set_trait("error", None)
        self.set_trait("comparison", None)
        self.set_trait("records", ())
        self._alert.value = ""
        self._show([])
        self._progress.bar_style, self._progress.value = "info", 0.0
        self.set_trait("state", "running")
        if not wait:
            self._thread = threading.Thread(target=self._work, name="frostline-run", daemon=True)
            self._thread.start()
            return None
        self._work()
        return self.wait()

    def _start(self) -> None:
        """Run from the button: whatever goes wrong is shown, since nobody would see a traceback."""
        if self.state == "running":  # a second click, sent before the browser had learnt of the first
            return
        try:
            self.run()
        except FrostlineError as error:
            self._show_error(error)

    def cancel(self) -> None:
        """Stop after the current training step; finished records are kept."""
        self._cancel.set()
        if self.state == "running":
            self._say("Stopping after the current step ...")

    def wait(self, timeout: float | None = None) -> Comparison:
        """Wait for the run and return its comparison, or raise what went wrong."""
        if self._thread is not None:
            self._thread.join(timeout)
        if self.state == "running":
            raise TimeoutError(f"the run is not over after {timeout} s")
        if self.error is not None:
            raise self.error
        comparison: Comparison | None = self.comparison
        if comparison is None:
            raise FrostlineError("nothing has been run yet")
        return comparison

    def _work(self) -> None:
        try:
            for record in self._evaluations():
                self.set_trait("records", (*self.records, record))
                self._show_results()
            self._progress.value, self._progress.bar_style = 1.0, "success"
            self._say(f"Done: {len(self.records)} evaluations.")
            self.set_trait("state", "done")
        except (Cancelled, KeyboardInterrupt) as stop:
            self._progress.bar_style = "warning"
            self._say(f"Cancelled; {len(self.records)} finished evaluation(s) kept.")
            self.set_trait("error", Cancelled("the run was cancelled"))
            self.set_trait("state", "cancelled")
            if isinstance(stop, KeyboardInterrupt):
                raise
        except Exception as error:  # shown here and raised again by wait()
            self._show_error(error)
            self.set_trait("error", error)
            self.set_trait("state", "failed")

    def _evaluations(self) -> Any:
        profile = get_profile(self._profile.value)
        splits = [
            draw_split(self.dataset, kind=self.split, seed=self._seed.value, profile=profile, repeat=repeat)
            for repeat in range(self.repeats or profile.repeats)
        ]
        strategies = build(self.chosen, profile=profile, checkpoint=self.checkpoint)
        return evaluate_all(strategies, self.dataset, splits, progress=self._on_progress, cancelled=self._cancel.is_set)

    def _on_progress(self, fraction: float, message: str) -> None:
        self._progress.value = fraction
        self._say(message)

    def _show_error(self, error: Exception) -> None:
        self._progress.bar_style = "danger"
        self._say("The run failed.")
        details = html.escape("".join(traceback.format_exception(error)))
        self._alert.value = (
            f'<div role="alert" style="border-left:4px solid #D55E00;padding:0.5em 1em"><strong>'
            f"{html.escape(type(error).__name__)}</strong>: {html.escape(str(error))}"
            f"<details><summary>Details</summary><pre>{details}</pre></details></div>"
        )

    def _show_results(self) -> None:
        """Draw whatever strategies have finished all repeats that any of them finished."""
        finished = _complete(self.records)
        if not finished:
            return
        comparison = compare(finished)
        self.set_trait("comparison", comparison)
        parts = [comparison._repr_html_(), f"<p>{html.escape(report.reading(comparison))}</p>"]
        shown = [name for name in ("frozen_probe", "lora") if name in comparison.strategies]
        for name in shown:
            alt = f"UMAP of the test cells in the representation of {name}, coloured by true class"
            parts.append(figures.image_html(figures.umap_figure(comparison, name), alt))
        alt = f"Confusion matrix of {comparison.best} on the test cells"
        parts.append(figures.image_html(figures.confusion_figure(comparison, comparison.best), alt))
        self._show(parts)

    def _show(self, parts: Sequence[str]) -> None:
        """Show pieces of HTML, in the widgets that are there already: closed ones would stay in a saved notebook."""
        shown = list(self._results.children)
        shown += [widgets.HTML() for _ in parts[len(shown) :]]
        for child, part in zip(shown, [*parts, *[""] * len(shown)], strict=False):
            child.value = part
        self._results.children = tuple(shown)


def _complete(records: Sequence[Record]) -> list[Record]:
    """Records of the strategies that finished every repeat that any strategy began."""
    repeats = {record.repeat for record in records}
    done = {
        name: {record.repeat for record in records if record.strategy == name}
        for name in dict.fromkeys(record.strategy for record in records)
    }
    whole = {name for name, found in done.items() if found == repeats}
    if whole:
        return [record for record in records if record.strategy in whole]
    earlier = [record for record in records if record.repeat < max(repeats)]
    return _complete(earlier) if earlier else []
