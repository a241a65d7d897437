"""The whole panel: what cells below it show, and what it says of its data and of partial results."""

from __future__ import annotations

import dataclasses
import html
import threading

import numpy as np
import pytest
from panel_parts import box, button, control, html_of, tab

import frostline
from frostline import report
from frostline.errors import Cancelled, FrostlineError
from frostline.strategies import STRATEGIES, FrozenProbe, Majority, PcaLogistic

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


OFFERED = [name for name in STRATEGIES if name != "probe_obsm"]
"""Of a data set without an embedding of its own."""


def test_new_panel_is_idle_and_shows_what_it_was_given(make_panel):
    panel = make_panel(["head", "lora"], profile="full", seed=7)
    assert (panel.state, panel.comparison, panel.records, panel.error) == ("idle", None, (), None)
    assert control(panel, "Profile").value == "full"
    assert control(panel, "Seed").value == 7
    assert {name for name in OFFERED if box(panel, name).value} == {"head", "lora"}
    assert "frostline-annotation-panel" in panel._dom_classes


def test_panel_says_which_data_it_is_about(make_panel):
    assert "three kinds: 150 cells x 120 genes, labels in bulk_labels" in html_of(make_panel())


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


def test_names_from_the_data_are_escaped(make_panel, three_kinds, fresh):
    labels = three_kinds.labels.astype("U40")
    labels[labels == labels[0]] = "<b>bold</b>"
    named = fresh(three_kinds, name="<b>mine</b>", label_key="<b>key</b>", labels=labels)
    panel = make_panel(["frozen_probe"], dataset=named)
    panel.run(wait=True)
    assert "&lt;b&gt;mine&lt;/b&gt;" in html_of(panel)
    assert "<b>" not in html_of(panel)


def test_dataset_is_what_a_record_field_says(make_panel):
    panel = make_panel(["majority"])
    panel.run(wait=True)
    assert panel.dataset.name == panel.records[0].dataset
    assert dataclasses.asdict(panel.records[0].cost)["seconds"]
