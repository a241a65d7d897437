"""Units, intervals and paired tests: against scipy, statsmodels and scikit-learn, by hand, and in simulated worlds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from frostline.comparison.corrections import holm, mcnemar
from frostline.comparison.grounds import RELEVANT, Ground, Interval, PairedTest, Repeat
from frostline.comparison.resampling import DRAWS, SWAPS
from frostline.comparison.significance import paired_tests, score_intervals


def draw(rng, n, accuracy, classes=("B", "NK", "T")):
    """Labels, and predictions that are right with the given probability."""
    labels = rng.choice(classes, n)
    return labels, np.where(rng.random(n) < accuracy, labels, rng.choice(classes, n))


def of_repeat(labels, said, *, prefix="cell", n_train=10**9, **changes):
    labels = np.asarray(labels)
    predictions = {name: np.asarray(predicted) for name, predicted in said.items()}
    return Repeat([f"{prefix}-{i}" for i in range(len(labels))], labels, predictions, n_train, **changes)


def one_split(labels, **said):
    return Ground.of("stratified", [of_repeat(labels, said)])


def splits(rng, n_splits, *accuracies, n=80, n_train=240):
    parts = []
    for r in range(n_splits):
        labels, _ = draw(rng, n, 1.0)
        said = {f"s{i}": np.where(rng.random(n) < q, labels, "B") for i, q in enumerate(accuracies)}
        parts.append(of_repeat(labels, said, prefix=str(r), n_train=n_train))
    return Ground.of("stratified", parts)


class TestUnits:
    def groups(self, n_groups, kind="group", **changes):
        labels = ["B", "T"] * 10
        names = np.repeat([f"d{i}" for i in range(n_groups)], 20)
        part = of_repeat(labels * n_groups, {"x": labels * n_groups}, groups=names, **changes)
        return Ground.of(kind, [part])

    @pytest.mark.parametrize(("n_groups", "unit"), [(1, "none"), (2, "none"), (3, "groups"), (8, "groups")])
    def test_fewer_than_three_groups_say_nothing_about_others(self, n_groups, unit):
        for kind in ("group", "cross"):
            ground = self.groups(n_groups, kind)
            assert (ground.unit, ground.n_units) == (unit, n_groups)
            assert ground.estimand == ("donors" if unit == "groups" else "pooled")

    def test_the_score_of_a_group_is_over_the_classes_that_it_has(self):
        labels = np.array(["B"] * 10 + ["T"] * 10 + ["NK"] * 20 + ["B"] * 12)
        said = np.array(["B"] * 10 + ["T"] * 5 + ["NK"] * 5 + ["NK"] * 20 + ["T"] * 12)
        names = np.repeat(["a", "b", "c"], [20, 20, 12])
        ground = Ground.of("group", [of_repeat(labels, {"x": said}, groups=names, n_train_groups=4)])
        expected = [f1_score(labels[:20], said[:20], labels=["B", "T"], average="macro"), 1.0, 0.0]
        assert ground.scores["x"] == pytest.approx(expected)
        assert (ground.training, ground.train_groups) == (0.25, 4.0)

    def test_training_groups_that_are_not_known_add_nothing(self):
        ground = self.groups(3)
        assert (ground.training, ground.train_groups) == (0.0, None)

    def test_the_score_of_a_split_is_that_of_scikit_learn(self):
        ground = splits(np.random.default_rng(0), 4, 0.8)
        for part, score in zip(ground.repeats, ground.scores["s0"], strict=True):
            expected = f1_score(part.labels, part.predictions["s0"], labels=np.unique(part.labels), average="macro")
            assert score == pytest.approx(expected)
        assert (ground.unit, ground.n_units, ground.training) == ("splits", 4, pytest.approx(80 / 240))


class TestStudentsT:
    """Over splits; over groups the same arithmetic has another term for the noise of training."""

    def test_without_noise_of_training_it_is_that_of_scipy(self):
        ground = splits(np.random.default_rng(1), 6, 0.9, 0.8, n_train=10**12)
        (test,) = paired_tests(ground)
        found = stats.ttest_rel(ground.scores["s0"], ground.scores["s1"])
        interval = found.confidence_interval(0.95)
        assert test.p_adjusted == pytest.approx(found.pvalue)
        assert (test.interval.low, test.interval.high) == pytest.approx((interval.low, interval.high))

    def test_equivalence_is_the_two_one_sided_tests_of_statsmodels(self):
        for seed in range(5):
            ground = splits(np.random.default_rng(seed), 12, 0.9, 0.89, n=400, n_train=10**12)
            (test,) = paired_tests(ground)
            expected = ttost_paired(ground.scores["s0"], ground.scores["s1"], -RELEVANT, RELEVANT)[0]
            assert test.p_equivalent == pytest.approx(expected)

    def test_the_noise_of_training_widens_by_nadeau_and_bengio(self):
        """By hand: differences .1, .2, .3 have mean .2 and variance .01; the factor is 1/3 + 20/60."""
        labels = ["B"] * 10 + ["T"] * 10
        parts = [of_repeat(labels, {"x": labels, "y": labels}, prefix=str(r), n_train=60) for r in range(3)]
        ground = Ground.of("stratified", parts)
        assert ground.training == pytest.approx(1 / 3)
        ground.scores["x"][:], ground.scores["y"][:] = (0.5, 0.7, 0.9), (0.4, 0.5, 0.6)
        (test,) = paired_tests(ground)
        error = np.sqrt(0.01 * 2 / 3)
        half = 4.302652729911275 * error  # t of 2 degrees of freedom at .975
        assert test.difference == pytest.approx(0.2)
        assert (test.interval.low, test.interval.high) == pytest.approx((0.2 - half, 0.2 + half))
        assert test.p_adjusted == pytest.approx(2 * stats.t.sf(0.2 / error, 2))
        assert test.detectable == pytest.approx(half)

    def test_what_would_have_been_detected_is_where_p_crosses_five_percent(self):
        ground = splits(np.random.default_rng(1), 5, 0.9, 0.88, 0.86)
        tests = paired_tests(ground)
        for test in tests:
            error = (test.interval.high - test.interval.low) / 2 / stats.t.ppf(0.975, 4)
            assert 3 * 2 * stats.t.sf(test.detectable / error, 4) == pytest.approx(0.05)

    def test_an_interval_of_one_strategy_is_students_on_the_scale_of_logits(self):
        """By hand: .6, .7, .8 have mean .7 and standard error .1 / sqrt(3), on that scale over .7 * .3."""
        ground = splits(np.random.default_rng(0), 3, 0.7, n_train=10**12)
        ground.scores["s0"][:] = 0.6, 0.7, 0.8
        half = 4.302652729911275 * 0.1 / np.sqrt(3) / 0.21  # t of 2 degrees of freedom at .975
        odds = 0.7 / 0.3 * np.exp([-half, half])
        interval = score_intervals(ground)["s0"]
        assert (interval.low, interval.high) == pytest.approx(odds / (1 + odds))
        assert (interval.low, interval.high) == pytest.approx((0.417, 0.884), abs=5e-4)

    def test_an_interval_of_one_strategy_stays_within_zero_and_one(self):
        rng = np.random.default_rng(3)
        for accuracy in (0.2, 0.5, 0.9):
            ground = splits(rng, 3, accuracy)
            interval = score_intervals(ground)["s0"]
            assert 0 <= interval.low < ground.score("s0") < interval.high <= 1

    def test_units_that_are_all_alike_have_no_spread_and_no_test(self):
        labels = ["B", "T"] * 10
        ground = Ground.of("stratified", [of_repeat(labels, {"x": labels, "y": ["B"] * 20})] * 4)
        (test,) = paired_tests(ground)
        assert (test.difference, test.claim) == (pytest.approx(2 / 3), "untestable")
        assert (test.interval, test.p_adjusted, test.p_equivalent, test.detectable) == (None,) * 4
        assert score_intervals(ground) == {"x": None, "y": None}

    def test_every_pair_is_tested_once_and_corrected_for_all(self):
        ground = splits(np.random.default_rng(0), 5, 1.0, 0.95, 0.9, 0.3)
        tests = paired_tests(ground)
        assert [(t.first, t.second) for t in tests] == list(combinations(("s0", "s1", "s2", "s3"), 2))
        error = np.sqrt(1 / 5 + ground.training)
        apart = [ground.scores[t.first] - ground.scores[t.second] for t in tests]
        raw = [2 * stats.t.sf(abs(d.mean()) / (d.std(ddof=1) * error), 4) for d in apart]
        assert [t.p_adjusted for t in tests] == pytest.approx(multipletests(raw, method="holm")[1].tolist())


class TestCells:
    @pytest.mark.slow
    def test_the_swap_test_is_that_of_scipy(self):
        rng = np.random.default_rng(4)
        labels, first = draw(rng, 60, 0.9)
        second = np.where(rng.random(60) < 0.75, labels, "B")

        def macro_f1(said):  # by hand, as scikit-learn takes a second for so many
            hits = {name: 2 * ((labels == name) & (said == name)).sum() for name in ("B", "NK", "T")}
            return np.mean([n / ((labels == name).sum() + (said == name).sum()) for name, n in hits.items()])

        def apart(a, b):
            return macro_f1(a) - macro_f1(b)

        assert macro_f1(second) == pytest.approx(f1_score(labels, second, average="macro"))

        expected = stats.permutation_test(
            (first, second), apart, permutation_type="samples", n_resamples=500, rng=np.random.default_rng(0)
        )
        test = paired_tests(one_split(labels, a=first, b=second))[0]
        assert test.p_adjusted == pytest.approx(expected.pvalue, abs=0.03)

    def test_the_swap_test_is_exact_for_few_cells(self):
        """Nine cells differ, all in favour of the first: both extremes of 2^9 swaps are as far from zero."""
        labels = np.array(["B", "T"] * 20)
        worse = labels.copy()
        worse[:18:2] = "T"
        test = paired_tests(one_split(labels, good=labels, worse=worse))[0]
        assert test.p_adjusted == pytest.approx(2 / 2**9, abs=4 * np.sqrt(2 / 2**9 / SWAPS))

    def test_a_pair_that_is_alike_takes_nothing_from_one_that_differs(self):
        """Of good and like nobody can say which is better; of good and worse everybody."""
        labels = np.array(["B", "T"] * 60)
        good, like, worse = labels.copy(), labels.copy(), labels.copy()
        good[:8:2], like[8:16:2], worse[:60:2] = "T", "T", "T"
        claims = {
            (test.first, test.second): test.claim for test in paired_tests(one_split(labels, g=good, l=like, w=worse))
        }
        assert claims["g", "w"] == claims["l", "w"] == "better"
        assert {claims.get(("g", "l")), claims.get(("l", "g"))} <= {None, "undecided", "untestable", "equivalent"}

    def test_p_and_interval_agree(self):
        for seed in range(12):
            rng = np.random.default_rng(seed)
            labels, first = draw(rng, 60, 0.9)
            _, said = draw(np.random.default_rng(seed), 60, 0.75)
            test = paired_tests(one_split(labels, a=first, b=said))[0]
            if test.claim in ("better", "worse"):
                assert test.interval.low > 0 or test.interval.high < 0

    @pytest.mark.parametrize("n", [20, 60, 200])
    def test_the_difference_is_inside_its_interval(self, n):
        """Even where half of the classes have two test cells, which pseudo-cells draw far towards zero."""
        rng = np.random.default_rng(n)
        labels = np.array(["B"] * n + [name for name in "cdefgh" for _ in range(2)])
        good = np.where(rng.random(len(labels)) < 0.9, labels, "B")
        (test,) = paired_tests(one_split(labels, good=good, majority=["B"] * len(labels)))
        assert test.interval.low < test.difference < test.interval.high
        assert test.turned().interval.low < test.turned().difference

    def test_what_would_have_been_detected_grows_with_the_number_of_pairs_that_are_tested(self):
        rng = np.random.default_rng(0)
        labels, first = draw(rng, 200, 0.9)
        said = {"a": first, "b": draw(rng, 200, 0.9)[1], "c": np.where(rng.random(200) < 0.5, labels, "B")}
        alone = paired_tests(one_split(labels, a=said["a"], c=said["c"]))[0]
        of_three = next(t for t in paired_tests(one_split(labels, **said)) if (t.first, t.second) == ("a", "c"))
        assert 0 < alone.detectable <= (alone.interval.high - alone.interval.low) / 2  # of which one end may be wider
        wider = stats.norm.ppf(1 - 0.05 / 6) / stats.norm.ppf(1 - 0.05 / 2)
        assert of_three.detectable == pytest.approx(alone.detectable * wider, rel=0.05)

    def test_too_few_differing_cells_cannot_be_tested(self):
        labels = np.array(["B", "T"] * 20)
        other = labels.copy()
        other[:4] = "NK"
        assert paired_tests(one_split(labels, a=labels, b=other))[0].claim == "untestable"
        other[:6] = "NK"
        assert paired_tests(one_split(labels, a=labels, b=other))[0].claim == "undecided"
        other[:8] = "NK"
        assert paired_tests(one_split(labels, a=labels, b=other))[0].claim == "better"

    def test_the_same_predictions_are_equivalent_only_where_the_cells_are_many(self):
        for n, claim in ((20, "untestable"), (2000, "equivalent")):
            labels, predicted = draw(np.random.default_rng(1), n, 0.8)
            test = paired_tests(one_split(labels, a=predicted, b=predicted))[0]
            assert (test.difference, test.claim, test.p_adjusted) == (0.0, claim, None)
            assert test.interval.low < 0 < test.interval.high

    def test_what_is_always_right_is_never_certain(self):
        labels = np.repeat(["B", "NK", "T"], [40, 5, 2])
        interval = score_intervals(one_split(labels, x=labels))["x"]
        assert 0.58 < interval.low < 0.68
        assert 0.999 < interval.high <= 1

    def test_one_class_is_the_interval_of_clopper_and_pearson_of_an_f1(self):
        """F1 is 2a / (1 + a) of accuracy a, and weights with one pseudo-cell are its beta distributions."""
        labels = np.array(["B"] * 30)
        said = np.array(["B"] * 24 + ["other"] * 6)
        interval = score_intervals(one_split(labels, x=said))["x"]
        accuracy = np.array([stats.beta.ppf(0.025, 24, 7), stats.beta.ppf(0.975, 25, 6)])
        expected = 2 * accuracy / (1 + accuracy)
        assert interval.low == pytest.approx(expected[0], abs=0.004)
        assert interval.high == pytest.approx(expected[1], abs=0.001)

    def test_published_intervals_stay_what_they_were(self):
        """Pinned: what has been printed once is printed again by every later version, or on purpose by none."""
        said = {"x": np.array(["B"] * 24 + ["other"] * 6), "y": np.array(["B"] * 15 + ["other"] * 15)}
        ground = one_split(np.array(["B"] * 30), **said)
        (test,) = paired_tests(ground)
        printed = [*score_intervals(ground)["x"].__dict__.values(), *test.interval.__dict__.values(), test.p_adjusted]
        assert printed == pytest.approx([0.757946, 0.959630, 0.092221, 0.396840, 0.0039996], abs=2e-6)

    def test_a_rare_class_widens_the_interval(self):
        labels, predicted = draw(np.random.default_rng(0), 300, 0.9)
        plain = score_intervals(one_split(labels, x=predicted))["x"]
        rare = score_intervals(one_split([*labels, "rare"], x=[*predicted, "rare"]))["x"]
        assert rare.high - rare.low > 2 * (plain.high - plain.low)

    def test_a_cell_tested_twice_is_one_cell(self):
        """Two repeats of the same cells and predictions are no more evidence than one."""
        labels, a = draw(np.random.default_rng(0), 60, 0.9)
        _, b = draw(np.random.default_rng(0), 60, 0.6)
        once, twice = (Ground.of("cross", [of_repeat(labels, {"a": a, "b": b})] * n) for n in (1, 2))
        assert (twice.unit, twice.n_units) == ("cells", 60)
        one, two = paired_tests(once)[0], paired_tests(twice)[0]
        assert (two.p_adjusted, two.p_equivalent) == (one.p_adjusted, one.p_equivalent)
        for a, b in ((one.interval, two.interval), (score_intervals(once)["a"], score_intervals(twice)["a"])):
            assert (a.low, a.high) == pytest.approx((b.low, b.high))

    def test_repeats_of_an_external_set_are_averaged(self):
        rng = np.random.default_rng(0)
        labels, _ = draw(rng, 90, 1.0)
        said = [{k: np.where(rng.random(90) < q, labels, "B") for k, q in (("a", 0.9), ("b", 0.7))} for _ in range(2)]
        ground = Ground.of("cross", [of_repeat(labels, each) for each in said])
        test = paired_tests(ground)[0]
        scores = [[f1_score(labels, each[k], average="macro") for each in said] for k in "ab"]
        assert test.difference == pytest.approx(np.mean(scores[0]) - np.mean(scores[1]))
        assert test.interval.low < test.difference < test.interval.high

    def test_a_class_that_one_repeat_does_not_test_does_not_enter_its_mean(self):
        first = of_repeat(["B", "T"] * 20, {"x": ["B", "T"] * 20}, prefix="0")
        second = of_repeat(["B", "NK"] * 20, {"x": ["B", "B"] * 20}, prefix="1")
        ground = Ground.of("stratified", [first, second])
        assert ground.score("x") == pytest.approx((1 + 1 / 3) / 2)
        interval = score_intervals(ground)["x"]
        assert interval.low < ground.score("x") < interval.high

    def test_swapping_two_strategies_mirrors_the_test(self):
        labels, a = draw(np.random.default_rng(1), 100, 0.9)
        _, b = draw(np.random.default_rng(1), 100, 0.6)
        one, other = paired_tests(one_split(labels, a=a, b=b))[0], paired_tests(one_split(labels, b=b, a=a))[0]
        assert other.difference == pytest.approx(-one.difference)
        assert other.p_adjusted == one.p_adjusted
        ends = (other.interval.low, other.interval.high)
        assert ends == pytest.approx((-one.interval.high, -one.interval.low), abs=0.02)
        assert (other.first_only, other.second_only, other.mcnemar_p) == (
            one.second_only,
            one.first_only,
            one.mcnemar_p,
        )

    def test_a_third_strategy_changes_nothing_but_the_correction(self):
        labels, a = draw(np.random.default_rng(1), 100, 0.9)
        _, b = draw(np.random.default_rng(1), 100, 0.6)
        two, three = one_split(labels, a=a, b=b), one_split(labels, a=a, b=b, c=labels)
        assert paired_tests(three)[0].interval == paired_tests(two)[0].interval
        assert score_intervals(three)["a"] == score_intervals(two)["a"]

    def test_draws_are_the_same_every_time(self):
        labels, a = draw(np.random.default_rng(1), 100, 0.9)
        assert score_intervals(one_split(labels, a=a)) == score_intervals(one_split(labels, a=a))
        assert (DRAWS, SWAPS) == (4_000, 10_000)


class TestClaims:
    @pytest.mark.parametrize(
        ("difference", "p", "p_equivalent", "claim"),
        [
            (0.1, 0.01, 0.9, "better"),
            (-0.1, 0.01, 0.9, "worse"),
            (0.01, 0.01, 0.01, "better"),
            (0.01, 0.5, 0.01, "equivalent"),
            (0.01, None, 0.01, "equivalent"),
            (0.1, 0.05, 0.05, "undecided"),
            (0.1, None, 0.5, "untestable"),
            (0.1, None, None, "untestable"),
        ],
    )
    def test_by_hand(self, difference, p, p_equivalent, claim):
        test = PairedTest("a", "b", difference, Interval(-1, 1), p, p_equivalent)
        assert test.claim == claim
        mirrored = {"better": "worse", "worse": "better"}.get(claim, claim)
        assert test.turned().claim == mirrored
        assert test.turned().turned() == test


class TestMcNemar:
    @given(st.integers(0, 60), st.integers(0, 60))
    def test_it_is_that_of_statsmodels(self, b, c):
        expected = statsmodels_mcnemar([[5, b], [c, 7]], exact=True).pvalue if b + c else 1.0
        assert mcnemar(b, c) == pytest.approx(min(1.0, expected))

    def test_by_hand(self):
        assert mcnemar(6, 0) == pytest.approx(2 * 0.5**6)
        assert mcnemar(3, 1) == pytest.approx(2 * (1 + 4) / 16)
        assert mcnemar(4, 4) == 1.0

    def test_it_is_of_the_cells_that_only_one_predicts_right(self):
        labels, a = draw(np.random.default_rng(1), 100, 0.9)
        _, b = draw(np.random.default_rng(1), 100, 0.6)
        test = paired_tests(one_split(labels, a=a, b=b))[0]
        assert test.first_only == ((a == labels) & (b != labels)).sum()
        assert test.mcnemar_p == mcnemar(test.first_only, test.second_only)


class TestHolm:
    @pytest.mark.parametrize(
        ("given_values", "adjusted"),
        [
            ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
            ([0.5], [0.5]),
            ([], []),
            ([0.6, 0.7], [1.0, 1.0]),
            ([0.04, 0.01, 0.01, 0.02], [0.04, 0.04, 0.04, 0.04]),
        ],
    )
    def test_by_hand(self, given_values, adjusted):
        assert holm(given_values) == pytest.approx(adjusted)

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_it_is_that_of_statsmodels(self, values):
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_it_never_lowers_a_p_and_keeps_their_order(self, values):
        adjusted = holm(values)
        assert all(value <= after <= 1 for value, after in zip(values, adjusted, strict=True))
        order = np.argsort(values, kind="stable")
        assert (np.diff(np.array(adjusted)[order]) >= 0).all()
