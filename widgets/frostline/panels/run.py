"""RunPanel: run what is planned, watch, cancel, go on after an interruption."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Unpack

import ipywidgets as widgets
import traitlets

from frostline.cells.datasets import Dataset
from frostline.comparison.comparisons import Comparison
from frostline.comparison.jobs import Job, alone
from frostline.comparison.outcomes import Ran
from frostline.errors import Cancelled, FrostlineError
from frostline.evaluation.journal import Journal
from frostline.panels.base import Panel, alert, in_a_lab, replace_earlier, status, title, wide
from frostline.panels.controls import First, RunButtons
from frostline.panels.planning import PlanPanel
from frostline.panels.tasks import PAUSE, Task
from frostline.records import Record


class RunPanel(Panel):
    """Run strategies on a data set.

    Parameters
    ----------
    dataset
        What `load_dataset` returned; None until the trait `dataset` is set.
    strategies, profile, checkpoint, device, precision, seed, split, repeats
        What the controls show at first; by default or None what is usual.

    Attributes
    ----------
    plan
        What is to be run, and its controls.
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
    partial
        What the results lack of what was asked for, in words; empty when nothing.
    busy
        Why nothing can be run for the moment, though nothing is running here; empty when something can.

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

    dataset = traitlets.Instance(Dataset, allow_none=True)
    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    comparison = traitlets.Instance(Comparison, allow_none=True)
    records = traitlets.Tuple()
    error = traitlets.Instance(BaseException, allow_none=True)
    stale = traitlets.Unicode("")
    partial = traitlets.Unicode("")
    busy = traitlets.Unicode("")

    def __init__(
        self,
        dataset: Dataset | None = None,
        *,
        strategies: Sequence[str] | None = None,
        **first: Unpack[First],
    ) -> None:
        self._task = Task(self._enable)
        self._job: Job | None = None
        self._ran: dict[str, Any] = {}
        self._last_shown, self._said_before = 0.0, "Ready."
        self.plan = PlanPanel(strategies=strategies, **first)
        self._buttons = RunButtons()
        self._bar = widgets.FloatProgress(
            value=0.0, min=0.0, max=1.0, layout=wide(), tooltip="Progress of all strategies"
        )
        self._status = widgets.HTML()
        super().__init__([title("Run"), self.plan, *self._buttons, self._bar, self._status], "frostline-run-panel")
        self._buttons.run.on_click(lambda _: self._start())
        self._buttons.cancel.on_click(lambda _: self.cancel())
        traitlets.dlink((self, "dataset"), (self.plan, "dataset"))
        self.plan.observe(lambda _: self._changed(), ["inputs", "refused"])
        self.observe(lambda _: self._enable(), ["state", "busy"])
        self.dataset = dataset
        self._enable()
        replace_earlier(self)

    @property
    def ran(self) -> Ran | None:
        """What was run last, as far as it is; None before anything can be compared."""
        return None if self._job is None else self._job.ran(self.stale)

    def _changed(self) -> None:
        """Say what the results are not of any more."""
        if self._ran:
            now = self.plan.inputs
            self.stale = ", ".join(key for key in self._ran if now.get(key) != self._ran[key])
        self._enable()

    def _enable(self) -> None:
        running, problem = self.state == "running", self.busy or self.plan.problem
        self.plan.locked = running or bool(self.busy)
        self._buttons.enable(running=running, held=self._task.held, problem=problem)
        if running:
            return
        if problem:
            self._say(problem)
        elif self.stale:
            self._say(f"Changed since the results below: {self.stale}. Press Run to bring them up to date.")
        else:
            self._say(self._said_before)

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
            A run is under way here or elsewhere in the kernel, there is no data, no strategy is ticked, or (when waited
            for) a strategy failed.
        Cancelled
            The run was cancelled, when waited for.
        """
        if self.state == "running":
            raise FrostlineError("a run is under way; cancel it or wait for it")
        problem = self.busy or self.plan.problem
        if problem:
            raise FrostlineError(problem)
        with alone():  # refused here, nothing that was found before is lost
            self._task.prepare(wait=wait)
        self._begin()
        take_over = in_a_lab() if resume is None else resume
        self._task.start(lambda: self._work(take_over))
        if not wait:
            return None
        self.settle()
        return self.latest().comparison if keep_going and self.state == "failed" else self.wait()

    def _begin(self) -> None:
        self._ran, self._job = self.plan.inputs, None
        self.stale = ""
        self.set_trait("error", None)
        self.set_trait("comparison", None)
        self.set_trait("records", ())
        self._alert.value = self.partial = ""
        self._bar.bar_style, self._bar.value = "info", 0.0
        self.plan.follow(None)
        self.set_trait("state", "running")
        self._say("Starting ...")

    def _start(self) -> None:
        """Run from the button: whatever goes wrong is shown, since nobody would see a traceback."""
        if self.state == "running":  # a second click, sent before the browser had learnt of the first
            return
        try:
            self.run(resume=self.plan.controls.takes_over)
        except FrostlineError as error:
            self._alert.value = alert(error)

    def cancel(self) -> None:
        """Stop within the current batch; finished records are kept."""
        self._task.stop.set()
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
        with self._task.waiting(running=self.state == "running"):
            self._task.join(timeout)
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
        with self._task.waiting(running=self.state == "running"):
            self._task.join()
        if self.ran is not None:
            return self.ran
        if self.error is not None:
            raise FrostlineError(f"the last run left nothing to compare: {self.error}") from self.error
        raise FrostlineError("nothing has been run yet; press Run, or call panel.run(wait=True)")

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
            strategies, dataset, cuts = self.plan.prepared()
            journal = Journal.of(dataset, cuts)
            done = journal.finished(strategies) if resume else []
            self._job = Job(strategies, dataset, cuts, finished=done, journal=journal, changed=self._tell)
            self._job.run(self._task.stop.is_set)
        except BaseException as error:  # shown here, and raised again by wait()
            stop = error
        try:
            self._end(stop)
        except Exception as error:  # a result that cannot be compared must not leave the panel running for ever
            self._fail(error)

    def _tell(self, job: Job) -> None:
        """Show how far the job is; called from within its loops."""
        new = len(job.records) > len(self.records)
        self._show_failures(job)
        now = time.monotonic()
        settled = all(each.state != "running" for each in job.progress.values())
        if not (new or settled or now - self._last_shown > PAUSE):
            return
        self._last_shown = now
        self._bar.value = job.fraction
        left = self.plan.follow(job)
        running = next((each for each in job.progress.values() if each.state == "running"), None)
        if running is not None and not self._task.stop.is_set():
            self._say(f"{running.strategy}: {running.message}" + (f"; about {left} left in all" if left else ""))
        if new:
            self._show(job)

    def _show(self, job: Job) -> None:
        """Hand out what has finished, and say what it lacks."""
        failed = f"Failed: {', '.join(job.failures)}. " if job.failures else ""
        said = f"{failed}{job.unfinished}".strip()
        self.partial = said[:1].upper() + said[1:]
        self.set_trait("records", job.records)
        self.set_trait("comparison", job.comparison)

    def _show_failures(self, job: Job) -> None:
        """Say what went wrong as soon as it has; the other strategies go on."""
        said = "".join(alert(error, f"{name} failed") for name, error in job.failures.items())
        if said != self._alert.value:
            self._alert.value = said

    def _end(self, stop: BaseException | None) -> None:
        job = self._job
        if job is not None:
            self.plan.follow(job)
            self._show_failures(job)
            self._show(job)
        n = len(self.records)
        if isinstance(stop, Cancelled | KeyboardInterrupt):
            self._bar.bar_style = "warning"
            failed = f" {', '.join(job.failures)} failed." if job is not None and job.failures else ""
            words = f"Cancelled; {n} finished evaluation(s) kept.{failed}"
            self._finish("cancelled", Cancelled("the run was cancelled"), words)
        elif stop is not None:
            self._fail(stop)
        elif job is not None and job.failures:
            self._some_failed(job)
        else:
            self._bar.value, self._bar.bar_style = 1.0, "success"
            warning = f" Warning: {job.warning}" if job is not None and job.warning else ""
            taken = f", {job.taken_over} of them taken over from an earlier run" if job and job.taken_over else ""
            self._finish("done", None, f"Done: {n} evaluations{taken}.{warning}")

    def _some_failed(self, job: Job) -> None:
        """Show what went wrong; the other strategies have their results."""
        failures = job.failures
        self._bar.bar_style = "danger"
        first = next(iter(failures.values()))
        words = f"{', '.join(failures)} failed; {len(self.records)} evaluation(s) of the others are kept."
        self._finish("failed", first, words)

    def _fail(self, error: BaseException) -> None:
        self._finish("failed", error, "The run failed.")
        self._bar.bar_style = "danger"
        self._alert.value = alert(error)

    def _finish(self, state: str, error: BaseException | None, words: str) -> None:
        self._said_before = words
        self._over(state, error)
        self._say(words)

    def _say(self, words: str) -> None:
        self._status.value = status(words)

    def _stop(self) -> None:
        self._task.stop.set()
