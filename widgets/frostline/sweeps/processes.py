"""Runs one planned run in a process of its own: `frostline run`, its log kept, its end recorded in a file.

It ends when the sweep is gone that asked for it: the sweep touches a file, the lease, and removes it when it stops.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from frostline import scratch
from frostline.artifacts.manifests import MANIFEST
from frostline.escaping import one_line
from frostline.hashes import file_sha256
from frostline.interrupts import GRACE, KERNEL_DIED
from frostline.sweeps import attached, outcomes
from frostline.sweeps.outcomes import DONE, FAILED, STOPPED, RunOutcome
from frostline.sweeps.plans import ARTIFACTS, LOG

PAUSE = 0.2
"""Seconds between two looks at a process and its lease."""
RETRIES = 1
"""Times that a run is begun again whose process or kernel was killed: that is no matter of its data."""
PATIENCE = 300.0
"""Seconds after which a lease that nobody touches has ended; file systems that are shared tell late."""


@dataclass(frozen=True)
class Task:
    """One run to be done, wherever that is: plain data, so that it can be sent."""

    key: str
    """Of the run."""
    folder: Path
    """Of the run; absolute."""
    arguments: tuple[str, ...]
    """Of `frostline`."""
    root: Path
    """Folder that paths among the arguments are relative to."""
    lease: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the process gets in addition."""
    device: str = "auto"
    """Where it computes."""
    shares: bool = False
    """Whether its notebook sends work to the cluster that runs it."""


@contextlib.contextmanager
def leased(folder: Path) -> Iterator[Path]:
    """Hold a lease in the folder of a sweep: a file that is there while it goes on, to be touched now and then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, leased(Path(folder)) as lease:
    ...     lease.exists()
    True
    """
    scratch.clear(folder)
    lease = scratch.scratch_path(folder, ".lease").absolute()
    lease.touch()
    try:
        yield lease
    finally:
        lease.unlink(missing_ok=True)


class _Tenant:
    """Looks whether a lease goes on, without comparing the clocks of two machines."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._since = path, -1, time.monotonic()

    def goes_on(self) -> bool:
        try:
            touched = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        except OSError:  # a file server that does not answer just now
            touched = self._seen
        if touched != self._seen:
            self._seen, self._since = touched, time.monotonic()
        return time.monotonic() - self._since < PATIENCE


def execute(task: Task) -> RunOutcome:
    """Run one planned run to its end, and write down what became of it.

    Returns
    -------
    RunOutcome
        Done, failed with a reason, or stopped since the sweep has ended; never an exception of the run's own.
    """
    tenant, started = _Tenant(task.lease), time.monotonic()
    if not tenant.goes_on():
        return RunOutcome(key=task.key, state=STOPPED)
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(1 + RETRIES):
            code, said = _attempt(task, tenant)
            if not (killed := was_killed(code or 0, said)):
                break
        if code is None:
            return RunOutcome(key=task.key, state=STOPPED)
        seconds = time.monotonic() - started
        if code == 0:
            digest = file_sha256(task.folder / ARTIFACTS / MANIFEST)
            done = RunOutcome(key=task.key, state=DONE, seconds=seconds, manifest_sha256=digest)
            return outcomes.write(task.folder, done)
        said += f"; begun again {RETRIES} time{'s' * (RETRIES > 1)}" * killed
        return outcomes.write(task.folder, RunOutcome(key=task.key, state=FAILED, said=said, seconds=seconds))
    except OSError as error:  # a full disk, a folder that cannot be written: the failure of this run
        return RunOutcome(key=task.key, state=FAILED, said=f"{type(error).__name__}: {error}")


def _attempt(task: Task, tenant: _Tenant) -> tuple[int | None, str]:
    """Return the exit code, None when it was ended with the sweep, and why it failed."""
    path = task.folder / LOG
    with path.open("a", encoding="utf-8") as log:
        command = shlex.join(["frostline", *task.arguments])
        print(f"$ {command}  # {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", file=log, flush=True)
        place = log.tell()
        code = _process(task, log.fileno(), tenant)
    return code, reason(path.read_bytes()[place:].decode("utf-8", "replace"), code) if code else ""


def was_killed(code: int, said: str) -> bool:
    """Whether a process was ended from outside, or the kernel of its notebook was.

    Examples
    --------
    >>> was_killed(-9, "ended by SIGKILL"), was_killed(1, "no such file")
    (True, False)
    """
    return code < 0 or code > 128 or KERNEL_DIED in said


def _process(task: Task, log: int, tenant: _Tenant) -> int | None:
    """Return the exit code; None when it was ended with the sweep."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", attached.CODE, str(task.folder / ".lock"), *task.arguments],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=task.root,
        env={**os.environ, **task.environment},
        start_new_session=True,  # a Ctrl-C is heard by the sweep, which ends its runs in order
    )
    with process:
        while True:
            try:
                return process.wait(PAUSE)
            except subprocess.TimeoutExpired:
                if not tenant.goes_on():
                    _end(process)
                    return None
            except BaseException:
                _end(process)
                raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE + 10)
    except subprocess.TimeoutExpired:
        process.kill()


def reason(log: str, code: int) -> str:
    r"""Why a process failed, in a line, from what it printed and its exit code.

    Examples
    --------
    >>> reason("loading\nerror: tiny failed in cell 3: ValueError: no\n", 1)
    'tiny failed in cell 3: ValueError: no'
    >>> reason("", -9)
    'ended by SIGKILL, most often for want of memory'
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", most often for want of memory" if name == "SIGKILL" else "")
    said = re.findall(r"^error: (.*(?:\n(?!\S+: ).*)*)\Z", log.rstrip(), re.MULTILINE)
    lines = [line for line in log.splitlines() if line.strip()]
    return one_line(said[-1] if said else lines[-1] if lines else "") or f"ended with exit code {code}"
