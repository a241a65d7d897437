"""Metrics: right by hand, in agreement with scikit-learn, None where there is nothing to measure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
    silhouette_score,
)

from frostline.evaluation.metrics import (
    METRICS,
    accuracy,
    balanced_accuracy,
    chosen_metrics,
    class_auroc,
    class_table,
    false_positive_rate,
    kappa,
    knn_purity,
    macro_f1,
    mcc,
    prediction_metrics,
    separation,
    silhouette,
    weighted_f1,
)

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

    @given(CELLS)
    def test_the_means_of_recall_and_f1(self, cells):
        labels, predicted = zip(*cells, strict=True)
        present = sorted(set(labels))
        recall = recall_score(labels, predicted, labels=present, average="macro", zero_division=0.0)
        assert balanced_accuracy(labels, predicted) == pytest.approx(recall)
        weighted = f1_score(labels, predicted, labels=present, average="weighted", zero_division=0.0)
        assert weighted_f1(labels, predicted) == pytest.approx(weighted)

    @given(CELLS)
    def test_correlation_and_kappa_where_they_are_defined(self, cells):
        labels, predicted = zip(*cells, strict=True)
        if len(set(labels)) > 1 and len(set(predicted)) > 1:
            assert mcc(labels, predicted) == pytest.approx(matthews_corrcoef(labels, predicted))
        else:
            assert mcc(labels, predicted) is None
        if len({*labels, *predicted}) > 1:
            assert kappa(labels, predicted) == pytest.approx(cohen_kappa_score(labels, predicted))
        else:
            assert kappa(labels, predicted) is None

    @given(CELLS)
    def test_the_table_of_classes(self, cells):
        labels, predicted = zip(*cells, strict=True)
        classes = list("ABCDE")
        table = class_table(labels, predicted, classes)
        precision, recall, f1, support = precision_recall_fscore_support(
            labels, predicted, labels=classes, zero_division=0.0
        )
        assert table["support"].tolist() == support.tolist()
        for i, name in enumerate(classes):
            row = table.iloc[i]
            assert (row["precision"] is pd.NA) == (name not in predicted)
            assert (row["recall"] is pd.NA) == (row["f1"] is pd.NA) == (name not in labels)
            for key, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
                assert row[key] is pd.NA or row[key] == pytest.approx(expected[i])

    @pytest.mark.parametrize("seed", range(3))
    def test_auroc_one_against_the_rest(self, seed):
        rng = np.random.default_rng(seed)
        labels = rng.choice(list("ABC"), 60)
        probabilities = rng.dirichlet(np.ones(3), 60) + 0.3 * (labels[:, None] == np.array(list("ABC")))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro", labels=list("ABC"))
        assert prediction_metrics(labels, probabilities, list("ABC"))["auroc"] == pytest.approx(expected)

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


class TestNeighbours:
    def test_purity_by_a_plain_loop(self):
        rng = np.random.default_rng(0)
        points, labels = rng.normal(size=(60, 3)), rng.choice(list("AB"), 60)
        shares = []
        for i in range(60):
            others = sorted((j for j in range(60) if j != i), key=lambda j: np.linalg.norm(points[i] - points[j]))[:15]
            shares.append(np.mean([labels[j] == labels[i] for j in others]))
        assert knn_purity(points, labels) == pytest.approx(np.mean(shares))

    def test_fewer_than_sixteen_cells_use_all_others(self):
        assert knn_purity(np.arange(4.0)[:, None], list("AAAB")) == pytest.approx((2 / 3 * 3 + 0) / 4)

    def test_undefined_for_one_class_one_cell_or_one_place(self):
        assert knn_purity(np.eye(3), list("AAA")) is None
        assert knn_purity(np.eye(1), ["A"]) is None
        assert knn_purity(np.zeros((4, 2)), list("AABB")) is None
        assert silhouette(np.zeros((4, 2)), list("AABB")) is None


class TestSeparation:
    def test_undefined_with_one_kind_of_cell(self):
        scores = np.array([0.1, 0.2])
        for positive in (np.array([True, True]), np.array([False, False])):
            assert separation(scores, positive) is None
            assert false_positive_rate(scores, positive) is None

    def test_the_false_positive_rate_by_trying_all_thresholds(self):
        rng = np.random.default_rng(0)
        positive = rng.random(200) < 0.3
        scores = rng.normal(size=200) + positive
        limits = [t for t in scores if (scores[positive] >= t).mean() >= 0.95]
        expected = (scores[~positive] >= max(limits)).mean()
        assert false_positive_rate(scores, positive) == pytest.approx(expected)

    @pytest.mark.parametrize("n", [1, 5, 19, 20, 21, 100])
    def test_the_recall_is_reached_and_not_overshot_by_a_cell(self, n):
        scores = np.concatenate([np.arange(n) + 100.0, [0.0]])
        positive = np.arange(n + 1) < n
        limit = scores[positive][np.argsort(-scores[positive])][int(np.ceil(0.95 * n - 1e-9)) - 1]
        assert (scores[positive] >= limit).mean() >= 0.95
        assert false_positive_rate(scores, positive) == 0.0

    def test_an_absent_class_has_no_auroc_and_does_not_enter_the_mean(self):
        probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
        assert class_auroc(list("ABA"), probabilities, list("ABC")) == [1.0, 1.0, None]
        assert prediction_metrics(list("ABA"), probabilities, list("ABC"))["auroc"] == 1.0
        assert prediction_metrics(list("AAA"), probabilities, list("ABC"))["auroc"] is None


class TestTogether:
    def test_every_metric_has_a_name_in_the_list_and_none_is_missing(self):
        p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        found = {**prediction_metrics(list("ABA"), p, "AB"), **chosen_metrics(list("ABA"), p, list("ABA"), p, "AB")}
        assert {*found, "silhouette", "knn_purity"} == set(METRICS)

    def test_without_validation_cells_nothing_is_chosen(self):
        p = np.array([[0.9, 0.1]])
        assert set(chosen_metrics(["A"], p, [], None, "AB").values()) == {None}
        assert set(chosen_metrics(["A"], p, [], np.empty((0, 2)), "AB").values()) == {None}

    def test_a_validation_cell_of_an_untrained_class_does_not_drive_the_temperature(self):
        rng = np.random.default_rng(0)
        known = rng.choice(list("AB"), 80)
        p = np.clip(0.5 + 0.3 * (known == "A")[:, None] * [1, -1] + rng.normal(0, 0.1, (80, 1)) * [1, -1], 0.01, 0.99)
        p = np.hstack([p / p.sum(axis=1, keepdims=True), np.zeros((80, 1))])
        alone = chosen_metrics(known, p, known, p, "ABC")["temperature"]
        more, q = [*known, *"CCCC"], np.vstack([p, p[:4]])
        assert chosen_metrics(known, p, more, q, "ABC")["temperature"] == pytest.approx(alone)

    def test_the_worst_predictions_have_no_warnings_and_no_zeros_for_the_undefined(self):
        found = prediction_metrics(["A"], np.array([[1.0, 0.0]]), "AB")
        assert (found["accuracy"], found["macro_f1"], found["ece"]) == (1.0, 1.0, 0.0)
        assert (found["mcc"], found["kappa"], found["auroc"]) == (None, None, None)
