"""The card of a model: plain values, and what must be said of it."""

from __future__ import annotations

import importlib.metadata

from frostline.annotation.adapting import keep
from frostline.annotation.cards import versions


def test_versions_are_those_that_are_installed():
    assert versions()["torch"] == importlib.metadata.version("torch")
    assert "scikit-learn" in versions()


def test_it_tells_the_data_the_folds_and_what_the_verdict_says(kept, three_kinds, compared):
    card = kept.card
    assert card["dataset"]["classes"] == three_kinds.summary()["cells"].sort_index().to_dict()
    assert card["dataset"]["groups"] is None
    assert (card["fit"]["kind"], card["fit"]["seed"], card["fit"]["profile"]["name"]) == (
        "stratified",
        42,
        "quickstart",
    )
    assert card["verdict"] == compared.verdict
    assert card["checkpoint"] is None
    assert card["notes"] == [note for note in compared.of("pca_logistic")[0].notes if note]
    assert card["chosen"] == kept.strategy.chosen


def test_a_choice_that_the_verdict_does_not_support_is_said(three_kinds, instant_umap):
    import frostline

    record = frostline.evaluate(frostline.strategies.PcaKnn(), three_kinds, frostline.split(three_kinds))
    model = keep(frostline.compare([record]), three_kinds, reference_cells=0)
    assert model.card["notes"][0] == "The verdict supports no choice yet; pca_knn was kept."
