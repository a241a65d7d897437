"""The loops over parts: what is tried how often, what is given up, what ends it; futures and time are made by hand."""

from __future__ import annotations

import errno
import os
from collections import Counter
from types import SimpleNamespace

import pytest
from distributed import KilledWorker

from frostline.cluster import loops
from frostline.cluster.loops import DiskFull, Pace, alone, run
from frostline.errors import Cancelled, FrostlineError
from frostline.monitor import Monitor


class Future:
    def __init__(self, error: Exception | None, status: str) -> None:
        self._error, self.status = error, status

    def exception(self) -> Exception | None:
        return self._error


class Client:
    """Two workers of one thread, on which each part ends as it is said; the oldest that was handed out ends first."""

    status, cluster = "running", None

    def __init__(self, ends: dict[int, object]) -> None:
        self.ends, self.tried, self.asked = ends, Counter(), []
        self.at_work, self.most, self.cancelled = [], 0, []

    def nthreads(self) -> dict[str, int]:
        return {"one": 1, "two": 1}

    def submit(self, _compute, part, *, pure, resources) -> Future:
        assert pure is False  # the same part may be computed again
        self.tried[part] += 1
        self.asked.append(resources)
        end = self.ends.get(part)
        end = end(self.tried[part]) if callable(end) else end
        future = Future(end if isinstance(end, Exception) else None, "cancelled" if end == "lost" else "finished")
        self.at_work.append(future)
        self.most = max(self.most, len(self.at_work))
        return future

    def cancel(self, futures) -> None:
        self.cancelled += futures

    def one_ends(self, futures) -> list[Future]:
        assert futures == self.at_work
        return [self.at_work.pop(0)]


@pytest.fixture
def ended(monkeypatch):
    """Let a client compute parts 0 to 9, of ten cells each."""

    def do(ends, resources=None, cancelled=lambda: False):
        client, pace, said = Client(ends), Pace(100, 0, began=0.0), []
        monkeypatch.setattr(loops, "_done", client.one_ends)
        monitor = Monitor(lambda *words: said.append(words), cancelled)
        client.failed = lambda: run(
            client, dict, dict.fromkeys(range(10), 10), pace, resources=resources or {}, monitor=monitor
        )
        return client, pace, said

    return do


def test_each_part_is_handed_out_once_and_two_for_each_thread(ended):
    client, pace, said = ended({})
    assert client.failed() == {}
    assert client.tried == dict.fromkeys(range(10), 1)
    assert client.most == 4
    assert (pace.done, pace.computed, pace.failed) == (100, 100, 0)
    assert [fraction for fraction, _ in said] == [i / 10 for i in range(11)]
    assert client.asked == [None] * 10


def test_a_part_that_fails_is_tried_twice_more_and_then_given_up(ended):
    client, pace, said = ended({3: ValueError("bad cell"), 7: lambda n: OSError("gone") if n < 3 else None})
    assert client.failed() == {3: "ValueError: bad cell"}
    assert (client.tried[3], client.tried[7]) == (3, 3)
    assert sum(client.tried.values()) == 8 + 3 + 3
    assert (pace.done, pace.failed) == (90, 1)
    assert "1 part failed" in said[-1][1]


def test_a_part_that_has_ended_its_workers_is_not_tried_again(ended):
    client, _, _ = ended({2: KilledWorker("part", None, 3)})
    (reason,) = client.failed().values()
    assert "above their memory: give them more (--memory; " in reason
    assert "or begin another output with fewer cells at once (-o OTHER.zarr --rows 1024)" in reason
    assert client.tried[2] == 1


def test_a_full_disk_ends_it_and_what_is_under_way_is_taken_back(ended):
    client, _, _ = ended({1: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))})
    with pytest.raises(DiskFull, match="make room, and the same command goes on"):
        client.failed()
    assert client.cancelled == client.at_work
    assert len(client.cancelled) == 3


def test_a_scheduler_that_is_gone_is_said(ended):
    client, _, _ = ended({0: "lost"})
    with pytest.raises(FrostlineError, match=r"the scheduler is gone .*: the same command goes on"):
        client.failed()


def test_workers_that_have_all_ended_are_not_waited_for(ended):
    client, _, _ = ended({})
    client.cluster = SimpleNamespace(workers={})
    with pytest.raises(FrostlineError, match=r"all workers have ended.* \(--memory; .* goes on; or begin another"):
        client.failed()


def test_a_stop_takes_back_what_is_under_way(ended):
    looks = iter([False, False, True])
    client, pace, _ = ended({}, cancelled=lambda: next(looks))
    with pytest.raises(Cancelled):
        client.failed()
    assert pace.done == 20
    assert client.cancelled == client.at_work


def test_resources_are_asked_for_each_part(ended):
    client, _, _ = ended({}, {"GPU": 1.0})
    client.failed()
    assert client.asked == [{"GPU": 1.0}] * 10


@pytest.fixture
def here(monkeypatch):
    """Let this process compute parts of ten cells, each of which takes a second, unless it ends otherwise."""

    def do(n, workers=2, ends=None, cancelled=lambda: False):
        clock, said = [0.0], []

        def compute(part):
            clock[0] += 1
            if part in (ends or {}):
                raise ends[part]

        monkeypatch.setattr(loops, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        pace = Pace(10 * n, 0, began=0.0)
        monitor = Monitor(lambda *words: said.append(words), cancelled)
        return list(alone(compute, dict.fromkeys(range(n), 10), pace, workers, monitor)), pace, said

    return do


def test_parts_are_computed_here_one_after_the_other(here):
    left, pace, said = here(12)
    assert left == []
    assert (pace.done, pace.computed) == (120, 120)
    assert [fraction for fraction, _ in said] == [i / 12 for i in range(13)]
    assert said[-1][1] == "120 of 120 cells, 10 cells/s, 0 parts failed, 0 s left"


@pytest.mark.parametrize(("n", "workers", "left"), [(16, 2, 0), (17, 2, 11), (12, 8, 6), (99, 1, 0)])
def test_workers_get_what_they_save_more_than_five_seconds_of(here, n, workers, left):
    """After six seconds, which are more than five, two workers save half of the seconds left, and eight 7/8."""
    assert here(n, workers)[0] == list(range(n))[n - left :]


def test_a_part_that_fails_here_is_left_to_workers_with_all_that_follow(here):
    left, pace, _ = here(6, ends={3: ValueError("bad cell")})
    assert (left, pace.done, pace.failed) == ([3, 4, 5], 30, 0)


def test_a_full_disk_ends_it_here_too(here):
    with pytest.raises(DiskFull, match="make room, and the same command goes on"):
        here(6, ends={3: OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))})


def test_a_stop_between_two_parts_is_heard_here(here):
    looks = iter([False, False, True])
    with pytest.raises(Cancelled, match="20 of 60 cells"):
        here(6, cancelled=lambda: next(looks))
