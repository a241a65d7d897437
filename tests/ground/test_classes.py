"""Probabilities by the position of their class, beside scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import special

from frostline.classes import class_numbers, over_all_classes, softmax

LOGITS = st.floats(-1e4, 1e4)


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=LOGITS))
def test_softmax_is_scipy_s(scores):
    np.testing.assert_array_equal(softmax(scores), special.softmax(scores, axis=1))


def test_what_is_ruled_out_has_no_probability():
    assert softmax(np.array([[0.0, -np.inf, 0.0]])).tolist() == [[0.5, 0.0, 0.5]]


def test_an_unknown_label_has_no_number():
    assert class_numbers(["b", "a", "b"], ["a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(KeyError, match="c"):
        class_numbers(["c"], ["a", "b"])


def test_classes_that_are_not_known_get_nothing():
    assert over_all_classes(np.array([[0.25, 0.75]]), ["a", "c"], ["a", "b", "c"]).tolist() == [[0.25, 0.0, 0.75]]
