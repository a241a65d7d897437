"""Names that mean missing and names in several spellings are known; names of different cells stay apart."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.cells.words import means_missing, missing_names, plain, renaming, spellings, usual

MISSING = [
    *("nan", "NaN", "NA", "N/A", "n.a.", "#N/A", "<NA>", "pd.NA", "NaT", "none", "None", "(none)", "null", "", " "),
    *("\u00a0", "-", "--", "?", "...", "-1", "unknown", "Unknown", " UNKNOWN ", "[Unknown]", "unknown_1", "Unknown 2"),
    *("Unknown cells", "unknown cell type", "unknown donor", "cell", "Cells", "unassigned", "Unassigned cell"),
    *("unannotated", "Undefined", "unclassified", "undetermined", "unlabelled", "not available", "NOT_AVAILABLE"),
    *("not applicable", "not assigned", "ambiguous", "doublet", "Doublets", "Doublet 3", "T/NK doublets", "multiplet"),
    *("debris", "low quality", "Low-quality cells", "low_quality", "lowQual", "empty droplets", "outlier"),
]
NAMED = [
    *("T", "B", "NK", "NKT", "T cell", "Naive CD4 T", "other", "Other T", "Nanog+", "nasal", "ND", "NB", "Neg", "1"),
    *("0", "cluster 3", "type 2", "Th17", "CD4-", "CD8-", "Undifferentiated", "unipolar brush cell", "Null+ T"),
    *("mast", "donor 1", "sample 2", "Bad1", "Nonclassical monocyte", "singlet", "Unknown T", "Anaplastic"),
]
SAME = [
    *[("T cell", name) for name in ("T cells", "t_cell", "T-cell ", "T  cell", "T\u00a0cell", "Tcell", "T.cells")],
    *[("T cell", name) for name in ("'T cell'", "T\u200b cell", "T cell.", "T\tCELL\n", "\uff34 cell")],
    *(
        ("CD4+ T", "CD4 + T"),
        ("CD4\u207a T", "cd4+ t"),
        ("CD4- T", "CD4\u2212 T"),
        ("CD14+Monocytes", "CD14+ Monocyte"),
    ),
    *(("DC", "DCs"), ("pDC", "pDCs"), ("Treg", "Tregs"), ("Müller", "Muller"), ("Mu\u0308ller", "müller")),
    *(("donor_1", "Donor 1"), ("donor1", "donor-1"), ("IL-7+", "IL7+"), ("CD8-positive", "CD8 positive"), ("a", "A")),
]
DIFFERENT = [
    *(("CD4+ T", "CD4- T"), ("CD4+", "CD4-"), ("CD4", "CD4-"), ("CD4", "CD4+"), ("CD4\u2013", "CD4")),
    *(("CD16+ Monocyte", "CD16 Monocyte"), ("CD4-CD8+", "CD4 CD8+"), ("Th1", "Th17"), ("Th1", "Th2"), ("c1", "c10")),
    *(("donor_1", "donor_11"), ("1.1", "11"), ("1 1", "11"), ("0.1", "01"), ("d1.1", "d11"), ("1-2", "12")),
    *(("T cell (CD4)", "T cell (CD8)"), ("B", "B cell"), ("HLA-DR+", "HLA-DR-"), ("monocyte_1", "monocyte_2")),
    *(("alpha", "alphas beta"), ("T/NK", "T NK"), ("A-", "A"), ("Pt_01", "Pt_1")),
]


@pytest.mark.parametrize("name", MISSING)
def test_what_only_says_that_there_is_none_means_missing(name):
    assert means_missing(name)


@pytest.mark.parametrize("name", NAMED)
def test_names_of_cells_do_not(name):
    assert not means_missing(name)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_blanks_case_plural_hyphens_and_accents_make_no_other_name(one, other):
    assert plain(one) == plain(other)
    assert spellings({one: 5, other: 3}) == [{one: 5, other: 3}]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_signs_and_numbers_do(one, other):
    assert plain(one) != plain(other)
    assert spellings({one: 5, other: 3}) == []


def test_missing_names_are_counted_and_are_no_spellings_of_one_another():
    names = ["nan"] * 3 + ["NaN"] * 2 + ["B"]
    assert missing_names(names) == {"nan": 3, "NaN": 2}
    assert spellings({"nan": 3, "NaN": 2, "B": 1}) == []


def test_the_most_frequent_spelling_is_kept_without_its_blanks():
    (names,) = spellings({"B cell": 2, "B cells ": 7, "b_cell": 1})
    assert list(names) == ["B cells ", "B cell", "b_cell"]
    assert usual(names) == "B cells"


@given(st.text(max_size=12))
def test_any_text_has_a_plain_form_that_blanks_and_case_do_not_change(text):
    assert isinstance(means_missing(text), bool)
    assert plain(text) == plain(f" {text}\t")


@pytest.mark.parametrize("kind", [object, "string", "category"])
@pytest.mark.parametrize("gap", [None, float("nan")])
def test_the_line_of_code_makes_no_name_of_a_missing_one(kind, gap):
    class adata:
        obs = pd.DataFrame({"kind": pd.Series(["B cells", gap, "T", "B cell"], dtype=kind)})

    exec(renaming("kind", {"B cells": "B cell"}), {"adata": adata})
    assert adata.obs["kind"].isna().tolist() == [False, True, False, False]
    assert adata.obs["kind"].dropna().tolist() == ["B cell", "T", "B cell"]


def test_the_line_of_code_renames_numbers():
    class adata:
        obs = pd.DataFrame({"kind": [1.0, None, 2.0]})

    exec(renaming("kind", {"1.0": "one"}), {"adata": adata})
    assert adata.obs["kind"].dropna().tolist() == ["one", "2.0"]


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), min_size=1, max_size=5), st.text(max_size=6))
def test_the_line_of_code_runs_for_any_names(names, key):
    class adata:
        obs = pd.DataFrame({key: pd.Categorical(list(names))})

    exec(renaming(key, names), {"adata": adata})
    assert adata.obs[key].tolist() == list(names.values())
