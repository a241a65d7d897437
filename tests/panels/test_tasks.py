"""Work in a thread that a cell waits for: when an interrupt is raised, the work has ended."""

from __future__ import annotations

import os
import signal
import time

import pytest

from frostline.panels.tasks import Task


@pytest.mark.usefixtures("heard_interrupts")
def test_an_interrupt_is_raised_when_the_work_has_ended():
    ended, task = [], Task(lambda: None)

    def work():
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(task.stop.wait(60))
        time.sleep(0.3)
        ended.append("late")

    task.prepare(wait=True)
    with pytest.raises(KeyboardInterrupt):
        task.start(work)
    assert ended == [True, "late"]


def test_waiting_ends_with_the_time_that_is_given():
    task = Task(lambda: None)
    task.join(60)  # nothing was begun
    task.prepare(wait=False)
    task.start(lambda: task.stop.wait(60))
    task.join(0.01)
    assert task.thread.is_alive()
    task.stop.set()
    task.join(60)
