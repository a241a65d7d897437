"""A comparison under way: what each strategy is doing, what has finished, what failed.

A strategy that fails does not stop the others, and what has finished stays when the job is cancelled.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.comparison.comparisons import Comparison, compare
from frostline.comparison.outcomes import Ran, complete_records, reason
from frostline.errors import Cancelled, FrostlineError
from frostline.escaping import one_line
from frostline.evaluation.evaluations import evaluate_checked, findings_of
from frostline.evaluation.journal import Journal
from frostline.monitor import Monitor
from frostline.records import Record
from frostline.strategies import Strategy

_one_at_a_time = threading.Lock()
"""Training draws on torch's random stream, and peaks of memory are measured: two jobs would disturb each other."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other runs of this process waiting outside.

    Raises
    ------
    FrostlineError
        One is under way.

    Examples
    --------
    >>> with alone():
    ...     pass
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise FrostlineError("another run is under way in this kernel; wait until it is over, or cancel it")
    try:
        yield
    finally:
        _one_at_a_time.release()


@dataclass
class Progress:
    """What one strategy of a job is doing."""

    strategy: str
    state: str = "waiting"
    """waiting, running, done, failed or stopped."""
    fraction: float = 0.0
    """Share of its repeats that is done, the one under way counted in part."""
    message: str = ""
    history: list[Mapping[str, float]] = field(default_factory=list)
    """Epochs of the last fit that trains in epochs."""
    seconds: float = 0.0
    """That it has been running for."""
    error: Exception | None = None


