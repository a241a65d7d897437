"""What a model says of itself."""

from __future__ import annotations

import dataclasses

import frostline


def test_text_and_html_tell_the_same_facts(kept):
    text, html = repr(kept), kept._repr_html_()
    for said in (
        "Model pca_logistic of 3 classes",
        "150 cells of three kinds, labels in bulk_labels, no groups",
        "reads 120 of 120",
        kept.calibration.certificate.sentence,
        "in 5 folds of cells",
        "30, as normalised values" if not kept.reference.counted else "30, as counts",
    ):
        assert said in text
        assert said in html


def test_it_is_said_where_no_cell_can_be_called_unknown(kept):
    assert "unknown cells" not in repr(kept)
    strict = dataclasses.replace(kept, calibration=dataclasses.replace(kept.calibration, alpha=0.01))
    for text in (repr(strict), strict._repr_html_()):
        assert "No cell can be called unknown: beside 150 labelled cells" in text
        assert "About 300 labelled cells would do" in text


def test_names_of_users_are_shown_as_text(kept):
    card = {**kept.card, "dataset": {**kept.card["dataset"], "name": "<b>x</b>\n"}}
    odd = dataclasses.replace(kept, card=card)
    assert "<b>" not in odd._repr_html_()
    assert "cells of <b>x</b>" in repr(odd)
    assert all(line.startswith(("Model", "  ")) for line in repr(odd).splitlines())


def test_a_model_is_saved_and_loaded_at_the_top(kept, tmp_path):
    folder = kept.save(tmp_path / "model")
    assert frostline.load_model(folder).classes == kept.classes
