"""What a run will be: strategies, settings and what is said of them before anything is run."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from panel_parts import box, button, control, html_of, row_of, rows, said, tab

import frostline
from frostline.errors import FrostlineError
from frostline.panels.base import walk
from frostline.strategies import STRATEGIES, FrozenProbe

pytestmark = pytest.mark.usefixtures("instant_umap_throughout", "instant_pictures_throughout", "short_training")


OFFERED = [name for name in STRATEGIES if name != "probe_obsm"]
"""Of a data set without an embedding of its own."""


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


def test_every_control_has_a_label_and_a_tooltip(make_panel):
    panel = make_panel()
    panel.settle(60)
    controls = [w for w in walk(panel) if hasattr(w, "disabled") and hasattr(w, "description")]
    assert len(controls) > 25
    assert [type(w).__name__ for w in controls if not w.description] == []
    assert [w.description for w in controls if not w.tooltip] == []


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
