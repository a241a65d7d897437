"""The process of one run: what it leaves, why it failed, and that it ends with the sweep that asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from frostline import interrupts
from frostline.publishing.kernels import want_of_memory
from frostline.sweeps import attached, processes
from frostline.sweeps.processes import Task, _Tenant, execute, leased, reason, was_killed


@pytest.fixture
def task(here):
    """A run of a command that fails at once."""
    with leased(here) as lease:
        yield Task("0" * 64, here / "run", ("check", "nowhere"), here, lease, {"FROSTLINE_SAID": "ü"})


@pytest.mark.slow
def test_a_process_that_fails_leaves_its_log_and_its_reason(task):
    first = execute(task)
    assert (first.state, first.said) == ("failed", "manifest.json: missing in nowhere")
    assert first.seconds > 0
    execute(task)
    log = (task.folder / "log.txt").read_text()
    assert log.count("$ frostline check nowhere  # ") == 2  # attempts stand one below the other
    assert (task.folder / "outcome.json").is_file()


KILLED = """import os, pathlib, signal, sys
been = pathlib.Path({been!r})
if {always} or not been.exists():
    been.touch()
    os.kill(os.getpid(), signal.SIGKILL)
print("error: no such cells")
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("always", "said"),
    [(False, "no such cells"), (True, "ended by SIGKILL, most often for want of memory; begun again 1 time")],
)
def test_a_run_that_was_killed_is_begun_again_once(task, monkeypatch, always, said):
    monkeypatch.setattr(attached, "CODE", KILLED.format(been=str(task.root / "been"), always=always))
    found = execute(task)
    assert (found.state, found.said) == ("failed", said)
    assert (task.folder / "log.txt").read_text().count("$ frostline") == 2


def test_a_kernel_that_was_killed_is_known_by_what_is_said_of_it():
    assert was_killed(1, reason(f"error: own.ipynb failed with {want_of_memory({})}\n", 1))
    assert not was_killed(1, reason("error: own.ipynb failed in cell 3: ValueError: no\n", 1))
    assert not was_killed(0, "")


def test_a_run_waits_longer_for_another_one_than_that_goes_on():
    assert attached.PATIENCE > processes.PATIENCE + interrupts.GRACE + 10


def test_nothing_is_begun_when_the_sweep_is_gone(task):
    task.lease.unlink()
    assert execute(task).state == "stopped"
    assert not task.folder.exists()


def test_a_folder_that_cannot_be_written_is_the_failure_of_that_run(task):
    task.folder.write_text("a file")
    found = execute(task)
    assert found.state == "failed"
    assert "FileExistsError" in found.said


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("loading\nerror: tiny failed in cell 3: ValueError: no\n", 1, "tiny failed in cell 3: ValueError: no"),
        ("error: first\nand then\nerror: a cell\nsaid so", 1, "a cell said so"),
        ("artifacts  x\ncheck      failed: a.csv: missing\n", 1, "check failed: a.csv: missing"),
        ("", 3, "ended with exit code 3"),
        ("half", -9, "ended by SIGKILL, most often for want of memory"),
        ("half", -15, "ended by SIGTERM"),
        ("error: \x1b[2Jgone", 1, "[2Jgone"),
    ],
)
def test_the_reason_is_what_was_said_last(log, code, said):
    assert reason(log, code) == said


def test_a_lease_ends_when_it_is_gone_or_when_nobody_touches_it(tmp_path, monkeypatch):
    lease = tmp_path / "lease"
    lease.touch()
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    os.utime(lease, (0, 0))  # the clock of another machine
    tenant = _Tenant(lease)
    assert tenant.goes_on()
    clock[0] = processes.PATIENCE - 1
    assert tenant.goes_on()
    os.utime(lease, (5, 5))
    clock[0] = 1.5 * processes.PATIENCE
    assert tenant.goes_on()
    clock[0] = 3 * processes.PATIENCE
    assert not tenant.goes_on()
    os.utime(lease, (9, 9))
    assert tenant.goes_on()
    lease.unlink()
    assert not tenant.goes_on()


ATTACHED = (  # by a worker, which hears no interrupt
    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}); "
    "from frostline.sweeps import attached; attached.PATIENCE = 0.2; attached.attach(); "
    "print('begun', signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True); import time; time.sleep(60)"
)


def test_a_process_ends_when_the_one_that_holds_its_input_is_gone(tmp_path):
    command = [sys.executable, "-P", "-c", ATTACHED, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun set()\n"  # nothing is blocked
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
            assert f"error: another process is at work on {tmp_path}" in second.stdout.readline()
            assert second.wait(30) == 1
        process.stdin.close()
        assert process.wait(30) == -signal.SIGTERM
    with FileLock(tmp_path / ".lock", timeout=0):
        pass


def test_what_a_process_runs_is_the_command_line():
    assert attached.CODE.endswith("from frostline.cli import main; main()")
    assert Path(processes.__file__).parent == Path(attached.__file__).parent
