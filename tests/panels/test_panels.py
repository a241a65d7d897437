"""The panel without a browser: what its controls say, and every way in which a run can end."""

from __future__ import annotations

import dataclasses
import gc
import html
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from ipywidgets import HTML, Button, Checkbox, FloatProgress, Widget

import frostline
from frostline import report
from frostline.comparison.comparisons import Comparison
from frostline.errors import Cancelled, FrostlineError
from frostline.panels import AnnotationPanel, DataPanel, ResultPanel, RunPanel
from frostline.panels.base import Background
from frostline.panels.results import NOTHING
from frostline.panels.rows import StrategyRow
from frostline.profiles import PROFILES
from frostline.strategies import DEFAULT, STRATEGIES, FrozenProbe, GenesLogistic, Majority, PcaKnn, PcaLogistic
from frostline.strategies.probe import LinearProbe

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


OFFERED = [name for name in STRATEGIES if name != "probe_obsm"]
"""Of a data set without an embedding of its own."""


@pytest.fixture(scope="module")
def short_training():
    """An epoch or two, two values to choose from: nothing here asks how well a strategy does."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in (LinearProbe, GenesLogistic, PcaKnn):
            patch.setattr(kind, "GRID", kind.GRID[:2])
        for name, profile in PROFILES.items():
            short = {"head_epochs": 2, "lora_epochs": 1, "full_epochs": 1, "min_steps": 0, "tuning_genes": 40}
            patch.setitem(PROFILES, name, dataclasses.replace(profile, **short))
        yield


@pytest.fixture
def make_panel(three_kinds, small_checkpoint, fresh, worked_out):
    made = []

    def make(strategies=("pca_logistic",), **changes) -> AnnotationPanel:
        given = {"dataset": fresh(three_kinds, cache=dict(worked_out)), "checkpoint": str(small_checkpoint)}
        settings = given | changes
        made.append(AnnotationPanel(settings.pop("dataset"), strategies=strategies, **settings))
        return made[-1]

    yield make
    for panel in made:
        panel.cancel()
        panel.runner.plan.background.close()
        panel.settle(60)
        panel.close()


@pytest.fixture
def gate(monkeypatch):
    """Holds every fit of PCA + logistic regression back until it is set."""
    event, fit = threading.Event(), PcaLogistic.fit

    def wait_and_fit(self, dataset, split, monitor=None):
        assert monitor is None or event.wait(60)  # estimates fit without a monitor
        return fit(self, dataset, split, monitor)

    monkeypatch.setattr(PcaLogistic, "fit", wait_and_fit)
    yield event
    event.set()


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def html_of(panel) -> str:
    """All HTML that the panel shows at the moment."""
    return "\n".join(widget.value for widget in walk(panel) if isinstance(widget, HTML))


def button(panel, label: str) -> Button:
    return next(w for w in walk(panel) if isinstance(w, Button) and w.description == label)


def box(panel, strategy: str) -> Checkbox:
    return next(w for w in walk(panel) if isinstance(w, Checkbox) and f"({strategy})" in w.description)


def control(panel, label: str):
    return next(w for w in walk(panel) if getattr(w, "description", None) == label)


def said(panel) -> str:
    """Text of the run's status line."""
    shown = "\n".join(widget.value for widget in walk(panel.runner) if isinstance(widget, HTML))
    found = re.findall(r'<span role="status" aria-live="polite">(.*?)</span>', shown)
    assert found
    return found[-1]


def tab(panel, name: str) -> str:
    """HTML of a tab of the results, when it is drawn."""
    panel.settle(60)
    return panel.results._shown[name].value


def row_of(panel, strategy: str) -> str:
    """What a strategy's row says beside its checkbox."""
    panel.settle(60)
    (row,) = [w for w in walk(panel) if isinstance(w, StrategyRow) and w.name == strategy]
    return "\n".join(widget.value for widget in walk(row) if isinstance(widget, HTML))


def test_new_panel_is_idle_and_shows_what_it_was_given(make_panel):
    panel = make_panel(["head", "lora"], profile="full", seed=7)
    assert (panel.state, panel.comparison, panel.records, panel.error) == ("idle", None, (), None)
    assert control(panel, "Profile").value == "full"
    assert control(panel, "Seed").value == 7
    assert {name for name in OFFERED if box(panel, name).value} == {"head", "lora"}
    assert "frostline-annotation-panel" in panel._dom_classes


def test_panel_says_which_data_it_is_about(make_panel):
    assert "three kinds: 150 cells x 120 genes, labels in bulk_labels" in html_of(make_panel())


def test_one_checkbox_a_strategy_in_the_order_of_the_list(make_panel):
    boxes = [row.box.description for row in rows(make_panel())]
    names = [*OFFERED, "probe_obsm"]  # of X_pca, which the data set carries; its X_umap is none
    assert len(boxes) == len(names)
    for text, name in zip(boxes, names, strict=True):
        assert text == f"{STRATEGIES[name].title} ({name})"


def test_rows_say_what_is_trained_and_what_is_expensive(make_panel):
    panel = make_panel()
    for name in OFFERED:
        assert STRATEGIES[name].trains in html.unescape(row_of(panel, name))
    assert [name for name in OFFERED if "Expensive" in row_of(panel, name)] == ["full"]
    assert "about 1 s" in row_of(panel, "majority").lower()
    assert re.search(r"Up to \d+ (s|min)", row_of(panel, "lora"))


