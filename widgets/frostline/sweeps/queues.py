"""The queue of a sweep: hands out runs, a few at a time, and knows where each one stands."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from frostline.escaping import one_line
from frostline.evaluation.estimates import duration
from frostline.interrupts import GRACE
from frostline.monitor import Monitor
from frostline.sweeps import outcomes
from frostline.sweeps.outcomes import DONE, FAILED, STOPPED, RunOutcome
from frostline.sweeps.plans import SCHEDULER, Plan, PlannedRun
from frostline.sweeps.processes import Task, leased

WAITING, RUNNING = "waiting", "running"
PAUSE = 0.3
"""Seconds between two looks at what has ended."""
LONGEST_END = GRACE + 15
"""Seconds for the runs under way to end."""
PREFIX = "FROSTLINE_"
"""Variables of the environment that runs get wherever they are done."""
Submit = Callable[[Task], "Future[RunOutcome]"]
"""Begins a run: `frostline.sweeps.processes.execute`, here or on another machine."""


@dataclass
class Standing:
    """Where a sweep stands.

    Examples
    --------
    >>> standing = Standing({"a": "done", "b": "waiting"})
    >>> standing.words(), standing.fraction
    ('1 of 2 runs done, 1 waiting', 0.5)
    """

    states: dict[str, str]
    """By name of the run: waiting, running, done, failed or stopped."""
    outcomes: dict[str, RunOutcome] = field(default_factory=dict)
    taken_over: int = 0
    """Runs that had been done before."""
    busy: float = 0.0
    """Seconds from the beginning to the last end of a run in this session."""
    dashboard: str | None = None
    """Address of Dask's dashboard, where there is one."""

    @property
    def counts(self) -> Counter[str]:
        """Runs in each state."""
        return Counter(self.states.values())

    @property
    def ended(self) -> int:
        """Runs that this session has brought to an end."""
        return self.counts[DONE] + self.counts[FAILED] - self.taken_over

    @property
    def fraction(self) -> float:
        """Share of the runs that have come to an end."""
        return (self.counts[DONE] + self.counts[FAILED]) / len(self.states) if self.states else 1.0

    @property
    def left(self) -> float | None:
        """Seconds that are left, if runs go on as fast as so far; None while that is not known."""
        todo = self.counts[WAITING] + self.counts[RUNNING]
        return todo * self.busy / self.ended if self.ended else None

    def words(self) -> str:
        """All of it in a line."""
        counts = self.counts
        said = [f"{counts[DONE]} of {len(self.states)} runs done"]
        said += [f"{counts[state]} {state}" for state in (FAILED, RUNNING, WAITING, STOPPED) if counts[state]]
        if self.left and (counts[RUNNING] or counts[WAITING]):
            said.append(f"{60 * self.ended / self.busy:.1f} runs a minute, {duration(self.left)} left")
        return ", ".join(said)


def standing_of(plan: Plan) -> Standing:
    """Look up what is known of every run; nothing is run."""
    found = {run.name: outcomes.look(run) for run in plan.runs}
    states = {name: WAITING if outcome is None else outcome.state for name, outcome in found.items()}
    known = {name: outcome for name, outcome in found.items() if outcome is not None}
    return Standing(states, known, taken_over=sum(state == DONE for state in states.values()))


class Queue:
    """Runs of a plan that are not done yet.

    Parameters
    ----------
    plan
        What is to be run; finished runs are looked up, and not run again.
    changed
        Called whenever anything has changed.
    """

    def __init__(self, plan: Plan, changed: Callable[[Standing], None] | None = None) -> None:
        self.plan, self.standing = plan, standing_of(plan)
        self._changed = changed or (lambda _standing: None)
        self._began = 0.0
        for name, state in self.standing.states.items():
            if state != DONE:  # failed ones are tried again
                self.standing.states[name] = WAITING
                self.standing.outcomes.pop(name, None)
        self._embedded = {run.embedding for run in plan.runs if self.standing.states[run.name] == DONE}

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be run."""
        return not self.standing.counts[WAITING]

    @property
    def device(self) -> str:
        """What one of the runs that are left computes on, if that is not the processor of all of them."""
        asked = (run.device for run in self.plan.runs if self.standing.states[run.name] == WAITING)
        return next((device for device in asked if device != "cpu"), "cpu")

    def run(
        self,
        submit: Submit,
        jobs: Callable[[], int],
        *,
        environment: Mapping[str, str] | None = None,
        scheduler: str = "",
        monitor: Monitor | None = None,
    ) -> None:
        """Run what is not done.

        Parameters
        ----------
        submit
            Begins a run.
        jobs
            How many may run at once; asked again and again, since workers come and go.
        environment
            Variables that each run gets.
        scheduler
            Address that notebooks get which work on a cluster themselves.
        monitor
            Receives the progress, and is asked whether to stop.

        Raises
        ------
        Cancelled
            The monitor said so; runs that were under way have been ended, and those that are done are kept.
        """
        monitor, self._began = monitor or Monitor(), time.monotonic()
        own = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        running: dict[Future[RunOutcome], PlannedRun] = {}
        with leased(self.plan.folder) as lease:
            try:
                while not self.is_done or running:
                    while len(running) < max(1, jobs()) and (chosen := self._next(running.values())):
                        task = _task(chosen, lease, {**own, **(environment or {})}, scheduler)
                        running[submit(task)] = chosen
                        self.standing.states[chosen.name] = RUNNING
                    self._tell(monitor)
                    for future in wait(running, PAUSE, FIRST_COMPLETED).done:
                        self._note(running.pop(future), future)
                    lease.touch()
                self._tell(monitor)
            except BaseException:
                lease.unlink(missing_ok=True)
                self._end(running)
                raise

    def _next(self, running: Collection[PlannedRun]) -> PlannedRun | None:
        """Choose the next run: none whose embedding another one is just computing for the first time."""
        computing = {run.embedding for run in running} - self._embedded - {None}
        waiting = (run for run in self.plan.runs if self.standing.states[run.name] == WAITING)
        return next((run for run in waiting if run.embedding not in computing), None)

    def _note(self, run: PlannedRun, future: Future[RunOutcome]) -> None:
        try:
            outcome = future.result()
        except CancelledError:
            outcome = RunOutcome(key=run.key, state=STOPPED, said="the scheduler has lost it")
        except Exception as error:  # whatever a cluster says of a task whose workers died
            outcome = RunOutcome(key=run.key, state=FAILED, said=one_line(f"{type(error).__name__}: {error}"))
        self.standing.busy = time.monotonic() - self._began
        self.standing.outcomes[run.name], self.standing.states[run.name] = outcome, outcome.state
        if outcome.state == DONE:
            self._embedded.add(run.embedding)

    def _end(self, running: Mapping[Future[RunOutcome], PlannedRun]) -> None:
        """Let what is under way end, now that the lease is gone."""
        for run in running.values():
            self.standing.states[run.name] = STOPPED
        self._changed(self.standing)
        wait(running, LONGEST_END)

    def _tell(self, monitor: Monitor) -> None:
        self._changed(self.standing)
        monitor.step(self.standing.fraction, self.standing.words())


def _task(run: PlannedRun, lease: Path, environment: Mapping[str, str], scheduler: str) -> Task:
    shares = run.takes_scheduler and bool(scheduler)
    return Task(
        key=run.key,
        folder=run.folder.absolute(),
        arguments=(*run.arguments, *(("-p", f"{SCHEDULER}={scheduler}") if shares else ())),
        root=Path.cwd(),
        lease=lease,
        environment=environment,
        device=run.device,
        shares=shares,
    )
