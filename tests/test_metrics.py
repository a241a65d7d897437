"""Metrics: right by hand, in agreement with scikit-learn, None where there is nothing to measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, silhouette_score

from frostline.metrics import accuracy, macro_f1, silhouette

CELLS = st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("ABCDE")), min_size=1, max_size=40)


class TestByHand:
    def test_accuracy(self):
        assert accuracy(list("AABB"), list("ABBB")) == 0.75
        assert accuracy(["A"], ["B"]) == 0.0

    def test_macro_f1_is_the_unweighted_mean_over_classes(self):
        # A: precision 1, recall 1/2, F1 2/3; B: precision 2/3, recall 1, F1 4/5
        assert macro_f1(list("AABB"), list("ABBB")) == pytest.approx((2 / 3 + 4 / 5) / 2)

    def test_a_class_without_test_cells_does_not_enter_macro_f1(self):
        # one of two A cells is called C, of which there is no cell: F1 of A 2/3, of B 1
        assert macro_f1(list("AAB"), list("ACB")) == pytest.approx((2 / 3 + 1) / 2)

    def test_a_class_that_is_never_predicted_has_an_f1_of_zero(self):
        assert macro_f1(list("AAB"), list("AAA")) == pytest.approx((4 / 5 + 0) / 2)

    def test_a_rare_class_weighs_as_much_as_a_common_one(self):
        labels = ["A"] * 98 + ["B"] * 2
        assert accuracy(labels, ["A"] * 100) == 0.98
        assert macro_f1(labels, ["A"] * 100) < 0.5

    def test_silhouette_of_two_pairs(self):
        # points 0, 1 | 10, 12: a(0) = 1, b(0) = 11; a(1) = 1, b(1) = 10; a(10) = 2, b = 9.5; a(12) = 2, b = 11.5
        expected = np.mean([10 / 11, 9 / 10, 7.5 / 9.5, 9.5 / 11.5])
        assert silhouette(np.array([[0.0], [1.0], [10.0], [12.0]]), list("AABB")) == pytest.approx(expected)


class TestAgainstScikitLearn:
    @given(CELLS)
    def test_accuracy(self, cells):
        labels, predicted = zip(*cells, strict=True)
        assert accuracy(labels, predicted) == pytest.approx(accuracy_score(labels, predicted))

    @given(CELLS)
    def test_macro_f1_over_the_classes_present(self, cells):
        labels, predicted = zip(*cells, strict=True)
        expected = f1_score(labels, predicted, labels=sorted(set(labels)), average="macro", zero_division=0.0)
        assert macro_f1(labels, predicted) == pytest.approx(expected)

    @given(CELLS, st.integers(0, 1_000))
    def test_silhouette_where_it_is_defined(self, cells, seed):
        labels = [label for label, _ in cells]
        embedding = np.random.default_rng(seed).normal(size=(len(labels), 3))
        found = silhouette(embedding, labels)
        if 2 <= len(set(labels)) < len(labels):
            assert found == pytest.approx(silhouette_score(embedding, labels))
            assert -1 <= found <= 1
        else:
            assert found is None


class TestUndefined:
    """None, never 0: a number that does not exist is not a bad number."""

    def test_without_cells(self):
        assert accuracy([], []) is None
        assert macro_f1([], []) is None
        assert silhouette(np.empty((0, 2)), []) is None

    @pytest.mark.parametrize("labels", [["A"], ["A", "A", "A"], ["A", "B"], ["A", "B", "C"]])
    def test_silhouette_of_one_class_or_of_single_cells(self, labels):
        assert silhouette(np.random.default_rng(0).normal(size=(len(labels), 2)), labels) is None

    def test_results_are_plain_floats(self):
        for value in (
            accuracy(list("AB"), list("AB")),
            macro_f1(list("AB"), list("AB")),
            silhouette(np.eye(4)[:, :2], list("AABB")),
        ):
            assert type(value) is float


@given(CELLS, st.integers(0, 1_000))
def test_the_order_of_cells_does_not_matter(cells, seed):
    order = np.random.default_rng(seed).permutation(len(cells))
    labels, predicted = map(list, zip(*cells, strict=True))
    shuffled = [labels[i] for i in order], [predicted[i] for i in order]
    assert accuracy(*shuffled) == pytest.approx(accuracy(labels, predicted))
    assert macro_f1(*shuffled) == pytest.approx(macro_f1(labels, predicted))


def test_numpy_strings_are_labels_too():
    labels, predicted = np.array(["B cell", "T"]), np.array(["B cell", "B cell"])
    assert accuracy(labels, predicted) == 0.5
    assert macro_f1(labels, predicted) == pytest.approx(1 / 3)
