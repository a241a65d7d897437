"""Hyper-parameters: every field has a control, and what is refused leaves the value before."""

from __future__ import annotations

import pytest
from panel_parts import control, html_of

from frostline.panels.base import walk
from frostline.strategies import STRATEGIES

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


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
