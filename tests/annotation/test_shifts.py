"""Two-sample test between the training data and a query."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline.annotation import shifts
from frostline.annotation.shifts import FEWEST, Shift, auroc_with_error, compare


@pytest.fixture(scope="module")
def cells():
    return np.random.default_rng(0).normal(size=(900, 12))


class TestAuroc:
    def test_is_that_of_scikit_learn_ties_too(self):
        draw = np.random.default_rng(1)
        below, above = draw.integers(6, size=50), draw.integers(9, size=70)
        expected = roc_auc_score(np.repeat([0, 1], [50, 70]), np.concatenate([below, above]))
        assert auroc_with_error(below, above)[0] == pytest.approx(expected)

    def test_error_is_the_spread_over_samples(self):
        draw = np.random.default_rng(2)
        found = [auroc_with_error(draw.normal(size=60), draw.normal(1, size=60)) for _ in range(400)]
        values, errors = np.array(found).T
        assert values.mean() == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.01)
        assert errors.mean() == pytest.approx(values.std(), rel=0.12)


def test_scores_rank_unseen_cells_as_ridge_regression_of_scikit_learn_does(cells):
    draw = np.random.default_rng(3)
    x = cells @ draw.normal(size=(12, 12))
    side = np.repeat([0, 1], 450)
    x[side == 1] += 0.3 * draw.normal(size=12)
    scores, fold = shifts._scores(x, side), np.arange(900) % shifts.FOLDS
    for i in range(shifts.FOLDS):
        seen = fold != i
        ridge = make_pipeline(PCA(), StandardScaler(), Ridge(alpha=shifts.PENALTY))
        expected = ridge.fit(x[seen], 2.0 * side[seen] - 1).predict(x[~seen]) - (2 * side[seen] - 1).mean()
        np.testing.assert_allclose(scores[~seen], expected, atol=1e-9)


class TestCompare:
    def test_cells_alike_do_not_differ_and_the_error_still_holds(self, cells):
        found = compare(cells[:450], cells[450:])
        assert not found.differs
        assert found.low < 0.55
        assert "is like the training data" in found.sentence

    def test_shifted_cells_differ_and_the_notice_is_given(self, cells):
        query = cells[450:] + 0.7
        found = compare(cells[:450], query)
        assert found.differs
        # the best that any classifier could do, were the shift known
        best = norm.cdf(0.7 * np.sqrt(12) / np.sqrt(2))
        assert best - 0.06 < found.auroc < best + 0.03
        assert found.sentence.startswith(
            "This query differs from the training data: the stated error does not hold (a classifier"
        )

    def test_few_cells_are_not_enough_to_tell(self, cells):
        found = compare(cells[:450], cells[450 : 450 + FEWEST - 1] + 9)
        assert (found.auroc, found.low, found.high, found.differs) == (None, None, None, False)
        assert f"{FEWEST - 1} comparable cells are too few" in found.sentence

    def test_an_interval_on_both_sides_of_the_limit_is_no_finding(self, cells):
        found = compare(cells[:450], cells[450:475] + 0.42)
        assert not found.differs
        assert "do not show whether" in found.sentence

    def test_the_same_seed_gives_the_same_and_the_query_may_be_larger(self, cells):
        first, again = (compare(cells[:200], cells[200:] + 0.3, seed=4) for _ in range(2))
        assert (first.auroc, first.low) == (again.auroc, again.low)
        assert first.n == 200

    def test_other_shares_of_the_same_kinds_are_no_difference(self, cells):
        kinds = np.where(np.arange(900) % 3 == 0, "B", "T")
        x = cells + np.where(kinds == "B", 4.0, 0.0)[:, None]
        reference, query = (
            np.flatnonzero(np.arange(900) < 450),
            np.flatnonzero((np.arange(900) >= 450) & (kinds == "B")),
        )
        assert compare(x[reference], x[query]).differs
        found = compare(x[reference], x[query], kinds=(kinds[reference], kinds[query]))
        assert not found.differs
        assert found.n == 150

    def test_a_query_that_differs_no_more_than_training_donors_do_is_no_alarm(self, cells):
        donors = np.repeat(["a", "b", "c"], 200)
        x = cells.copy()
        x[:200, 0] += 4
        x[200:400, 1] += 4
        x[600:, 2] += 3
        alone, among = compare(x[400:600], x[600:]), compare(x[:600], x[600:], groups=donors)
        assert alone.differs
        assert among.usual > 0.9
        assert not among.differs
        assert f"of up to {among.usual:.2f}" in among.sentence

    def test_of_many_groups_each_may_be_among_those_that_are_tried(self, cells, monkeypatch):
        """Of four donors one is apart; whether it is among the two is a matter of the draw, and not of its name."""
        monkeypatch.setattr(shifts, "GROUPS", 2)
        donors = np.repeat(list("abcd"), 30)
        for odd in "ad":
            x = cells[:150, :3].copy()
            x[:120][donors == odd, 0] += 6
            found = [compare(x[:120], x[120:], seed=seed, groups=donors).usual > 0.9 for seed in range(6)]
            assert 0 < sum(found) < 6

    def test_one_dimension_and_cells_that_are_all_alike(self, cells):
        assert compare(cells[:100, :1], cells[100:200, :1] + 3).differs
        assert not compare(np.zeros((50, 3)), np.zeros((50, 3))).differs


def test_groups_that_differ_among_themselves_are_named_as_the_measure():
    """An interval above a half is no likeness; it is no more than what the labelled groups show."""
    alike = Shift(0.72, 0.56, 0.88, False, usual=0.6, n=23)
    assert alike.sentence.startswith("These cells do not show whether")
    apart = replace(alike, usual=0.98)
    assert apart.sentence.startswith(
        "This query is not shown to differ from the training data more than their own groups"
    )
    assert replace(alike, high=shifts.LIMIT, usual=None).sentence.startswith("This query is like the training data")
    assert replace(alike, high=0.65).sentence.startswith("This query is like the training data")
