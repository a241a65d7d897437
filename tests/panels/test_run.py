"""A run without a browser: its controls, and every way in which it can end."""

from __future__ import annotations

import html
import os
import signal
import threading
import time

import numpy as np
import pytest
from ipywidgets import HTML, Checkbox, FloatProgress, Widget
from panel_parts import box, button, control, html_of, row_of, rows, said, shown, tab

from frostline.comparison import jobs
from frostline.comparison.comparisons import Comparison
from frostline.errors import Cancelled, FrostlineError
from frostline.panels import AnnotationPanel, RunPanel
from frostline.panels.base import walk
from frostline.strategies import DEFAULT, FrozenProbe, Majority, PcaLogistic

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


def test_finished_run_returns_its_comparison_and_shows_it(make_panel):
    panel = make_panel(DEFAULT)
    comparison = panel.run(wait=True)
    assert isinstance(comparison, Comparison)
    assert panel.comparison is comparison
    assert panel.state == "done"
    assert panel.error is None
    pca, probe, *tuned = DEFAULT
    assert [record.strategy for record in panel.records] == [pca, probe, "frozen_probe:40", *tuned]
    assert comparison._repr_html_() in html_of(panel)
    assert said(panel).startswith("Done")
    assert {w.value for w in walk(panel.runner) if isinstance(w, FloatProgress) and shown(panel, w)} == {1.0}


def test_run_without_waiting_leaves_the_caller_free(make_panel, gate):
    panel = make_panel()
    assert panel.run() is None
    assert panel.state == "running"
    with pytest.raises(TimeoutError):
        panel.wait(timeout=0.01)
    gate.set()
    assert panel.wait(60).strategies == ("pca_logistic",)
    assert panel.state == "done"


def test_waiting_for_nothing_says_so(make_panel):
    with pytest.raises(FrostlineError, match="nothing has been run yet"):
        make_panel().wait()


def test_controls_are_locked_while_a_run_is_under_way(make_panel, gate):
    panel = make_panel()
    locked = [button(panel, "Run"), *(control(panel, name) for name in ("Profile", "Seed", "Labels", "Data"))]
    locked.append(box(panel, "lora"))
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [False] * 6 + [True]
    panel.run()
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [True] * 6 + [False]
    assert "under way" in button(panel, "Run").tooltip
    gate.set()
    panel.wait(60)
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [False] * 6 + [True]


def test_two_runs_cannot_overlap(make_panel, gate):
    panel = make_panel()
    panel.run()
    with pytest.raises(FrostlineError, match="under way"):
        panel.run()
    gate.set()
    panel.wait(60)
    assert len(panel.records) == 1


def test_second_click_on_run_changes_nothing(make_panel, gate):
    panel = make_panel()
    button(panel, "Run").click()
    button(panel, "Run").click()  # sent by the browser before it had learnt that the button is disabled
    assert 'role="alert"' not in html_of(panel)
    assert "failed" not in said(panel)
    gate.set()
    panel.wait(60)
    assert (panel.state, panel.error) == ("done", None)
    assert 'role="alert"' not in html_of(panel)


def test_cancel_keeps_what_had_finished(make_panel):
    panel = make_panel(["pca_logistic", "head", "lora"])
    panel.observe(lambda change: change.new and button(panel, "Cancel").click(), "records")
    panel.run()
    with pytest.raises(Cancelled):
        panel.wait(60)
    assert panel.state == "cancelled"
    assert [record.strategy for record in panel.records] == ["pca_logistic"]
    assert said(panel) == "Cancelled; 1 finished evaluation(s) kept."
    assert "<td>pca_logistic</td>" in tab(panel, "Verdict")
    assert not button(panel, "Run").disabled


def test_cancelled_panel_can_run_again(make_panel):
    panel = make_panel(["pca_logistic", "head"])
    cancel = panel.cancel
    panel.observe(lambda change: change.new and cancel(), "records")
    with pytest.raises(Cancelled):
        panel.run(wait=True)
    panel.unobserve_all("records")
    assert panel.run(wait=True).strategies == ("pca_logistic", "head")


