"""What to take, in words: by hand, and over random tables no sentence may contradict the numbers or another one."""

from __future__ import annotations

import re
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.comparison.grounds import RELEVANT, Ground, Interval, PairedTest, Repeat
from frostline.comparison.significance import paired_tests
from frostline.comparison.verdicts import LONG, Evidence, pair_verdict, recommended, spanned, to_keep, verdict

NAMES = ("majority", "pca_logistic", "frozen_probe", "head", "lora", "full")


def paired(first, second, difference, claim, *, half=0.04, detectable=0.06):
    p, q = {"clear": (0.001, 0.9), "equal": (0.4, 0.01), "open": (0.3, 0.4), "none": (None, None)}[claim]
    return PairedTest(first, second, difference, Interval(difference - half, difference + half), p, q, detectable)


def evidence(scores, seconds, *tests, unit="groups", n_units=8, **changes):
    trained = {name: 100 * 4**i for i, name in enumerate(scores)}
    ordered = dict(sorted(scores.items(), key=lambda item: -item[1]))
    about = {"group_key": "donor", "train_groups": 5.0} if unit == "groups" else {}
    return Evidence(ordered, seconds, trained, tests, unit, n_units, **{**about, **changes})


class TestWinner:
    def test_a_clear_winner_is_to_be_taken(self):
        found = evidence(
            {"pca": 0.7, "lora": 0.9, "probe": 0.8},
            {"pca": 5.0, "lora": 12.0, "probe": 4.0},
            paired("pca", "lora", -0.2, "clear"),
            paired("pca", "probe", -0.1, "clear"),
            paired("lora", "probe", 0.1, "clear"),
        )
        assert verdict(found) == (
            "Of these strategies on new groups (donor; 8 tested, trained on 5): take lora. lora is better than every "
            "other; than the nearest, probe, by 0.100 (0.060 to 0.140)."
        )

    def test_a_winner_that_takes_a_hundred_times_as_long_says_so(self):
        test = paired("pca", "lora", -0.03, "clear")
        found = evidence({"pca": 0.87, "lora": 0.9}, {"pca": 11.0, "lora": 1104.0}, test)
        assert "It takes 100 times the seconds of pca: where that difference is not worth it, take pca." in verdict(
            found
        )

    @pytest.mark.parametrize("seconds", [(0.5, 50.0), (9.0, 9000.0), (11.0, 90.0)])
    def test_few_seconds_and_small_ratios_are_no_price(self, seconds):
        test = paired("pca", "lora", -0.03, "clear")
        found = evidence({"pca": 0.87, "lora": 0.9}, dict(zip(("pca", "lora"), seconds, strict=True)), test)
        assert "seconds" not in verdict(found) + pair_verdict(found, test)


