"""What all panels share: they close without a trace, and work in the background ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from frostline.panels import AnnotationPanel
from frostline.panels.base import Background

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


def test_closing_leaves_no_widget_no_thread_and_no_result_behind(three_kinds, fresh, small_checkpoint):
    gc.collect()
    before, threads = set(_instances()), threading.active_count()
    panel = AnnotationPanel(fresh(three_kinds), strategies=["majority"], checkpoint=str(small_checkpoint))
    comparison = panel.run(wait=True)
    watched = [weakref.ref(comparison), weakref.ref(panel.dataset)]
    del comparison
    panel.close()
    assert set(_instances()) == before
    assert threading.active_count() <= threads
    del panel
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def _instances() -> dict:
    from ipywidgets.widgets import widget

    return widget._instances


def test_closing_cancels_what_runs(make_panel, gate):
    panel = make_panel(["pca_logistic"])
    panel.run()
    thread = panel.runner._task.thread
    panel.close()
    gate.set()
    thread.join(60)
    assert not thread.is_alive()


def test_running_a_cell_again_closes_the_panel_that_it_had_made(make_panel, monkeypatch):
    from frostline.panels import base

    place = ["cell-1", "execution-1"]
    monkeypatch.setattr(base, "_where", lambda: tuple(place))
    first = make_panel()
    same = make_panel()  # a cell may make two
    assert first.comm is not None or first.children
    place[1] = "execution-2"
    second = make_panel()
    assert (first.children, same.children) == ((), ())
    assert second.children
    place[:] = ["cell-2", "execution-3"]
    third = make_panel()
    assert second.children
    assert third.children


def test_python_ends_when_what_is_being_done_has_ended():
    """A daemon thread that is cut off inside torch aborts the whole process."""
    script = """
import threading, time
from frostline.panels.base import Background
background, begun = Background(), threading.Event()
background.do("first", lambda: (begun.set(), time.sleep(0.5), print("first ended")))
begun.wait()
background.do("second", lambda: print("second began"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "first ended\n", "")


def test_work_whose_failure_cannot_be_shown_ends_and_the_next_is_done(capsys):
    done: list[str] = []

    def failed(error):
        done.append(str(error))
        raise OSError("nothing can be sent to the browser")

    background = Background(failed)
    background.do("first", lambda: 1 / 0)
    background.settle(60)
    assert not background.is_busy
    background.do("second", lambda: done.append("second"))
    background.settle(60)
    assert done == ["division by zero", "second"]
    assert "ZeroDivisionError" in (said := capsys.readouterr().err)
    assert "nothing can be sent to the browser" in said


def test_settling_waits_for_what_is_begun_meanwhile_and_for_no_longer_than_asked():
    background, go, done = Background(), threading.Event(), []
    background.do("first", lambda: (go.wait(60), background.do("second", lambda: done.append("second"))))
    with pytest.raises(TimeoutError, match="still at work after 0"):
        background.settle(0.01)
    go.set()
    background.settle(60)
    assert done == ["second"]