def test_every_embedding_that_the_data_set_carries_is_offered(make_panel, three_kinds, fresh):
    adata = three_kinds.adata.copy()
    adata.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(len(three_kinds), 7))
    panel = make_panel(["probe_obsm:X_scVI"], dataset=fresh(three_kinds, adata=adata))
    assert box(panel, "probe_obsm:X_scVI").value
    assert "24 trained parameters" in row_of(panel, "probe_obsm:X_scVI")
    assert panel.run(wait=True).strategies == ("probe_obsm:X_scVI",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "fast"}, "unknown profile 'fast'; known: full, quickstart"),
        ({"strategies": ["pca"]}, "unknown strategy 'pca'; known: majority, pca_logistic"),
        ({"checkpoint": "maxi"}, "unknown checkpoint 'maxi'; known: mini"),
        ({"strategies": []}, "at least one"),
    ],
)
def test_unknown_setting_is_refused_before_anything_is_shown(make_panel, changes, said):
    with pytest.raises(FrostlineError, match=re.escape(said)):
        make_panel(**changes)


@pytest.mark.parametrize("seed", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_every_seed_that_a_run_may_have_is_kept(make_panel, seed):
    assert frostline.RunSettings(seed=seed).seed == seed
    assert control(make_panel(seed=seed), "Seed").value == seed


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


def shown(panel, bar: FloatProgress) -> bool:
    """Whether a progress bar is in a row that is not hidden."""
    rows = [w for w in walk(panel) if isinstance(w, StrategyRow) and bar in list(walk(w))]
    return all(row.box.value for row in rows)


@pytest.fixture(scope="module")
def finished(instant_umap_throughout, short_training, three_kinds, small_checkpoint, fresh):
    """A panel after its run; not to be changed."""
    panel = AnnotationPanel(fresh(three_kinds), strategies=["pca_logistic", "head"], checkpoint=str(small_checkpoint))
    panel.run(wait=True)
    yield panel
    panel.close()


@pytest.mark.parametrize(
    ("name", "pictures"),
    [("Verdict", 1), ("Confusion", 1), ("Confidence", 2), ("Classes", 0), ("Costs", 0), ("Checks", 0)],
)
def test_every_tab_of_a_finished_run_is_drawn(finished, name, pictures):
    found = re.findall(r"<img [^>]*>", tab(finished, name))
    assert len(found) == pictures
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in found)
    assert 'role="alert"' not in tab(finished, name)
    assert len(tab(finished, name)) > 100


def test_numbers_in_the_tabs_are_those_of_the_reports(finished):
    comparison = finished.comparison
    for name, frame in (
        ("Classes", report.class_metrics_table(comparison)),
        ("Costs", report.costs_table(comparison)),
        ("Confidence", report.calibration_table(comparison).iloc[:, :9]),
    ):
        cells = re.findall(r"<td>(.*?)</td>", tab(finished, name))
        wanted = [html.escape(str(value)) for value in frame.to_numpy().ravel()]
        assert cells[: len(wanted)] == wanted
    kept = report.calibration_table(comparison)
    kept = kept[["Strategy", *(name for name in kept if "%" in name)]]
    assert kept.shape[1] == 7
    assert cells[len(wanted) : len(wanted) + kept.size] == [
        html.escape(str(value)) for value in kept.to_numpy().ravel()
    ]
    sets = report.prediction_sets_table(comparison)
    assert cells[-sets.size :] == [html.escape(str(value)) for value in sets.to_numpy().ravel()]
    assert html.escape(report.sets_in_words(comparison)) in tab(finished, "Confidence")


def test_parameter_counts_promised_are_those_of_the_records(make_panel):
    panel = make_panel(OFFERED)
    promised = {name: row_of(panel, name) for name in OFFERED}
    panel.run(wait=True)
    unasked = [record for record in panel.records if record.strategy == "frozen_probe:40"]
    assert len(unasked) == 1
    assert len(panel.records) == len(OFFERED) + 1
    for record in panel.records:
        if record in unasked:
            continue
        assert f". {record.cost.trainable_parameters:,} trained parameters." in promised[record.strategy]


def test_a_probe_on_the_genes_of_what_is_tuned_runs_beside_it_and_is_announced(make_panel):
    panel = make_panel(["frozen_probe", "lora"])
    panel.settle(60)
    assert "Runs too: frozen_probe:40, the frozen probe on as many genes" in html_of(panel)
    ran = panel.run(wait=True)
    assert ran.strategies == ("frozen_probe", "frozen_probe:40", "lora")
    assert [record.genes_read for record in panel.records if record.strategy != "frozen_probe"] == [40, 40]
    assert "the same 40 genes" in ran.verdict
    box(panel, "lora").value = False
    panel.settle(60)
    assert "Runs too" not in html_of(panel)


def test_panel_splits_as_the_function_does(make_panel):
    panel = make_panel(seed=11)
    panel.run(wait=True)
    cut = frostline.split(panel.dataset, seed=11, profile="quickstart")
    assert panel.records[0].fingerprint == cut.fingerprint
    control(panel, "Seed").value = 12
    panel.run(wait=True)
    assert panel.records[0].fingerprint == frostline.split(panel.dataset, seed=12).fingerprint