class TestCheaper:
    def test_an_equivalent_strategy_that_is_cheaper_is_to_be_taken(self):
        found = evidence({"pca": 0.89, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, paired("pca", "lora", -0.01, "equal"))
        text = verdict(found)
        assert ": take pca, cheaper (100 trained parameters) and only 0.010 below lora." in text
        assert "lora and pca differ by less than 0.05, which was tested." in text

    @pytest.mark.parametrize(
        ("seconds", "taken"),
        [
            ((0.5, 9.9), "pca"),
            ((9.0, 0.1), "pca"),
            ((12.0, 24.0), "pca"),
            ((30.0, 50.0), "lora"),
            ((60.0, 9.0), "lora"),
        ],
    )
    def test_seconds_that_another_run_may_turn_decide_nothing(self, seconds, taken):
        test = paired("pca", "lora", -0.01, "equal")
        found = evidence({"pca": 0.89, "lora": 0.9}, dict(zip(("pca", "lora"), seconds, strict=True)), test)
        assert recommended(found) == taken

    def test_of_two_that_are_cheaper_the_better_is_taken_unless_one_is_cheaper_again(self):
        found = evidence(
            {"pca": 0.88, "knn": 0.87, "lora": 0.9},
            {"pca": 1.0, "knn": 1.0, "lora": 50.0},
            paired("pca", "lora", -0.02, "open"),
            paired("knn", "lora", -0.03, "open"),
            paired("pca", "knn", 0.01, "open"),
        )
        for trained, chosen in (({"pca": 510, "knn": 420}, "pca"), ({"pca": 510, "knn": 200}, "knn")):
            assert recommended(Evidence(**{**vars(found), "trained": {**trained, "lora": 9_000}})) == chosen

    def test_a_best_that_is_also_the_cheapest_is_taken_for_now(self):
        test = paired("pca", "lora", 0.2, "open")
        found = evidence({"pca": 0.9, "lora": 0.7}, {"pca": 0.5, "lora": 50.0}, test)
        assert recommended(found) == "pca"
        assert "Undecided: pca leads lora by 0.200 (0.160 to 0.240). More groups would decide it." in verdict(found)

    def test_fewer_seconds_with_more_parameters_are_not_cheaper(self):
        test = paired("lora", "pca", 0.01, "equal")
        assert recommended(evidence({"lora": 0.9, "pca": 0.89}, {"pca": 0.5, "lora": 50.0}, test)) == "lora"

    def test_undecided_by_little_takes_the_cheaper_and_by_much_nobody(self):
        for difference, chosen in ((-0.04, "pca"), (-0.06, None)):
            test = paired("pca", "lora", difference, "open")
            found = evidence({"pca": 0.9 + difference, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test)
            assert recommended(found) == chosen
            assert "Undecided: lora leads pca by 0.0" in verdict(found)
            shown = ", 0.060 or more would have shown" if difference > -0.06 else ""  # no lead that did not
            assert f"{shown}. More groups would decide it." in verdict(found)

    def test_what_another_strategy_beats_is_never_taken(self):
        """The cheapest cannot be distinguished from the best, but is worse than a third."""
        found = evidence(
            {"pca": 0.88, "probe": 0.89, "lora": 0.9},
            {"pca": 0.5, "probe": 30.0, "lora": 90.0},
            paired("pca", "lora", -0.02, "open"),
            paired("pca", "probe", -0.01, "clear"),
            paired("probe", "lora", -0.01, "open"),
        )
        assert recommended(found) == "probe"


class TestMajority:
    def test_it_is_never_taken_and_what_is_not_shown_is_said(self):
        test = paired("majority", "lora", -0.03, "open")
        found = evidence(
            {"majority": 0.3, "lora": 0.33}, {"majority": 0.0, "lora": 50.0}, test, unit="cells", n_units=30
        )
        assert recommended(found) is None
        assert "That anything was learned beyond the most common class is not shown." in verdict(found)

    def test_where_it_is_the_best_nothing_is_taken(self):
        test = paired("majority", "lora", 0.03, "open")
        found = evidence({"majority": 0.36, "lora": 0.33}, {"majority": 0.0, "lora": 50.0}, test)
        assert "none scores higher than majority" in verdict(found)


class TestClaims:
    @pytest.mark.parametrize(
        ("unit", "n", "changes", "said"),
        [
            ("groups", 8, {}, "Of these strategies on new groups (donor; 8 tested, trained on 5): "),
            ("groups", 8, {"train_groups": None}, "Of these fitted models on new groups (donor; 8 tested): "),
            ("splits", 3, {}, "Of these strategies on new cells of the same origin (3 random splits; 5 are advised): "),
            ("splits", 5, {}, "Of these strategies on new cells of the same origin (5 random splits): "),
            (
                "cells",
                1250,
                {},
                "Of these fitted models on more such cells (1,250 tested; trained again they may differ): ",
            ),
        ],
    )
    def test_of_what_it_is_a_claim_is_said_first(self, unit, n, changes, said):
        found = evidence({"a": 0.9, "b": 0.8}, {"a": 1, "b": 1}, paired("a", "b", 0.1, "clear"), unit=unit, n_units=n)
        found = Evidence(**{**vars(found), **changes})
        assert verdict(found).startswith(said)

    def test_too_few_groups_are_numbers_without_better(self):
        test = PairedTest("pca", "lora", -0.3)
        found = evidence(
            {"pca": 0.6, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test, unit="none", n_units=2, group_key="tech"
        )
        assert verdict(found) == (
            "Only two groups of tech have 10 test cells or more, which says nothing about other groups: no interval, "
            "no test, no choice. Macro-F1 here: lora 0.900, pca 0.600. 3 groups or more must test, each held out in "
            "turn, before a strategy can be chosen."
        )
        assert pair_verdict(found, test) == "Cannot be tested, with fewer than 3 groups: lora leads by 0.300."

    def test_what_was_left_out_is_named(self):
        test = paired("a", "b", 0.1, "clear")
        left = {"left_out": {"rare": 2, "odd": 1}, "small_groups": ("d7", "d9")}
        text = verdict(evidence({"a": 0.9, "b": 0.8}, {"a": 1, "b": 1}, test, **left))
        assert "Not counted, with fewer than 10 test cells: d7, d9." in text
        assert text.endswith("Classes left out of all splits, with their cells: rare (2), odd (1).")

    def test_of_many_that_were_left_out_the_first_five_are_named(self):
        test = paired("a", "b", 0.1, "clear")
        left = {"left_out": {f"t{i}": 1 for i in range(7)}, "small_groups": tuple(f"d{i}" for i in range(200))}
        text = verdict(evidence({"a": 0.9, "b": 0.8}, {"a": 1, "b": 1}, test, **left))
        assert "Not counted, with fewer than 10 test cells: d0, d1, d2, d3, d4 and 195 more." in text
        assert text.endswith("with their cells: t0 (1), t1 (1), t2 (1), t3 (1), t4 (1) and 2 more.")

    def test_a_single_strategy_is_no_choice(self):
        assert verdict(Evidence({"head": 0.9}, {"head": 2.0}, {"head": 10}, [])) == (
            "Only head was evaluated: there is nothing to choose from."
        )

    def test_what_no_difference_could_have_shown_is_said(self):
        test = paired("a", "b", 0.1, "open", detectable=1.7)
        found = evidence({"a": 0.9, "b": 0.8}, {"a": 1, "b": 1}, test, n_units=3)
        assert "no possible difference would have shown" in verdict(found)
        assert "no possible difference would have shown" in pair_verdict(found, test)


class TestPairs:
    def say(self, test, **changes):
        return pair_verdict(evidence({"a": 0.8, "b": 0.8}, {"a": 1.0, "b": 2.0}, test, **changes), test)

    def test_the_better_is_named_whichever_came_first(self):
        assert self.say(paired("a", "b", -0.1, "clear")) == "b is better than a by 0.100 (0.060 to 0.140)."
        assert self.say(paired("a", "b", 0.1, "clear")) == "a is better than b by 0.100 (0.060 to 0.140)."

    def test_equal_undecided_and_untestable_are_separation(self):
        assert self.say(paired("a", "b", 0.01, "equal")) == (
            "Equivalent: a leads by 0.010 (-0.030 to 0.050); no difference is detected, and none above 0.05 is likely."
        )
        assert self.say(paired("a", "b", 0.01, "open")) == (
            "Undecided: a leads by 0.010 (-0.030 to 0.050); 0.060 or more would have shown."
        )
        assert self.say(paired("a", "b", 0.3, "open")) == "Undecided: a leads by 0.300 (0.260 to 0.340)."
        assert self.say(paired("a", "b", 0.01, "none"), unit="cells") == (
            "Cannot be tested, too few cells are predicted differently: a leads by 0.010 (-0.030 to 0.050)."
        )
        assert self.say(PairedTest("a", "b", 0.0)) == (
            "Cannot be tested, all groups differ alike: their scores are the same."
        )

    def test_strategies_that_were_not_tested_are_an_error(self):
        with pytest.raises(KeyError, match="a and c were not tested"):
            evidence({"a": 1.0}, {"a": 1.0}).lead("a", "c")


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_uncertain_is_never_shown_as_certain(one, other):
    low, high = sorted((one, other))
    text = spanned(low, high)
    assert float(text.split(" to ")[0]) <= low + 1e-8
    assert float(text.split(" to ")[1]) >= high - 1e-8
    assert low > 0.99999 or text != "1.000 to 1.000"


@st.composite
def tables(draw):
    """Scores of random strategies in random units, as tested as a comparison is; and random costs."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=6, unique=True))
    unit = draw(st.sampled_from(["groups", "splits", "cells", "none"]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    levels = draw(
        st.lists(st.sampled_from([0.1, 0.7, 0.72, 0.75, 0.9, 0.91, 0.98]), min_size=len(names), max_size=len(names))
    )
    n, spread = draw(st.integers(3, 20)), draw(st.sampled_from([0.0, 0.005, 0.02, 0.1]))
    shared = rng.normal(size=n) * spread
    scores = {k: np.clip(q + shared + rng.normal(size=n) * spread, 0, 1) for k, q in zip(names, levels, strict=True)}
    part = Repeat(["c"], np.array(["B"]), dict.fromkeys(names, np.array(["B"])), 1)
    if unit == "cells":  # of any p, as long as it is consistent with the difference
        values = st.one_of(st.none(), st.sampled_from([0.001, 0.04, 0.05, 0.3, 1.0]))
        tests = []
        for a, b in combinations(names, 2):
            apart = float(scores[a].mean() - scores[b].mean())
            equal = draw(values) if abs(apart) < RELEVANT else 0.8
            p = draw(values) if apart else 1.0
            tests.append(PairedTest(a, b, apart, Interval(apart - 0.1, apart + 0.1), p, equal, 0.07))
    else:
        tests = paired_tests(Ground(unit, (part,), scores, n, draw(st.sampled_from([0.0, 0.2]))))
    means = sorted(((float(v.mean()), k) for k, v in scores.items()), reverse=True)
    seconds = {k: draw(st.sampled_from([0.1, 1.0, 8.0, 11.0, 30.0, 500.0, 90_000.0])) for k in names}
    trained = {k: draw(st.sampled_from([0, 100, 5_000, 10**7])) for k in names}
    return Evidence({k: v for v, k in means}, seconds, trained, tests, unit, n if unit != "none" else 2, "donor", 5.0)


class TestNoContradiction:
    @given(tables())
    def test_what_is_taken_is_beaten_by_nobody(self, found):
        take = recommended(found)
        if take is None:
            assert "take " not in verdict(found)
            return
        assert f"take {take}" in verdict(found)
        assert not take.startswith("majority")
        assert not found.against(take, "worse")
        assert found.macro_f1[found.best] - found.macro_f1[take] < RELEVANT
        for other in found.against(take, "better"):
            assert found.macro_f1[take] > found.macro_f1[other]
        if take != found.best:
            assert found.is_cheaper(take, found.best)
            assert f"{found.macro_f1[found.best] - found.macro_f1[take]:.3f} below {found.best}" in verdict(found)

    @given(tables())
    def test_who_is_called_better_scores_higher(self, found):
        text = " ".join([verdict(found), *(pair_verdict(found, test) for test in found.tests)])
        for winner, losers in re.findall(r"(\w+) is better than ((?:\w+(?:, | and )?)+?)(?: by|\.)", text):
            for loser in re.split(", | and ", losers):
                assert winner in found.macro_f1
                assert found.macro_f1[winner] > found.macro_f1[loser]
                assert found.lead(winner, loser).p_adjusted < 0.05
        assert (found.unit != "none") or "better" not in text

    @given(tables())
    def test_every_other_strategy_has_one_place_in_the_verdict(self, found):
        best = found.best
        claims = ("better", "equivalent", "undecided", "untestable")
        places = [name for claim in claims for name in found.against(best, claim)]
        assert sorted([*places, *found.against(best, "worse")]) == sorted(set(found.macro_f1) - {best})
        if found.unit in ("groups", "splits"):
            assert not found.against(best, "worse")

    @given(tables())
    def test_seconds_are_compared_only_where_both_are_long(self, found):
        text = " ".join([verdict(found), *(pair_verdict(found, test) for test in found.tests)])
        if "times the seconds" in text:
            assert sum(value > LONG for value in found.seconds.values()) >= 2

    @given(tables(), st.floats(0.85, 1.15))
    def test_a_rerun_that_takes_a_little_longer_says_the_same(self, found, factor):
        """Of these seconds none is near a margin."""
        again = Evidence(**{**vars(found), "seconds": {k: min(v * factor, v + 0.9) for k, v in found.seconds.items()}})
        assert recommended(again) == recommended(found)

    @given(tables())
    def test_what_is_kept_is_the_recommended_one_or_has_the_highest_score_and_never_the_most_common_class(self, found):
        name, take = to_keep(found), recommended(found)
        highest = max(found.macro_f1.values())
        equal = [other for other, score in found.macro_f1.items() if score >= highest - 1e-9]
        if take is not None:
            assert name == take
        elif "majority" in equal:
            assert name is None
        else:
            assert name in equal
            assert found.trained[name] == min(found.trained[other] for other in equal)


class TestTuning:
    """Whether training inside the encoder helps is said of a frozen probe on the same genes, and of no other."""

    SCORES: ClassVar = {"frozen_probe": 0.74, "frozen_probe:500": 0.52, "lora": 0.70}
    SECONDS: ClassVar = {"frozen_probe": 2.0, "frozen_probe:500": 1.0, "lora": 9.0}

    def said(self, *tests, probe="frozen_probe:500"):
        read = {"frozen_probe": 7424, "frozen_probe:500": 500, "lora": 500}
        return verdict(evidence(self.SCORES, self.SECONDS, *tests, genes_read=read, probes={"lora": probe}))

    def pairs(self, like):
        return (
            paired("lora", "frozen_probe", -0.04, "open"),
            paired("frozen_probe", "frozen_probe:500", 0.22, "clear"),
            like,
        )

    def test_it_helps_where_it_is_better_than_the_probe_on_its_genes(self):
        text = self.said(*self.pairs(paired("lora", "frozen_probe:500", 0.18, "clear")))
        assert (
            "On the same 500 genes training helps: lora is better than frozen_probe:500 by 0.180 (0.140 to 0.220)."
            in (text)
        )

    def test_it_harms_where_that_probe_is_better(self):
        text = self.said(*self.pairs(paired("frozen_probe:500", "lora", 0.18, "clear")))
        assert "On the same 500 genes training harms: frozen_probe:500 is better than lora by 0.180" in text

    def test_it_changes_little_where_they_are_equivalent(self):
        text = self.said(*self.pairs(paired("lora", "frozen_probe:500", -0.01, "equal")))
        assert "training changes little: lora and frozen_probe:500 differ by less than 0.05." in text

    @pytest.mark.parametrize("kind", ["open", "none"])
    def test_it_is_open_where_that_is_undecided_whoever_leads(self, kind):
        text = self.said(*self.pairs(paired("lora", "frozen_probe:500", -0.02, kind)))
        assert "on the same 500 genes is open: frozen_probe:500 leads lora by 0.020" in text
        assert "helps:" not in text

    def test_a_probe_on_other_genes_shows_nothing_about_training(self):
        test = paired("lora", "frozen_probe:500", 0.18, "clear")
        text = self.said(*self.pairs(test), probe=None)
        assert "is not shown: lora reads 500 genes, and no frozen probe the same; frozen_probe:500 does." in text
        assert "training helps" not in text
