"""Gene names meet the vocabulary, and what is left over is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.cells.gene_table import ensembl_of
from frostline.cells.genes import looks_like_ensembl, match_genes

VOCABULARY = {"<pad>": 0, "CD3D": 1, "MS4A1": 2, "LYZ": 3, "RP11-34P13.7": 4}


def test_ids_stand_in_the_order_of_the_names_and_unknown_names_get_minus_one():
    match = match_genes(["LYZ", "nonsense", "CD3D"], VOCABULARY)
    assert match.ids.tolist() == [3, -1, 1]
    assert match.ids.dtype == np.int32
    assert (match.n_matched, match.matched, match.unmatched) == (2, ("LYZ", "CD3D"), ("nonsense",))


def test_ids_are_those_of_the_vocabulary_whatever_its_order():
    match = match_genes(["cd3d", "LYZ ", "RP11-34P13", "ENSG00000156738.7", "MS4A1"], {"MS4A1": 40, "LYZ": 9})
    assert match.ids.tolist() == [-1, 9, -1, -1, 40]
    assert match.map.kinds.tolist() == ["lost", "mapped", "lost", "shadowed", "exact"]


def test_duplicate_names_stay_duplicates():
    assert match_genes(["LYZ", "LYZ"], VOCABULARY).ids.tolist() == [3, 3]


def test_a_report_counts_the_matches_and_shows_examples():
    many = {f"G{i}": i for i in range(300)}
    match = match_genes([*many, *(f"gene{i}" for i in range(9))], many)
    assert match.severity == ""
    assert str(match) == (
        "300 of 309 genes are in the vocabulary\n300 exact, 9 lost\nlost: gene0, gene1, gene2, gene3, gene4, ..."
    )
    assert str(match_genes(list(many), many)) == "300 of 300 genes are in the vocabulary\n300 exact"


@pytest.mark.parametrize(
    ("matched", "covered", "severity"),
    [(49, 1.0, "error"), (50, 1.0, "warning"), (199, 1.0, "warning"), (200, 0.6, ""), (200, 0.59, "warning")],
)
def test_too_little_is_below_200_genes_or_60_percent_of_the_counts_and_an_error_below_50_genes(
    matched, covered, severity
):
    names = [*(f"G{i}" for i in range(matched)), "unknown"]
    totals = np.array([covered / matched] * matched + [1 - covered])
    match = match_genes(names, {f"G{i}": i for i in range(300)}, totals)
    assert match.covered == pytest.approx(covered)
    assert match.severity == severity
    assert (match.cause is None) == (severity == "")


@pytest.mark.parametrize(("share", "words"), [(0.004, "less than 1 %"), (0.5, "50 %"), (0.996, "more than 99 %")])
def test_a_share_is_never_rounded_to_nothing_or_all(share, words):
    assert (
        f"with {words} of the counts" in match_genes(["LYZ", "x"], VOCABULARY, np.array([share, 1 - share])).counted()
    )


SYMBOLS = ("CD3D", "MS4A1", "LYZ", "NKG7", "GNLY", "HLA-DRA", "CD79A", "IL7R", "CCR7", "S100A8")
KNOWN = {name: i for i, name in enumerate(SYMBOLS)}
MENDED = {
    "lower case": (lambda name, i: name.lower(), "lower case"),
    "any prefix": (lambda name, i: f"run.7:{name}", "all begin with 'run.7:'"),
    "version": (lambda name, i: f"{name}.{i}", "end in a version"),
    "repeats": (lambda name, i: f"{name}-1", "end in a number"),
}
MAPPED = {
    "10x prefix": lambda name, i: f"GRCh38_{name}",
    "old prefix": lambda name, i: f"hg19-{name}",
    "symbol and id": lambda name, i: f"{name}_ENSG{i:011d}",
    "id and symbol": lambda name, i: f"ENSG{i:011d}.4|{name}",
    "blank": lambda name, i: f" {name}",
    "Ensembl": lambda name, i: f"{ensembl_of([name])[0]}.{i}",
}


@pytest.mark.parametrize("change", MAPPED.values(), ids=MAPPED)
def test_names_that_once_had_to_be_mended_are_mapped(change):
    match = match_genes([change(name, i) for i, name in enumerate(SYMBOLS)], KNOWN)
    assert match.ids.tolist() == list(KNOWN.values())


def test_of_two_species_in_one_table_the_human_genes_are_mapped():
    names = [f"GRCh38_{name}" if i % 3 else f"mm10___{name.capitalize()}" for i, name in enumerate(SYMBOLS)]
    assert match_genes(names, KNOWN).ids.tolist() == [i if i % 3 else -1 for i in range(len(SYMBOLS))]


@pytest.mark.parametrize(("change", "words"), MENDED.values(), ids=MENDED)
def test_names_that_a_change_would_make_known_say_which_and_the_change_does(change, words):
    names = [change(name, i) for i, name in enumerate(SYMBOLS)]
    cause = match_genes(names, KNOWN).cause
    assert words in cause.words
    assert names[0] in cause.words
    mended = eval(f"names{cause.change}", {"names": pd.Index(names)})
    assert match_genes(list(mended), KNOWN).n_matched >= 6


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"ENSG{i:011d}" for i in range(30)], "human Ensembl ids (ENSG00000000000"),
        ([f"ENST{i:011d}" for i in range(30)], "human Ensembl ids"),
        ([f"ENSG{i:011d}.2" for i in range(30)], "human Ensembl ids"),
        ([f"ENSMUSG{i:011d}" for i in range(30)], "those of mouse (ENSMUSG"),
        ([f"ENSDARG{i:011d}" for i in range(30)], "those of zebrafish"),
        ([f"ENSXYZG{i:011d}" for i in range(30)], "those of another species (ENSXYZG)"),
        ([name.capitalize() for name in SYMBOLS], "those of mouse or rat (Cd3d"),
        ([str(7 * i) for i in range(30)], "numbers: Entrez ids"),
        ([f"gene_{i}" for i in range(30)], "numbered names"),
        ([f"NM_{i:06d}" for i in range(30)], "RefSeq ids"),
        ([f"{i}_at" for i in range(30)], "probes of an array"),
        ([f"chr1:{i}-{i + 500}" for i in range(30)], "places in the genome"),
        ([*SYMBOLS, "NEW1", "NEW2"], "only 12 genes, as targeted panels have"),
        (["alpha beta", "7x7"], "seen: alpha beta, 7x7"),
    ],
)
def test_other_names_are_called_what_they_look_like(names, words):
    cause = match_genes(names, KNOWN).cause
    assert words in cause.words
    assert cause.change == ""
    assert cause.advice.endswith(".")


def test_human_genes_of_another_organ_are_distinguished_from_wrong_names():
    names = [f"G{i}" for i in range(60)] + [f"ABC{chr(65 + i % 26)}{i // 26}L" for i in range(2_000)]
    cause = match_genes(names, {f"G{i}": i for i in range(60)}).cause
    assert "human symbols (ABCA0L, ABCB0L, ABCC0L) that this checkpoint has not learned" in cause.words
    assert "whole-human" in cause.advice


@given(st.lists(st.text(max_size=8), max_size=30))
def test_any_names_have_a_match(names):
    match = match_genes(names, KNOWN)
    assert match.n_matched >= sum(name in KNOWN for name in names)
    assert str(match)


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
def test_ensembl_ids_are_distinguished_from_symbols(names, expected):
    assert looks_like_ensembl(names) is expected