def test_another_profile_brings_its_repeats_unless_a_number_was_chosen(make_panel):
    panel = make_panel(strategies=["majority"])
    repeats, profile = (control(panel, name) for name in ("Repeats", "Profile"))
    assert repeats.value == 1
    profile.value = "full"
    assert repeats.value == 3
    repeats.value = 2
    profile.value = "quickstart"
    assert repeats.value == 2
    assert make_panel(strategies=["majority"], repeats=5).runner.plan.inputs["repeats"] == 5


def test_a_split_by_group_brings_the_repeats_that_test_every_group(make_panel):
    panel = make_panel(["majority"], dataset=frostline.load_dataset("pancreas"))
    repeats, split = (control(panel, name) for name in ("Repeats", "Split"))
    assert repeats.value == 4
    split.value = "stratified"
    assert repeats.value == 1
    split.value = "group"
    assert panel.run(wait=True).ground.n_units == 4


def test_full_profile_runs_all_its_repeats(make_panel):
    panel = make_panel(profile="full")
    assert panel.run(wait=True).repeats == (0, 1, 2)


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


def test_run_is_disabled_without_a_strategy_and_says_why(make_panel):
    panel = make_panel()
    box(panel, "pca_logistic").value = False
    assert button(panel, "Run").disabled
    assert button(panel, "Run").tooltip == "Tick at least one strategy to run."
    assert said(panel) == "Tick at least one strategy to run."
    with pytest.raises(FrostlineError, match="Tick at least one strategy"):
        panel.run(wait=True)
    assert panel.state == "idle"


@pytest.mark.parametrize("ran_before", [False, True])
def test_request_to_tick_a_strategy_goes_when_one_is_ticked(make_panel, ran_before):
    panel = make_panel()
    if ran_before:
        panel.run(wait=True)
    box(panel, "pca_logistic").value = False
    box(panel, "head").value = True
    assert not button(panel, "Run").disabled
    assert "Tick" not in said(panel)


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


class TestLatest:
    """What the cells below the panel show."""

    def test_it_is_what_was_run_last_and_what_it_was_run_on(self, make_panel, three_kinds):
        adata = three_kinds.adata.copy()
        adata.obs["parity"] = np.where(np.arange(len(three_kinds)) % 2, "odd", "even")
        given = frostline.load_dataset(adata, "bulk_labels", name="three kinds")
        panel = make_panel(["majority"], dataset=given)
        panel.run(wait=True)
        before = panel.dataset
        control(panel.data, "Labels").value = "parity"
        panel.settle(60)
        ran = panel.latest()
        assert (ran.dataset, ran.dataset is panel.dataset) == (before, False)
        assert ran.changed == "labels"
        assert ran.caption[1].startswith("Changed in the panel since: labels. ")
        button(panel, "Run").click()
        panel.wait(60)
        ran = panel.latest()
        assert (ran.dataset.label_key, ran.comparison.classes) == ("parity", ("even", "odd"))
        assert ran.changed == ""
        assert "three kinds, labels in parity; no groups; profile quickstart, stratified split" in ran.caption[0]
        assert (panel.results.dataset, panel.results.comparison) == (ran.dataset, ran.comparison)

    def test_it_waits_for_a_run_that_was_started_with_the_button(self, make_panel, gate):
        panel = make_panel()
        panel.run()
        threading.Timer(0.2, gate.set).start()
        assert panel.latest().comparison.strategies == ("pca_logistic",)

    def test_nothing_to_show_is_said(self, make_panel, monkeypatch):
        panel = make_panel()
        with pytest.raises(FrostlineError, match="nothing has been run yet; press Run, or call panel"):
            panel.latest()
        monkeypatch.setattr(PcaLogistic, "ensure_applicable", lambda *_: 1 / 0)
        with pytest.raises(FrostlineError, match="left nothing to compare: division by zero"):
            panel.run(wait=True, keep_going=True)

    def test_a_strategy_that_fails_costs_no_other_its_results_and_is_said_everywhere(
        self, make_panel, monkeypatch, tmp_path
    ):
        fail = lambda *_: (_ for _ in ()).throw(RuntimeError("no\nluck"))  # noqa: E731
        monkeypatch.setattr(FrozenProbe, "ensure_applicable", fail)
        panel = make_panel(["frozen_probe", "majority", "pca_knn"])
        comparison = panel.run(wait=True, keep_going=True)
        assert comparison.strategies == ("majority", "pca_knn")
        said_of = "Strategy frozen_probe was asked for and failed, so it is not compared: no luck"
        assert said_of in comparison.notes
        assert said_of in report.report_markdown(comparison)
        ran = panel.latest()
        assert ran.caption[1] == "Failed, and not compared: frozen_probe. no luck"
        with pytest.raises(FrostlineError, match=r"1 of 3 strategies failed: frozen_probe: no luck.*RESUME=True"):
            ran.refuse_failures()
        where = frostline.artifacts.export(tmp_path / "out", comparison, ran.dataset)
        assert frostline.artifacts.check(where).passed
        assert said_of in frostline.load_comparison(where).notes
        monkeypatch.undo()  # what was amiss is mended
        monkeypatch.setattr(Majority, "fit", lambda *_: pytest.fail("computed again"))
        again = make_panel(["frozen_probe", "majority", "pca_knn"])  # as in a notebook that is run again
        assert set(again.run(wait=True, resume=True).strategies) == {"frozen_probe", "majority", "pca_knn"}
        again.latest().refuse_failures()

    def test_studies_of_what_was_run_are_shown_in_the_panel_and_again_in_the_place_of_the_first(self, make_panel):
        panel = make_panel(["majority"], repeats=2)
        panel.run(wait=True)
        ran = panel.latest()
        for _ in range(2):
            panel.add(frostline.label_efficiency(ran.strategies, ran.dataset, ran.splits, budgets=[5]))
            panel.add(frostline.leave_one_class_out(ran.strategies, ran.dataset, ran.splits[:1]))
        comparison = panel.latest().comparison
        assert panel.comparison is comparison
        assert [(r.budget, r.repeat) for r in comparison.budget_records] == [(5, 0), (5, 1)]
        assert len(comparison.unseen_records) == 3
        assert tab(panel, "Labels").count("<img") == 2
        panel.run(wait=True)
        assert panel.latest().comparison.budget_records == ()

    def test_studies_of_other_cells_are_refused_and_what_was_there_stays(self, make_panel):
        panel = make_panel(["majority"])
        panel.run(wait=True)
        ran = panel.latest()
        other = frostline.split(ran.dataset, seed=7)
        for cut, said in ((other, "different seed"), (dataclasses.replace(other, seed=42), "different test cells")):
            with pytest.raises(FrostlineError, match=said):
                panel.add(frostline.label_efficiency(ran.strategies, ran.dataset, [cut], budgets=[5]))
        assert panel.latest().comparison.budget_records == ()


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


