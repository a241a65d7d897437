"""RunPanel: choose profile, split and strategies, run them, watch, cancel, go on after an interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets

from frostline.checkpoints import CHECKPOINTS, load_checkpoint
from frostline.comparison import Comparison
from frostline.datasets import Dataset
from frostline.errors import Cancelled, FrostlineError
from frostline.estimates import Estimate, duration, estimate
from frostline.jobs import Job
from frostline.journal import Journal
from frostline.panels.advanced import HyperParameters
from frostline.panels.base import Panel, alert, at_most, replace_earlier, status, title, wide
from frostline.panels.rows import StrategyRow
from frostline.profiles import PROFILES, get_profile
from frostline.splits import Split
from frostline.splits import split as draw_split
from frostline.strategies import STRATEGIES, ProbeObsm, Strategy, build, checkpoint_of

MAP = 2
"""Columns of what is a picture of an embedding, such as X_umap, and no embedding to classify from."""
SPLITS = (("what suits the data", ""), ("stratified (random cells)", "stratified"), ("group (whole groups)", "group"))
TIMES = (
    "<div class='frostline-quiet'>Times are estimates for this machine, from a few of your cells; a map of the test "
    "cells comes on top. Strategies on one frozen embedding share the time that it takes.</div>"
)
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
        if checkpoint_of(first):
            load_checkpoint(checkpoint)
        self._first = [each.name for each in first]
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._ran: dict[str, Any] = {}
        self._estimates: dict[str, Estimate | str] = {}
        self._timed: dict[tuple[Any, ...], Estimate] = {}
        self._last_told, self._said_before, self._refused = 0.0, "", ""
        self._rows: dict[str, StrategyRow] = {}
        self._make_controls(profile, checkpoint, seed, split, repeats)
        wrap = widgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                title("Run"),
                widgets.HBox([self._profile, self._checkpoint, self._split, self._repeats, self._seed], layout=wrap),
                widgets.HTML(TIMES),
                self._strategies,
                self._advanced,
                self._resume,
                widgets.HBox([self._run_button, self._cancel_button], layout=wrap),
                self._bar,
                self._status,
            ],
            "frostline-run-panel",
        )
        for control in (self._profile, self._checkpoint, self._split, self._repeats, self._seed):
            control.observe(lambda _: self._changed(), "value")
        self._profile.observe(self._take_repeats, "value")
        self.observe(lambda _: self._enable(), "state")
        self.observe(lambda _: self._new_data(), "dataset")
        self.dataset = dataset
        if dataset is None:
            self._new_data()
        replace_earlier(self)

    # ------------------------------------------------------------------ controls

    def _make_controls(self, profile: str, checkpoint: str, seed: int, split: str | None, repeats: int | None) -> None:
        self._profile = widgets.Dropdown(
            options=list(PROFILES), value=profile, description="Profile", layout=at_most(290),
            tooltip="How many cells, how long to train",
        )  # fmt: skip
        self._checkpoint = widgets.Combobox(
            options=list(CHECKPOINTS), value=checkpoint, description="Checkpoint", layout=at_most(290),
            continuous_update=False, tooltip="A registered name, or a folder in the official layout",
        )  # fmt: skip
        options = SPLITS if split in (None, "stratified", "group") else (*SPLITS, (str(split), split))
        self._split = widgets.Dropdown(
            options=options, value=split or "", description="Split", layout=at_most(290),
            tooltip="Which cells are held out for the test: cells at random, or whole donors, batches, studies",
        )  # fmt: skip
        self._repeats = widgets.BoundedIntText(
            value=repeats or get_profile(profile).repeats, min=1, max=100, description="Repeats", layout=at_most(290),
            tooltip="Independent splits; another profile brings its own number",
        )  # fmt: skip
        self._seed = widgets.BoundedIntText(
            value=seed, min=0, max=2**32 - 1, description="Seed", layout=at_most(290),
            tooltip="Of the splits and of all training",
        )  # fmt: skip
        self._strategies = widgets.VBox([])
        self._advanced = HyperParameters(self._changed)
        self._resume = widgets.Checkbox(
            value=True, indent=False, layout=widgets.Layout(width="auto", display="none"),
            tooltip="Evaluations that finished before are taken over, not computed again",
        )  # fmt: skip
        self._run_button = widgets.Button(description="Run", button_style="primary", icon="play")
        self._cancel_button = widgets.Button(
            description="Cancel", icon="stop", tooltip="Stop within the current batch; finished results stay"
        )
        self._bar = widgets.FloatProgress(
            value=0.0, min=0.0, max=1.0, layout=wide(), tooltip="Progress of all strategies"
        )
        self._status = widgets.HTML()
        self._run_button.on_click(lambda _: self._start())
        self._cancel_button.on_click(lambda _: self.cancel())

    @property
    def checkpoint_control(self) -> widgets.Combobox:
        """Where the checkpoint is chosen, for who wants to observe it."""
        return self._checkpoint

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
            "profile": self._profile.value,
            "checkpoint": self._checkpoint.value,
            "split": self._split.value,
            "repeats": self._repeats.value,
            "seed": self._seed.value,
            "strategies": tuple(self.chosen),
            "hyper-parameters": repr(self._advanced.changes),
        }

    def _new_data(self) -> None:
        """Offer every strategy; the probe of obsm once for each embedding that the data set carries."""
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

    def _take_repeats(self, change: dict[str, Any]) -> None:
        """Let another profile bring its number of repeats, unless a number was chosen."""
        if self._repeats.value == get_profile(change["old"]).repeats:
            self._repeats.value = get_profile(change["new"]).repeats

    def _changed(self) -> None:
        """Something was chosen: say what is out of date, and work the costs out anew."""
        self._refused = ""
        if self._ran:
            now = self.inputs
            self.stale = ", ".join(key for key in self._ran if now.get(key) != self._ran[key])
        self._enable()
        if self.dataset is not None and self.state != "running":
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
        controls = [self._profile, self._checkpoint, self._split, self._repeats, self._seed, self._resume]
        for control in (*controls, *(row.box for row in self._rows.values())):
            control.disabled = running
        self._cancel_button.disabled = not running
        self._run_button.disabled = running or bool(problem)
        self._run_button.tooltip = (
            "A run is under way; cancel it first" if running else problem or "Evaluate the ticked strategies"
        )
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

    def _splits(self) -> list[Split]:
        profile = get_profile(self._profile.value)
        kind, n = self._split.value or None, self._repeats.value
        return [draw_split(self.dataset, kind=kind, seed=self._seed.value, profile=profile, repeat=i) for i in range(n)]

    def _built(self, names: Sequence[str]) -> list[Strategy]:
        return build(names, profile=self._profile.value, checkpoint=self._checkpoint.value)

    def _plan(self) -> None:
        """Count parameters, time a few cells, and look for what is on disk, beside the notebook's thread."""
        try:
            if self.chosen and checkpoint_of(self._built(self.chosen)):
                load_checkpoint(self._checkpoint.value)
            strategies = self._built(list(self._rows))
            self._advanced.offer(strategies)
            strategies = self._advanced.applied(strategies)
            cuts = self._splits()
        except FrostlineError as error:
            self._estimates = {}
            self._alert.value = alert(error, "This cannot be run")
            self._resume.layout.display = "none"
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
            self._estimate(strategy, cuts)
            self._describe(strategy, cuts)

    def _estimate(self, strategy: Strategy, cuts: Sequence[Split]) -> None:
        key = (repr(strategy), cuts[0].fingerprint, cuts[0].profile, id(self.dataset))
        try:
            if key not in self._timed:  # a tick of another box changes nothing about this one
                self._timed[key] = estimate(strategy, self.dataset, cuts[0])
            self._estimates[strategy.name] = self._timed[key]
        except FrostlineError as error:
            self._estimates[strategy.name] = str(error)

    def _describe(self, strategy: Strategy, cuts: Sequence[Split]) -> None:
        row = self._rows.get(strategy.name)
        if row is None:
            return
        try:
            words = [f"{strategy.planned_parameters(cuts[0], self.dataset):,} trained parameters."]
        except FrostlineError:  # of a checkpoint that is not here, as the estimate says
            words = []
        found = self._estimates.get(strategy.name)
        if isinstance(found, Estimate):
            total = Estimate(found.seconds * len(cuts), found.at_most)
            times = f" for {len(cuts)} repeats" if len(cuts) > 1 else ""
            words.append(f"{str(total).capitalize()}{times}.")
        elif found:
            words.append(f"Cannot run: {found}")
        row.describe(strategy, " ".join(words))

    def _look_for_finished(self, strategies: Sequence[Strategy], cuts: Sequence[Split]) -> None:
        wanted = [each for each in strategies if self._rows[each.name].box.value]
        found = Journal.of(self.dataset, cuts).finished(wanted)
        n = len(wanted) * len(cuts)
        self._resume.layout.display = None if found else "none"
        self._resume.description = (
            f"Take over {len(found)} of {n} evaluations that finished in an earlier run with these settings"
        )

    # ------------------------------------------------------------------ running

    def run(self, *, wait: bool = False, resume: bool = False) -> Comparison | None:
        """Run the ticked strategies.

        Parameters
        ----------
        wait
            Return when the run is over, as a batch notebook must; otherwise at once.
        resume
            Take over what finished in an earlier run with the same settings, also one of a kernel that died.

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
        self._begin()
        if not wait:
            self._thread = threading.Thread(target=self._work, args=(resume,), name="frostline-run", daemon=True)
            self._thread.start()
            return None
        self._thread = None
        self._work(resume)
        self.settle()
        return self.wait()

    def _begin(self) -> None:
        self._ran, self._said_before = self.inputs, ""
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
            self.run(resume=self._resume.layout.display is None and self._resume.value)
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

    def _work(self, resume: bool) -> None:
        stop: BaseException | None = None
        try:
            strategies, cuts = self._advanced.applied(self._built(self.chosen)), self._splits()
            journal = Journal.of(self.dataset, cuts)
            done = journal.finished(strategies) if resume else []
            self._job = Job(strategies, self.dataset, cuts, finished=done, journal=journal, changed=self._tell)
            self._job.run(self._cancel.is_set)
        except (Cancelled, KeyboardInterrupt) as found:
            stop = found
        except Exception as error:  # shown here, and raised again by wait()
            stop = error
        try:
            self._end(stop)
        except Exception as error:  # a result that cannot be compared must not leave the panel running for ever
            self._fail(error)
        if isinstance(stop, KeyboardInterrupt):
            raise stop

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
            found = self._estimates.get(name)
            expected = found.seconds * len(job.splits) if isinstance(found, Estimate) else None
            self._rows[name].show(progress, expected)
        running = next((each for each in job.progress.values() if each.state == "running"), None)
        if running is not None and not self._cancel.is_set():
            left = self._left(job)
            self._say(f"{running.strategy}: {running.message}" + (f"; about {left} left in all" if left else ""))
        if new:
            self.set_trait("records", job.records)
            self.set_trait("comparison", job.comparison)

    def _left(self, job: Job) -> str:
        """Time that all strategies still need, by what they were estimated and how fast they have been."""
        seconds = 0.0
        for name, progress in job.progress.items():
            if progress.state in ("waiting", "running"):
                found = self._estimates.get(name)
                if progress.state == "running" and progress.fraction > 0.1:
                    seconds += progress.seconds * (1 - progress.fraction) / progress.fraction
                elif isinstance(found, Estimate):
                    seconds += found.seconds * len(job.splits) * (1 - progress.fraction)
                else:
                    return ""
        return duration(seconds)

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
            self._finish("done", None, f"Done: {n} evaluations.{warning}")

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
        self._job = None
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
