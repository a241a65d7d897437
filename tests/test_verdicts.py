"""What to take, in words: a clear winner, a tie, a winner that costs a hundred times more, too few cells to say."""

from __future__ import annotations

import pytest

from frostline.comparison.significance import Interval, PairedTest
from frostline.comparison.verdicts import Evidence, pair_verdict, verdict


def paired(first, second, difference, low, high, p):
    return PairedTest(first, second, difference, Interval(low, high), p, p, 0, 0, None, None)


def evidence(scores, seconds, *tests, n_cells=500, n_groups=None):
    return Evidence(scores, seconds, {name: 100 * (i + 1) for i, name in enumerate(scores)}, tests, n_cells, n_groups)


class TestWinner:
    def test_a_clear_winner_is_to_be_taken(self):
        found = evidence(
            {"pca": 0.7, "lora": 0.9, "probe": 0.8},
            {"pca": 5.0, "lora": 10.0, "probe": 4.0},
            paired("pca", "lora", -0.2, -0.25, -0.15, 0.001),
            paired("pca", "probe", -0.1, -0.15, -0.05, 0.001),
            paired("lora", "probe", 0.1, 0.05, 0.15, 0.002),
        )
        assert verdict(found) == (
            "Take lora: it is detectably better than every other; than the nearest, probe, by 0.100 (0.050 to 0.150)."
        )

    def test_a_winner_that_costs_a_hundred_times_more_says_so(self):
        test = paired("pca", "lora", -0.03, -0.05, -0.01, 0.01)
        text = verdict(evidence({"pca": 0.87, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test))
        assert text.startswith("Take lora: it is detectably better")
        assert "It takes 100 times the seconds of pca (50.0 s against 0.5 s)" in text
        assert text.endswith("where 0.030 of macro-F1 is not worth that, take pca.")

    def test_a_winner_that_costs_a_little_more_says_nothing_of_the_price(self):
        test = paired("pca", "lora", -0.03, -0.05, -0.01, 0.01)
        assert "seconds" not in verdict(evidence({"pca": 0.87, "lora": 0.9}, {"pca": 10.0, "lora": 50.0}, test))


class TestTie:
    def test_a_narrow_tie_takes_the_cheaper(self):
        test = paired("pca", "lora", -0.01, -0.03, 0.01, 0.3)
        assert verdict(evidence({"pca": 0.89, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test)) == (
            "No detectable difference between lora and pca: take the cheapest of them, pca (0.5 s, 100 trained "
            "parameters)."
        )

    def test_of_equal_seconds_the_fewer_parameters_decide(self):
        test = paired("pca", "lora", 0.0, -0.01, 0.01, 1.0)
        assert "take the cheapest of them, pca" in verdict(
            evidence({"pca": 0.9, "lora": 0.9}, {"pca": 1, "lora": 1}, test)
        )

    def test_too_few_cells_say_what_they_cannot_exclude(self):
        test = paired("pca", "lora", -0.08, -0.2, 0.04, 0.2)
        text = verdict(evidence({"pca": 0.82, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test, n_cells=40))
        assert "take the cheapest of them, pca" in text
        assert (
            "The 40 test cells are too few to exclude that lora is better by up to 0.200; more would decide it." in text
        )

    def test_the_best_may_be_the_cheapest(self):
        test = paired("pca", "lora", 0.08, -0.04, 0.2, 0.2)
        text = verdict(evidence({"pca": 0.9, "lora": 0.82}, {"pca": 0.5, "lora": 50.0}, test, n_cells=40))
        assert text.startswith(
            "No detectable difference between pca and lora on the 40 test cells; pca is also the cheapest"
        )

    def test_a_strategy_that_is_detectably_worse_is_not_among_the_equals(self):
        found = evidence(
            {"pca": 0.5, "probe": 0.88, "lora": 0.9},
            {"pca": 0.1, "probe": 1.0, "lora": 50.0},
            paired("pca", "probe", -0.38, -0.4, -0.3, 0.001),
            paired("pca", "lora", -0.4, -0.5, -0.3, 0.001),
            paired("probe", "lora", -0.02, -0.04, 0.0, 0.06),
        )
        assert "between lora and probe: take the cheapest of them, probe" in verdict(found)

    def test_nothing_beats_the_most_common_class(self):
        test = paired("majority", "lora", -0.05, -0.2, 0.1, 0.4)
        text = verdict(evidence({"majority": 0.3, "lora": 0.35}, {"majority": 0.0, "lora": 50.0}, test, n_cells=30))
        assert text == "On the 30 test cells no strategy is detectably better than always naming the most common class."


class TestGroups:
    @pytest.mark.parametrize(("n", "said"), [(3, True), (5, True), (6, False)])
    def test_few_groups_cannot_detect_anything_and_say_so(self, n, said):
        test = paired("pca", "lora", -0.3, -0.4, 0.1, 2.0 ** (1 - n) if said else 0.06)
        text = verdict(evidence({"pca": 0.6, "lora": 0.9}, {"pca": 0.5, "lora": 50.0}, test, n_groups=n))
        assert (f"With {n} groups no test can detect a difference, however large" in text) == said
        assert "cannot be told apart from pca. Take pca" in text or "take the cheapest of them, pca" in text

    def test_with_few_groups_the_intervals_decide_for_now(self):
        found = evidence(
            {"majority": 0.05, "pca": 0.98, "genes": 1.0},
            {"majority": 0.0, "pca": 0.4, "genes": 1.4},
            paired("majority", "pca", -0.93, -0.95, -0.9, 0.125),
            paired("majority", "genes", -0.95, -0.97, -0.94, 0.125),
            paired("pca", "genes", -0.02, -0.05, 0.0, 1.0),
            n_groups=4,
        )
        assert verdict(found) == (
            "With 4 groups no test can detect a difference, however large; for now, by the intervals alone, which so "
            "few groups make too narrow: genes is ahead of majority; it cannot be told apart from pca. Take pca "
            "(0.4 s, 200 trained parameters); more groups would decide it."
        )


class TestPairVerdicts:
    def say(self, test, seconds=(1.0, 2.0)):
        return pair_verdict(evidence({"a": 0.8, "b": 0.8}, dict(zip("ab", seconds, strict=True)), test), test)

    def test_the_better_is_named_whichever_came_first(self):
        assert self.say(paired("a", "b", -0.1, -0.15, -0.05, 0.01)) == "b is better than a by 0.100 (0.050 to 0.150)."
        assert self.say(paired("a", "b", 0.1, 0.05, 0.15, 0.01)) == "a is better than b by 0.100 (0.050 to 0.150)."

    def test_its_price_is_named_from_ten_times_on(self):
        test = paired("a", "b", -0.1, -0.15, -0.05, 0.01)
        assert self.say(test, (1.0, 12.0)).endswith(", at 12 times its seconds.")
        assert "seconds" not in self.say(test, (1.0, 9.0))

    def test_a_tie_and_an_open_question_are_told_apart(self):
        assert self.say(paired("a", "b", 0.0, -0.04, 0.04, 0.9)) == (
            "No detectable difference, and none above 0.05 is likely: take the cheaper, a."
        )
        assert self.say(paired("a", "b", 0.02, -0.04, 0.08, 0.4)) == (
            "Undecided: a may be better by up to 0.080, or worse by up to 0.040."
        )

    def test_a_lead_that_few_groups_cannot_prove_is_no_chance_of_being_worse(self):
        test = paired("a", "b", 0.3, 0.2, 0.4, 1.0)
        said = pair_verdict(evidence({"a": 0.8, "b": 0.5}, {"a": 1.0, "b": 1.0}, test, n_groups=4), test)
        assert said == "Undecided: a is ahead by 0.300 (0.200 to 0.400); 4 groups of test cells are too few."

    def test_strategies_that_were_not_tested_are_an_error(self):
        with pytest.raises(KeyError, match="a and c were not tested"):
            evidence({"a": 1.0}, {"a": 1.0}).lead("a", "c")