def test_strategies_without_a_checkpoint_run_where_it_is_not_here(make_panel):
    panel = make_panel(["pca_knn"], checkpoint="whole-human")
    assert "is not downloaded" in row_of(panel, "frozen_probe")
    assert panel.run(wait=True).strategies == ("pca_knn",)
    row_of(panel, "head")
    with pytest.raises(FrostlineError, match="'whole-human' is not downloaded"):
        make_panel(["pca_knn", "frozen_probe"], checkpoint="whole-human")


@pytest.mark.parametrize("with_data", [True, False])
def test_unknown_checkpoint_is_said_even_where_no_ticked_strategy_uses_it(make_panel, with_data):
    panel = make_panel(["majority"]).runner if with_data else frostline.panels.RunPanel(strategies=["majority"])
    for name, stated in (("no/such/folder", "unknown checkpoint"), (__file__, "unknown checkpoint"), (" ", "blank")):
        control(panel, "Checkpoint").value = name
        panel.settle(60)
        assert re.search(f'role="alert".*This cannot be run</strong>: .*{stated}', html_of(panel), re.DOTALL)
        with pytest.raises(FrostlineError, match=stated if with_data else "Choose data first"):
            panel.run(wait=True)
    control(panel, "Checkpoint").value = "whole-human"  # not downloaded, and not needed
    panel.settle(60)
    assert 'role="alert"' not in html_of(panel)


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


class TestPartial:
    """Results and verdict say what they lack."""

    def test_while_it_grows_and_not_when_all_is_there(self, make_panel):
        panel, seen = make_panel(["majority", "pca_knn"]), []
        panel.results.observe(lambda _: seen.append(panel.results._part.value), "comparison")
        panel.run(wait=True)
        stated = (
            "Partial results, partial verdict. 1 of 2 evaluations are finished; not yet or not in all repeats: pca_knn."
        )
        assert [text for text in seen if stated in html.unescape(text)]
        assert (panel.results._part.value, panel.latest().unfinished) == ("", "")
        assert not any(line.startswith("Partial") for line in panel.latest().caption)

    def test_after_a_cancel_in_panel_cells_below_and_what_is_exported(self, make_panel, tmp_path):
        panel = make_panel(["majority", "pca_knn"])
        panel.observe(lambda change: change.new and panel.cancel(), "records")
        with pytest.raises(Cancelled):
            panel.run(wait=True)
        stated = "1 of 2 evaluations are finished; not yet or not in all repeats: pca_knn."
        assert stated in html.unescape(panel.results._part.value)
        assert f"Partial: {stated}" in panel.latest().caption
        where = frostline.artifacts.export(tmp_path / "out", panel.comparison, panel.dataset)
        assert any(stated in note for note in frostline.load_comparison(where).notes)
        assert stated in (where / "report.md").read_text()

    def test_a_failed_strategy_is_named(self, make_panel, monkeypatch):
        monkeypatch.setattr(Majority, "fit", lambda *_: 1 / 0)
        panel = make_panel(["majority", "pca_knn"])
        panel.run()
        panel.runner._task.join(60)
        panel.settle(60)
        assert "Partial results, partial verdict. Failed: majority." in panel.results._part.value


def test_hyper_parameters_are_locked_during_a_run_also_those_that_are_opened_then(make_panel, gate):
    panel = make_panel()
    panel.settle(60)
    advanced = panel.runner.plan.advanced
    advanced.fold.value = True
    advanced._which.value = "pca_knn"
    before = control(advanced, "n_components")
    panel.run()
    assert before.disabled
    advanced._which.value = "pca_logistic"
    assert control(advanced, "n_components").disabled
    assert advanced._reset.disabled
    gate.set()
    panel.wait(60)
    assert not control(advanced, "n_components").disabled


