"""Places and names of labels, and that a cell's result does not depend on how many are read at once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from kept_models import islet_model, islets
from scipy import sparse

from frostline.annotation import labelling
from frostline.annotation.labelling import (
    Found,
    counted,
    landmarks_of,
    names_in,
    shift_of,
    summary_of,
    unique_names,
    watched_of,
)
from frostline.annotation.refitting import read_query
from frostline.cells.queries import open_cells

CLASSES = ("B", "T", "NK")


def test_watched_cells_lie_evenly_from_the_first_to_the_last(monkeypatch):
    monkeypatch.setattr(labelling, "MOST", 5)
    assert watched_of(0).tolist() == []
    assert watched_of(3).tolist() == [0, 1, 2]
    assert watched_of(9).tolist() == [0, 2, 4, 6, 8]


def test_names_by_place_end_with_that_of_unknown():
    answers = [CLASSES, ("B", "T"), ("NK",)]
    assert names_in(CLASSES, answers) == {
        "": ["B", "T", "NK", "Unknown"],
        "_second": ["B", "T", "NK", ""],
        "_set": ["Unknown", "B | T", "NK", "Unknown"],
        "_reason": ["", "low confidence", "far from training", "too few genes"],
    }


def test_names_that_stand_twice_are_one():
    unique, place = unique_names(["Unknown", "B", "Unknown", "T"])
    assert (unique, place.tolist()) == (["Unknown", "B", "T"], [0, 1, 0, 2])
    made = labelling._named(["Unknown", "B", "Unknown"], np.array([-1, 0, 1]))
    assert (made.tolist(), made.categories.tolist()) == (["Unknown", "Unknown", "B"], ["Unknown", "B"])


def test_pieces_are_those_of_the_rows_of_the_query(monkeypatch):
    monkeypatch.setattr(labelling, "PIECE", 4)
    pieces = labelling._pieces(np.array([0, 3, 4, 7, 12]))
    assert [piece.tolist() for piece in pieces] == [[0, 3], [4, 7], [12]]
    assert list(labelling._pieces(np.array([], dtype=int))) == []


def test_a_summary_counts_labels_and_reasons():
    counts = {"": counted(np.array([-1, 0, 0, 2, 0, -1])), "_reason": counted(np.array([2, 0, 0, 1, 0, 3]))}
    assert summary_of(CLASSES, counts, 0.05) == {
        "alpha": 0.05,
        "classes": ["B", "T", "NK"],
        "labels": ["B", "Unknown", "NK"],
        "cells": [3, 2, 1],
        "reasons": {"low confidence": 1, "far from training": 1, "too few genes": 1},
    }


def test_a_model_that_keeps_no_cells_says_nothing_of_a_shift():
    assert shift_of(CLASSES, {}, None) is None


@pytest.fixture(scope="module")
def found_by():
    """Label all cells of the islets, so many at once, of which the first one expresses nothing."""
    adata = islets().adata.copy()
    adata.X = sparse.diags_array(np.arange(len(adata)) > 0, dtype=np.float32).tocsr() @ adata.X

    def found(chunk: int) -> Found:
        with pytest.MonkeyPatch.context() as patch, open_cells(adata) as query:
            patch.setattr(labelling, "PIECE", 32)
            return Found.of(read_query(islet_model(), query), query, watched_of(len(query)), chunk=chunk)

    return found


def test_a_result_does_not_depend_on_how_many_cells_are_read_at_once(found_by):
    few, all_of_them = found_by(1), found_by(10_000)
    for name in ("p_known", "confidence", "best", "sets", "reasons"):
        assert getattr(few, name).tobytes() == getattr(all_of_them, name).tobytes()
    assert few.probabilities.array().tobytes() == all_of_them.probabilities.array().tobytes()
    assert few.answers == all_of_them.answers
    assert np.array_equal(few.watch["features"], all_of_them.watch["features"], equal_nan=True)


def test_labels_are_the_largest_probabilities_and_a_cell_without_genes_has_none(found_by):
    found = found_by(10_000)
    p = found.probabilities.array()
    assert np.isnan(p[0]).all()
    assert (found.reasons[0], found.best[0].tolist()) == (labelling.FEW, [-1, -1])
    assert {end: int(places[0]) for end, places in found.places.items()} == {
        "": -1,
        "_second": -1,
        "_set": -1,
        "_reason": labelling.FEW,
    }
    assert np.array_equal(found.best[1:, 0], p[1:].argmax(axis=1))
    assert np.allclose(found.confidence[1:], p[1:].max(axis=1), rtol=1e-6)
    right = np.array(found.classes)[found.best[1:, 0]] == islets().labels[1:]
    assert right.mean() > 0.95  # cells that it was fitted on


def test_landmarks_are_reference_cells_with_their_labels():
    with open_cells(islets().adata) as query:
        reading = read_query(islet_model(), query)
    found = landmarks_of(reading)
    assert found.features.shape == (len(reading.reference()), 10)
    assert set(found.labels) == set(islets().labels)
    assert set(found.groups) <= set(islets().groups)


@pytest.mark.parametrize("distinguished", [True, False])
def test_a_query_of_other_shares_of_the_same_classes_does_not_differ(distinguished):
    """Three of four cells are of A in the training data and of B in the query; where the model cannot tell, it does."""
    rng = np.random.default_rng(0)
    sides = []
    for shares in ((300, 100), (100, 300)):
        kinds = np.repeat([0, 1], shares)
        sides.append((kinds, rng.normal(size=(400, 5)) + 5 * kinds[:, None]))
    (known, reference), (best, query) = sides
    landmarks = SimpleNamespace(features=reference, labels=np.array(["A", "B"])[known], groups=None)
    watch = {"reasons": np.zeros(400), "best": best if distinguished else 0 * best, "features": query}
    assert shift_of(["A", "B"], watch, landmarks).differs is not distinguished
