"""Recipes: where phases end, what settings are refused, and the objective in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_pretraining import FIRST, SECOND, SMALL

from frostline.errors import FrostlineError

pytestmark = pytest.mark.slow


def test_the_objective_in_words_names_what_differs_between_phases():
    words = replace(SMALL, phases=(FIRST, replace(SECOND, contrast_weight=0.0))).objective
    assert words.startswith("mean squared error of 8 then 5 principal components")
    assert "means over 0 then 4 neighbours" in words
    assert "+ 0.5 x MVC, + 0.3 then 0 x InfoNCE" in words


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        (SMALL, {"d_model": 15}),
        (SMALL, {"phases": ()}),
        (FIRST, {"subset_sizes": ()}),
        (FIRST, {"batch_cells": 1}),
        (FIRST, {"steps": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, change):
    with pytest.raises(FrostlineError, match=next(iter(change))):
        replace(settings, **change)


def test_the_least_that_makes_sense_is_taken():
    least = replace(FIRST, steps=1, subset_sizes=(1,), batch_cells=2)
    assert replace(SMALL, phases=(least,)).steps == 1
    with pytest.raises(FrostlineError, match=r"positive numbers of genes, got \(8, 0\)"):
        replace(FIRST, subset_sizes=(8, 0))


@pytest.mark.parametrize(("steps", "ends"), [(40, (24, 40)), (80, (48, 80)), (10, (6, 10)), (2, (1, 2)), (1, (1, 1))])
def test_phases_of_24_and_16_steps_end_in_proportion(steps, ends):
    assert SMALL.steps == 24 + 16
    assert SMALL.ends(steps) == ends
