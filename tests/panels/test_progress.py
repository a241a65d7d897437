"""What a panel shows of its work: how far it is, how it ended, and that it was asked to stop."""

from __future__ import annotations

import pytest

from frostline.errors import Cancelled
from frostline.panels import progress as module
from frostline.panels.progress import WorkProgress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_messages_come_no_faster_than_a_browser_follows(clock):
    progress = WorkProgress()
    progress.begin()
    progress.monitor.step(0.25, "a quarter")
    clock[0] += module.PAUSE / 2
    progress.monitor.step(0.5, "half")
    assert progress.bar.value == 0.25
    assert "a quarter" in progress.words.value
    clock[0] += module.PAUSE
    progress.monitor.step(0.75, "most of <it>")
    assert progress.bar.value == 0.75
    assert "most of &lt;it&gt;" in progress.words.value


def test_what_was_asked_to_stop_stops_and_begins_again(clock):
    progress = WorkProgress()
    progress.stop.set()
    with pytest.raises(Cancelled):
        progress.monitor.step(0.5, "half")
    progress.end("cancelled", "Nothing was written.")
    assert (progress.bar.value, progress.bar.bar_style) == (0.0, "warning")
    assert "Nothing was written." in progress.words.value
    progress.begin()
    progress.monitor.step(0.5, "half")
    assert (progress.bar.value, progress.bar.bar_style) == (0.5, "info")


@pytest.mark.parametrize(("how", "value", "style"), [("done", 1.0, "success"), ("failed", 0.5, "danger")])
def test_the_bar_says_how_work_ended(clock, how, value, style):
    progress = WorkProgress()
    progress.begin()
    progress.monitor.step(0.5, "half")
    progress.end(how, "It is over.")
    assert (progress.bar.value, progress.bar.bar_style) == (value, style)
