"""Seconds that are promised: each strategy is timed once for what it depends on."""

from __future__ import annotations

import pytest
from panel_parts import box, control, row_of, rows

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


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