class Job:
    """Strategies on splits of a data set.

    Parameters
    ----------
    strategies, dataset, splits
        As for `evaluate_all`.
    finished
        Records that are there already, of these strategies and splits: taken over, not made again.
    journal
        Where each record goes as soon as it is there; None keeps them in memory only.
    changed
        Called with the job whenever anything has changed; what it raises ends the run, and is no strategy's failure.

    Raises
    ------
    FrostlineError
        Two strategies have the same name, or two splits the same repeat.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> job = Job(frostline.strategies.build(["majority", "pca_knn"]), pbmc, [frostline.split(pbmc)])
    >>> job.run()
    >>> {name: progress.state for name, progress in job.progress.items()}
    {'majority': 'done', 'pca_knn': 'done'}
    >>> job.comparison.strategies
    ('majority', 'pca_knn')
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        dataset: Dataset,
        splits: Sequence[Split],
        *,
        finished: Sequence[Record] = (),
        journal: Journal | None = None,
        changed: Callable[[Job], None] | None = None,
    ) -> None:
        self.strategies, self.dataset, self.splits = list(strategies), dataset, list(splits)
        self.journal = journal
        places = [(strategy.name, split.repeat) for split in splits for strategy in strategies]
        if len(set(places)) < len(places):  # one would pass for the other
            raise FrostlineError(f"each strategy and each repeat can be in a job once; got {places}")
        self.progress = {strategy.name: Progress(strategy.name) for strategy in strategies}
        self.warning = ""
        """Why records are not on disk; empty when they are."""
        self.studies: tuple[Record, ...] = ()
        """Records with fewer labels or a class withheld, made of the same splits; see `add`."""
        self.taken_over = len({(record.strategy, record.repeat) for record in finished} & set(places))
        """Evaluations that were there already."""
        self._compared: tuple[object, Comparison | None] = (None, None)
        self._changed = changed or (lambda _job: None)
        self._unheard: Exception | None = None
        """What `changed` raised."""
        self._records = {(record.strategy, record.repeat): record for record in finished}
        self._unwritten = set(self._records)
        """Those that no file of this job holds."""
        for name, progress in self.progress.items():
            if all((name, split.repeat) in self._records for split in splits):
                progress.state, progress.fraction, progress.message = "done", 1.0, "done"
                progress.history = list(self._records[name, splits[-1].repeat].history) if splits else []

    @property
    def records(self) -> tuple[Record, ...]:
        """What has finished, in the order in which it is evaluated."""
        order = [(strategy.name, split.repeat) for split in self.splits for strategy in self.strategies]
        return tuple(self._records[key] for key in order if key in self._records)

    @property
    def comparison(self) -> Comparison | None:
        """What can be compared already; None before anything can. The same object until there is more."""
        complete = complete_records(self.records, self.failures)
        key = (
            [(record.strategy, record.repeat, record.findings) for record in complete],
            self.studies,
            tuple(self.failures),
            self.stopped,
        )
        if key != self._compared[0]:
            self._compared = (key, self._compare(complete) if complete else None)
        return self._compared[1]

    def _compare(self, complete: Sequence[Record]) -> Comparison:
        """Compare, and say beside the numbers what failed and what is of an earlier run."""
        notes = [
            f"Strategy {one_line(name)} was asked for and failed, so it is not compared: {reason(error)}"
            for name, error in self.failures.items()
        ]
        if self.stopped:
            notes.append(f"The run was cancelled, and this is a part of what was asked for: {self.unfinished}")
        if self.taken_over:
            notes.append(
                f"{self.taken_over} of {len(self.strategies) * len(self.splits)} evaluations were taken over from an "
                "earlier run with the same settings; their seconds and memory are of that run."
            )
        if not notes:
            return compare([*complete, *self.studies])
        return compare([*(replace(each, notes=(*each.notes, *notes)) for each in complete), *self.studies])

    def ran(self, changed: str = "") -> Ran | None:
        """What can be compared with what it was made of; None before anything can.

        Parameters
        ----------
        changed
            What has been changed since the job began, for whoever reads it.
        """
        comparison = self.comparison
        if comparison is None:
            return None
        strategies = tuple(each for each in self.strategies if each.name in comparison.strategies)
        splits = tuple(split for split in self.splits if split.repeat in comparison.repeats)
        return Ran(comparison, self.dataset, strategies, splits, self.failures, changed, self.unfinished)

    @property
    def stopped(self) -> bool:
        """Whether it was cancelled before the end."""
        return any(each.state == "stopped" for each in self.progress.values())

    @property
    def unfinished(self) -> str:
        """What is not finished, and will not fail any more, in words; empty when nothing is left."""
        n, wanted = len(self._records), len(self.strategies) * len(self.splits)
        left = [name for name, each in self.progress.items() if each.state in ("waiting", "running", "stopped")]
        if not left:
            return ""
        return f"{n} of {wanted} evaluations are finished; not yet or not in all repeats: {', '.join(left)}."

    def add(self, studies: Iterable[Record]) -> None:
        """Put records with fewer labels, or with a class withheld, into the comparison; again, in the place of those.

        Raises
        ------
        FrostlineError
            They are of other test cells.
        """
        before = self.studies
        self.studies = tuple({(r.strategy, r.repeat, r.budget, r.unseen): r for r in (*before, *studies)}.values())
        try:
            self.comparison  # noqa: B018  computed, to be refused here
        except FrostlineError:
            self.studies = before
            raise

    @property
    def fraction(self) -> float:
        """Share of the work that is done, all strategies counted alike; one that failed has nothing left to do."""
        parts = [1.0 if each.state == "failed" else each.fraction for each in self.progress.values()]
        return sum(parts) / len(parts) if parts else 1.0

    @property
    def failures(self) -> dict[str, Exception]:
        """What went wrong, by strategy."""
        return {name: each.error for name, each in self.progress.items() if each.error is not None}

    def run(self, cancelled: Callable[[], bool] | None = None) -> None:
        """Do the work.

        Parameters
        ----------
        cancelled
            Asked between steps; once it says True, `Cancelled` is raised.

        Raises
        ------
        FrostlineError
            Another job is running in this process.
        Cancelled
            `cancelled` said so; finished records are kept.
        """
        with alone():
            try:
                self._run(Monitor(cancelled=cancelled) if cancelled else Monitor())
            except BaseException:
                for each in self.progress.values():
                    if each.state in ("waiting", "running"):
                        each.state, each.message = "stopped", "stopped"
                raise
        if self.journal and not self.failures:
            self._close(self.journal)

    def _run(self, monitor: Monitor) -> None:
        for strategy in self.strategies:
            monitor.step(0.0, "checking")
            self._guarded(strategy, lambda strategy=strategy: self._check(strategy))  # type: ignore[misc]
        for i, split in enumerate(self.splits):
            for strategy in self.strategies:
                if self.progress[strategy.name].state != "failed":
                    self._guarded(strategy, lambda s=strategy, c=split, i=i: self._evaluate(s, c, i, monitor))  # type: ignore[misc]

    def _tell(self) -> None:
        try:
            self._changed(self)
        except Exception as error:  # also from within a strategy, whose failure it is not
            self._unheard = error
            raise

    def _check(self, strategy: Strategy) -> None:
        todo = [split for split in self.splits if (strategy.name, split.repeat) not in self._records]
        for split in todo:
            strategy.ensure_applicable(self.dataset, split)

    def _guarded(self, strategy: Strategy, work: Callable[[], None]) -> None:
        """Do a strategy's work; a failure is this strategy's alone."""
        try:
            work()
        except Cancelled:
            raise
        except Exception as error:  # whatever it is: the others go on, and it is reported
            if error is self._unheard:
                raise
            progress = self.progress[strategy.name]
            progress.state, progress.error = "failed", error
            progress.message = str(error) or type(error).__name__
            self._tell()

    def _evaluate(self, strategy: Strategy, split: Split, place: int, monitor: Monitor) -> None:
        progress, n = self.progress[strategy.name], len(self.splits)
        if (strategy.name, split.repeat) not in self._records:
            started, before = time.perf_counter(), progress.seconds
            progress.state, progress.history = "running", []

            def step(fraction: float, message: str) -> None:
                progress.fraction = (place + fraction) / n
                progress.message = f"repeat {place + 1} of {n}: {message}" if n > 1 else message
                progress.seconds = before + time.perf_counter() - started
                self._tell()

            def epoch(entry: Mapping[str, float]) -> None:
                progress.history.append(entry)
                self._tell()

            inner = Monitor(step, monitor.cancelled, epoch)
            inner.step(0.0, "starting")
            record = evaluate_checked(strategy, self.dataset, split, inner)
            self._records[strategy.name, split.repeat] = record
        else:  # obs may have other columns now
            record = self._records[strategy.name, split.repeat]
            found = findings_of(strategy, self.dataset, split)
            self._records[strategy.name, split.repeat] = replace(record, findings=found)
        self._write_down(strategy, self._records[strategy.name, split.repeat])
        progress.fraction = (place + 1) / n
        if place + 1 == n:
            progress.state, progress.message = "done", "done"
        self._tell()

    def _write_down(self, strategy: Strategy, record: Record) -> None:
        if self.journal is None:
            return
        try:
            self.journal.add(strategy, record)
            self._unwritten.discard((record.strategy, record.repeat))
        except OSError as error:  # a full disk is no reason to lose the run
            self._unwritten.add((record.strategy, record.repeat))
            self.warning = f"finished evaluations are in memory only, they could not be written to the disk: {error}"

    def _close(self, journal: Journal) -> None:
        """Put what was taken over beside what was made, then forget the files that it came from."""
        for strategy in self.strategies:
            for split in self.splits:
                if (strategy.name, split.repeat) in self._unwritten:
                    self._write_down(strategy, self._records[strategy.name, split.repeat])
        wanted = {(strategy.name, split.repeat) for strategy in self.strategies for split in self.splits}
        if not wanted & self._unwritten:
            with contextlib.suppress(OSError):  # they are found again, and lose against the newer file
                journal.close()
