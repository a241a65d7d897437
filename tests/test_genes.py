"""Gene names meet the vocabulary exactly, and what is left over is said."""

from __future__ import annotations

import numpy as np
import pytest

from frostline.errors import DatasetError
from frostline.genes import looks_like_ensembl, match_genes

VOCABULARY = {"<pad>": 0, "CD3D": 1, "MS4A1": 2, "LYZ": 3, "RP11-34P13.7": 4}


def test_ids_stand_in_the_order_of_the_names_and_unknown_names_get_minus_one():
    match = match_genes(["LYZ", "nonsense", "CD3D"], VOCABULARY)
    assert match.ids.tolist() == [3, -1, 1]
    assert match.ids.dtype == np.int32
    assert (match.n_matched, match.unmatched) == (2, ("nonsense",))


def test_matching_is_exact_as_in_the_official_code():
    match = match_genes(["cd3d", "LYZ ", "RP11-34P13", "MS4A1"], VOCABULARY)
    assert match.ids.tolist() == [-1, -1, -1, 2]


def test_duplicate_names_stay_duplicates():
    assert match_genes(["LYZ", "LYZ"], VOCABULARY).ids.tolist() == [3, 3]


def test_a_report_counts_the_matches_and_shows_examples():
    match = match_genes(["LYZ", *(f"gene{i}" for i in range(9))], VOCABULARY)
    assert str(match).startswith("1 of 10 genes are in the vocabulary")
    assert str(match).endswith("not in it, for example: gene0, gene1, gene2, gene3, gene4")
    assert str(match_genes(["LYZ"], VOCABULARY)) == "1 of 1 genes are in the vocabulary"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ENSG00000167286", "ENSG00000156738"], r"none of the 2 genes .*ENSG00000167286.*Ensembl ids.*var_names"),
        (["ENSG00000167286.9"], "Ensembl ids"),
        (["ENSMUSG00000032094"], "Ensembl ids"),
        (["Cd3d", "Ms4a1"], r"seen: Cd3d, Ms4a1.*upper case"),
        (["probe_1", "probe_2"], r"seen: probe_1.*human gene symbols such as CD3D"),
    ],
)
def test_no_match_at_all_is_an_error_that_says_what_the_names_look_like(names, message):
    with pytest.raises(DatasetError, match=message):
        match_genes(names, VOCABULARY)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ENSG00000139618", "ENSG00000141510.12", "ENST00000380152"], True),
        (["ENSMUSG00000032094"], True),
        (["BRCA2", "ENSA", "ENSG00000139618"], False),
        (["ENSAP1", "ENSG1"], False),
        ([], False),
    ],
)
def test_ensembl_ids_are_told_from_symbols(names, expected):
    assert looks_like_ensembl(names) is expected
