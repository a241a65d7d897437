"""Stated error: bounds, sequences of thresholds, groups, sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binom, binomtest

from frostline.annotation.certificates import Certificate, certify, group_bound, needed, upper_bound


def world(draw, n, *, wrong=0.0):
    """Confidences, and whether the answers are right, which they are as often as the confidence says."""
    confidence = 1 - 0.7 * draw.beta(0.3, 3, size=n)
    return confidence, draw.random(n) < confidence - wrong


class TestBound:
    @pytest.mark.parametrize(("errors", "n"), [(0, 45), (1, 45), (7, 200), (200, 200)])
    def test_is_that_of_scipy(self, errors, n):
        expected = binomtest(errors, n, alternative="less").proportion_ci(0.9, "exact").high
        assert upper_bound(errors, n) == pytest.approx(expected)

    def test_cells_that_are_needed_without_an_error(self):
        assert [needed(0.95, 0.1), needed(0.9, 0.1), needed(0.99, 0.05)] == [45, 22, 299]
        assert upper_bound(0, 45) <= 0.05 < upper_bound(0, 44)


class TestGroups:
    def test_groups_that_are_alike_cost_little_and_groups_that_are_not_cost_much(self):
        wrong = np.arange(1000) < 30
        alike, apart = np.arange(1000) % 10, np.arange(1000) // 100
        plain = upper_bound(30, 1000)
        assert plain < group_bound(wrong, alike) < 0.05 < group_bound(wrong, apart)

    def test_by_hand(self):
        # three groups of 100, with 2, 4 and 6 errors: share .04, variance 3/2 * (2**2 + 0 + 2**2) / 300**2
        wrong = np.concatenate([np.arange(100) < k for k in (2, 4, 6)])
        effective = 0.04 * 0.96 / (1.5 * 8 / 300**2)
        effective = min(300, effective) * (1.284421 / 1.885618) ** 2  # of Student's t with 299 and 2 degrees
        assert group_bound(wrong, np.repeat([1, 2, 3], 100)) == pytest.approx(
            upper_bound(0.04 * effective, effective), rel=1e-4
        )

    def test_a_group_with_most_of_the_cells_by_hand(self):
        """2,000 cells of one donor, 50 wrong, and 30 of each of six, 3 wrong: most donors are wrong in a tenth."""
        wrong = np.concatenate([np.arange(2000) < 50, *[np.arange(30) < 3] * 6])
        donors = np.repeat(range(7), [2000, *[30] * 6])
        without = np.array([wrong[donors != donor].mean() for donor in range(7)])
        variance = 6 / 7 * ((without - wrong.mean()) ** 2).sum()
        effective = wrong.mean() * (1 - wrong.mean()) / variance
        effective *= (stats.t.ppf(0.9, 2179) / stats.t.ppf(0.9, 6)) ** 2
        assert group_bound(wrong, donors) == pytest.approx(upper_bound(wrong.mean() * effective, effective), rel=1e-9)
        assert group_bound(wrong, donors) > 0.3

    def test_the_promise_is_kept_where_one_group_has_most_of_the_cells(self):
        draw = np.random.default_rng(0)
        donors = np.repeat(range(5), [2000, 20, 30, 40, 60])
        broken = [group_bound(draw.random(2150) < draw.beta(1.1, 18.9, 5)[donors], donors) < 0.05 for _ in range(300)]
        assert np.mean(broken) < 0.15  # the error of donors is .055 on average

    def test_one_group_shows_nothing(self):
        assert group_bound(np.full(500, False), np.zeros(500)) == 1.0

    def test_the_promise_to_other_groups_is_kept(self):
        draw = np.random.default_rng(0)
        broken = []
        for _ in range(300):
            rates = draw.beta(0.05 * 12, 0.95 * 12, size=8)  # error of each donor, .05 on average
            wrong = draw.random((8, 60)) < rates[:, None]
            broken.append(
                [group_bound(wrong.ravel(), np.repeat(range(8), 60)) < 0.05, upper_bound(wrong.sum(), 480) < 0.05]
            )
        over_groups, over_cells = np.mean(broken, axis=0)
        assert over_groups < 0.2 < over_cells  # cells of a donor are not independent


class TestCertify:
    def test_fewer_than_45_cells_cannot_be_certified_even_without_an_error(self):
        few = certify(np.full(44, 0.99), np.full(44, True))
        assert (few.threshold, few.bound, few.answered) == (None, None, 0)
        assert "cannot be certified: 44 labelled cells" in few.sentence
        assert "fewer than 45" in few.sentence
        assert certify(np.full(45, 0.99), np.full(45, True)).threshold == 0.99

    def test_no_confidence_reaches_it(self):
        draw = np.random.default_rng(0)
        found = certify(draw.random(500), draw.random(500) < 0.8)
        assert found.threshold is None
        assert "at no confidence do the 500 labelled cells show that 95 %" in found.sentence

    def test_no_cells(self):
        found = certify(np.array([]), np.array([], dtype=bool))
        assert (found.threshold, found.curve) == (None, ())
        assert "cannot be certified" in found.sentence

    def test_what_it_says_is_counted(self):
        confidence, right = world(np.random.default_rng(1), 800)
        found = certify(confidence, right)
        answered = confidence >= found.threshold
        assert (found.n, found.answered, found.errors) == (800, answered.sum(), (~right[answered]).sum())
        assert found.bound == pytest.approx(upper_bound(found.errors, found.answered))
        assert found.bound <= 0.05
        assert f"of {found.answered} such cells among 800" in found.sentence
        assert "for other cells of the same origin" in found.sentence

    def test_cells_of_equal_confidence_are_answered_together(self):
        confidence = np.repeat([0.9, 0.6], [300, 300])
        right = np.concatenate([np.arange(300) >= 3, np.arange(300) >= 60])
        found = certify(confidence, right)
        assert (found.threshold, found.answered, found.errors) == (0.9, 300, 3)

    def test_the_promise_is_kept_as_often_as_stated_though_many_thresholds_are_tried(self):
        """The error is just too large at every threshold: whatever is certified breaks the promise."""
        draw, broken, carelessly = np.random.default_rng(2), 0, 0
        for _ in range(300):
            found = certify(1 - 0.7 * draw.beta(0.5, 2, size=500), draw.random(500) >= 0.051)
            broken += found.threshold is not None
            carelessly += any(least >= 0.95 for _, _, least in found.curve)
        assert binom.sf(broken - 1, 300, 0.1) > 0.01
        assert carelessly / 300 > 0.25  # the smallest threshold whose bound holds

    def test_it_answers_most_of_what_could_be(self):
        draw = np.random.default_rng(3)
        answered = [certify(*world(draw, 500)).answered / 500 for _ in range(50)]
        assert np.mean(answered) > 0.75  # .9 of the cells could be, were the errors known

    def test_groups_make_it_more_careful_and_change_the_claim(self):
        confidence, right = world(np.random.default_rng(4), 600)
        donors = np.array([f"d{i % 6}" for i in range(600)])
        over_cells, over_groups = certify(confidence, right), certify(confidence, right, groups=donors)
        assert over_groups.groups == 6
        assert over_groups.threshold is None or over_groups.answered <= over_cells.answered
        assert "for other groups like these" in over_groups.sentence
        two = certify(confidence, right, groups=donors[np.argsort(donors)] < "d3")
        assert two == over_cells

    def test_a_donor_on_whom_it_errs_cannot_be_averaged_away(self):
        confidence, right = np.full(400, 0.99), np.full(400, True)
        right[:12] = False
        donors = np.repeat(["a", "b", "c", "d"], 100)
        assert certify(confidence, right).threshold == 0.99
        assert certify(confidence, right, groups=donors).threshold is None

    def test_facts_survive_json(self):
        confidence, right = world(np.random.default_rng(1), 300)
        found = certify(confidence, right)
        assert found.curve
        assert Certificate.from_facts(json.loads(json.dumps(found.facts()))) == found
