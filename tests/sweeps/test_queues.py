"""The queue: what runs when, what becomes of failures, and how it stops."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from frostline.errors import Cancelled
from frostline.monitor import Monitor
from frostline.sweeps import outcomes
from frostline.sweeps.outcomes import RunOutcome
from frostline.sweeps.queues import Queue, Standing

SIX = "strategies: [majority, pca_logistic]\nseeds: [1, 2, 3]"


@pytest.fixture
def queue_of(grid_of):
    """A queue of a grid whose folder is there."""

    def made(text: str, **options) -> Queue:
        planned = grid_of(text)
        planned.folder.mkdir(parents=True)
        return Queue(planned, **options)

    return made


def done(task) -> RunOutcome:
    return RunOutcome(key=task.key, state="done")


def test_all_runs_are_done_and_never_more_at_once_than_there_is_room(queue_of, pool):
    queue, lock, now, most = queue_of(SIX), threading.Lock(), [0], [0]

    def work(task):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return done(task)

    queue.run(lambda task: pool.submit(work, task), lambda: 2)
    assert most == [2]
    assert set(queue.standing.states.values()) == {"done"}
    assert queue.is_done
    assert queue.standing.words() == "6 of 6 runs done"


def test_room_that_grows_is_used(queue_of, pool):
    queue, gate, room, seen = queue_of("seeds: [1, 2]"), threading.Event(), [1], []

    def work(task):
        assert gate.wait(20)
        return done(task)

    def look(standing: Standing) -> None:
        seen.append(standing.counts["running"])
        room[0] = 2
        if seen[-1] == 2:
            gate.set()

    queue._changed = look
    queue.run(lambda task: pool.submit(work, task), lambda: room[0])
    assert 1 in seen
    assert 2 in seen


def test_an_embedding_is_computed_by_one_run_before_others_read_it(queue_of):
    queue = queue_of("datasets: [pancreas, pbmc68k-reduced]\nstrategies: [frozen_probe, majority]\nseeds: [1, 2]")
    started: list[tuple[str, str, int]] = []
    futures: dict[int, tuple[Future, object]] = {}

    def submit(task):
        run = next(each for each in queue.plan.runs if each.key == task.key)
        started.append((run.values["DATASET"], run.values["STRATEGIES"][0], run.values["SEED"]))
        future: Future = Future()
        futures[len(started)] = (future, task)
        return future

    def look(standing: Standing) -> None:
        if standing.counts["running"] == 6 and 1 in futures:  # all but two that wait for an embedding
            first, task = futures.pop(1)
            first.set_result(done(task))
        elif len(started) > 6:
            for future, task in futures.values():
                if not future.done():
                    future.set_result(done(task))

    queue._changed = look
    queue.run(submit, lambda: 10)
    assert [each for each in started[:6] if each[1] == "frozen_probe"] == [
        ("pancreas", "frozen_probe", 1),
        ("pbmc68k-reduced", "frozen_probe", 1),
    ]
    assert started[6] == ("pancreas", "frozen_probe", 2)  # and the other data set's still waits
    assert queue.standing.counts["done"] == 8


def test_a_failure_is_a_state_with_its_reason_and_not_the_end(queue_of, at_once):
    queue = queue_of("seeds: [1, 2, 3]")

    def submit(task):
        future: Future = Future()
        if task.key == queue.plan.runs[0].key:
            future.set_exception(RuntimeError("its worker died\n4 times"))
        elif task.key == queue.plan.runs[1].key:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(done(task))
        return future

    queue.run(submit, lambda: 1)
    assert list(queue.standing.states.values()) == ["failed", "stopped", "done"]
    assert queue.standing.outcomes[queue.plan.runs[0].name].said == "RuntimeError: its worker died 4 times"
    assert queue.standing.words() == "1 of 3 runs done, 1 failed, 1 stopped"


def test_a_stop_ends_what_runs_and_starts_nothing_new(queue_of, pool):
    queue, stop, tasks = queue_of("seeds: [1, 2, 3, 4, 5]"), threading.Event(), []

    def work(task):
        tasks.append(task)
        assert task.lease.exists()
        if len(tasks) == 2:
            stop.set()
        while task.lease.exists():
            time.sleep(0.01)
        return RunOutcome(key=task.key, state="stopped")

    with pytest.raises(Cancelled):
        queue.run(lambda task: pool.submit(work, task), lambda: 2, monitor=Monitor(cancelled=stop.is_set))
    assert len(tasks) == 2
    assert queue.standing.counts == {"stopped": 2, "waiting": 3}
    assert list(queue.plan.folder.glob(".frostline-*")) == []


def test_a_run_that_is_done_is_not_run_again_and_one_that_failed_is(queue_of, grid_of, monkeypatch, at_once):
    queue, ran = queue_of("seeds: [1, 2, 3]"), []
    states = dict(zip([run.name for run in queue.plan.runs], ["done", "failed", None], strict=True))
    monkeypatch.setattr(
        outcomes,
        "look",
        lambda run: states[run.name] and RunOutcome(key=run.key, state=states[run.name], said="before"),
    )
    again = Queue(queue.plan)
    assert not again.is_done
    again.run(at_once(lambda task: ran.append(task.key) or done(task)), lambda: 1)
    assert ran == [run.key for run in queue.plan.runs[1:]]
    assert again.standing.taken_over == 1
    assert again.standing.outcomes[queue.plan.runs[1].name].said == ""


def test_a_queue_knows_whether_one_of_the_runs_that_are_left_reads_an_encoder(queue_of, at_once):
    queue, seen = queue_of("strategies: [frozen_probe, majority]\nseeds: [1, 2]"), []
    queue.run(at_once(lambda task: seen.append((task.device, queue.device)) or done(task)), lambda: 1)
    assert seen == [("auto", "auto"), ("auto", "auto"), ("cpu", "cpu"), ("cpu", "cpu")]


def test_variables_and_the_scheduler_reach_the_run(here, write_notebook, monkeypatch, at_once):
    from pathlib import Path

    from frostline.sweeps.grids import Grid
    from frostline.sweeps.plans import plan

    parameters = 'SEED: int = 1\nSCHEDULER: str = ""\nOUTPUT_DIR: str = "x"'
    write_notebook(Path("dask.ipynb"), parameters, "print(1)")
    monkeypatch.setenv("FROSTLINE_CACHE", "/somewhere")
    planned = plan(Grid(notebook="dask.ipynb", seeds=[1]), "s")
    planned.folder.mkdir()
    tasks = []
    queue = Queue(planned)
    queue.run(
        at_once(lambda task: tasks.append(task) or done(task)),
        lambda: 1,
        environment={"OMP_NUM_THREADS": "3"},
        scheduler="tcp://here:1",
    )
    (task,) = tasks
    assert task.arguments[-2:] == ("-p", "SCHEDULER=tcp://here:1")
    assert task.shares
    assert (task.environment["OMP_NUM_THREADS"], task.environment["FROSTLINE_CACHE"]) == ("3", "/somewhere")
    assert "SCHEDULER" not in planned.runs[0].values  # where it runs is no part of what it is


def test_time_that_is_left_goes_by_runs_of_this_session():
    standing = Standing({"a": "done", "b": "done", "c": "failed", "d": "waiting", "e": "running"}, taken_over=1)
    assert (standing.ended, standing.left) == (2, 0.0)
    standing.busy = 100.0
    assert standing.left == 100.0
    assert standing.words() == "2 of 5 runs done, 1 failed, 1 running, 1 waiting, 1.2 runs a minute, 2 min left"
    assert Standing({"a": "waiting"}).left is None
