"""Names of genes are sorted by what they are, and say of which species."""

from __future__ import annotations

import pytest

from frostline.cells.gene_names import name_kinds


@pytest.mark.parametrize(
    ("names", "kinds", "species"),
    [
        (["CD3D", "LYZ", "MS4A1"], {"current symbol": 3}, "human"),
        (["ENSG00000167286", "ENSG00000090382.7"], {"Ensembl id": 2}, "human"),
        (["PTPRC_ENSG00000081237", "ENSG00000167286-CD3D"], {"symbol beside an Ensembl id": 2}, "human"),
        (["GRCh38_CD3D", "GRCh38_SEPT9"], {"current symbol": 1, "previous symbol": 1}, "human"),
        (["Cd3d", "Ms4a1", "Lyz2"], {"symbol as of a mouse": 3}, "mouse or rat"),
        (["ENSMUSG00000032094", "ENSMUSG00000024673.9"], {"Ensembl id of another species": 2}, "mouse"),
        (["7157", "672"], {"number (Entrez id, or place in a list)": 2}, ""),
        (["1007_s_at", "1053_at"], {"probe of an array": 2}, ""),
        (["NM_000546.6", "chr1:100-200"], {"RefSeq id": 1, "place in the genome": 1}, ""),
        (["QARS", "1-Mar"], {"symbol of several genes": 2}, ""),
        (["gene1", "gene2"], {"unknown to HGNC": 2}, ""),
        ([], {}, ""),
    ],
)
def test_kinds_and_species(names, kinds, species):
    found = name_kinds(names)
    assert (found.kinds, found.species) == (kinds, species)


def test_versions_prefixes_and_examples_are_counted_apart():
    found = name_kinds(["ENSG00000167286.9", "ENSG00000090382", "hg19_CD3D", "hg19_LYZ", "NKG7", "GNLY"])
    assert (found.n_versions, found.n_prefixed) == (1, 2)
    assert found.kinds == {"current symbol": 4, "Ensembl id": 2}
    assert found.examples["current symbol"] == ("hg19_CD3D", "hg19_LYZ", "NKG7")
    assert str(found) == (
        "current symbol: 4 (hg19_CD3D, hg19_LYZ, NKG7); Ensembl id: 2 (ENSG00000167286.9, ENSG00000090382); "
        "1 end in a version; 2 have the name of a genome in front"
    )


def test_no_gene_is_said():
    assert str(name_kinds([])) == "no gene"
