"""Splits: a function of seed and repeat, blind to the test cells; budgets, and classes taken out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cells import N_CELLS, dataset_of, even, grouped, groups_of, ids, make, sized

from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split, split_nothing_off
from frostline.errors import DatasetError, FrostlineError
from frostline.profiles import PROFILES


def test_quickstart_tests_on_at_least_a_hundred_cells(pbmc):
    assert len(split(pbmc, seed=42, profile="quickstart").test) >= 100


def test_the_same_seed_draws_the_same_split_and_another_seed_another(pbmc):
    one, again, other = (split(pbmc, seed=seed) for seed in (1, 1, 2))
    assert ids(pbmc, one) == ids(pbmc, again)
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint
    # two unrelated quarters share about a quarter of their cells
    assert 0.1 < len(set(one.test) & set(other.test)) / len(one.test) < 0.4


def test_repeats_are_splits_of_their_own_with_seeds_of_their_own(pbmc):
    cuts = [split(pbmc, seed=1, repeat=repeat) for repeat in range(4)]
    assert len({cut.fingerprint for cut in cuts}) == 4
    assert len({cut.training_seed for cut in cuts}) == 4
    assert all(0 <= cut.training_seed < 2**32 for cut in cuts)
    assert split(pbmc, seed=2, repeat=0).fingerprint not in {cut.fingerprint for cut in cuts}


def test_the_seed_of_a_repeat_starts_again_from_zero_beyond_what_a_generator_takes(pbmc):
    assert replace(split(pbmc), seed=2**32 - 1, repeat=1).training_seed == 1_000_002


def test_numbers_of_numpy_are_taken_as_plain_ones(pbmc):
    """What seeds a generator of Python, or goes into JSON, must be one."""
    cut = split(pbmc, seed=np.int64(3), repeat=np.int64(1)).with_budget(pbmc, np.int64(5))
    assert cut.fingerprint == split(pbmc, seed=3, repeat=1).with_budget(pbmc, 5).fingerprint
    whole = split_nothing_off(pbmc, seed=np.int64(3))
    numbers = [cut.seed, cut.repeat, cut.budget, cut.training_seed, whole.seed, whole.training_seed]
    assert [type(number) for number in numbers] == [int] * 6


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", 2**32])
def test_a_seed_or_a_repeat_that_is_none_is_refused_by_its_name(pbmc, value):
    for name in ("seed", "repeat"):
        with pytest.raises(FrostlineError, match=rf"{name} is .* must be a whole number from 0 to 4,294,967,295"):
            split(pbmc, **{name: value})
    with pytest.raises(FrostlineError, match=r"seed is .* must be a whole number"):
        split_nothing_off(pbmc, seed=value)


class TestGenes:
    def test_genes_are_those_that_vary_most_over_training_cells_in_their_own_order(self, pbmc):
        cut = split(pbmc, profile=sized(max_genes=50))
        variance = pbmc.matrix[cut.train].toarray().astype(np.float64).var(axis=0)
        expected = sorted(np.argsort(-variance)[:50])
        assert cut.genes == tuple(pbmc.genes[i] for i in expected)
        assert cut.sizes["genes"] == 50

    def test_what_test_and_validation_cells_express_changes_no_gene(self, pbmc, fresh):
        profile = sized(max_genes=50)
        cut = split(pbmc, profile=profile)
        matrix = pbmc.matrix.tolil(copy=True)
        rng = np.random.default_rng(0)
        for row in np.concatenate([cut.test, cut.validation]):
            matrix[row] = rng.lognormal(3, 2, matrix.shape[1])
        corrupted = split(fresh(pbmc, matrix=matrix.tocsr()), profile=profile)
        assert corrupted.genes == cut.genes
        assert corrupted.fingerprint == cut.fingerprint

    def test_all_genes_stay_when_the_profile_allows(self, pbmc):
        assert split(pbmc).genes == pbmc.genes


class TestFingerprints:
    def test_they_are_hashes_of_cells_and_labels(self, pbmc):
        cut = split(pbmc)
        for value in (cut.fingerprint, cut.test_fingerprint):
            assert re.fullmatch("[0-9a-f]{64}", value)
        assert cut.fingerprint != cut.test_fingerprint

    def test_other_names_of_the_classes_change_both(self, pbmc, fresh):
        cut, renamed = split(pbmc), split(fresh(pbmc, labels=np.char.add(pbmc.labels, "?")))
        assert ids(pbmc, cut) == ids(pbmc, renamed)
        assert renamed.fingerprint != cut.fingerprint
        assert renamed.test_fingerprint != cut.test_fingerprint

    def test_values_and_gene_numbers_do_not_enter(self, pbmc):
        one, other = (split(pbmc, profile=sized(max_genes=n)) for n in (50, 60))
        assert (one.fingerprint, one.test_fingerprint) == (other.fingerprint, other.test_fingerprint)


class TestProfiles:
    def test_an_unknown_profile_is_a_value_error_that_lists_the_known_ones(self, pbmc):
        with pytest.raises(ValueError, match="unknown profile 'fast'; known: full, quickstart"):
            split(pbmc, profile="fast")
        assert issubclass(FrostlineError, ValueError)

    def test_each_profile_has_positive_sizes(self):
        assert {"quickstart", "full"} <= set(PROFILES)
        for profile in PROFILES.values():
            numbers = [value for key, value in vars(profile).items() if key != "name"]
            assert all(value > 0 for value in numbers)

    def test_the_profile_travels_with_the_split(self, pbmc, tiny_profile):
        assert split(pbmc, profile="full").profile is PROFILES["full"]
        assert split(pbmc, profile=tiny_profile).profile is tiny_profile


class TestBudget:
    @given(
        st.lists(st.integers(3, 40), min_size=2, max_size=4),
        st.lists(st.integers(2, 30), min_size=2, max_size=5),
        st.integers(0, 100),
    )
    def test_budgets_are_nested_within_n_and_leave_the_test_alone(self, sizes, budgets, seed):
        dataset = dataset_of({f"class{i}": n for i, n in enumerate(sizes)})
        whole = split(dataset, seed=seed)
        before: dict[str, set[int]] = {"train": set(), "validation": set()}
        for n in sorted(budgets):
            cut = whole.with_budget(dataset, n)
            assert (cut.budget, cut.test_fingerprint, cut.classes) == (n, whole.test_fingerprint, whole.classes)
            np.testing.assert_array_equal(cut.test, whole.test)
            for part in before:
                assert before[part] <= set(getattr(cut, part)) <= set(getattr(whole, part))
                before[part] = set(getattr(cut, part))
            for name in whole.classes:
                labelled = [int((dataset.labels[getattr(cut, part)] == name).sum()) for part in before]
                had = [int((dataset.labels[getattr(whole, part)] == name).sum()) for part in before]
                assert labelled[0] + labelled[1] <= n
                assert labelled[1] == min(had[1], max(1, round(0.2 * n)))
                assert labelled[0] == min(had[0], n - labelled[1]) >= 1

    def test_ten_labels_are_eight_that_train_and_two_that_validate(self, pbmc):
        cut = split(pbmc).with_budget(pbmc, 10)
        table = cut.table(pbmc)
        assert table.loc["Dendritic", ["train", "validation"]].tolist() == [8, 2]
        assert cut.notes == ("At most 10 labelled cells of each class, validation included.",)
        assert cut.fingerprint != split(pbmc).fingerprint

    def test_a_budget_larger_than_every_class_is_the_whole_split(self, pbmc):
        whole = split(pbmc)
        cut = whole.with_budget(pbmc, 10_000)
        assert (cut.fingerprint, cut.genes) == (whole.fingerprint, whole.genes)

    def test_the_drawn_cells_depend_on_seed_and_repeat_only(self, pbmc):
        order = np.random.default_rng(0).permutation(len(pbmc))
        shuffled = load_dataset(pbmc.adata[order].copy(), "bulk_labels", layer="raw")
        one, other = split(pbmc).with_budget(pbmc, 5), split(shuffled).with_budget(shuffled, 5)
        assert ids(pbmc, one) == ids(shuffled, other)
        whole = split(pbmc)
        rows = whole.train[pbmc.labels[whole.train] == "Dendritic"]
        drawn = one.train[pbmc.labels[one.train] == "Dendritic"]
        assert drawn.tolist() != rows[: len(drawn)].tolist()  # not simply the first

    def test_a_class_that_validation_lacks_may_train_with_all_of_its_budget(self):
        groups = {f"d{i}": {"B": 9, "T": 9} for i in range(4)}
        groups["d0"]["rare"] = 9
        dataset = grouped(groups)
        cut = next(c for r in range(4) if "d0" in (c := split(dataset, repeat=r)).groups["train"])
        table = cut.with_budget(dataset, 5).table(dataset)
        assert table.loc["rare"].tolist() == [5, 0, 0]
        assert table.loc["B", ["train", "validation"]].tolist() == [4, 1]

    def test_genes_are_chosen_again_on_what_remains(self, pbmc):
        cut = split(pbmc, profile=sized(max_genes=50)).with_budget(pbmc, 5)
        variance = pbmc.matrix[cut.train].toarray().astype(np.float64).var(axis=0)
        assert cut.genes == tuple(pbmc.genes[i] for i in sorted(np.argsort(-variance, kind="stable")[:50]))
        assert cut.genes != split(pbmc, profile=sized(max_genes=50)).genes

    def test_groups_stay_on_their_sides_and_are_listed_again(self):
        dataset = even(8, each=6)
        cut = split(dataset).with_budget(dataset, 2)
        found = groups_of(dataset, cut)
        assert cut.groups == {part: tuple(sorted(names)) for part, names in found.items()}
        assert found["validation"] <= set(split(dataset).groups["validation"])
        assert (len(cut.train), len(cut.validation)) == (2, 2)

    @pytest.mark.parametrize("n", [1, 0, -3])
    def test_too_small_a_budget_is_refused(self, pbmc, n):
        with pytest.raises(DatasetError, match=rf"a budget of {n} labelled .*at least 2"):
            split(pbmc).with_budget(pbmc, n)

    def test_another_data_set_is_refused(self, pbmc):
        with pytest.raises(DatasetError, match="drawn from another data set than 'AnnData'"):
            split(pbmc).with_budget(dataset_of({"B": 400, "T": 400}), 5)


class TestOtherGroups:
    """The groups of the data set are said in the record, and those of the split held out."""

    @pytest.mark.parametrize("kind", ["group", "stratified"])
    @pytest.mark.parametrize("other", [None, "batch", "renamed"])
    def test_a_data_set_with_other_groups_is_refused(self, kind, other):
        obs = {"batch": ["b1", "b2", "b3", "b4"] * (N_CELLS // 4), "donor": ["d1", "d2", "d3"] * (N_CELLS // 3)}
        kinds = np.random.default_rng(0).choice(["B", "T"], N_CELLS)
        cut = split(load_dataset(make(cell_type=kinds, **obs), "cell_type", group_key="donor"), kind=kind)
        obs["donor"] = ["d7", "d8", "d9"] * (N_CELLS // 3) if other == "renamed" else obs["donor"]
        key = "donor" if other == "renamed" else other
        dataset = load_dataset(make(cell_type=kinds, **obs), "cell_type", group_key=key)
        with pytest.raises(DatasetError, match=r"drawn with groups in 'donor' \(d.*draw one of this data set"):
            cut.refuse_other(dataset)
        split(dataset).refuse_other(dataset)

    def test_groups_that_a_split_was_drawn_without_are_refused(self):
        cut = split(load_dataset(make(), "cell_type"))
        with pytest.raises(DatasetError, match=r"with no groups, and 'AnnData' has groups in 'donor' \(d1, d2 of"):
            cut.refuse_other(load_dataset(make(), "cell_type", group_key="donor"))


class TestWithoutClass:
    def test_the_class_leaves_training_and_validation_and_stays_in_the_test(self, pbmc):
        whole = split(pbmc, profile=sized(max_genes=50))
        cut = whole.without_class(pbmc, "CD19+ B")
        assert (cut.unseen, cut.untrained, cut.classes) == ("CD19+ B", ("CD19+ B",), whole.classes)
        np.testing.assert_array_equal(cut.test, whole.test)
        for part in ("train", "validation"):
            kept = [row for row in getattr(whole, part) if pbmc.labels[row] != "CD19+ B"]
            assert getattr(cut, part).tolist() == kept
        variance = pbmc.matrix[cut.train].toarray().astype(np.float64).var(axis=0)
        assert cut.genes == tuple(pbmc.genes[i] for i in sorted(np.argsort(-variance, kind="stable")[:50]))
        assert cut.genes != whole.genes
        assert cut.notes == ("Class CD19+ B was taken out of training and validation on purpose.",)
        assert cut.test_fingerprint == whole.test_fingerprint
        assert cut.fingerprint != whole.fingerprint

    def test_it_goes_together_with_a_budget(self, pbmc):
        one = split(pbmc).with_budget(pbmc, 5).without_class(pbmc, "CD34+")
        other = split(pbmc).without_class(pbmc, "CD34+").with_budget(pbmc, 5)
        assert ids(pbmc, one) == ids(pbmc, other)
        assert (one.budget, one.unseen, one.untrained) == (5, "CD34+", ("CD34+",))
        assert (other.budget, other.unseen, other.untrained) == (5, "CD34+", ("CD34+",))

    def test_an_unknown_class_lists_the_known_ones(self, pbmc):
        with pytest.raises(DatasetError, match=r"unknown class 'B cell'; known: CD14\+ Monocyte, CD19\+ B"):
            split(pbmc).without_class(pbmc, "B cell")

    def test_two_classes_must_remain(self):
        dataset = dataset_of({"B": 9, "T": 9})
        with pytest.raises(DatasetError, match="without class 'B' only T of column 'kind' would train; two are needed"):
            split(dataset).without_class(dataset, "B")


class TestSplitNothingOff:
    """For a model that is kept: every labelled cell takes part."""

    def test_all_cells_train_or_validate_and_none_tests(self):
        dataset = dataset_of({"B": 40, "T": 7, "NK": 2})
        cut = split_nothing_off(dataset, seed=1, profile=sized(max_cells=5))
        assert len(cut.test) == 0
        counts = {part: [int((dataset.labels[getattr(cut, part)] == k).sum()) for k in ("B", "T", "NK")]
                  for part in ("train", "validation")}  # fmt: skip
        assert counts == {"train": [34, 6, 0], "validation": [6, 1, 0]}  # 15 % of 40 and of 7
        assert cut.left_out == {"NK": 2}
        assert cut.classes == ("B", "T")
        assert cut.notes == ("Left out for having fewer than 3 cells: NK (2).",)
        assert split_nothing_off(dataset, seed=2).fingerprint != cut.fingerprint

    def test_validation_cells_train_too_where_nothing_is_chosen_on_them(self, pbmc):
        cut = split(pbmc, profile=sized(max_genes=50))
        more = cut.with_validation_trained(pbmc)
        assert set(more.train) == {*cut.train, *cut.validation}
        assert len(more.train) == len(cut.train) + len(cut.validation)
        np.testing.assert_array_equal(more.test, cut.test)
        variance = pbmc.matrix[more.train].toarray().astype(np.float64).var(axis=0)
        assert more.genes == tuple(pbmc.genes[i] for i in sorted(np.argsort(-variance, kind="stable")[:50]))
        with pytest.raises(DatasetError, match="drawn from another data set"):
            cut.with_validation_trained(dataset_of({"B": 9, "T": 9}))
