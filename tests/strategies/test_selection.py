"""Choice of a hyper-parameter on inner folds."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from frostline.monitor import Monitor
from frostline.strategies.selection import choose, inner_folds, single_fold

pytestmark = pytest.mark.slow


class TestInnerFolds:
    def stand_in(self, groups, kind="group", seed=0):
        """What `inner_folds` reads of a data set and a split: two classes, the first of every third cell."""
        n = len(groups)
        cells, labels = np.array([f"c{i}" for i in range(n)]), np.where(np.arange(n) % 3 == 0, "A", "B")
        dataset = SimpleNamespace(cells=cells, labels=labels, groups=np.array(groups))
        return dataset, SimpleNamespace(train=np.arange(n), training_seed=seed, kind=kind)

    def test_without_groups_every_class_is_spread_evenly(self, pbmc, cut):
        folds = inner_folds(pbmc, cut, 5)
        sizes = pd.crosstab(folds, pbmc.labels[cut.train])
        assert (sizes.max() - sizes.min()).max() <= 1
        assert np.ptp(sizes.sum(axis=1)) <= 1
        assert len(sizes) == 5

    def test_they_depend_on_seed_and_cells_and_not_on_the_order_of_rows(self, pbmc, cut):
        folds = inner_folds(pbmc, cut, 5)
        order = np.random.default_rng(0).permutation(len(folds))
        np.testing.assert_array_equal(
            inner_folds(pbmc, dataclasses.replace(cut, train=cut.train[order]), 5), folds[order]
        )
        assert not np.array_equal(inner_folds(pbmc, dataclasses.replace(cut, repeat=1), 5), folds)

    @pytest.mark.parametrize("kind", ["group", "cross"])
    def test_whole_groups_are_held_out_in_folds_of_similar_size(self, kind):
        groups = np.repeat(list("abcdefg"), [9, 1, 8, 2, 7, 3, 6])
        folds = inner_folds(*self.stand_in(groups, kind), 4)
        assert all(len(np.unique(folds[groups == name])) == 1 for name in "abcdefg")
        assert sorted(np.bincount(folds)) == [9, 9, 9, 9]

    def test_there_are_no_more_folds_than_groups(self):
        assert len(np.unique(inner_folds(*self.stand_in(np.repeat(["a", "b"], 20)), 5))) == 2

    @pytest.mark.parametrize(("groups", "kind"), [(["a"] * 20, "group"), (["a", "b"] * 10, "stratified")])
    def test_one_group_or_a_split_across_groups_is_stratified(self, groups, kind):
        dataset, cut = self.stand_in(groups, kind)
        expected = inner_folds(SimpleNamespace(cells=dataset.cells, labels=dataset.labels), cut, 5)
        np.testing.assert_array_equal(inner_folds(dataset, cut, 5), expected)
        assert np.bincount(expected).tolist() == [4] * 5

    def test_fewer_cells_than_folds_make_fewer_folds(self):
        assert sorted(inner_folds(*self.stand_in(["a"] * 3), 5)) == [0, 1, 2]


class TestSingleFold:
    @pytest.mark.parametrize(
        ("sizes", "held_out"),
        [([40, 40, 40], 0), ([90, 30, 10], 1), ([900, 100], 1), ([950, 30, 20], 1)],
    )
    def test_the_fold_nearest_to_a_third_is_held_out(self, sizes, held_out):
        folds = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        np.testing.assert_array_equal(single_fold(folds, 3) == 0, folds == held_out)
        assert set(single_fold(folds, 3)) == {-1, 0}


class TestChoose:
    LABELS = np.array(["A", "B", "A", "B", "rare"])

    def chosen(self, folds, sure=(0.5, 0.9, 0.7), labels=LABELS):
        """The choice among candidates that give the true class these probabilities."""

        def candidates(rows, held_out):
            classes = np.unique(labels[rows])
            for p in sure:
                hit = labels[held_out][:, None] == classes
                yield np.where(hit, p, (1 - p) / (len(classes) - 1))

        return choose([1.0, 2.0, 3.0], labels, np.array(folds), candidates, Monitor())

    def test_the_lowest_held_out_loss_wins_and_a_class_that_is_not_known_is_passed_over(self):
        assert self.chosen([0, 0, 1, 1, 1]) == 2.0

    def test_among_equals_the_strongest_regularisation_wins(self):
        assert self.chosen([0, 0, 1, 1, 1], sure=(0.5, 0.8, 0.8)) == 2.0
        assert self.chosen([0, 0, 1, 1, 1], sure=(0.0, 0.0, 0.0)) == 1.0

    def test_where_no_fold_can_be_scored_the_middle_is_taken(self):
        assert self.chosen([0, 1, 0, 1, 1], sure=(0.9, 0.5, 0.7), labels=np.array(["A", "B", "A", "B", "B"])) == 2.0

    @pytest.mark.parametrize(
        ("sure", "tried", "best"),
        [
            ((0.5, 0.9, 0.8, 0.7, 0.99), 4, 2.0),
            ((0.5, 0.9, 0.8, 0.85, 0.95), 5, 5.0),
            ((0.5, 0.6, 0.7, 0.8, 0.9), 5, 5.0),
            ((0.9, 0.8, 0.85, 0.7, 0.95), 5, 5.0),
            ((0.9, 0.8, 0.7, 0.95, 0.99), 3, 1.0),
        ],
    )
    def test_a_single_fold_is_left_after_two_rises_in_a_row(self, sure, tried, best):
        labels, folds, seen = np.array(list("ABABAB")), np.array([-1, -1, -1, -1, 0, 0]), []

        def candidates(rows, held_out):
            assert (rows.tolist(), held_out.tolist()) == ([0, 1, 2, 3], [4, 5])
            for p in sure:
                seen.append(p)
                yield np.where(labels[held_out][:, None] == ["A", "B"], p, 1 - p)

        assert choose([1.0, 2.0, 3.0, 4.0, 5.0], labels, folds, candidates, Monitor()) == best
        assert len(seen) == tried

    def test_the_mean_is_over_cells_and_not_over_folds(self):
        """Three cells want the first value, two the second."""
        labels, folds = np.array(list("ABABAB")), np.array([0, 0, 0, 1, 1, 2])

        def candidates(rows, held_out):
            for good in ({0, 1, 2}, {3, 4, 5}):
                p = np.where(np.isin(held_out, list(good)), 0.9, 0.6)
                truth = labels[held_out][:, None] == ["A", "B"]
                yield np.where(truth, p[:, None], 1 - p[:, None])

        weights = (3 * np.log(0.9) + 3 * np.log(0.6),) * 2
        assert weights[0] == weights[1]
        assert choose([1.0, 2.0], labels, folds, candidates, Monitor()) == 1.0
        folds[2] = 1  # the folds' own means would still prefer the same
        assert choose([1.0, 2.0], labels, folds, candidates, Monitor()) == 1.0
