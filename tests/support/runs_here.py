"""Runs of a sweep done in this process, whose notebooks are executed by `without_kernel`."""

from __future__ import annotations

from concurrent.futures import Future

from typer.testing import CliRunner

from frostline import cli
from frostline.artifacts.manifests import MANIFEST
from frostline.hashes import file_sha256
from frostline.sweeps import outcomes
from frostline.sweeps.outcomes import Outcome
from frostline.sweeps.plans import ARTIFACTS
from frostline.sweeps.processes import Task
from frostline.sweeps.queues import Queue, Standing


def execute_here(task: Task) -> Outcome:
    """In the place of `frostline.sweeps.processes.execute`: `frostline run`, and its outcome."""
    task.folder.mkdir(parents=True, exist_ok=True)
    done = CliRunner().invoke(cli.app, list(task.arguments))
    if done.exit_code:
        said = str(done.exception)
        return outcomes.write(task.folder, Outcome(key=task.key, state="failed", said=said, seconds=1.0))
    digest = file_sha256(task.folder / ARTIFACTS / MANIFEST)
    return outcomes.write(task.folder, Outcome(key=task.key, state="done", seconds=2.0, manifest_sha256=digest))


def submit_here(task: Task) -> Future:
    """Do a run when it is submitted."""
    future: Future = Future()
    future.set_result(execute_here(task))
    return future


def sweep_here(planned, *, workers=None, monitor=None, changed=None) -> Standing:
    """In the place of `frostline.sweeps.sweeping.run`."""
    queue = Queue(planned, changed)
    queue.run(submit_here, lambda: 1, monitor=monitor)
    return queue.standing
