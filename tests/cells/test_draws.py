"""Draws: disjoint, complete, stratified or by whole groups, a function of seed and cell ids."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from small_cells import PARTS, dataset_of, even, grouped, groups_of, ids, named, reordered, sized, without

from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.draws import MIN_CELLS, names_of, random_across
from frostline.cells.joining import join_datasets
from frostline.cells.partitions import fingerprint_of_parts
from frostline.cells.splits import repeats_of, split
from frostline.errors import DatasetError


@given(st.lists(st.integers(MIN_CELLS, 40), min_size=2, max_size=6), st.integers(0, 1_000))
def test_parts_are_disjoint_complete_and_hold_every_class(sizes, seed):
    dataset = dataset_of({f"class{i}": n for i, n in enumerate(sizes)})
    cut = split(dataset, seed=seed)
    rows = np.concatenate([getattr(cut, part) for part in PARTS])
    assert sorted(rows) == list(range(len(dataset)))
    for part in PARTS:
        assert set(dataset.labels[getattr(cut, part)]) == set(cut.classes)
        assert cut.sizes[part] == len(getattr(cut, part))


def test_every_class_is_divided_in_the_same_shares(pbmc):
    cut = split(pbmc, seed=42)
    for name, n in pbmc.summary()["cells"].items():
        counts = [int((pbmc.labels[getattr(cut, part)] == name).sum()) for part in PARTS]
        assert sum(counts) == n
        assert abs(counts[2] - 0.25 * n) <= 0.5 + 1e-9 or counts[2] == 1
        assert abs(counts[1] - 0.15 * n) <= 0.5 + 1e-9 or counts[1] == 1


def test_the_order_of_rows_does_not_matter(pbmc):
    order = np.random.default_rng(0).permutation(len(pbmc))
    shuffled = load_dataset(pbmc.adata[order].copy(), "bulk_labels", layer="raw")
    one, other = (split(data, seed=7, profile=sized(300, 100)) for data in (pbmc, shuffled))
    assert ids(pbmc, one) == ids(shuffled, other)
    assert one.genes == other.genes
    assert (one.fingerprint, one.test_fingerprint) == (other.fingerprint, other.test_fingerprint)


class TestFolds:
    """A stratified split can be dealt, so that every cell tests once."""

    @given(st.lists(st.integers(MIN_CELLS, 40), min_size=2, max_size=5), st.integers(3, 8), st.integers(0, 99))
    def test_every_cell_tests_once_and_every_class_trains_and_validates(self, sizes, folds, seed):
        dataset = dataset_of({f"class{i}": n for i, n in enumerate(sizes)})
        cuts = [split(dataset, seed=seed, folds=folds, repeat=repeat) for repeat in range(folds)]
        assert sorted(np.concatenate([cut.test for cut in cuts])) == list(range(len(dataset)))
        for cut in cuts:
            assert sorted(np.concatenate([getattr(cut, part) for part in PARTS])) == list(range(len(dataset)))
            assert set(dataset.labels[cut.train]) == set(dataset.labels[cut.validation]) == set(dataset.labels)
        assert max(len(cut.test) for cut in cuts) - min(len(cut.test) for cut in cuts) <= 1

    def test_another_cycle_deals_again_and_other_cells_validate_in_each_fold(self, pbmc):
        cuts = [split(pbmc, folds=4, repeat=repeat) for repeat in range(5)]
        assert len({cut.fingerprint for cut in cuts}) == 5
        assert set(cuts[4].test) != set(cuts[0].test)
        assert 0.19 < len(cuts[0].validation) / (len(cuts[0].train) + len(cuts[0].validation)) < 0.25

    def test_a_limit_of_cells_is_kept_by_all_folds_together(self, pbmc):
        cuts = [split(pbmc, folds=4, repeat=repeat, profile=sized(200)) for repeat in range(4)]
        assert len(set(np.concatenate([cut.test for cut in cuts]))) == 200

    @pytest.mark.parametrize(("kind", "folds"), [("stratified", 2), ("group", 5)])
    def test_too_few_folds_and_folds_of_another_kind_are_refused(self, kind, folds):
        with pytest.raises(DatasetError, match=f"folds={folds} with kind='{kind}': only kind='stratified' takes"):
            split(even(6), kind=kind, folds=folds)


class TestSubsampling:
    def test_a_sample_has_exactly_the_size_asked_for_and_the_shares_of_the_whole(self, pbmc):
        cut = split(pbmc, profile=sized(300))
        rows = np.concatenate([getattr(cut, part) for part in PARTS])
        assert len(rows) == len(set(rows)) == 300
        for name, n in pbmc.summary()["cells"].items():
            kept = int((pbmc.labels[rows] == name).sum())
            assert abs(kept - n * 300 / 700) < 1 or kept == MIN_CELLS

    @given(st.lists(st.integers(10, 80), min_size=2, max_size=7), st.integers(0, 500))
    def test_the_size_is_exact_for_any_class_sizes(self, sizes, extra):
        dataset = dataset_of({f"class{i}": n for i, n in enumerate(sizes)})
        max_cells = min(MIN_CELLS * len(sizes) * 8 + extra, len(dataset))
        assert sum(split(dataset, profile=sized(max_cells)).sizes[part] for part in PARTS) == max_cells

    def test_rare_classes_keep_three_cells_and_the_size_stays_exact(self):
        dataset = dataset_of({"common": 400, **{f"rare{i}": 3 for i in range(10)}})
        cut = split(dataset, profile=sized(100))
        assert set(cut.classes) == set(dataset.labels)
        rows = np.concatenate([getattr(cut, part) for part in PARTS])
        assert all((dataset.labels[rows] == name).sum() == 3 for name in cut.classes if name != "common")
        assert len(rows) == 100

    def test_what_rounding_leaves_goes_to_the_largest_remainder(self):
        """Of 50, 30 and 20 cells 47: 23.5, 14.1 and 9.4."""
        dataset = dataset_of({"c": 50, "b": 30, "a": 20})
        cut = split(dataset, profile=sized(47))
        kept = dataset.labels[np.concatenate([getattr(cut, part) for part in PARTS])]
        assert {name: int((kept == name).sum()) for name in "abc"} == {"a": 9, "b": 14, "c": 24}

    def test_a_data_set_that_fits_is_kept_whole(self, pbmc):
        assert sum(split(pbmc, profile=sized(700)).sizes[part] for part in PARTS) == 700

    def test_the_sample_depends_on_the_seed(self, pbmc):
        rows = [np.concatenate([getattr(split(pbmc, seed=s, profile=sized(200)), p) for p in PARTS]) for s in (0, 1)]
        assert set(rows[0]) != set(rows[1])


class TestSmallClasses:
    def test_classes_of_fewer_than_three_cells_are_left_out_and_listed(self):
        dataset = dataset_of({"B": 20, "T": 20, "rare": 2, "single": 1, "three": 3})
        cut = split(dataset)
        assert cut.classes == ("B", "T", "three")
        assert cut.left_out == {"rare": 2, "single": 1}
        assert [len(getattr(cut, part)) for part in PARTS] == [12 + 12 + 1, 3 + 3 + 1, 5 + 5 + 1]
        assert cut.notes == ("Left out for having fewer than 3 cells: rare (2), single (1).",)

    def test_nothing_left_out_leaves_no_note(self, pbmc):
        assert split(pbmc).notes == ()

    def test_fewer_than_two_classes_of_three_cells_are_refused(self):
        with pytest.raises(DatasetError, match=r"label column 'kind' has 1 class\(es\) of at least 3.*'rare': 2"):
            split(dataset_of({"B": 20, "rare": 2}))


class TestGroups:
    """Whole donors, batches or studies are held out."""

    @given(
        st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=12),
        st.integers(0, 1_000),
        st.integers(0, 9),
    )
    def test_no_group_is_on_two_sides_and_every_cell_in_one_part(self, sizes, seed, repeat):
        dataset = grouped({f"d{i}": {"B": b + 2, "T": t + 2} for i, (b, t) in enumerate(sizes)})
        cut = split(dataset, seed=seed, repeat=repeat)
        found = groups_of(dataset, cut)
        assert not found["test"] & (found["train"] | found["validation"])
        assert len(sizes) == 2 or not found["train"] & found["validation"]
        assert all(found.values())
        assert sorted(np.concatenate([getattr(cut, part) for part in PARTS])) == list(range(len(dataset)))
        assert cut.groups == {part: tuple(sorted(names)) for part, names in found.items()}
        assert (cut.kind, cut.group_key, cut.untrained) == ("group", "donor", ())

    @pytest.mark.parametrize(
        ("n_groups", "n_test", "n_validation"),
        [(3, 1, 1), (4, 1, 1), (5, 1, 1), (6, 2, 1), (7, 2, 1), (8, 2, 1), (10, 2, 2), (12, 3, 2), (20, 5, 3)],
    )
    def test_a_quarter_of_the_groups_tests_and_fifteen_percent_validate(self, n_groups, n_test, n_validation):
        dataset = even(n_groups)
        found = groups_of(dataset, split(dataset))
        assert {part: len(names) for part, names in found.items()} == {
            "train": n_groups - n_test - n_validation,
            "validation": n_validation,
            "test": n_test,
        }

    @given(st.integers(2, 13), st.integers(0, 500))
    def test_repeats_test_every_group_before_one_a_second_time(self, n_groups, seed):
        dataset = even(n_groups, each=2)
        n_test = max(1, round(n_groups / 4))
        turns = repeats_of(dataset, profile="quickstart")
        held_out = [split(dataset, seed=seed, repeat=repeat).groups["test"] for repeat in range(turns)]
        assert sorted(name for names in held_out for name in names) == list(names_of(dataset.groups))
        assert n_test == len(held_out[0]) >= len(held_out[-1]) >= max(1, n_test - 1)
        assert turns >= 3 or n_groups == 2
        after = split(dataset, seed=seed, repeat=turns)
        assert len(after.groups["test"]) == n_test
        assert not set(after.groups["test"]) & set(after.groups["train"])

    def test_a_profile_with_more_repeats_tests_every_group_equally_often(self, tiny_profile):
        dataset, seven = even(4), dataclasses.replace(tiny_profile, repeats=7)
        assert repeats_of(dataset, profile=seven) == 8
        assert repeats_of(dataset, profile=seven, kind="stratified") == 7
        assert repeats_of(without(dataset, None), profile=seven) == 7

    def test_a_group_of_small_classes_alone_has_no_turn(self):
        groups = {f"d{i}": {"B": 9, "T": 9} for i in range(4)}
        dataset = grouped({**groups, "d4": {"one": 1, "two": 2}})
        assert repeats_of(dataset) == 4

    def test_validation_changes_with_the_repeat_and_the_order_with_the_seed(self):
        dataset = even(6)
        assert len({split(dataset, repeat=r).groups["validation"] for r in range(3)}) == 3
        assert len({split(dataset, seed=s).groups["test"] for s in range(12)}) > 3

    @pytest.mark.parametrize("max_cells", [10**6, 60])
    @pytest.mark.parametrize("kind", ["group", "stratified"])
    def test_the_order_of_rows_does_not_matter(self, kind, max_cells):
        dataset = even(8, each=9)
        for repeat in range(2):
            settings = {"kind": kind, "repeat": repeat, "profile": sized(max_cells, 5)}
            one, other = split(dataset, **settings), split(reordered(dataset), **settings)
            assert ids(dataset, one) == ids(reordered(dataset), other)
            assert (one.genes, one.groups, one.fingerprint) == (other.genes, other.groups, other.fingerprint)

    def test_with_two_groups_a_fifth_of_the_training_group_validates_and_a_note_says_so(self):
        dataset = grouped({"a": {"B": 20, "T": 10, "NK": 1}, "b": {"B": 20, "T": 10, "NK": 2}})
        cut = split(dataset)
        found = groups_of(dataset, cut)
        assert found["train"] == found["validation"] != found["test"]
        assert (dataset.labels[cut.validation] == "B").sum() == 4
        assert (dataset.labels[cut.validation] == "T").sum() == 2
        assert len(cut.test) + len(cut.train) + len(cut.validation) == 63
        (note,) = cut.notes
        assert "two groups in 'donor'" in note
        assert "optimistic" in note
        assert found["train"].pop() in note

    def test_three_groups_or_more_leave_no_note(self):
        assert split(even(3)).notes == ()

    def test_one_group_is_refused_with_the_remedy(self):
        dataset = grouped({"a": {"B": 5, "T": 5}}, batch=["x", "y"] * 5)
        with pytest.raises(DatasetError, match=r"'donor' has one group only \(a\).*kind='stratified'.*: batch\)"):
            split(dataset)
        assert split(dataset, kind="stratified").kind == "stratified"

    def test_without_a_group_column_the_candidates_are_named(self):
        dataset = without(even(3), None)
        with pytest.raises(DatasetError, match=r"loaded without group_key; .*look like groups: donor"):
            split(dataset, kind="group")

    def test_an_unknown_kind_lists_the_known_ones(self, pbmc):
        with pytest.raises(DatasetError, match="unknown kind of split 'random'; known: stratified, group, cross"):
            split(pbmc, kind="random")

    def test_a_class_that_training_lacks_stays_in_the_test_and_is_named(self):
        groups = {f"d{i}": {"B": 5, "T": 5} for i in range(4)}
        groups["d0"]["rare"] = 4
        dataset = grouped(groups)
        cuts = [split(dataset, repeat=repeat) for repeat in range(4)]
        for cut in cuts:
            tests_it = "d0" in cut.groups["test"]
            assert cut.untrained == (("rare",) if tests_it else ())
            assert cut.classes == ("B", "T", "rare")
            assert (dataset.labels[cut.test] == "rare").sum() == (4 if tests_it else 0)
            assert any("No training cell has the class(es) rare" in note for note in cut.notes) == tests_it
        assert sum("d0" in cut.groups["test"] for cut in cuts) == 1

    def test_a_class_that_only_validation_has_is_in_the_classes_but_not_untrained(self):
        groups = {f"d{i}": {"B": 5, "T": 5} for i in range(4)}
        groups["d0"]["rare"] = 4
        dataset = grouped(groups)
        (cut,) = [c for c in (split(dataset, repeat=r) for r in range(4)) if "d0" in c.groups["validation"]]
        assert (cut.untrained, cut.classes) == ((), ("B", "T", "rare"))

    def test_a_class_that_only_validation_and_test_have_is_untrained(self):
        groups = {f"d{i}": {"B": 5, "T": 5} for i in range(4)}
        groups["d0"]["rare"] = groups["d1"]["rare"] = 4
        dataset = grouped(groups)
        cuts = [split(dataset, seed=seed) for seed in range(30)]
        apart = [cut for cut in cuts if set(cut.groups["test"] + cut.groups["validation"]) == {"d0", "d1"}]
        assert apart
        assert {cut.untrained for cut in apart} == {("rare",)}

    def test_a_class_of_one_cell_is_left_out_with_its_group(self):
        dataset = grouped({"a": {"B": 9, "T": 9}, "b": {"B": 9, "T": 9}, "c": {"B": 9, "T": 9}, "d": {"one": 1}})
        cut = split(dataset)
        assert cut.left_out == {"one": 1}
        assert cut.notes == ("Left out for having fewer than 3 cells: one (1).",)
        assert set().union(*map(set, cut.groups.values())) == {"a", "b", "c"}

    def test_groups_that_are_the_classes_cannot_train(self):
        dataset = grouped({"a": {"B": 9}, "b": {"T": 9}})
        message = r"training cells \(group\(s\) [ab]\) have 1 class\(es\) of column 'kind' \([BT]\), and two are needed"
        with pytest.raises(DatasetError, match=message):
            split(dataset)

    def test_validation_without_a_trained_class_is_refused(self):
        dataset = grouped({"a": {"B": 9, "T": 9}, "b": {"X": 9, "Y": 9}, "c": {"V": 9, "W": 9}})
        with pytest.raises(DatasetError, match=r"validation cells have no class of column 'kind'.*seen: [A-Z], [A-Z]"):
            split(dataset)

    @pytest.mark.parametrize("max_cells", [60, 90, 200])
    def test_the_profile_limits_the_cells_and_every_part_keeps_its_share(self, max_cells):
        dataset = grouped({f"d{i}": {"B": 40, "T": 20} for i in range(8)})
        cut = split(dataset, profile=sized(max_cells))
        assert sum(cut.sizes[part] for part in PARTS) == max_cells
        assert cut.sizes["test"] == round(0.25 * max_cells)
        assert cut.sizes["validation"] == round(0.15 * max_cells)
        for part in PARTS:
            share = (dataset.labels[getattr(cut, part)] == "B").mean()
            assert share == pytest.approx(2 / 3, abs=0.12)
        found = groups_of(dataset, cut)
        assert not found["test"] & (found["train"] | found["validation"])

    def test_what_a_small_test_group_does_not_need_goes_to_training(self):
        groups = {f"d{i}": {"B": 5, "T": 5} for i in range(4)}
        groups["big"] = {"B": 300, "T": 300}
        dataset = grouped(groups)
        cut = next(c for r in range(5) if "big" in (c := split(dataset, repeat=r, profile=sized(200))).groups["train"])
        assert (cut.sizes["test"], cut.sizes["validation"], cut.sizes["train"]) == (10, 10, 180)

    def test_pancreas_holds_a_donor_out_and_four_repeats_test_all_four(self):
        pancreas = load_dataset("pancreas")
        cuts = [split(pancreas, repeat=repeat) for repeat in range(4)]
        assert {cut.groups["test"][0] for cut in cuts} == {"human1", "human2", "human3", "human4"}
        assert sum(cut.sizes["test"] for cut in cuts) == 175
        assert {cut.kind for cut in cuts} == {"group"}


class TestOptimism:
    """A random split across donors says so."""

    def test_a_random_split_with_a_group_column_is_called_optimistic(self):
        dataset = even(4, each=20)
        cut = split(dataset, kind="stratified")
        (note,) = cut.notes
        assert "optimistic" in note
        assert "'donor' (4 groups)" in note
        assert cut.groups == dict.fromkeys(PARTS, ("d00", "d01", "d02", "d03"))

    @pytest.mark.parametrize("column", ["donor_id", "PatientNumber", "batch", "technology", "chemistry", "orig.ident"])
    def test_so_is_one_with_a_column_that_looks_like_groups(self, column):
        dataset = dataset_of({"B": 20, "T": 22})
        dataset.adata.obs[column] = ["one", "other", "third"] * 14
        cut = split(dataset.relabelled(dataset.label_key))
        assert (cut.kind, cut.groups, cut.group_key) == ("stratified", {}, None)
        (note,) = cut.notes
        assert f"'{column}' (3 groups)" in note
        assert "optimistic" in note
        assert f"group_key='{column}'" in note

    def test_the_label_column_itself_is_no_group(self):
        dataset = grouped({"a": {"B": 9, "T": 9}, "b": {"B": 9, "T": 9}})
        by_donor = load_dataset(dataset.adata, "donor")
        assert random_across(by_donor) == ()
        assert split(by_donor).notes == ()

    def test_groups_and_kind_enter_the_fingerprint_but_not_that_of_the_test(self):
        dataset = even(4)
        with_groups, without_groups = (split(without(dataset, key), kind="stratified") for key in ("donor", None))
        assert ids(dataset, with_groups) == ids(dataset, without_groups)
        assert with_groups.fingerprint != without_groups.fingerprint
        assert with_groups.test_fingerprint == without_groups.test_fingerprint
        renamed = even(4)
        renamed.adata.obs["donor"] = renamed.adata.obs["donor"].str.upper()
        other = split(renamed.relabelled(renamed.label_key, "donor"), kind="stratified")
        assert ids(renamed, other) == ids(dataset, with_groups)
        assert other.fingerprint != with_groups.fingerprint
        rows = np.arange(5)
        prints = {fingerprint_of_parts(dataset, rows, kind=kind) for kind in ("stratified", "group", "cross")}
        assert len(prints) == 3


class TestCross:
    """Train on one data set, test on another."""

    @pytest.fixture
    def joined(self) -> Dataset:
        train = dataset_of({"B": 40, "T": 20, "NK": 10, "only here": 6, "two": 2}, seed=1)
        test = dataset_of({"B": 12, "T": 9, "NK": 1, "unheard of": 7, "new": 1}, seed=2)
        return join_datasets(named(train, "first"), named(test, "second"))

    def test_all_cells_of_the_second_set_test_that_have_a_label_of_the_first(self, joined):
        cut = split(joined)
        assert cut.kind == "cross"
        assert set(joined.origin[cut.test]) == {"second"}
        assert set(joined.origin[np.concatenate([cut.train, cut.validation])]) == {"first"}
        assert cut.table(joined)["test"].to_dict() == {"B": 12, "T": 9, "NK": 1, "only here": 0}
        assert cut.table(joined)["validation"].to_dict() == {"B": 8, "T": 4, "NK": 2, "only here": 1}
        assert cut.table(joined)["train"].to_dict() == {"B": 32, "T": 16, "NK": 8, "only here": 5}
        assert cut.classes == ("B", "NK", "T", "only here")
        assert cut.untrained == ()

    def test_what_does_not_match_is_reported(self, joined):
        cut = split(joined)
        assert cut.left_out == {"two": 2, "unheard of": 7, "new": 1}
        text = " ".join(cut.notes)
        assert "Left out for having fewer than 3 cells: two (2)." in text
        assert "Labels of second that first lacks, left out: new (1), unheard of (7)." in text
        assert "Labels of first without a test cell in second: only here." in text
        assert "Validation cells come from first" in text

    def test_matching_labels_leave_no_word_about_labels(self):
        sets = [named(dataset_of({"B": 9, "T": 9}, seed=i), f"set{i}") for i in range(2)]
        (note,) = split(join_datasets(*sets)).notes
        assert note.startswith("Validation cells come from set0")

    @pytest.mark.parametrize("repeat", range(5))
    def test_whole_groups_of_the_training_set_validate(self, repeat):
        train, test = named(even(5), "train"), named(even(2), "test")
        joined = join_datasets(train, test)
        cut = split(joined, repeat=repeat)
        assert len(cut.groups["validation"]) == 1
        assert not set(cut.groups["validation"]) & set(cut.groups["train"])
        assert len(cut.test) == len(test)
        assert cut.groups["test"] == ("d00", "d01")

    def test_the_groups_that_validate_take_turns(self):
        joined = join_datasets(named(even(5), "train"), named(even(2), "test"))
        assert len({split(joined, repeat=repeat).groups["validation"] for repeat in range(5)}) == 5

    def test_two_groups_are_enough_for_that(self):
        joined = join_datasets(named(even(2), "train"), named(even(2), "test"))
        cut = split(joined)
        assert len(cut.groups["validation"]) == len(cut.groups["train"]) == 1
        assert cut.groups["validation"] != cut.groups["train"]

    def test_the_only_training_cell_of_a_class_trains(self):
        train = named(dataset_of({"B": 10, "T": 10, "NK": 1}), "train")
        test = named(dataset_of({"B": 10, "T": 10, "NK": 5}, seed=1), "test")
        joined = join_datasets(train, test)
        assert split(joined).table(joined).loc["NK"].tolist() == [1, 0, 5]

    def test_one_group_in_training_validates_at_random(self):
        joined = join_datasets(named(even(1, each=10), "train"), named(even(2), "test"))
        cut = split(joined)
        assert (cut.sizes["train"], cut.sizes["validation"]) == (16, 4)

    def test_a_training_set_that_was_loaded_without_groups_validates_at_random(self):
        alone = load_dataset(even(5).adata, "kind", name="train")
        joined = join_datasets(alone, named(even(2), "test"))
        assert (joined.group_key, alone.group_key) == ("donor", None)
        cut = split(joined)
        assert cut.sizes["validation"] == len(alone) // 5
        assert set(cut.groups["validation"]) <= set(cut.groups["train"])

    def test_the_order_of_rows_does_not_matter(self):
        train, test = named(even(5, each=9), "train"), named(even(2, each=9), "test")
        profile = sized(60, 5)
        one = split(join_datasets(train, test), profile=profile)
        other = split(join_datasets(reordered(train), reordered(test)), profile=profile)
        assert (one.fingerprint, one.genes, one.groups) == (other.fingerprint, other.genes, other.groups)

    def test_the_profile_limits_both_sides(self):
        train = named(dataset_of({"B": 300, "T": 300}), "train")
        test = named(dataset_of({"B": 300, "T": 300}, seed=1), "test")
        cut = split(join_datasets(train, test), profile=sized(100))
        assert [cut.sizes[part] for part in PARTS] == [60, 15, 25]

    def test_genes_are_chosen_on_training_cells_alone(self, fresh):
        train, test = (named(dataset_of({"B": 30, "T": 30}, 20, seed=i), f"set{i}") for i in range(2))
        joined = join_datasets(train, test)
        cut = split(joined, profile=sized(max_genes=7))
        matrix = joined.matrix.toarray()
        matrix[np.concatenate([cut.test, cut.validation])] = 9.0
        assert split(fresh(joined, matrix=sparse.csr_matrix(matrix)), profile=sized(max_genes=7)).genes == cut.genes

    def test_a_single_data_set_is_refused(self, pbmc):
        with pytest.raises(DatasetError, match=r"'pbmc68k-reduced' is a single one; .*join_datasets"):
            split(pbmc, kind="cross")

    def test_a_random_split_of_joined_sets_is_called_optimistic(self, joined):
        assert any("optimistic for a new data set" in note for note in split(joined, kind="stratified").notes)
