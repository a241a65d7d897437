"""RunPanel: choose profile, split and strategies, run them, watch, cancel, go on after an interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as widgets
import traitlets

from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.comparison.comparisons import Comparison
from frostline.comparison.jobs import Job, Ran
from frostline.errors import Cancelled, FrostlineError
from frostline.evaluation.journal import Journal
from frostline.panels.advanced import HyperParameters
from frostline.panels.base import Panel, alert, in_a_lab, replace_earlier, status, title, wide
from frostline.panels.controls import RunControls
from frostline.panels.costs import TIMES, Costs
from frostline.panels.rows import StrategyRow
from frostline.profiles import get_profile
from frostline.records import Record
from frostline.strategies import STRATEGIES, ProbeObsm, Strategy, build, refuse_unusable_checkpoint

MAP = 2
"""Columns of what is a picture of an embedding, such as X_umap, and no embedding to classify from."""
PAUSE = 0.15
"""Seconds between two messages to the browser: a batch may take a hundredth of one."""


class RunPanel(Panel):
    """Run strategies on a data set.

    Parameters
    ----------
    dataset
        What `load_dataset` returned; None until the trait `dataset` is set.
    profile, strategies, checkpoint, seed, split, repeats
        What the controls show at first; None takes the defaults.

    Attributes
    ----------
    dataset
        May be set at any time but during a run.
    state
        idle, running, done, failed or cancelled.
    records
        Records that are finished, also after a cancel or a failure.
    comparison
        The Comparison of what can be compared, None before there is one.
    error
        The exception of a failed run, else None.
    stale
        What has been changed since the results were made, such as "seed"; empty when nothing.

    Raises
    ------
    FrostlineError
        The profile, a strategy or the checkpoint is unknown.

    Examples
    --------
    >>> import frostline
    >>> panel = RunPanel(frostline.load_dataset("pbmc68k-reduced"), strategies=["majority", "pca_knn"])
    >>> panel.run(wait=True).strategies
    ('majority', 'pca_knn')
    """

    dataset = traitlets.Any(None, allow_none=True)
    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    comparison = traitlets.Any(None, allow_none=True)
    records = traitlets.Tuple()
    error = traitlets.Any(None, allow_none=True)
    stale = traitlets.Unicode("")

    def __init__(
        self,
        dataset: Dataset | None = None,
        *,
        profile: str = "quickstart",
        strategies: Sequence[str] | None = None,
        checkpoint: str = "mini",
        seed: int = 42,
        split: str | None = None,
        repeats: int | None = None,
    ) -> None:
        get_profile(profile)
        first = build(strategies, profile=profile, checkpoint=checkpoint)
        refuse_unusable_checkpoint(checkpoint, first)
        self._first = [each.name for each in first]
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._ran: dict[str, Any] = {}
        self._costs = Costs()
        self._last_told, self._said_before, self._refused, self._held = 0.0, "", "", ""
        self._rows: dict[str, StrategyRow] = {}
        self._controls = RunControls(profile, checkpoint, seed, split, repeats)
        self._strategies, self._advanced = widgets.VBox([]), HyperParameters(self._changed)
        self._bar = widgets.FloatProgress(
            value=0.0, min=0.0, max=1.0, layout=wide(), tooltip="Progress of all strategies"
        )
        self._status = widgets.HTML()
        self._controls.run.on_click(lambda _: self._start())
        self._controls.cancel.on_click(lambda _: self.cancel())
        wrap = widgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                title("Run"),
                widgets.HBox(self._controls.settings, layout=wrap),
                widgets.HTML(TIMES),
                self._strategies,
                self._advanced,
                self._controls.resume,
                widgets.HBox([self._controls.run, self._controls.cancel], layout=wrap),
                self._controls.hint,
                self._bar,
                self._status,
            ],
            "frostline-run-panel",
        )
        for control in self._controls.settings:
            control.observe(lambda _: self._changed(), "value")
        self.observe(lambda _: self._enable(), "state")
        self.observe(lambda _: self._new_data(), "dataset")
        self.dataset = dataset
        if dataset is None:
            self._new_data()
        replace_earlier(self)

    # ------------------------------------------------------------------ controls

    @property
    def checkpoint_control(self) -> widgets.Combobox:
        """Where the checkpoint is chosen, for who wants to observe it."""
        return self._controls.checkpoint

    @property
    def chosen(self) -> list[str]:
        """Names of the ticked strategies."""
        return [name for name, row in self._rows.items() if row.box.value]

    @property
    def inputs(self) -> dict[str, Any]:
        """All that decides the results, by the name that a reader knows it by."""
        data = self.dataset
        about = {} if data is None else {"data": id(data.matrix), "labels": data.label_key, "groups": data.group_key}
        return {
            **about,
            **self._controls.values,
            "strategies": tuple(self.chosen),
            "hyper-parameters": repr(self._advanced.changes),
        }

    def _new_data(self) -> None:
        """Offer every strategy; the probe of obsm once for each embedding that the data set carries."""
        self._controls.suit(self.dataset)
        obsm = {} if self.dataset is None else self.dataset.adata.obsm
        embeddings = [ProbeObsm(key).name for key in obsm if obsm[key].shape[1] > MAP]
        names = [name for name in STRATEGIES if name != ProbeObsm.name] + embeddings
        names += [name for name in self._first if name not in names]
        ticked = set(self.chosen) if self._rows else set(self._first)
        for name in [name for name in self._rows if name not in names]:
            row = self._rows.pop(name)
            for part in (*row.children, row):
                part.close()
        for name in names:
            if name not in self._rows:
                self._rows[name] = StrategyRow(name, ticked=name in ticked)
                self._rows[name].box.observe(lambda _: self._changed(), "value")
        self._rows = {name: self._rows[name] for name in names}
        self._strategies.children = list(self._rows.values())
        self._changed()

    def _changed(self) -> None:
        """Something was chosen: say what is out of date, and work the costs out anew."""
        self._refused = ""
        if self._ran:
            now = self.inputs
            self.stale = ", ".join(key for key in self._ran if now.get(key) != self._ran[key])
        self._enable()
        if self.state != "running":
            self.background.do("plan", self._plan)

    def _problem(self) -> str:
        """Why a run is not possible; empty when it is."""
        if self.dataset is None:
            return "Choose data first."
        if not self.chosen:
            return "Tick at least one strategy to run."
        return self._refused

    def _enable(self) -> None:
        running, problem = self.state == "running", self._problem()
        self._controls.enable(running=running, held=self._held, problem=problem)
        for row in self._rows.values():
            row.box.disabled = running
        if running:
            return
        if problem:
            self._say(problem)
        elif self.stale:
            self._say(f"Changed since the results below: {self.stale}. Press Run to bring them up to date.")
        elif self.state == "idle":
            self._say("Ready.")
        elif self._said_before:
            self._say(self._said_before)

    # ------------------------------------------------------------------ what a run will cost

    def _plan(self) -> None:
        """Count parameters, time a few cells, look for what is on disk: beside the notebook's thread."""
        try:
            strategies = self._controls.build(list(self._rows))
            ticked = [each for each in strategies if self._rows[each.name].box.value]
            refuse_unusable_checkpoint(self._controls.checkpoint.value, ticked)
            if self.dataset is None:
                self._alert.value = ""
                return
            self._advanced.offer(strategies)
            strategies = self._advanced.applied(strategies)
            cuts = self._controls.draw(self.dataset)
        except FrostlineError as error:
            self._costs.forget()
            self._alert.value = alert(error, "This cannot be run")
            self._controls.offer_to_take_over(0, 0)
            for row in self._rows.values():
                row.describe(None, "")
            if self.state != "running":
                self._refused = f"This cannot be run: {error}"
                self._enable()
            return
        if self.state == "running":
            return
        self._alert.value = "" if self.error is None else self._alert.value
        self._look_for_finished(strategies, cuts)
        for strategy in strategies:
            self._describe(strategy, cuts)
        for strategy in sorted(strategies, key=lambda each: not self._rows[each.name].box.value):
            if self.background.waits("plan") or self.state == "running":
                return
            self._costs.work_out(strategy, self.dataset, cuts)
            self._describe(strategy, cuts)

    def _describe(self, strategy: Strategy, cuts: Sequence[Split]) -> None:
        if strategy.name in self._rows:
            self._rows[strategy.name].describe(strategy, self._costs.words(strategy, self.dataset, cuts))

    def _look_for_finished(self, strategies: Sequence[Strategy], cuts: Sequence[Split]) -> None:
        wanted = [each for each in strategies if self._rows[each.name].box.value]
        found = Journal.of(self.dataset, cuts).finished(wanted)
        self._controls.offer_to_take_over(len(found), len(wanted) * len(cuts))

    # ------------------------------------------------------------------ running

    def run(self, *, wait: bool = False, resume: bool | None = None, keep_going: bool = False) -> Comparison | None:
        """Run the ticked strategies.

        Parameters
        ----------
        wait
            Return when the run is over, as a notebook that runs from top to bottom must; otherwise at once.
        resume
            Take over what finished in an earlier run with the same settings, also one of a kernel that died. None:
            in JupyterLab, where somebody may restart and run all cells, and not in batch, whose costs are of one run.
        keep_going
            Return the comparison of the others where a strategy failed; `latest` says what failed.

        Returns
        -------
        Comparison or None
            The comparison when waited for.

        Raises
        ------
        FrostlineError
            A run is under way, there is no data, no strategy is ticked, or (when waited for) a strategy failed.
        Cancelled
            The run was cancelled, when waited for.
        """
        if self.state == "running":
            raise FrostlineError("a run is under way; cancel it or wait for it")
        if self._problem():
            raise FrostlineError(self._problem())
        self._cancel.clear()
        self._held = "run" if wait else ""
        self._begin()
        take_over = in_a_lab() if resume is None else resume
        self._thread = threading.Thread(target=self._work, args=(take_over,), name="frostline-run", daemon=True)
        self._thread.start()
        if not wait:
            return None
        try:
            self._join()
        except KeyboardInterrupt:
            self.cancel()
            self._join()
            raise
        finally:
            self._held = ""
            self._enable()
        self.settle()
        return self.latest().comparison if keep_going and self.state == "failed" else self.wait()

    def _join(self, timeout: float | None = None) -> None:
        """Wait for the thread of the run; an interrupt is heard in between, on every system."""
        thread, end = self._thread, None if timeout is None else time.monotonic() + timeout
        while thread is not None and thread.is_alive() and (end is None or time.monotonic() < end):
            thread.join(PAUSE)

    def _begin(self) -> None:
        self._ran, self._said_before, self._job = self.inputs, "", None
        self.stale = ""
        self.set_trait("error", None)
        self.set_trait("comparison", None)
        self.set_trait("records", ())
        self._alert.value = ""
        self._bar.bar_style, self._bar.value = "info", 0.0
        for row in self._rows.values():
            row.show(None)
        self.set_trait("state", "running")
        self._say("Starting ...")

    def _start(self) -> None:
        """Run from the button: whatever goes wrong is shown, since nobody would see a traceback."""
        if self.state == "running":  # a second click, sent before the browser had learnt of the first
            return
        try:
            self.run(resume=self._controls.resume.layout.display is None and self._controls.resume.value)
        except FrostlineError as error:
            self._alert.value = alert(error)

    def cancel(self) -> None:
        """Stop within the current batch; finished records are kept."""
        self._cancel.set()
        if self.state == "running":
            self._say("Stopping after the current batch ...")

    def wait(self, timeout: float | None = None) -> Comparison:
        """Wait for the run and return its comparison, or raise what went wrong.

        Raises
        ------
        TimeoutError
            The run is not over in time.
        FrostlineError
            Nothing has been run.
        """
        with self._waiting():
            self._join(timeout)
        if self.state == "running":
            raise TimeoutError(f"the run is not over after {timeout} s")
        if self.error is not None:
            raise self.error
        comparison: Comparison | None = self.comparison
        if comparison is None:
            raise FrostlineError("nothing has been run yet")
        return comparison

    def latest(self) -> Ran:
        """Return what was run last, in a cell or with the button; waits while it is under way.

        Raises
        ------
        FrostlineError
            Nothing has been run, or nothing of it can be compared.
        """
        with self._waiting():
            self._join()
        if self.ran is not None:
            return self.ran
        if self.error is not None:
            raise FrostlineError(f"the last run left nothing to compare: {self.error}") from self.error
        raise FrostlineError("nothing has been run yet; press Run, or call panel.run(wait=True)")

    @property
    def ran(self) -> Ran | None:
        """What was run last, as far as it is; None before anything can be compared."""
        return None if self._job is None else self._job.ran(self.stale)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Say that a cell waits, while one does for a run that was started with the button."""
        if self.state != "running" or self._held:
            yield
            return
        self._held = "wait"
        self._enable()
        try:
            yield
        finally:
            self._held = ""
            self._enable()

    def add(self, records: Iterable[Record]) -> None:
        """Put records with fewer labels, or with a class withheld, into what was run last.

        Raises
        ------
        FrostlineError
            They are of other test cells, or nothing has been run.
        """
        self.latest()
        assert self._job is not None  # latest raised otherwise
        self._job.add(records)
        self.set_trait("comparison", self._job.comparison)

    def _work(self, resume: bool) -> None:
        stop: BaseException | None = None
        try:
            strategies = self._advanced.applied(self._controls.build(self.chosen))
            refuse_unusable_checkpoint(self._controls.checkpoint.value, strategies)
            cuts = self._controls.draw(self.dataset)
            journal = Journal.of(self.dataset, cuts)
            done = journal.finished(strategies) if resume else []
            self._job = Job(strategies, self.dataset, cuts, finished=done, journal=journal, changed=self._tell)
            self._job.run(self._cancel.is_set)
        except BaseException as error:  # shown here, and raised again by wait()
            stop = error
        try:
            self._end(stop)
        except Exception as error:  # a result that cannot be compared must not leave the panel running for ever
            self._fail(error)

    def _tell(self, job: Job) -> None:
        """Show how far the job is; called from within its loops."""
        new = len(job.records) > len(self.records)
        now = time.monotonic()
        settled = all(each.state != "running" for each in job.progress.values())
        if not (new or settled or now - self._last_told > PAUSE):
            return
        self._last_told = now
        self._bar.value = job.fraction
        for name, progress in job.progress.items():
            self._rows[name].show(progress, self._costs.seconds(name, len(job.splits)))
        running = next((each for each in job.progress.values() if each.state == "running"), None)
        if running is not None and not self._cancel.is_set():
            left = self._costs.left(job.progress, len(job.splits))
            self._say(f"{running.strategy}: {running.message}" + (f"; about {left} left in all" if left else ""))
        if new:
            self.set_trait("records", job.records)
            self.set_trait("comparison", job.comparison)

    def _end(self, stop: BaseException | None) -> None:
        job = self._job
        if job is not None:
            for name, progress in job.progress.items():
                self._rows[name].show(progress)
            self.set_trait("records", job.records)
            self.set_trait("comparison", job.comparison)
        n = len(self.records)
        if isinstance(stop, Cancelled | KeyboardInterrupt):
            self._bar.bar_style = "warning"
            self._finish(
                "cancelled", Cancelled("the run was cancelled"), f"Cancelled; {n} finished evaluation(s) kept."
            )
        elif stop is not None:
            self._fail(stop)
        elif job is not None and job.failures:
            self._some_failed(job)
        else:
            self._bar.value, self._bar.bar_style = 1.0, "success"
            warning = f" Beware: {job.warning}" if job is not None and job.warning else ""
            taken = f", {job.taken_over} of them taken over from an earlier run" if job and job.taken_over else ""
            self._finish("done", None, f"Done: {n} evaluations{taken}.{warning}")

    def _some_failed(self, job: Job) -> None:
        """Show what went wrong; the other strategies have their results."""
        failures = job.failures
        self._bar.bar_style = "danger"
        self._alert.value = "".join(alert(error, f"{name} failed") for name, error in failures.items())
        first = next(iter(failures.values()))
        words = f"{', '.join(failures)} failed; {len(self.records)} evaluation(s) of the others are kept."
        self._finish("failed", first, words)

    def _fail(self, error: BaseException) -> None:
        self._bar.bar_style = "danger"
        self._alert.value = alert(error)
        self._finish("failed", error, "The run failed.")

    def _finish(self, state: str, error: BaseException | None, words: str) -> None:
        self._said_before = words
        self.set_trait("error", error)
        self.set_trait("state", state)
        self._say(words)
        self.background.do("plan", self._plan)

    def _say(self, words: str) -> None:
        self._status.value = status(words)

    def close(self) -> None:
        """Cancel what runs, and let go of everything."""
        if hasattr(self, "_cancel"):  # a panel that was refused is closed, too
            self._cancel.set()
        super().close()
