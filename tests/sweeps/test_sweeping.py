"""Sweeps as they are run: processes of Dask, a process for each run, whatever ends them, and a tutorial."""

from __future__ import annotations

import errno
import inspect
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from batch_job import ASKED, SCRIPT
from distributed.comm import CommClosedError
from kernel_fixtures import NO_UMAP, begin_kernels_with
from tiny_sweep import PARAMETERS, SAVE
from typer.testing import CliRunner

import frostline
from frostline import cli
from frostline.artifacts.archive import load_comparison
from frostline.cluster.connections import Workers
from frostline.errors import FrostlineError
from frostline.sweeps import sweeping
from frostline.sweeps.grids import Grid
from frostline.sweeps.plans import plan
from frostline.sweeps.sweeping import _explained

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-c", "from frostline.cli import main; main()", "sweep", "sweep.yml", "--workers", "1"]
HELD = """\
import os, time
if DATASET == "pbmc68k-reduced":
    open("kernel.tmp", "w").write(str(os.getpid()))
    os.rename("kernel.tmp", "kernel")
    while not os.path.exists("go"):
        time.sleep(0.05)
"""
"""One of the runs says that it is at work, and waits."""


def wait_for(condition, seconds: float = 90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


@pytest.fixture
def two(own, write_notebook, grid_of):
    """A data set whose run waits until there is a file `go`, and a broken one after it."""
    write_notebook(Path("own.ipynb"), PARAMETERS, HELD, SAVE)
    Path("broken.h5ad").write_bytes(b"\x89HDF and no more")
    return grid_of("datasets: [pbmc68k-reduced, broken.h5ad]\nstrategies: [majority]")


@pytest.mark.parametrize(("strategy", "number"), [("frozen_probe", 1), ("majority", None)])
def test_runs_share_no_gpu_unless_a_number_is_asked_for(grid_of, monkeypatch, strategy, number):
    started = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(sweeping, "connected", lambda workers, _monitor: started.append(workers) or nullcontext(None))
    planned = grid_of(f"strategies: [{strategy}]")
    planned.folder.mkdir(parents=True)
    for workers in (None, Workers(number=3)):
        with pytest.raises(AttributeError):  # there is no client
            sweeping.run(planned, workers=workers)
    assert [each.number for each in started] == [number, 3]


@pytest.mark.usefixtures("heard_interrupts")
def test_whatever_ends_a_sweep_the_same_command_goes_on(two, here):
    held = two.runs[0]
    with subprocess.Popen(PROGRAM, stderr=subprocess.PIPE, text=True) as sweep:
        kernel = wait_for(lambda: Path("kernel").exists() and int(Path("kernel").read_text()))
        sweep.send_signal(signal.SIGINT)
        _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "stopped: 0 of 2 runs done, 2 waiting" in said
    assert "The same command goes on: frostline sweep sweep.yml --workers 1" in said
    assert "Traceback" not in said
    assert not psutil.pid_exists(kernel)
    assert not (held.folder / "outcome.json").exists()

    Path("kernel").unlink()
    with subprocess.Popen(PROGRAM, stderr=subprocess.DEVNULL) as sweep:
        kernel = wait_for(lambda: Path("kernel").exists() and int(Path("kernel").read_text()))
        started = psutil.Process(sweep.pid).children(recursive=True)
        assert kernel in [process.pid for process in started]
        sweep.kill()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []

    Path("go").touch()
    done = subprocess.run(PROGRAM, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 runs done, 1 failed" in done.stdout
    table = pd.read_csv(two.folder / "results" / "runs.csv").set_index("dataset")
    assert table["state"].tolist() == ["done", "failed"]
    assert "broken.h5ad cannot be read as .h5ad" in table.loc["broken.h5ad", "reason"]
    assert held.log.read_text().count("$ frostline run") == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"s cannot be written \(No space left on device\): make room",
        ),
        (
            CommClosedError("in <Client>: Stream is closed"),
            r"the scheduler is gone \(CommClosedError\): the same command",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "the scheduler is gone"),
    ],
)
def test_a_full_disk_and_a_scheduler_that_is_gone_are_said_in_a_line(error, said):
    with pytest.raises(FrostlineError, match=said), _explained(Path("s")):
        raise error


def test_workers_that_have_all_ended_are_said_with_options_that_sweeps_have(grid_of, monkeypatch):
    planned, ended = grid_of("seeds: [1, 2]"), SimpleNamespace(workers={})
    client = SimpleNamespace(cluster=ended, dashboard_link="", scheduler=SimpleNamespace(address=""))
    monkeypatch.setattr(sweeping, "connected", lambda *_: nullcontext(client))
    with pytest.raises(FrostlineError, match=r"all workers have ended.* the same command goes on") as said:
        sweeping.carry_out(planned)
    (command,) = (each for each in cli.app.registered_commands if each.callback.__name__ == "sweep")
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(command.callback).parameters}
    assert set(re.findall(r"--[\w-]+", str(said.value))) == {"--workers", "--cluster-config"} <= options


def test_a_tutorial_is_run_by_a_worker(here):
    begin_kernels_with(NO_UMAP)
    grid = Grid(notebook="cell_type_annotation", strategies=["pca_logistic"], seeds=[1], parameters={"REPEATS": [1]})
    seen = []
    workers = Workers(number=1)
    result = frostline.sweep(grid, "one", workers=workers, changed=lambda standing: seen.append(standing.dashboard))
    assert (result.failures, result.missing) == ({}, [])
    assert seen[-1].startswith("http")
    (run,) = plan(grid, "one").runs
    assert run.log.read_text().count("check      passed") == 1
    assert result.table["macro_f1"].tolist() == load_comparison(run.artifacts).leaderboard()["macro_f1"].tolist()


def test_a_sweep_asks_slurm_for_the_workers_of_its_file(grid_of, monkeypatch):
    """Each job starts a worker, as for atlases; none is sent here, so the sweep is ended as if by Ctrl-C."""
    grid_of("seeds: [1, 2]")
    Path("slurm.yml").write_text(ASKED, encoding="utf-8")
    asked = []

    def scale(cluster, number):
        asked.append((number, cluster.job_script().replace(cluster.scheduler_address, "ADDRESS")))
        if number:
            raise KeyboardInterrupt

    monkeypatch.setattr("dask_jobqueue.SLURMCluster.scale", scale)
    how = ["sweep", "sweep.yml", "--cluster", "slurm", "--cluster-config", "slurm.yml", "--workers", "3"]
    done = CliRunner().invoke(cli.app, how)
    assert asked[0] == (3, SCRIPT)
    assert done.exit_code == 130
    assert "stopped: 0 of 2 runs done, 2 waiting. The same command goes on: " in done.stderr
