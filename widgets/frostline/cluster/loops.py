"""The loops over parts, in this process or on workers, which try again what failed, and say how far they are."""

from __future__ import annotations

import errno
import time
from asyncio import CancelledError as Lost
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError as AlsoLost
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frostline.cluster.connections import threads_of
from frostline.errors import FrostlineError
from frostline.monitor import Monitor

if TYPE_CHECKING:
    from distributed import Client, Future

RETRIES = 2
"""How often a part that failed is tried again."""
LOOK = 0.25
"""Seconds between two looks at what is done."""
AHEAD = 2
"""Parts that each thread of a worker has been given, so that none waits."""
WORTH = 5.0
"""Seconds that workers have to save to be started: about twice what they take until the first part is computed."""
MORE_MEMORY = (
    "give them more (--memory; jobs of a batch system: `memory` in its file; workers of a scheduler: where they are "
    "started), and the same command goes on; or begin another output with fewer cells at once "
    "(-o OTHER.zarr --rows 1024)"
)
"""What helps workers that are above their memory."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(FrostlineError):
    """There is no room for the output."""


@dataclass
class Pace:
    """How far the work is."""

    total: int
    """Cells of all."""
    done: int
    """Cells that are done, those of earlier runs among them."""
    failed: int = 0
    """Parts that were given up."""
    began: float = field(default_factory=time.monotonic)
    computed: int = 0
    """Cells of this run."""

    def rate(self, now: float | None = None) -> float:
        """Cells a second, of this run."""
        passed = (time.monotonic() if now is None else now) - self.began
        return self.computed / passed if passed > 0 else 0.0

    def words(self, now: float | None = None) -> str:
        """In words: cells, cells per second, what failed, and the time that is left.

        Examples
        --------
        >>> Pace(4_000, 3_000, began=0.0, computed=1_000).words(10.0)
        '3,000 of 4,000 cells, 100 cells/s, 0 parts failed, 10 s left'
        """
        rate = self.rate(now)
        left = f"{_duration((self.total - self.done) / rate)} left" if rate > 0 else "time left not known yet"
        speed = f"{rate:,.0f} cells/s" if rate >= 10 or rate == 0 else f"{rate:.1f} cells/s"
        failed = f"{self.failed:,} part{'s' * (self.failed != 1)} failed"
        return f"{self.done:,} of {self.total:,} cells, {speed}, {failed}, {left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def alone(
    compute: Callable[[int], object], parts: Mapping[int, int], pace: Pace, workers: int, monitor: Monitor
) -> dict[int, int]:
    """Compute parts in this process, one after the other, until so many workers would be worth starting.

    They are when this process has been at work for `WORTH` seconds, and they would save as many of what is left.

    Parameters
    ----------
    compute, parts, pace, monitor
        As for `run`, but that `compute` runs here.
    workers
        How many would be started.

    Returns
    -------
    dict
        Cells of each part that is left to workers; one that has failed here is among them, and all that follow it.

    Raises
    ------
    DiskFull
        There is no room for the output.

    Examples
    --------
    >>> alone(print, {0: 1_024, 1: 700}, Pace(1_724, 0), workers=2, monitor=Monitor())
    0
    1
    {}
    """
    left = dict(parts)
    for part, cells in parts.items():
        monitor.step(pace.done / max(1, pace.total), pace.words())
        try:
            compute(part)
        except Exception as error:  # workers try it again, and say what it is
            _refuse_full(error)
            return left
        pace.done, pace.computed = pace.done + left.pop(part), pace.computed + cells
        if time.monotonic() - pace.began > WORTH and (pace.total - pace.done) / pace.rate() * (1 - 1 / workers) > WORTH:
            return left
    monitor.step(pace.done / max(1, pace.total), pace.words())
    return left


def run(
    client: Client,
    compute: Callable[[int], Mapping[str, Any]],
    parts: Mapping[int, int],
    pace: Pace,
    *,
    resources: Mapping[str, float],
    monitor: Monitor,
) -> dict[int, str]:
    """Let workers compute parts; what fails is tried again `RETRIES` times.

    Parameters
    ----------
    client
        With workers.
    compute
        From the number of a part to facts; runs on a worker.
    parts
        Cells of each part that is to be computed.
    pace
        Is brought up to date.
    resources
        That each part needs, as workers declare them.
    monitor
        Receives the progress, and is asked whether to stop with `Cancelled`.

    Returns
    -------
    dict
        Why each part that was given up has failed.

    Raises
    ------
    DiskFull
        There is no room for the output.
    FrostlineError
        The scheduler is gone, or all workers are.
    """
    waiting, tried, failed = deque(parts), dict.fromkeys(parts, 0), dict[int, str]()
    futures: dict[Future[Any], int] = {}
    try:
        while waiting or futures:
            monitor.step(pace.done / max(1, pace.total), pace.words())
            threads = threads_of(client, MORE_MEMORY)
            while waiting and len(futures) < AHEAD * max(1, threads):
                part = waiting.popleft()
                futures[client.submit(compute, part, pure=False, resources=dict(resources) or None)] = part
            for future in _done(list(futures)):
                part = futures.pop(future)
                reason = _reason(future)
                if reason is None:
                    pace.done, pace.computed = pace.done + parts[part], pace.computed + parts[part]
                elif tried[part] < RETRIES and not _is_killed(future):
                    tried[part] += 1
                    waiting.append(part)
                else:
                    failed[part], pace.failed = reason, pace.failed + 1
    except (Lost, AlsoLost, OSError) as error:
        raise FrostlineError(f"the scheduler is gone ({type(error).__name__}): the same command goes on") from error
    finally:
        if client.status == "running":
            client.cancel(list(futures))  # type: ignore[no-untyped-call]
    monitor.step(pace.done / max(1, pace.total), pace.words())
    return failed


def _done(futures: Sequence[Future[Any]]) -> Sequence[Future[Any]]:
    """Those that are over, after a short while."""
    from distributed import wait

    try:
        found = wait(futures, timeout=LOOK, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
    except TimeoutError:
        return ()
    return list(found.done)


def _is_killed(future: Future[Any]) -> bool:
    from distributed import KilledWorker

    return isinstance(future.exception(), KilledWorker)  # type: ignore[no-untyped-call]


def _reason(future: Future[Any]) -> str | None:
    """Why a part failed, in one line; None where it did not."""
    if future.status == "cancelled":
        raise Lost
    error = future.exception()  # type: ignore[no-untyped-call]
    if error is None:
        return None
    _refuse_full(error)
    if _is_killed(future):
        return f"its workers were ended again and again, as they are above their memory: {MORE_MEMORY}"
    return str(error) if isinstance(error, FrostlineError) else f"{type(error).__name__}: {error}"


def _refuse_full(error: BaseException) -> None:
    if isinstance(error, OSError) and error.errno in _FULL:
        raise DiskFull(f"the disk of the output is full ({error}): make room, and the same command goes on") from error
