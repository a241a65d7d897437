"""The panel without a browser: what its controls say, and every way in which a run can end."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from ipywidgets import HTML, Button, Checkbox, FloatProgress

import frostline
from frostline.comparison import Comparison
from frostline.errors import Cancelled, FrostlineError
from frostline.panels import AnnotationPanel
from frostline.strategies import DEFAULT, STRATEGIES, FrozenProbe, PcaLogistic

pytestmark = pytest.mark.usefixtures("instant_umap")


OFFERED = [name for name in STRATEGIES if name != "probe_obsm"]
"""Of a data set without an embedding of its own."""


@pytest.fixture
def make_panel(three_kinds, small_checkpoint, fresh):
    def make(strategies=("pca_logistic",), **changes) -> AnnotationPanel:
        settings = {"dataset": fresh(three_kinds), "checkpoint": str(small_checkpoint), **changes}
        return AnnotationPanel(settings.pop("dataset"), strategies=strategies, **settings)

    return make


@pytest.fixture
def gate(monkeypatch):
    """Holds every fit of PCA + logistic regression back until it is set."""
    event, fit = threading.Event(), PcaLogistic.fit

    def wait_and_fit(self, *arguments):
        assert event.wait(60)
        return fit(self, *arguments)

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
    """Text of the status line."""
    found = re.search(r'<span role="status" aria-live="polite">(.*?)</span>', html_of(panel))
    assert found
    return found.group(1)


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
    boxes = [w.description for w in walk(make_panel()) if isinstance(w, Checkbox)]
    names = [*OFFERED, "probe_obsm:X_pca"]  # what the data set carries, its X_umap aside
    assert len(boxes) == len(names)
    for text, name in zip(boxes, names, strict=True):
        assert f"({name})" in text
        assert STRATEGIES[name.partition(":")[0]].title in text
    assert [name for name, text in zip(names, boxes, strict=True) if text.endswith("; expensive")] == ["full"]


def test_every_embedding_that_the_data_set_carries_is_offered(make_panel, three_kinds, fresh):
    adata = three_kinds.adata.copy()
    adata.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(len(three_kinds), 7))
    panel = make_panel(["probe_obsm:X_scVI"], dataset=fresh(three_kinds, adata=adata))
    assert box(panel, "probe_obsm:X_scVI").value
    assert box(panel, "probe_obsm:X_scVI").description.endswith("(probe_obsm:X_scVI): 24 trained parameters")
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
    assert [record.strategy for record in panel.records] == list(DEFAULT)
    assert comparison._repr_html_() in html_of(panel)
    assert said(panel).startswith("Done")
    assert next(w for w in walk(panel) if isinstance(w, FloatProgress)).value == 1.0
    pictures = re.findall(r"<img [^>]*>", html_of(panel))
    texts = [re.search(r'alt="([^"]+)"', picture).group(1) for picture in pictures]
    assert len(pictures) == 3
    assert ["frozen_probe" in texts[0], "lora" in texts[1], comparison.best in texts[2]] == [True] * 3


def test_parameter_counts_promised_are_those_of_the_records(make_panel):
    panel = make_panel(OFFERED)
    promised = {name: box(panel, name).description for name in OFFERED}
    panel.run(wait=True)
    assert len(panel.records) == len(OFFERED)
    for record in panel.records:
        assert f": {record.cost.trainable_parameters:,} trained parameters" in promised[record.strategy]


def test_panel_splits_as_the_function_does(make_panel):
    panel = make_panel(seed=11)
    panel.run(wait=True)
    cut = frostline.split(panel.dataset, seed=11, profile="quickstart")
    assert panel.records[0].fingerprint == cut.fingerprint
    control(panel, "Seed").value = 12
    panel.run(wait=True)
    assert panel.records[0].fingerprint == frostline.split(panel.dataset, seed=12).fingerprint


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
    locked = [button(panel, "Run"), control(panel, "Profile"), control(panel, "Seed"), box(panel, "lora")]
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [False] * 4 + [True]
    panel.run()
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [True] * 4 + [False]
    gate.set()
    panel.wait(60)
    assert [w.disabled for w in (*locked, button(panel, "Cancel"))] == [False] * 4 + [True]


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
    assert button(panel, "Run").tooltip == "Tick a strategy"
    assert said(panel) == "Tick at least one strategy to run."
    with pytest.raises(FrostlineError, match="tick at least one strategy"):
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
    assert "<td>pca_logistic</td>" in html_of(panel)
    assert not button(panel, "Run").disabled


def test_cancelled_panel_can_run_again(make_panel):
    panel = make_panel(["pca_logistic", "head"])
    cancel = panel.cancel
    panel.observe(lambda change: change.new and cancel(), "records")
    with pytest.raises(Cancelled):
        panel.run(wait=True)
    panel.unobserve_all("records")
    assert panel.run(wait=True).strategies == ("pca_logistic", "head")


def test_interrupting_the_kernel_is_a_cancel(make_panel, monkeypatch):
    def interrupt(self, dataset, split, monitor=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(FrozenProbe, "fit", interrupt)
    panel = make_panel(["pca_logistic", "frozen_probe"])
    with pytest.raises(KeyboardInterrupt):
        panel.run(wait=True)
    assert panel.state == "cancelled"
    assert len(panel.records) == 1
    assert not button(panel, "Run").disabled


def test_failure_is_shown_kept_and_raised_by_wait(make_panel, monkeypatch):
    def fail(self, dataset, split, monitor=None):
        raise RuntimeError("no <i>luck</i> & no data")

    monkeypatch.setattr(FrozenProbe, "fit", fail)
    panel = make_panel(["pca_logistic", "frozen_probe"])
    panel.run()
    with pytest.raises(RuntimeError, match="no <i>luck"):
        panel.wait(60)
    assert panel.state == "failed"
    assert isinstance(panel.error, RuntimeError)
    assert [record.strategy for record in panel.records] == ["pca_logistic"]
    alert = html_of(panel).partition('role="alert"')[2]
    assert "<strong>RuntimeError</strong>: no &lt;i&gt;luck&lt;/i&gt; &amp; no data" in alert
    assert "<i>" not in html_of(panel)
    assert said(panel) == "The run failed."
    assert not button(panel, "Run").disabled


def test_failure_is_gone_after_a_run_that_succeeds(make_panel, monkeypatch):
    panel = make_panel()
    with monkeypatch.context() as patch:
        patch.setattr(PcaLogistic, "check", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            panel.run(wait=True)
    panel.run(wait=True)
    assert (panel.state, panel.error) == ("done", None)
    assert 'role="alert"' not in html_of(panel)


def test_data_that_suits_no_strategy_fails_before_any_training(make_panel, three_kinds, fresh, monkeypatch):
    nobody_knows = fresh(three_kinds, genes=tuple(f"ENSG{i:011d}" for i in range(len(three_kinds.genes))))
    monkeypatch.setattr(PcaLogistic, "fit", lambda *_: pytest.fail("trained before all strategies had checked"))
    panel = make_panel(["pca_logistic", "frozen_probe"], dataset=nobody_knows)
    with pytest.raises(FrostlineError, match="look like Ensembl ids"):
        panel.run(wait=True)
    assert panel.records == ()


def test_names_from_the_data_are_escaped(make_panel, three_kinds, fresh):
    labels = three_kinds.labels.astype("U40")
    labels[labels == labels[0]] = "<b>bold</b>"
    named = fresh(three_kinds, name="<b>mine</b>", label_key="<b>key</b>", labels=labels)
    panel = make_panel(["frozen_probe"], dataset=named)
    panel.run(wait=True)
    assert "&lt;b&gt;mine&lt;/b&gt;" in html_of(panel)
    assert "<b>" not in html_of(panel)
