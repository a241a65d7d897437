"""Splits: disjoint, complete, stratified, a function of seed and cell ids, blind to the test cells."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from frostline.datasets import Dataset, load_dataset
from frostline.errors import DatasetError, FrostlineError
from frostline.profiles import PROFILES, get_profile
from frostline.splits import MIN_CELLS, split

PARTS = ("train", "validation", "test")


def dataset_of(sizes: dict[str, int], n_genes: int = 6, seed: int = 0) -> Dataset:
    """Cells of the given classes, in a seeded order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    values = rng.poisson(3.0, (len(labels), n_genes)).astype(np.float32)
    values[:, 0] += 1
    obs = pd.DataFrame({"kind": labels}, index=[f"cell{i:04d}" for i in range(len(labels))])
    return load_dataset(AnnData(values, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)])), "kind")


def sized(max_cells: int = 10**6, max_genes: int = 10**6):
    return dataclasses.replace(get_profile("quickstart"), max_cells=max_cells, max_genes=max_genes)


def ids(dataset: Dataset, cut) -> dict[str, list[str]]:
    return {part: dataset.cells[getattr(cut, part)].tolist() for part in PARTS}


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


def test_quickstart_tests_on_at_least_a_hundred_cells(pbmc):
    assert len(split(pbmc, seed=42, profile="quickstart").test) >= 100


def test_the_order_of_rows_does_not_matter(pbmc):
    order = np.random.default_rng(0).permutation(len(pbmc))
    shuffled = load_dataset(pbmc.adata[order].copy(), "bulk_labels", layer="raw")
    one, other = (split(data, seed=7, profile=sized(300, 100)) for data in (pbmc, shuffled))
    assert ids(pbmc, one) == ids(shuffled, other)
    assert one.genes == other.genes
    assert (one.fingerprint, one.test_fingerprint) == (other.fingerprint, other.test_fingerprint)


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
