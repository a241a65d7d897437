"""Over data sets: ranks, wins and Wilcoxon's test against hand-made cases and scipy; no claim from a few."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from frostline.comparison import across
from frostline.comparison.across import Across, verdict
from frostline.comparison.comparisons import compare


@pytest.fixture
def comparison_of(make_record):
    """A comparison of strategies of these skills; of equal seeds equal predictions."""

    def made(seed: int = 0, n: int = 200, **skills: float):
        return compare([make_record(name, repeat=0, skill=skill, n=n, seed=seed) for name, skill in skills.items()])

    return made


class Scores(Across):
    """Of given scores, (n_datasets, n_strategies)."""

    def __init__(self, table: pd.DataFrame) -> None:
        super().__init__(dict.fromkeys(table.index, ()))
        self.__dict__["scores"] = table.astype("Float64")
        self.__dict__["strategies"] = tuple(table.columns)


def scores(rows: list[list[float | None]], names: str = "abc") -> Scores:
    return Scores(pd.DataFrame(rows, columns=list(names), index=[f"d{i}" for i in range(len(rows))], dtype="Float64"))


def test_ranks_by_hand_ties_shared_and_incomplete_data_sets_left_out():
    found = scores([[0.9, 0.8, 0.7], [0.5, 0.5, 0.9], [0.9, None, 0.1]])
    assert found.complete == ("d0", "d1")
    assert {rank.strategy: rank.mean for rank in found.ranks} == {"a": 1.75, "b": 2.25, "c": 2.0}
    assert [rank.strategy for rank in found.ranks] == ["a", "c", "b"]
    assert all(rank.interval is None for rank in found.ranks)


def test_six_data_sets_are_enough_for_the_interval_of_a_rank_and_five_are_not():
    rows = [[0.9, 0.8], [0.9, 0.8], [0.9, 0.8], [0.9, 0.8], [0.9, 0.8], [0.7, 0.8]]
    first, second = scores(rows, "ab").ranks
    low, high = stats.t.interval(0.95, 5, loc=7 / 6, scale=stats.sem([1, 1, 1, 1, 1, 2]))
    assert low < 1
    assert (first.interval.low, first.interval.high) == pytest.approx((1.0, high))
    assert (second.interval.low, second.interval.high) == pytest.approx((3 - high, 2.0))
    assert all(rank.interval is None for rank in scores(rows[1:], "ab").ranks)
    assert all(rank.interval is None for rank in scores(rows[:1] * 6, "ab").ranks)


def test_wins_are_those_of_the_paired_tests_of_each_comparison(comparison_of):
    skills = {"lora": 4.0, "majority": 0.0, "head": 4.1}
    found = Across(
        {"one": [comparison_of(1, **skills), comparison_of(2, **skills)], "two": [comparison_of(3, **skills)]}
    )
    claims = [test.claim for each in found.comparisons.values() for one in each for test in one.tests]
    assert len(claims) == 9
    lora = next(rank for rank in found.ranks if rank.strategy == "lora")
    assert (lora.wins, lora.ties, lora.losses) == (3, 3, 0)
    majority = next(rank for rank in found.ranks if rank.strategy == "majority")
    assert (majority.wins, majority.ties, majority.losses, majority.mean) == (0, 0, 6, 3.0)
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    assert (pairs["lora", "majority"].wins, pairs["majority", "head"].losses) == (3, 3)
    assert pairs["lora", "head"].ties == 3
    mean = np.mean([one.ground.score("lora") for one in found.comparisons["one"]])
    assert found.scores.loc["one", "lora"] == pytest.approx(mean)


def test_three_data_sets_support_no_claim_however_far_apart():
    found = scores([[0.99, 0.01, 0.0]] * 3)
    assert [pair.p for pair in found.pairs] == [None] * 3
    assert {pair.claim for pair in found.pairs} == {"untestable"}
    assert found.pairs[0].needed == 7
    said = verdict(found)
    assert "3 data set(s) support no claim about others: with 3 pair(s) of strategies at least 7" in said
    assert "better" not in said


@pytest.mark.parametrize(("n_pairs", "needed"), [(1, 6), (3, 7), (6, 8), (10, 9)])
def test_data_sets_that_are_needed_are_those_of_the_smallest_p(n_pairs, needed):
    assert across._needed(n_pairs) == needed
    assert n_pairs * 2 * 0.5**needed < 0.05
    assert n_pairs * 2 * 0.5 ** (needed - 1) >= 0.05 or needed == 6


@pytest.mark.parametrize("tied", [False, True])
def test_wilcoxon_is_that_of_scipy_and_of_counting_all_signs(tied):
    apart = np.array([0.05, 0.02, -0.01, 0.08, 0.03, 0.07, 0.04, 0.06])
    if tied:
        apart[:4] = [0.02, 0.02, -0.02, 0.05]
    rows = [[0.5 + each, 0.5] for each in apart]
    (pair,) = scores(rows, "ab").pairs
    ranks = stats.rankdata(np.abs(apart))
    observed = ranks[apart > 0].sum()
    sums = np.array([(np.array(signs) * ranks).sum() for signs in product([0, 1], repeat=len(apart))])
    centre = ranks.sum() / 2
    counted = (np.abs(sums - centre) >= abs(observed - centre) - 1e-9).mean()
    assert pair.p == pytest.approx(counted)
    if not tied:
        assert pair.p == pytest.approx(stats.wilcoxon(apart, mode="exact").pvalue)
    assert pair.difference == pytest.approx(np.median(apart))
    assert pair.claim == "better"
    assert f"Over 8 data sets a is better than b (median difference of macro-F1 {np.median(apart):.3f}" in verdict(
        scores(rows, "ab")
    )


def test_p_values_are_adjusted_for_all_pairs():
    rows = [[0.9, 0.5 + 0.01 * i, 0.5 - 0.001 * i] for i in range(1, 11)]
    found = scores(rows).pairs
    assert [pair.p for pair in found] == [2 * 0.5**10] * 3
    assert [pair.p_adjusted for pair in found] == pytest.approx([3 * 2 * 0.5**10] * 3)


def test_data_sets_without_a_difference_do_not_count():
    rows = [[0.9, 0.5]] * 5 + [[0.5, 0.5]] * 4
    (pair,) = scores(rows, "ab").pairs
    assert (pair.n, pair.n_differing, pair.p, pair.claim) == (9, 5, None, "untestable")


def test_no_claim_where_ranks_and_median_lean_to_different_sides():
    """A few large gains outrank more small losses: W+ is 329 and W- 136, and the median is a loss."""
    apart = [*np.linspace(0.05, 0.2, 14), *-np.linspace(0.001, 0.02, 16)]
    (pair,) = scores([[0.5 + each, 0.5] for each in apart], "ab").pairs
    assert pair.p == pytest.approx(stats.wilcoxon(apart).pvalue)
    assert pair.p_adjusted < 0.05
    assert (pair.difference < 0, pair.leaning, pair.claim) == (True, 1, "undecided")


def test_scores_that_differ_by_the_order_of_a_sum_are_the_same(comparison_of, monkeypatch):
    compared = comparison_of(head=1.0, lora=1.0)
    sums = {"head": 0.1 + 0.2 + 0.3, "lora": 0.3 + 0.2 + 0.1}
    assert sums["head"] != sums["lora"]
    monkeypatch.setattr(type(compared.ground), "score", lambda _, name: sums[name])
    found = Across({f"d{i}": [compared] for i in range(6)})
    assert [rank.mean for rank in found.ranks] == [1.5, 1.5]
    assert found.pairs[0].n_differing == 0


def test_equal_strategies_are_not_claimed_to_differ():
    rows = [[0.5 + 0.01 * (-1) ** i * (i + 1), 0.5] for i in range(8)]
    found = scores(rows, "ab")
    assert found.pairs[0].claim == "undecided"
    assert verdict(found) == "Over 8 data sets no strategy is shown to be better than another."


@pytest.mark.slow
def test_intervals_of_ranks_hold_the_true_mean_rank_as_often_as_they_say():
    stream, means = np.random.default_rng(1), np.array([0.0, 0.5, 1.0])
    truth = stats.rankdata(-(means + stream.normal(size=(50_000, 3))), axis=1).mean(axis=0)
    held = []
    for _ in range(300):
        found = scores((means + stream.normal(size=(8, 3))).tolist()).ranks
        held += [r.interval.low <= truth["abc".index(r.strategy)] <= r.interval.high for r in found if r.interval]
    assert len(held) > 850
    assert 0.9 < np.mean(held) < 0.99
    assert all(1 <= r.interval.low <= r.mean <= r.interval.high <= 3 for r in found if r.interval)


def test_one_strategy_is_no_comparison(comparison_of):
    assert "there is nothing to compare" in verdict(Across({"one": [comparison_of(head=1.0)]}))
