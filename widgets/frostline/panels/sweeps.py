"""SweepPanel: the runs of a sweep by where they stand, the log of each, and what they have found."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import ipywidgets as widgets
import traitlets

from frostline.cluster.connections import Workers
from frostline.comparison.across import verdict
from frostline.errors import Cancelled, FrostlineError
from frostline.escaping import for_html, one_line
from frostline.monitor import Monitor
from frostline.panels.base import Panel, alert, at_most, replace_earlier, status, table, title, wide
from frostline.panels.tasks import PAUSE
from frostline.sweeps import sweeping
from frostline.sweeps.grids import Grid
from frostline.sweeps.outcomes import DONE, FAILED, STOPPED
from frostline.sweeps.pages import rank_view
from frostline.sweeps.plans import PlannedRun, plan
from frostline.sweeps.queues import RUNNING, WAITING, Standing, standing_of
from frostline.sweeps.results import ALL, SweepResult

MARKS = {WAITING: "…", RUNNING: "▶", DONE: "✔", FAILED: "✖", STOPPED: "■"}
TAIL = 6_000
"""Bytes of a log that are shown, its last ones."""
EVERY = "all"


class SweepPanel(Panel):
    """Run a sweep and see where each of its runs stands.

    Parameters
    ----------
    source, folder
        As for `frostline.sweep`.
    workers
        Which do the runs; processes on this machine if None.

    Attributes
    ----------
    state
        idle, running, done, failed (runs have failed, or the sweep itself), cancelled.
    standing
        Where each run stands.
    result
        What the sweep has found; None before it has ended.
    error
        Why it ended otherwise; None when it did not.

    Raises
    ------
    FrostlineError
        As of `frostline.sweep`, before anything runs.

    Examples
    --------
    >>> panel = SweepPanel(Grid(datasets=["pancreas"], strategies=["majority"], seeds=[1, 2]), "sweeps/first")
    >>> panel.standing.words()
    '0 of 2 runs done, 2 waiting'
    >>> panel.close()
    """

    state = traitlets.Enum(["idle", "running", "done", "failed", "cancelled"], default_value="idle")
    result = traitlets.Instance(SweepResult, allow_none=True)
    error = traitlets.Instance(BaseException, allow_none=True)

    def __init__(
        self, source: str | Path | Grid, folder: str | Path | None = None, *, workers: Workers | None = None
    ) -> None:
        self.plan = plan(source, folder)
        self.standing = standing_of(self.plan)
        self._workers, self._cancel, self._last_shown = workers, threading.Event(), 0.0
        self._make_widgets()
        buttons = widgets.HBox(
            [self.button, self.cancel_button, self.look_button], layout=widgets.Layout(flex_flow="row wrap")
        )
        parts = [
            title(f"Sweep {self.plan.name}"),
            buttons,
            self._bar,
            self._status,
            self._link,
            self.filter,
            self.list,
            self._log,
            self._shown,
        ]
        super().__init__(parts, "frostline-sweep-panel")
        self._show()
        replace_earlier(self)

    def _make_widgets(self) -> None:
        self.button = widgets.Button(description="Run", button_style="primary", icon="play")
        self.cancel_button = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.look_button = widgets.Button(
            description="Look again", icon="refresh", tooltip="Read what a sweep in a terminal has done meanwhile"
        )
        self._bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout=wide(), tooltip="Progress")
        self._status, self._link, self._log, self._shown = (widgets.HTML() for _ in range(4))
        self.filter = widgets.Dropdown(
            options=[EVERY, *MARKS], description="Show", tooltip="Runs in this state", layout=at_most(300)
        )
        self.list = widgets.Select(options=[], rows=10, description="Runs", tooltip="Its log is shown", layout=wide())
        self.button.on_click(lambda _: self.run())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.look_button.on_click(lambda _: self.look())
        self.filter.observe(lambda _: self._list(), "value")
        self.list.observe(lambda _: self._show_log(), "value")

    @property
    def chosen(self) -> PlannedRun | None:
        """Run whose log is shown."""
        return next((run for run in self.plan.runs if run.name == self.list.value), None)

    def run(self, *, wait: bool = False) -> SweepResult | None:
        """Run what is not done.

        Parameters
        ----------
        wait
            Whether to return only when it has ended; an interrupt then cancels it.

        Returns
        -------
        SweepResult
            None unless it was waited for.

        Raises
        ------
        FrostlineError, Cancelled
            It could not be carried out, or was cancelled, and it was waited for.
        """
        if self.state != "running":
            self._cancel.clear()
            self.state, self.error, self._shown.value = "running", None, ""
            self._show()
            self.background.do("sweep", self._sweep)
        return self.wait() if wait else None

    def wait(self) -> SweepResult | None:
        """Wait for the end and return the result, or raise what went wrong."""
        try:
            self.settle()
        except KeyboardInterrupt:
            self.cancel()
            self.settle()
            raise
        if self.error is not None:
            raise self.error
        return self.result

    def cancel(self) -> None:
        """End the runs that are under way; those that are done are kept."""
        if self.state == "running":
            self._cancel.set()
            self._status.value = status("Stopping; runs that are under way are ended.")

    def look(self) -> None:
        """Read where the runs stand from their folders."""
        if self.state != "running":
            self.standing = standing_of(self.plan)
            self._show()

    def _stop(self) -> None:
        self._cancel.set()

    def _sweep(self) -> None:
        try:
            monitor = Monitor(cancelled=self._cancel.is_set)
            self.result = sweeping.carry_out(self.plan, workers=self._workers, monitor=monitor, changed=self._changed)
            self.standing = self.result.standing
            self.state = "failed" if self.result.failures or self.result.missing else "done"
            self._shown.value = result_html(self.result)
        except Cancelled as error:
            self.state, self.error = "cancelled", error
        except Exception as error:  # it is shown, and raised where somebody waits for it
            self.state, self.error = "failed", error
            heading = "" if isinstance(error, FrostlineError) else "The sweep has ended"
            self._shown.value = alert(error, heading)
        self._show()

    def _changed(self, standing: Standing) -> None:
        self.standing = standing
        if time.monotonic() - self._last_shown > PAUSE and not self._cancel.is_set():
            self._last_shown = time.monotonic()
            self._show()

    def _show(self) -> None:
        """Show everything as it stands."""
        running = self.state == "running"
        self.button.disabled, self.cancel_button.disabled, self.look_button.disabled = running, not running, running
        self.button.description = "Go on" if self.standing.counts[DONE] and not running else "Run"
        self._bar.value = self.standing.fraction
        failed = bool(self.standing.counts[FAILED])
        self._bar.bar_style = "danger" if failed else "success" if self.standing.fraction == 1 else "info"
        words = f"{self.standing.words()}."
        if self.state == "cancelled":
            words = f"Cancelled: {words} Go on runs the rest."
        self._status.value = status(words)
        link = self.standing.dashboard if running else None
        self._link.value = link_html(link)
        self._list()

    def _list(self) -> None:
        """List the runs of the chosen state; the one that was chosen stays so."""
        wanted, chosen = self.filter.value, self.list.value
        names = [n for n, state in self.standing.states.items() if wanted in (EVERY, state)]
        options = [(f"{MARKS[self.standing.states[name]]} {one_line(name)}", name) for name in names]
        if list(self.list.options) != options:
            self.list.options = options
            self.list.value = chosen if chosen in names else None
        self._show_log()

    def _show_log(self) -> None:
        run = self.chosen
        if run is None:
            self._log.value = '<div class="frostline-quiet">Choose a run to see its log.</div>'
            return
        outcome = self.standing.outcomes.get(run.name)
        said = f": {outcome.said}" if outcome is not None and outcome.said else ""
        head = f"<strong>{for_html(self.standing.states[run.name])}</strong>{for_html(said)}"
        log = for_html(tail(run.log)) or "It has printed nothing yet."
        self._log.value = (
            f'<div>{head}</div><pre aria-label="Log of {for_html(run.name)}" tabindex="0" '
            f'style="max-height:240px;overflow:auto">{log}</pre>'
        )


def tail(path: Path) -> str:
    """Last lines of a log; empty where there is none."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - TAIL)
            file.seek(start)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return text.partition("\n")[2] if start else text


def link_html(address: str | None) -> str:
    """Link to the dashboard of Dask; empty where there is none."""
    if not address:
        return ""
    style = "text-decoration:underline"
    return f'<a href="{for_html(address)}" target="_blank" rel="noopener" style="{style}">Dashboard of Dask</a>'


def result_html(result: SweepResult) -> str:
    """Verdict and ranks of every setting; what failed and why."""
    import pandas as pd

    parts = []
    for setting, found in result.across.items():
        heading = "" if setting == ALL else f"<strong>{for_html(setting)}</strong>: "
        ranks = rank_view(result, setting)
        parts.append(f"<p>{heading}{for_html(verdict(found))}</p>{table(ranks, 'Ranks by macro-F1, 1 the best')}")
    if result.failures:
        failed = pd.DataFrame({"Run": list(result.failures), "Reason": list(result.failures.values())})
        parts.append(table(failed, "Runs that failed", "words"))
    return "".join(parts)
