"""The installed table of human genes, and how a name is read."""

from __future__ import annotations

import pytest

from frostline.cells.gene_table import (
    ALIAS,
    AMBIGUOUS,
    CURRENT,
    ENSEMBL,
    LONGEST,
    PREVIOUS,
    SPELLING,
    UNKNOWN,
    are_shouted,
    ensembl_of,
    gene_table,
    readings,
)


def test_the_table_holds_what_its_readme_says():
    table = gene_table()
    assert len(table) == len({table.symbol(gene) for gene in range(len(table))}) == 44_529
    assert sum(not table.ensembl(gene) for gene in range(len(table))) == 2_289
    assert max(map(len, table.names.tolist())) == LONGEST
    assert table is gene_table()


@pytest.mark.parametrize(
    ("name", "symbol", "claim"),
    [
        ("ENSG00000167286", "CD3D", ENSEMBL),
        ("CD3D", "CD3D", CURRENT),
        ("C1orf127", "CIROZ", PREVIOUS),
        ("MARCH1", "MARCHF1", PREVIOUS),
        ("SEPT2", "SEPTIN2", PREVIOUS),  # also an alias of SEPTIN6: the stronger claim counts
        ("SELM", "SELENOM", ALIAS),
        ("mTOR", "MTOR", ALIAS),
        ("2-Sep", "SEPTIN2", SPELLING),
        ("Sep-02", "SEPTIN2", SPELLING),
        ("3-Mar", "MARCHF3", SPELLING),
    ],
)
def test_names_lead_to_genes_in_the_order_of_the_claims(name, symbol, claim):
    gene, found = gene_table().find(name)
    assert (gene_table().symbol(gene), found) == (symbol, claim)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("QARS", AMBIGUOUS),  # previous symbol of EPRS1 and of QARS1
        ("1-Mar", AMBIGUOUS),  # MARCH1 or MARC1
        ("ENSG00000230417", AMBIGUOUS),  # of two genes
        ("Cd3d", UNKNOWN),
        ("cd3d", UNKNOWN),
        ("Met", UNKNOWN),  # an alias of SLTM, and MET with small letters
        ("40-Sep", UNKNOWN),
        ("ENSG00000280987", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_what_is_of_several_genes_or_of_none(name, result):
    assert gene_table().find(name)[0] == result


def test_capitals_stand_for_small_letters_only_where_the_names_shout():
    assert gene_table().find("C1ORF127")[0] == UNKNOWN
    assert gene_table().find("C1ORF127", shouted=True) == (gene_table().find("CIROZ")[0], SPELLING)
    assert are_shouted(["A"] * 81 + ["a"] * 19)
    assert not are_shouted(["A"] * 80 + ["a"] * 20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" CD3D\t", ["CD3D"]),
        ("GRCh38_CD3D", ["CD3D"]),
        ("hg19-CD3D", ["CD3D"]),
        ("mm10___Cd3d", ["mm10___Cd3d"]),
        ("ENSG00000167286.9", ["ENSG00000167286"]),
        ("GRCh38_ENSG00000167286", ["ENSG00000167286"]),
        ("CD3D_ENSG00000167286", ["ENSG00000167286", "CD3D"]),
        ("ENSG00000167286.9|CD3D", ["ENSG00000167286", "CD3D"]),
        ("HLA-DRA_ENSG00000204287", ["ENSG00000204287", "HLA-DRA"]),
        ("ENSG00000182378.15_PAR_Y", []),
        ("PLCXD1_PAR_Y", []),
        ("HLA.DRA", ["HLA.DRA", "HLA-DRA"]),
        ("RP11.34P13.7", ["RP11.34P13.7", "RP11-34P13-7", "RP11-34P13.7"]),
        ("", [""]),
    ],
)
def test_what_a_name_may_be_read_as(name, expected):
    assert [reading for reading, _ in readings(name)] == expected


def test_ensembl_ids_are_those_of_the_genes():
    names = ["CD3D", "SEPT9", "QARS", "nonsense", "LYZ_ENSG00000090382", "HLA.DRA"]
    expected = ("ENSG00000167286", "ENSG00000184640", "", "", "ENSG00000090382", "ENSG00000204287")
    assert ensembl_of(names) == expected