@pytest.fixture
def interrupted(monkeypatch, heard_interrupts):
    """The first fit of a frozen probe interrupts the kernel, as the square above a notebook does, and works on."""
    fit, stated = FrozenProbe.fit, []

    def interrupt(self, dataset, split, monitor=None):
        if monitor is not None and not stated:
            stated.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(6_000):
                monitor.step(0.5, "working on")
                time.sleep(0.01)
        return fit(self, dataset, split, monitor)

    monkeypatch.setattr(FrozenProbe, "fit", interrupt)
    return stated


@pytest.mark.usefixtures("interrupted")
def test_interrupting_a_cell_that_waits_is_a_cancel(make_panel):
    panel = make_panel(["pca_logistic", "frozen_probe"])
    with pytest.raises(KeyboardInterrupt):
        panel.run(wait=True)
    assert panel.state == "cancelled"
    assert said(panel) == "Cancelled; 1 finished evaluation(s) kept."
    assert [record.strategy for record in panel.records] == ["pca_logistic"]
    assert panel.latest().comparison.strategies == ("pca_logistic",)
    assert not button(panel, "Run").disabled


@pytest.mark.usefixtures("interrupted")
def test_finished_evaluations_are_taken_over_where_somebody_runs_all_cells_again(make_panel, monkeypatch):
    from frostline.panels import base

    with pytest.raises(KeyboardInterrupt):
        make_panel(["pca_logistic", "frozen_probe"]).run(wait=True)
    monkeypatch.setattr(PcaLogistic, "fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a script, or papermill: its costs are to be of one run
        make_panel(["pca_logistic"]).run(wait=True)
    monkeypatch.setattr(base, "_where", lambda: ("cell-1", "execution-1"))
    panel = make_panel(["pca_logistic", "frozen_probe"])
    ran = panel.run(wait=True)
    assert ran.strategies == ("pca_logistic", "frozen_probe")
    assert said(panel) == "Done: 2 evaluations, 1 of them taken over from an earlier run."
    assert [note for note in ran.notes if note.startswith("1 of 2 evaluations were taken over")]


def test_cancel_is_out_of_use_and_says_why_while_a_cell_waits(make_panel, gate):
    panel = make_panel()
    hint = panel.runner._buttons.hint
    shown = []
    panel.observe(lambda _: shown.append((button(panel, "Cancel").disabled, hint.layout.display)), "state")
    gate.set()
    panel.run(wait=True)
    assert shown == [(True, None), (True, "none")]
    gate.clear()
    panel.run()
    assert (button(panel, "Cancel").disabled, hint.layout.display) == (False, "none")
    waiting = threading.Thread(target=panel.latest)
    waiting.start()
    while not button(panel, "Cancel").disabled:
        time.sleep(0.01)
    assert "interrupt the kernel" in button(panel, "Cancel").tooltip
    assert "interrupt the kernel" in html.unescape(hint.value)
    gate.set()
    waiting.join(60)
    assert hint.layout.display == "none"
    assert "Stop within the current batch" in button(panel, "Cancel").tooltip


def test_failure_is_shown_kept_and_raised_by_wait(make_panel, monkeypatch):
    def fail(self, dataset, split, monitor=None):
        raise RuntimeError("no <i>luck</i> & no data")

    monkeypatch.setattr(FrozenProbe, "fit", fail)
    panel = make_panel(["frozen_probe", "pca_logistic"])
    panel.run()
    with pytest.raises(RuntimeError, match="no <i>luck"):
        panel.wait(60)
    assert panel.state == "failed"
    assert isinstance(panel.error, RuntimeError)
    assert [record.strategy for record in panel.records] == ["pca_logistic"]
    assert panel.comparison.strategies == ("pca_logistic",)
    alert = html_of(panel).partition('role="alert"')[2]
    assert "<strong>frozen_probe failed</strong>: no &lt;i&gt;luck&lt;/i&gt; &amp; no data" in alert
    assert "<i>" not in html_of(panel)
    assert said(panel) == "frozen_probe failed; 1 evaluation(s) of the others are kept."
    assert "failed" in row_of(panel, "frozen_probe")
    assert not button(panel, "Run").disabled


def test_a_failed_strategy_is_seen_at_once_and_after_a_cancel(make_panel, monkeypatch, gate):
    monkeypatch.setattr(Majority, "fit", lambda *_: 1 / 0)
    panel = make_panel(["majority", "pca_logistic"])
    panel.run()
    while panel.runner._job is None or not panel.runner._job.failures:
        time.sleep(0.01)
    while "majority failed" not in html_of(panel):
        time.sleep(0.01)
    assert panel.state == "running"
    (row,) = [row for row in rows(panel) if row.name == "majority"]
    assert "frostline-failed" in row._dom_classes
    assert "<strong>✖ failed</strong>: division by zero" in html_of(row)
    panel.cancel()
    gate.set()
    with pytest.raises(Cancelled):
        panel.wait(60)
    panel.settle(60)
    assert '<div role="alert" class="frostline-alert"><strong>majority failed</strong>: division by zero' in html_of(
        panel
    )
    assert said(panel).endswith("finished evaluation(s) kept. majority failed.")
    assert "frostline-failed" in row._dom_classes
    monkeypatch.undo()
    panel.run(wait=True)
    assert "frostline-failed" not in row._dom_classes


def test_failure_is_gone_after_a_run_that_succeeds(make_panel, monkeypatch):
    panel = make_panel()
    with monkeypatch.context() as patch:
        patch.setattr(PcaLogistic, "ensure_applicable", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            panel.run(wait=True)
    panel.run(wait=True)
    assert (panel.state, panel.error) == ("done", None)
    assert 'role="alert"' not in html_of(panel)


class TestStale:
    """Results that belong to other settings say so."""

    @pytest.mark.parametrize(
        ("label", "value", "what"),
        [
            ("Seed", 7, "seed"),
            ("Profile", "full", "profile, repeats"),
            ("Repeats", 2, "repeats"),
            ("Split", "stratified", "split"),
        ],
    )
    def test_a_change_marks_the_results_and_taking_it_back_unmarks_them(self, make_panel, label, value, what):
        panel = make_panel(["majority"])
        panel.run(wait=True)
        assert (panel.runner.stale, panel.results._banner.value) == ("", "")
        before = control(panel, label).value
        control(panel, label).value = value
        assert panel.runner.stale == what
        assert f"Changed since: {what}." in panel.results._banner.value
        assert 'role="status"' in panel.results._banner.value
        assert what in said(panel)
        control(panel, label).value = before
        assert (panel.runner.stale, panel.results._banner.value) == ("", "")
        assert said(panel) == "Done: 1 evaluations."

    def test_ticking_a_strategy_and_a_hyper_parameter_count_too(self, make_panel):
        panel = make_panel(["pca_knn"])
        panel.run(wait=True)
        box(panel, "majority").value = True
        assert panel.runner.stale == "strategies"
        box(panel, "majority").value = False
        panel.runner.plan.advanced.change("pca_knn", "n_components", 3)
        assert panel.runner.stale == "hyper-parameters"

    def test_another_label_column_marks_them_until_the_next_run(self, make_panel, three_kinds, fresh):
        adata = three_kinds.adata.copy()
        adata.obs["halves"] = np.where(np.arange(len(three_kinds)) % 2, "odd", "even")
        panel = make_panel(["majority"], dataset=fresh(three_kinds, adata=adata))
        panel.run(wait=True)
        control(panel, "Labels").value = "halves"
        panel.settle(60)
        assert panel.runner.stale == "labels"
        assert panel.run(wait=True).classes == ("even", "odd")
        assert panel.runner.stale == ""

    def test_the_same_cells_loaded_a_second_time_are_the_same_data(self, three_kinds, small_checkpoint, fresh):
        """As a reader loads them who names another column, and then the first one again."""
        adata = three_kinds.adata.copy()
        adata.obs["halves"] = np.where(np.arange(len(three_kinds)) % 2, "odd", "even")
        panel = AnnotationPanel(
            adata, label_key=three_kinds.label_key, strategies=["majority"], checkpoint=str(small_checkpoint)
        )
        panel.run(wait=True)
        for column, stale in (("halves", "labels"), (three_kinds.label_key, "")):
            control(panel, "Labels").value = column
            panel.settle(60)
            assert panel.runner.stale == stale
        first = panel.runner.dataset
        for other in (fresh(first, matrix=first.matrix * 2), fresh(first, matrix=first.matrix[:, ::-1])):
            panel.runner.dataset = other
            assert panel.runner.stale == "data"
            panel.runner.dataset = first
            assert panel.runner.stale == ""
        panel.close()


class TestResume:
    """What finished is on the disk, and can be taken over."""

    def test_a_second_panel_takes_over_what_the_first_had_finished(self, make_panel, monkeypatch):
        first = make_panel(["pca_logistic", "head"])
        first.observe(lambda change: change.new and first.cancel(), "records")
        with pytest.raises(Cancelled):
            first.run(wait=True)
        first.close()  # as when the kernel dies
        second = make_panel(["pca_logistic", "head"])
        second.settle(60)
        offer = next(w for w in walk(second) if isinstance(w, Checkbox) and "Take over" in w.description)
        assert offer.description.startswith("Take over 1 of 2 evaluations")
        assert offer.layout.display is None
        monkeypatch.setattr(PcaLogistic, "fit", lambda *_: pytest.fail("computed again"))
        button(second, "Run").click()
        assert second.wait(60).strategies == ("pca_logistic", "head")
        assert [record.strategy for record in second.records] == ["pca_logistic", "head"]

    def test_nothing_is_offered_for_other_settings(self, make_panel):
        make_panel(["majority"], seed=1234).run(wait=True)
        panel = make_panel(["majority"], seed=1235)
        panel.settle(60)
        offer = next(w for w in walk(panel) if isinstance(w, Checkbox) and w not in [r.box for r in rows(panel)])
        assert offer.layout.display == "none"

    def test_a_run_from_code_computes_everything_unless_asked_otherwise(self, make_panel, monkeypatch):
        panel = make_panel(["pca_logistic"])
        panel.run(wait=True)
        monkeypatch.setattr(PcaLogistic, "fit", lambda *_: 1 / 0)
        assert panel.run(wait=True, resume=True).strategies == ("pca_logistic",)
        with pytest.raises(ZeroDivisionError):
            panel.run(wait=True)


def test_two_panels_cannot_run_at_once(make_panel, gate):
    first, second = make_panel(), make_panel(["majority"])
    first.run()
    while "starting" not in row_of_running(first):
        pass
    with pytest.raises(FrostlineError, match="another run is under way in this kernel"):
        second.run(wait=True)
    gate.set()
    first.wait(60)
    found = second.run(wait=True)
    assert found.strategies == ("majority",)
    with jobs.alone(), pytest.raises(FrostlineError, match="another run is under way in this kernel"):
        second.run(wait=True)
    assert (second.comparison, second.state) == (found, "done")


def row_of_running(panel) -> str:
    return "\n".join(w.value for row in rows(panel) for w in walk(row) if isinstance(w, HTML))


def test_run_panel_waits_for_data(three_kinds, fresh, small_checkpoint):
    panel = RunPanel(strategies=["majority"], checkpoint=str(small_checkpoint))
    assert button(panel, "Run").disabled
    assert button(panel, "Run").tooltip == "Choose data first."
    with pytest.raises(FrostlineError, match="Choose data first"):
        panel.run(wait=True)
    panel.dataset = fresh(three_kinds)
    assert not button(panel, "Run").disabled
    assert panel.run(wait=True).strategies == ("majority",)


def test_loss_curve_appears_while_training_and_says_its_numbers(make_panel):
    panel = make_panel(["head"])
    panel.run(wait=True)
    last = panel.records[0].history[-1]
    said_of = f"epoch {len(panel.records[0].history)}: training loss {last['train_loss']:.3f}"
    assert f'aria-label="Loss by epoch; {said_of}' in row_of(panel, "head")


def test_records_of_a_full_disk_are_kept_in_memory_and_it_is_said(make_panel, monkeypatch):
    from frostline.evaluation.journal import Journal

    def full(self, strategy, record):
        raise OSError("No space left on device")

    monkeypatch.setattr(Journal, "add", full)
    panel = make_panel(["majority"])
    panel.run(wait=True)
    assert "No space left on device" in said(panel)
    assert len(panel.records) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_whose_progress_cannot_be_shown_fails_with_the_reason_and_can_be_run_again(make_panel):
    panel, here, notify = make_panel(["majority"]), threading.current_thread(), Widget.notify_change

    def cut_off(widget, change):
        if threading.current_thread() is not here:
            raise OSError("nothing can be sent to the browser")
        notify(widget, change)

    panel.settle(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Widget, "notify_change", cut_off)
        with pytest.raises(OSError, match="nothing can be sent to the browser"):
            panel.run(wait=True)
    assert panel.runner.state == "failed"
    panel.run(wait=True)
    assert panel.runner.state == "done"
