"""Two simulated worlds with a known truth: claims are as rare as promised, and intervals hold what they say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def worlds():
    """The benchmark behind `make statistics`."""
    path = Path(__file__).parents[1] / "benchmarks" / "worlds.py"
    spec = importlib.util.spec_from_file_location("worlds", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["worlds"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["worlds"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["6 groups, 2 alike", "143 cells (100, 30, 10, 3), 2 alike"])
def test_claims_and_intervals_keep_their_promise(worlds, monkeypatch, name):
    monkeypatch.setattr(worlds, "TRUTH_STUDIES", 40)
    (scenario,) = [scenario for scenario in worlds.scenarios(1) if scenario.name == name]
    row = worlds.counted(scenario, 25)
    assert row.problems == []
    assert row.held >= 0.85
    assert row.untested == 0


@pytest.mark.slow
def test_broken_promises_are_counted(worlds, monkeypatch):
    """As if the cells of the only donor that tested were independent evidence about donors."""
    monkeypatch.setattr(worlds, "TRUTH_STUDIES", 40)
    (scenario,) = [scenario for scenario in worlds.scenarios(1) if scenario.name == "4 groups, 1 repeat, 2 alike"]

    def pooled():
        study = scenario.make()
        study.kind = "cross"
        for part in study.splits:
            part.groups = None
        return study

    row = worlds.counted(worlds.Scenario("cells", "of groups", pooled, scenario.learners), 25)
    assert {"false claims", "intervals of differences"} & set(row.problems)
    assert "intervals of strategies" in row.problems


def test_the_page_holds_a_table_of_every_design(worlds):
    page = worlds.PAGE.read_text("utf-8")
    before, after = (page.index(mark) for mark in worlds.MARKS)
    shown = page[before:after]
    for scenario in worlds.scenarios(1):
        assert f"| {scenario.design} | {scenario.world} |" in shown
