"""SweepPanel without a browser: where runs stand, their logs, and every way in which a sweep can end."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frostline.errors import Cancelled, FrostlineError
from frostline.panels import SweepPanel
from frostline.panels.sweeps import TAIL, tail
from frostline.sweeps import outcomes, sweeping
from frostline.sweeps.grids import Grid
from frostline.sweeps.outcomes import Outcome
from frostline.sweeps.queues import Queue

PARAMETERS = 'DATASET: str = "pancreas"\nSEED: int = 1\nOUTPUT_DIR: str = "x"'
NAME = "<img src=x onerror=alert(1)>.h5ad"


@pytest.fixture
def gate():
    """Holds the second run back."""
    return threading.Event()


@pytest.fixture
def panel(tmp_path, monkeypatch, write_notebook, gate):
    """Of three runs, in threads: one fails, one waits for the gate, none is read by a result."""
    monkeypatch.chdir(tmp_path)
    write_notebook(Path("own.ipynb"), PARAMETERS, "print(1)")

    def work(task):
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / "log.txt").write_text("$ frostline run\nall is <well>\n")
        if "SEED=2" in task.arguments:
            while task.lease.exists() and not gate.wait(0.02):
                pass
            if not task.lease.exists():
                return Outcome(key=task.key, state="stopped")
        if "SEED=3" in task.arguments:
            return outcomes.write(task.folder, Outcome(key=task.key, state="failed", said="no <column>"))
        return Outcome(key=task.key, state="done")

    def run(planned, *, workers, monitor, changed):
        queue = Queue(planned, changed)
        queue.standing.dashboard = "http://127.0.0.1:8787/status?a=1&b=2"
        with ThreadPoolExecutor(2) as pool:
            queue.run(lambda task: pool.submit(work, task), lambda: 2, monitor=monitor)
        return queue.standing

    monkeypatch.setattr(sweeping, "run", run)
    monkeypatch.setattr("frostline.sweeps.results._records", lambda *_: {})
    panel = SweepPanel(Grid(notebook="own.ipynb", datasets=[NAME], seeds=[1, 2, 3]), "sweeps/first")
    yield panel
    gate.set()
    panel.cancel()
    panel.settle(60)
    panel.close()


def said(panel) -> str:
    return re.search(r'<span role="status" aria-live="polite">(.*?)</span>', panel._status.value)[1]


def wait_until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to that")


def test_it_shows_the_queue_before_anything_runs(panel):
    assert said(panel) == "0 of 3 runs done, 3 waiting."
    assert [label[:2] for label, _ in panel.list.options] == ["… "] * 3
    assert (panel.button.disabled, panel.cancel_button.disabled) == (False, True)
    assert panel._link.value == ""
    assert not Path("sweeps").exists()


def test_runs_can_be_followed_by_state_with_their_logs(panel, gate):
    panel.button.click()
    wait_until(lambda: panel.standing.counts == {"done": 1, "running": 1, "failed": 1})
    wait_until(lambda: said(panel).startswith("1 of 3 runs done, 1 failed, 1 running"))
    assert (panel.button.disabled, panel.cancel_button.disabled, panel.look_button.disabled) == (True, False, True)
    assert 'href="http://127.0.0.1:8787/status?a=1&amp;b=2"' in panel._link.value
    panel.filter.value = "failed"
    ((label, name),) = panel.list.options
    assert label.startswith("✖ ")
    panel.list.value = name
    assert "<strong>failed</strong>: no &lt;column&gt;" in panel._log.value
    assert "all is &lt;well&gt;" in panel._log.value
    assert "<img" not in panel._log.value
    gate.set()
    panel.settle(60)
    assert panel.list.value == name  # what was chosen stays so
    assert panel.state == "failed"
    assert (panel._bar.value, panel._bar.bar_style) == (1.0, "danger")
    assert "no &lt;column&gt;" in panel._shown.value
    assert "<img" not in panel._shown.value
    assert panel._link.value == ""
    assert list(panel.result.failures.values()) == ["no <column>"]
    assert panel.result.table["state"].tolist() == ["done", "done", "failed"]
    assert Path("sweeps/first/results/runs.parquet").is_file()


def test_a_cancel_ends_what_runs_and_a_second_run_goes_on(panel, gate):
    panel.run()
    wait_until(lambda: panel.standing.counts["failed"] == 1)
    panel.cancel_button.click()
    assert said(panel).startswith("Stopping")
    panel.settle(60)
    assert panel.state == "cancelled"
    assert panel.result is None
    assert said(panel) == "Cancelled: 1 of 3 runs done, 1 failed, 1 stopped. Go on runs the rest."
    assert panel.button.description == "Go on"
    with pytest.raises(Cancelled):
        panel.wait()
    gate.set()
    panel.run(wait=True)
    assert panel.standing.counts == {"done": 2, "failed": 1}


def test_a_sweep_that_cannot_be_carried_out_says_why_and_the_panel_stays(panel):
    Path("sweeps/first").mkdir(parents=True)
    Path("sweeps/first/thesis.txt").write_text("precious")
    with pytest.raises(FrostlineError, match="is not the folder of a sweep"):
        panel.run(wait=True)
    assert panel.state == "failed"
    assert 'role="alert"' in panel._shown.value
    assert "thesis.txt" in panel._shown.value
    assert not panel.button.disabled


def test_it_looks_again_at_what_a_terminal_has_done(panel):
    run = panel.plan.runs[0]
    run.folder.mkdir(parents=True)
    outcomes.write(run.folder, Outcome(key=run.key, state="failed", said="elsewhere"))
    panel.look_button.click()
    assert said(panel) == "0 of 3 runs done, 1 failed, 2 waiting."


def test_a_wrong_grid_is_refused_before_there_is_a_panel(tmp_path, monkeypatch, write_notebook):
    monkeypatch.chdir(tmp_path)
    write_notebook(Path("own.ipynb"), PARAMETERS, "print(1)")
    with pytest.raises(FrostlineError, match="has no parameter PROFILE"):
        SweepPanel(Grid(notebook="own.ipynb", profiles=["full"]), "s")


def test_of_a_long_log_whole_last_lines_are_shown(tmp_path):
    log = tmp_path / "log.txt"
    assert tail(log) == ""
    lines = [f"line {i:05d}\n" for i in range(2_000)]
    log.write_text("".join(lines))
    shown = tail(log).splitlines(keepends=True)
    assert shown == lines[-len(shown) :]
    assert len("".join(shown)) <= TAIL
