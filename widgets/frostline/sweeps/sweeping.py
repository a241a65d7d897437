"""A sweep from SWEEP.yml to its tables: expand, run what is not done, collect, write."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from frostline.cluster.connections import Workers, connected, gpu_of, threads_of
from frostline.errors import FrostlineError
from frostline.monitor import Monitor
from frostline.publishing.tutorials import TOC, declared_pages
from frostline.sweeps import folders, pages
from frostline.sweeps.grids import Grid
from frostline.sweeps.outcomes import RunOutcome
from frostline.sweeps.plans import Plan, plan
from frostline.sweeps.processes import Task, execute
from frostline.sweeps.queues import Queue, Standing
from frostline.sweeps.results import SweepResult, collect

PAGES = "sweeps"
"""Folder of the pages of sweeps, in the book."""
FEWER = (
    "run fewer at once (--workers), or give jobs of a batch system more (`memory` in the file of --cluster-config), "
    "and the same command goes on"
)
"""What helps workers that are above their memory."""


def sweep(
    source: str | Path | Grid,
    folder: str | Path | None = None,
    *,
    workers: Workers | None = None,
    monitor: Monitor | None = None,
    changed: Callable[[Standing], None] | None = None,
) -> SweepResult:
    """Run every combination of a grid, each in a process and a folder of its own, and compare over data sets.

    Runs that are done and unchanged are not run again: the same call goes on after an interruption. A run that fails is
    a row of the result with its reason.

    Parameters
    ----------
    source
        Path of SWEEP.yml, or what it would say.
    folder
        Where runs and results go; sweeps/NAME for NAME.yml if None.
    workers
        Which do the runs; processes on this machine if None: one a core, or a single one where a GPU computes.
    monitor
        Receives the progress, and is asked whether to stop with `Cancelled`.
    changed
        Called with where the sweep stands whenever that has changed.

    Returns
    -------
    SweepResult
        Its tables are in `folder`/results.

    Raises
    ------
    FrostlineError
        The grid is wrong, the folder holds something else or another sweep is at work on it, or there is no cluster.
    """
    return carry_out(plan(source, folder), workers=workers, monitor=monitor, changed=changed)


def carry_out(
    planned: Plan,
    *,
    workers: Workers | None = None,
    monitor: Monitor | None = None,
    changed: Callable[[Standing], None] | None = None,
) -> SweepResult:
    """Run a plan and write its results, as `sweep` does."""
    with folders.held(planned.folder):
        result = collect(planned, run(planned, workers=workers, monitor=monitor, changed=changed))
        write(result)
    return result


def run(
    planned: Plan,
    *,
    workers: Workers | None = None,
    monitor: Monitor | None = None,
    changed: Callable[[Standing], None] | None = None,
) -> Standing:
    """Run what is not done of a plan on a cluster, its folder being held; returns where it stands then."""
    queue = Queue(planned, changed)
    if queue.is_done:
        return queue.standing
    workers = (workers or Workers()).suited(queue.device)
    with _explained(planned.folder), connected(workers, monitor) as connection:
        client: Any = connection  # distributed has no types for what follows
        queue.standing.dashboard = client.dashboard_link
        queue.run(
            lambda task: _submitted(client, task),
            lambda: threads_of(client, FEWER),
            environment=_threads(workers),
            scheduler=client.scheduler.address,
            monitor=monitor,
        )
    return queue.standing


def _submitted(client: Any, task: Task) -> Future[RunOutcome]:
    executor = client.get_executor(resources=gpu_of(client, task.device))
    future: Future[RunOutcome] = executor.submit(_on_worker, task)
    return future


def _on_worker(task: Task) -> RunOutcome:
    """Run a task on a worker of Dask; its thread is free for what its notebook sends to the same workers."""
    if task.shares:
        import distributed

        distributed.secede()  # type: ignore[no-untyped-call]
    return execute(task)


def _threads(workers: Workers) -> dict[str, str]:
    """Share of the cores of this machine for each run: threads of two that want all of them wait for each other."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    if workers.scheduler is not None or workers.cluster != "local":
        return {}
    cores = os.cpu_count() or 1
    return {name: os.environ.get(name, str(max(1, cores // (workers.number or cores)))) for name in names}


def write(result: SweepResult) -> list[Path]:
    """Write tables and page of a sweep into its folder, and into the book where this has a line for it.

    Returns
    -------
    list
        Where earlier ones are kept that somebody has edited.
    """
    folder = result.plan.folder / folders.RESULTS
    text = pages.page(result)
    parquet = io.BytesIO()
    result.table.to_parquet(parquet, index=False)
    tables = {"runs": result.table, "ranks": pages.rank_table(result), "pairs": pages.pair_table(result)}
    contents = {folder / f"{name}.csv": table.to_csv(index=False).encode() for name, table in tables.items()}
    contents |= {folder / "runs.parquet": parquet.getvalue(), folder / "report.md": text.encode()}
    if place := page_of(result.plan):
        contents[place] = text.encode()
    with _explained(result.plan.folder):
        return folders.put(result.plan.folder, contents)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say in a line that a scheduler is gone, or that a folder cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):  # those of Dask have no number
            raise FrostlineError(f"the scheduler is gone ({type(error).__name__}): the same command goes on") from error
        raise FrostlineError(
            f"{folder} cannot be written ({error.strerror}): make room there, and the same command goes on"
        ) from error


def page_of(planned: Plan) -> Path | None:
    """Page of a sweep in the book of the current folder; None where its table of contents has no line for it."""
    page = f"{PAGES}/{planned.name}.md"
    with contextlib.suppress(FrostlineError):  # there is no book, or it cannot be built
        if {page, page.removesuffix(".md")} & set(declared_pages()):
            return TOC.parent / page
    return None