def test_groups_that_are_held_out_are_named_before_the_run_and_beside_the_verdict(make_panel):
    panel = make_panel(["majority"], dataset=frostline.load_dataset("pancreas"))
    panel.settle(60)
    cuts = panel.runner.plan.controls.draw(panel.dataset)
    stated = "; ".join(f"{', '.join(cut.groups['test'])} (repeat {cut.repeat + 1})" for cut in cuts)
    assert f"Held out for the test, by donor: {stated}." in html_of(panel.runner)
    panel.run(wait=True)
    assert f"Held out for the test, by donor: {stated}." in tab(panel, "Verdict")
    control(panel, "Split").value = "stratified"
    panel.settle(60)
    assert "Held out for the test" not in html_of(panel.runner)


def test_failure_is_gone_after_a_run_that_succeeds(make_panel, monkeypatch):
    panel = make_panel()
    with monkeypatch.context() as patch:
        patch.setattr(PcaLogistic, "ensure_applicable", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            panel.run(wait=True)
    panel.run(wait=True)
    assert (panel.state, panel.error) == ("done", None)
    assert 'role="alert"' not in html_of(panel)


def test_what_does_not_suit_the_data_is_said_before_the_run_and_does_not_stop_the_others(
    make_panel, three_kinds, fresh, monkeypatch
):
    nobody_knows = fresh(three_kinds, genes=tuple(f"ENSG009{i:08d}" for i in range(len(three_kinds.genes))))
    monkeypatch.setattr(FrozenProbe, "fit", lambda *_: pytest.fail("trained on what its check refuses"))
    panel = make_panel(["frozen_probe", "pca_logistic"], dataset=nobody_knows)
    assert "Cannot run: " in row_of(panel, "frozen_probe")
    assert "look like human Ensembl ids" in row_of(panel, "frozen_probe")
    with pytest.raises(FrostlineError, match=r"^0 of 120 genes are in the vocabulary.*look like human Ensembl ids"):
        panel.run(wait=True)
    assert [record.strategy for record in panel.records] == ["pca_logistic"]


def test_names_from_the_data_are_escaped(make_panel, three_kinds, fresh):
    labels = three_kinds.labels.astype("U40")
    labels[labels == labels[0]] = "<b>bold</b>"
    named = fresh(three_kinds, name="<b>mine</b>", label_key="<b>key</b>", labels=labels)
    panel = make_panel(["frozen_probe"], dataset=named)
    panel.run(wait=True)
    assert "&lt;b&gt;mine&lt;/b&gt;" in html_of(panel)
    assert "<b>" not in html_of(panel)


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


def rows(panel) -> list[StrategyRow]:
    return [w for w in walk(panel) if isinstance(w, StrategyRow)]


class TestDataPanel:
    """Sources, columns, and what is wrong with them."""

    @pytest.fixture
    def make(self):
        made = []

        def build(*arguments, **options) -> DataPanel:
            made.append(DataPanel(*arguments, **options))
            made[-1].settle(60)
            return made[-1]

        yield build
        for panel in made:
            panel.close()

    def test_empty_it_asks_for_data(self, make):
        panel = make()
        assert (panel.state, panel.dataset) == ("empty", None)
        assert "Choose a data set." in html_of(panel)

    def test_a_file_is_judged_as_its_path_is_typed(self, make, counts_file):
        panel = make(names={})
        source = control(panel, "Data")
        source.value = next(value for text, value in source.options if text.startswith("A file"))
        path = control(panel, "File")
        assert path.continuous_update
        for typed, words in (
            (str(counts_file.parent), "is a folder; in it: mine.h5ad"),
            (str(counts_file)[:-2], "is no .h5ad file"),
            (str(counts_file.with_name("yours.h5ad")), "there is no file"),
        ):
            path.value = typed
            assert words in html_of(panel)
            assert panel.dataset is None
        path.value = str(counts_file)
        panel.settle(60)
        assert panel.state == "failed"  # nothing in the name `kind` says that it holds labels
        assert "choose the column of obs that holds the cell types" in html_of(panel)
        control(panel, "Labels").value = "kind"
        panel.settle(60)
        assert (panel.state, panel.dataset.name, panel.dataset.label_key) == ("ready", "mine", "kind")

    def test_it_says_the_same_as_the_functions(self, make, pbmc):
        panel = make("pbmc68k-reduced")
        assert panel.dataset.fingerprint() == pbmc.fingerprint()
        text = html_of(panel)
        assert "700 cells x 765 genes" in text
        assert "752 of 765 genes are in the vocabulary of checkpoint mini, with more than 99 % of the counts" in text
        for name, n in pbmc.summary()["cells"].items():
            assert f"<td>{html.escape(name)}</td>" in text
            assert f"</span> {n}</td>" in text
        assert panel.findings == tuple(frostline.checks.review(pbmc, frostline.split(pbmc), "mini"))
        assert all(html.escape(finding.title) in text for finding in panel.findings)

    def test_a_checkpoint_that_is_not_here_is_stated_and_the_other_checks_are_made(self, make, pbmc):
        panel = make("pbmc68k-reduced", checkpoint="whole-human")
        assert "is not downloaded" in html_of(panel)
        assert panel.findings == tuple(frostline.checks.review(pbmc, frostline.split(pbmc)))

    def test_too_little_vocabulary_is_said(self, make, three_kinds, fresh):
        nobody_knows = fresh(three_kinds, genes=tuple(f"gene_{i}" for i in range(120)))
        panel = make(nobody_knows)
        text = html_of(panel)
        assert "0 of 120 genes are in the vocabulary of checkpoint mini" in text
        assert "numbered names, which tell nothing of the genes" in text

    def test_an_anndata_of_the_notebook_is_offered_by_its_name(self, make, pbmc):
        names = {"mine": pbmc.adata, "_old": pbmc.adata, "other": 3}
        panel = make(names=names)
        source = control(panel, "Data")
        texts = [text for text, _ in source.options]
        assert [text for text in texts if "mine" in text or "_old" in text] == ["mine (700 x 765)"]
        source.value = next(value for text, value in source.options if text.startswith("mine"))
        panel.settle(60)
        assert "raw" in html_of(panel).partition('role="alert"')[2]  # X of it holds scaled values
        control(panel, "Layer").value = "raw"
        panel.settle(60)
        assert (panel.dataset.name, panel.dataset.label_key) == ("mine", "bulk_labels")
        names["later"] = pbmc.adata.copy()
        button(panel, "Look again").click()
        assert "later (700 x 765)" in [text for text, _ in source.options]
        assert panel.dataset.name == "mine"

    def test_what_is_in_the_file_is_said_whether_it_could_be_loaded_or_not(self, make, pbmc):
        names = {"mine": pbmc.adata}
        panel = make(names=names)
        source = control(panel, "Data")
        source.value = next(value for text, value in source.options if text.startswith("mine"))
        panel.settle(60)
        assert panel.state == "failed"
        report = frostline.inspect(pbmc.adata, "bulk_labels")._repr_html_()
        assert f"<details><summary>What is in this file</summary>{report}</details>" in html_of(panel)
        assert "layer=&#x27;raw&#x27;" in report
        control(panel, "Labels").value = "louvain"
        panel.settle(60)
        assert frostline.inspect(pbmc.adata, "louvain")._repr_html_() in html_of(panel)
        source.value = "nothing"
        assert "What is in this file" not in html_of(panel)

    def test_a_wrong_label_column_is_said_with_those_that_there_are(self, make):
        panel = make("pbmc68k-reduced", label_key="cell_typ")
        assert panel.state == "failed"
        alert = html_of(panel).partition('role="alert"')[2]
        assert "cell_typ" in alert
        assert "bulk_labels" in alert
        control(panel, "Labels").value = "louvain"
        panel.settle(60)
        assert (panel.state, panel.error, panel.dataset.label_key) == ("ready", None, "louvain")
        assert 'role="alert"' not in html_of(panel)

    def test_groups_are_offered_and_taken(self, make):
        panel = make("pancreas")
        assert panel.dataset.group_key == "donor"
        assert "4 groups in donor" in html_of(panel)
        control(panel, "Groups").value = None
        panel.settle(60)
        assert panel.dataset.group_key is None

    def test_donors_are_no_labels_that_are_offered_first(self, make, pbmc):
        adata = pbmc.adata.copy()
        adata.obs["donor_label"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
        adata.obs = adata.obs[["donor_label", "louvain"]]
        panel = make(adata, layer="raw")
        offered = [value for _, value in control(panel, "Labels").options]
        assert offered == ["", "louvain", "donor_label"]
        assert panel.dataset.label_key == "louvain"
        adata.obs = adata.obs[["donor_label"]]
        panel = make(adata, layer="raw")
        assert (control(panel, "Labels").value, panel.dataset) == ("", None)

    def test_what_is_of_the_old_file_is_out_of_use_until_the_new_one_is_read(self, make, pbmc, tmp_path):
        pbmc.adata.write_h5ad(tmp_path / "ours.h5ad")
        panel = make(str(tmp_path / "ours.h5ad"), label_key="bulk_labels", layer="raw")
        old = [control(panel, name) for name in ("Labels", "Groups", "Layer", "Values", "Gene names")]
        assert (panel.state, [w.disabled for w in old]) == ("ready", [False] * 5)
        control(panel, "File").value = str(tmp_path / "our")
        assert (panel.state, [w.disabled for w in old]) == ("empty", [True] * 5)
        control(panel, "File").value = f' "{tmp_path / "ours.h5ad"}" '
        panel.settle(60)
        assert [w.disabled for w in old] == [False] * 5

    def test_values_and_gene_names_can_be_said(self, make, pbmc):
        adata = pbmc.adata.raw.to_adata()
        adata.X = adata.X.toarray() * np.linspace(0.7, 1.3, adata.n_obs)[:, None]
        adata.obs = pbmc.adata.obs[["bulk_labels"]]
        adata.var["symbol"] = adata.var_names
        adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
        panel = make(adata, label_key="bulk_labels")
        control(panel, "Values").value = "linear"
        control(panel, "Gene names").value = "symbol"
        panel.settle(60)
        assert panel.state == "ready"
        assert panel.dataset.given["values"] == "linear"
        assert (panel.dataset.given["gene_column"], panel.dataset.genes[0]) == ("symbol", adata.var["symbol"].iloc[0])
        assert control(panel, "Gene names").options[-1] == "symbol"

    def test_a_loaded_data_set_keeps_its_values_when_its_labels_change(self, make, three_kinds):
        panel = make(three_kinds)
        assert panel.dataset is three_kinds
        assert control(panel, "Layer").disabled


class TestResultPanel:
    """A comparison, from memory or from a folder."""

    @pytest.fixture
    def comparison(self, make_record):
        records = [make_record(name, repeat=r) for name in ("head", "lora") for r in (0, 1)]
        return frostline.compare(records)

    def show(self, *arguments) -> ResultPanel:
        panel = ResultPanel(*arguments)
        panel.settle(60)
        return panel

    def test_it_shows_what_it_is_given(self, comparison):
        panel = self.show(comparison)
        assert comparison._repr_html_() in panel._shown["Verdict"].value
        assert not any('role="alert"' in shown.value for shown in panel._shown.values())

    def test_it_shows_a_folder_of_artifacts(self, save_artifacts, tmp_path):
        folder = save_artifacts(tmp_path / "run")
        panel = self.show(folder)
        assert panel.comparison == frostline.load_comparison(folder)
        assert self.show(str(folder)).comparison.strategies == ("pca_logistic", "head")

    def test_a_folder_without_a_comparison_is_an_error(self, tmp_path):
        with pytest.raises(FrostlineError, match="holds no comparison"):
            ResultPanel(tmp_path)

    def test_figures_follow_the_controls(self, comparison):
        panel = self.show(comparison)
        confusion = panel._shown["Confusion"]
        assert [view.name for view in panel.map.mapped.views] == [panel._left.value, panel._right.value]
        panel.map.selected = [1, 4]
        control(panel, "Left").value = panel._right.value
        panel.settle(60)
        assert [view.name for view in panel.map.mapped.views] == [panel._right.value]
        assert panel.map.cells == [comparison.records[0].cells[i] for i in (1, 4)]
        control(panel, "Numbers").value = True
        panel.settle(60)
        assert "in percent of the true class" in confusion.value
        control(panel, "Strategy").value = "lora"
        panel.settle(60)
        assert "Confusion matrix of lora" in confusion.value

    def test_where_javascript_is_off_its_maps_are_a_picture(self, comparison):
        panel = self.show(comparison)
        pair = f"{panel._left.value} and {panel._right.value}"
        found = panel.still().data
        assert found.startswith("<noscript><img ")
        assert f'alt="UMAPs of the test cells by true class, as {pair} represent them"' in found
        assert found.endswith("></noscript>")
        with pytest.raises(FrostlineError, match="no results to draw yet"):
            ResultPanel().still()

    def test_without_a_comparison_the_map_is_closed(self, comparison):
        panel = self.show(comparison)
        shown = panel.map
        panel.comparison = None
        assert panel.map is None
        assert shown.comm is None
        assert panel._shown["Maps"].value == NOTHING

    def test_label_efficiency_and_unknown_cells_are_shown_where_they_were_measured(self, comparison, make_record):
        assert "Not measured" in self.show(comparison)._shown["Labels"].value
        records = [make_record("head"), make_record("head", budget=5), make_record("head", budget=10)]
        assert self.show(frostline.compare(records))._shown["Labels"].value.count("<img") == 1

    def test_export_writes_a_folder_that_passes_its_check(self, comparison, tmp_path):
        panel = self.show(comparison)
        control(panel, "Folder").value = str(tmp_path / "out")
        button(panel, "Export").click()
        panel.settle(60)
        assert frostline.artifacts.check(tmp_path / "out").passed
        assert "passed: " in panel._exported.value
        assert frostline.load_comparison(tmp_path / "out").records == comparison.records

    def test_export_into_a_folder_of_other_files_is_refused(self, comparison, tmp_path):
        (tmp_path / "thesis.txt").write_text("precious")
        panel = self.show(comparison)
        control(panel, "Folder").value = str(tmp_path)
        button(panel, "Export").click()
        panel.settle(60)
        assert 'role="alert"' in panel._exported.value
        assert (tmp_path / "thesis.txt").read_text() == "precious"

    def test_without_results_export_is_out_of_use_and_says_why(self):
        panel = ResultPanel()
        assert button(panel, "Export").disabled
        assert "no results" in button(panel, "Export").tooltip
        with pytest.raises(FrostlineError, match="no results to export"):
            panel.export()

    def test_while_records_are_on_their_way_a_tab_is_drawn_when_it_is_open_or_opened(self, comparison):
        panel = ResultPanel()
        panel.growing, panel.comparison = True, comparison
        panel.settle(60)
        drawn = [name for name, shown in panel._shown.items() if shown.value != NOTHING]
        assert drawn == ["Verdict"]
        panel._tabs.selected_index = panel._tabs.titles.index("Costs")
        panel.settle(60)
        assert "Peak memory" in panel._shown["Costs"].value
        assert panel._shown["Maps"].value == NOTHING
        panel.growing = False
        panel.settle(60)
        assert all(shown.value != NOTHING for shown in panel._shown.values())

    def test_one_tab_that_fails_leaves_the_others(self, comparison, monkeypatch):
        monkeypatch.setattr(report, "costs_table", lambda _: 1 / 0)
        panel = self.show(comparison)
        assert "Costs cannot be drawn" in panel._shown["Costs"].value
        assert 'role="alert"' not in panel._shown["Checks"].value


class TestAdvanced:
    """Hyper-parameters, folded away."""

    def open(self, panel, strategy: str):
        panel.settle(60)
        panel.runner.plan.advanced.fold.value = True
        panel.runner.plan.advanced._which.value = strategy

    def test_every_field_of_the_strategy_has_a_control_with_its_docstring(self, make_panel):
        panel = make_panel(["lora"])
        self.open(panel, "lora")
        stated = {name: setting.meaning for name, setting in STRATEGIES["lora"].settings().items()}
        shown = {
            w.description: w.tooltip
            for w in walk(panel.runner.plan.advanced)
            if getattr(w, "tooltip", None) in stated.values()
        }
        assert shown == {name: text for name, text in stated.items() if name != "checkpoint"}

    def test_a_change_reaches_the_record(self, make_panel):
        panel = make_panel(["pca_knn"])
        self.open(panel, "pca_knn")
        control(panel.runner.plan.advanced, "n_components").value = 5
        panel.run(wait=True)
        assert panel.records[0].parameters["n_components"] == 5

    @pytest.mark.parametrize(
        ("typed", "stated"),
        [("q_proj, nonsense", "nonsense"), ("[q_proj", "has no closing bracket; the value before stays")],
    )
    def test_what_the_strategy_refuses_is_stated_and_the_value_before_stays(self, make_panel, typed, stated):
        panel = make_panel(["lora"])
        self.open(panel, "lora")
        control(panel.runner.plan.advanced, "targets").value = typed
        assert stated in html_of(panel.runner.plan.advanced)
        assert panel.runner.plan.advanced.changes == {}

    def test_a_number_outside_its_bounds_is_stated_and_put_back_and_not_clipped(self, make_panel):
        panel = make_panel(["lora"])
        self.open(panel, "lora")
        rank = control(panel.runner.plan.advanced, "rank")
        assert "1 to 1,024 (dimensions)" in html_of(panel.runner.plan.advanced)
        rank.value = 2_000
        stated = html_of(panel.runner.plan.advanced)
        assert "rank is 2000, and must be a whole number from 1 to 1,024 (dimensions)" in stated
        assert rank.value == 4
        assert panel.runner.plan.advanced.changes == {}
        rank.value = 8
        assert "2000" not in html_of(panel.runner.plan.advanced)
        assert panel.runner.plan.advanced.changes == {"lora": {"rank": 8}}


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


def test_two_panels_cannot_run_at_once(make_panel, gate):
    first, second = make_panel(), make_panel(["majority"])
    first.run()
    while "starting" not in row_of_running(first):
        pass
    with pytest.raises(FrostlineError, match="another run is under way in this kernel"):
        second.run(wait=True)
    gate.set()
    first.wait(60)
    assert second.run(wait=True).strategies == ("majority",)


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


def test_every_control_has_a_label_and_a_tooltip(make_panel):
    panel = make_panel()
    panel.settle(60)
    controls = [w for w in walk(panel) if hasattr(w, "disabled") and hasattr(w, "description")]
    assert len(controls) > 25
    assert [type(w).__name__ for w in controls if not w.description] == []
    assert [w.description for w in controls if not w.tooltip] == []


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


def test_a_setting_that_cannot_be_split_is_said_before_the_run(make_panel):
    panel = make_panel()
    control(panel, "Split").value = "group"
    panel.settle(60)
    alert = html_of(panel.runner).partition('role="alert"')[2]
    assert "This cannot be run" in alert
    assert "group" in alert
    assert (
        "a split by group holds whole groups out, and no column is chosen under Groups; "
        in alert.partition("<details")[0]
    )
    assert "choose stratified under Split" in alert.partition("<details")[0]
    assert "=" not in said(panel)
    assert button(panel, "Run").disabled
    assert "group" in button(panel, "Run").tooltip
    assert said(panel).startswith("This cannot be run: a split by group holds whole groups out")
    control(panel, "Split").value = ""
    panel.settle(60)
    assert 'role="alert"' not in html_of(panel.runner)
    assert not button(panel, "Run").disabled
    assert said(panel) == "Ready."


def test_dataset_is_what_a_record_field_says(make_panel):
    panel = make_panel(["majority"])
    panel.run(wait=True)
    assert panel.dataset.name == panel.records[0].dataset
    assert dataclasses.asdict(panel.records[0].cost)["seconds"]


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


def test_settling_waits_for_what_is_begun_meanwhile_and_for_no_longer_than_asked():
    background, go, done = Background(), threading.Event(), []
    background.do("first", lambda: (go.wait(60), background.do("second", lambda: done.append("second"))))
    with pytest.raises(TimeoutError, match="still at work after 0"):
        background.settle(0.01)
    go.set()
    background.settle(60)
    assert done == ["second"]


def test_a_tick_times_no_strategy_again_and_another_seed_times_all(make_panel, monkeypatch):
    from frostline.panels import costs

    timed, estimate = [], costs.estimate

    def counted(strategy, *arguments):
        timed.append(strategy.name)
        return estimate(strategy, *arguments)

    monkeypatch.setattr(costs, "estimate", counted)
    panel = make_panel(["majority"])
    panel.settle(60)
    names = [row.name for row in rows(panel)]
    assert sorted(timed) == sorted(names)
    box(panel, "pca_knn").value = True
    panel.settle(60)
    assert sorted(timed) == sorted(names)
    control(panel, "Seed").value += 1
    panel.settle(60)
    assert sorted(timed) == sorted(names * 2)


def test_in_a_notebook_that_is_executed_only_what_is_ticked_is_timed(make_panel, three_kinds, fresh, monkeypatch):
    from frostline.artifacts import runs

    monkeypatch.setenv(runs.SOURCE, "0" * 64)
    panel = make_panel(["majority"], dataset=fresh(three_kinds))
    panel.settle(60)
    assert "about 1 s" in row_of(panel, "majority").lower()
    assert "about" not in row_of(panel, "pca_knn").lower()
