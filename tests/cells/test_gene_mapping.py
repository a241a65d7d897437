"""Names of genes are brought to a target's by one order of claims, and values follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from frostline.cells.gene_mapping import KINDS, map_genes, other_species, refuse_other_species
from frostline.errors import DatasetError

TARGET = ("LYZ", "CD3D", "SEPT9", "HLA-DRA", "C1orf127", "RP11-34P13.7", "MARCHF1", "SEPTIN2", "EPRS1")


def fate(names, target=TARGET):
    found = map_genes(names, target)
    return [
        (kind, found.target[place] if place >= 0 else "") for kind, place in zip(found.kinds, found.places, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "kind", "token", "claim"),
    [
        ("CD3D", "exact", "CD3D", "own name"),
        ("SEPT9", "exact", "SEPT9", "own name"),
        ("CD3D ", "mapped", "CD3D", "tidied name"),
        ("hg38_RP11-34P13.7", "mapped", "RP11-34P13.7", "tidied name"),
        ("ENSG00000167286.3", "mapped", "CD3D", "Ensembl id"),
        ("ENSG00000184640", "mapped", "SEPT9", "Ensembl id"),  # the vocabulary's name is the old one
        ("GRCh38_ENSG00000167286", "mapped", "CD3D", "Ensembl id"),
        ("LYZ_ENSG00000090382", "mapped", "LYZ", "Ensembl id"),
        ("ENSG00000090382_LYZ", "mapped", "LYZ", "Ensembl id"),
        ("LYZ_ENSG00000999999", "mapped", "LYZ", "current symbol"),  # an id that is not known
        ("SEPTIN9", "mapped", "SEPT9", "current symbol"),
        ("MARCH1", "mapped", "MARCHF1", "previous symbol"),
        ("MSF", "mapped", "SEPT9", "previous symbol"),
        ("HLA.DRA", "mapped", "HLA-DRA", "other spelling"),
        ("RP11.34P13.7", "mapped", "RP11-34P13.7", "other spelling"),
        ("2-Sep", "mapped", "SEPTIN2", "other spelling"),
        ("1-Mar", "ambiguous", "", ""),
        ("QARS", "ambiguous", "", ""),  # EPRS1 or QARS1
        ("ENSG00000184640.5_PAR_Y", "lost", "", ""),
        ("Cd3d", "lost", "", ""),
        ("cd3d", "lost", "", ""),
        ("CD8A", "lost", "", ""),  # a gene, but not of the target
        ("ENSMUSG00000032094", "lost", "", ""),
    ],
)
def test_each_rule(name, kind, token, claim):
    (row,) = map_genes([name], TARGET).table().itertuples(index=False)
    assert tuple(row) == (name, kind, token, claim)


def test_capitals_are_forgiven_only_among_names_in_upper_case():
    assert fate(["C1ORF127"]) == [("mapped", "C1orf127")]
    assert fate(["C1ORF127", "Cd3d"])[0] == ("lost", "")


def test_an_exact_token_wins_also_against_the_gene_of_another_name():
    """SEPT2 was SEPTIN2; where the target has both, each name keeps its own token."""
    assert fate(["SEPT2", "SEPTIN2"], ["SEPTIN2", "SEPT2"]) == [("exact", "SEPT2"), ("exact", "SEPTIN2")]
    assert fate(["ENSG00000168385"], ["SEPT2", "SEPTIN2"]) == [
        ("mapped", "SEPTIN2")
    ]  # the current symbol holds the gene


def test_of_the_tokens_of_one_gene_its_symbol_is_taken():
    """The official vocabulary has CRLF2 and CRLF2_ENSG00000205755."""
    assert fate(["ENSG00000205755"], ["CRLF2_ENSG00000205755", "CRLF2"]) == [("mapped", "CRLF2")]
    assert fate(["CRLF2"], ["CRLF2_ENSG00000205755"]) == [("mapped", "CRLF2_ENSG00000205755")]


def test_a_symbol_beside_an_id_says_which_of_the_tokens_of_the_gene_is_meant():
    both = ["SEPT9_ENSG00000184640", "SEPTIN9_ENSG99999999999"]
    assert fate(both, ("SEPTIN9", "SEPT9")) == [("mapped", "SEPT9"), ("mapped", "SEPTIN9")]
    assert fate(["ENSG00000184640", "MSF_ENSG00000184640"], ("SEPT9", "SEPTIN9")) == [("summed", "SEPTIN9")] * 2
    assert fate(["CD3D_ENSG00000090382"], ("CD3D", "LYZ")) == [("mapped", "LYZ")]  # a symbol of another gene is none


def test_a_weaker_claim_is_shadowed_and_equal_ones_are_summed():
    names = ["SEPT9", "SEPTIN9", "ENSG00000167286.1", "ENSG00000167286.2", "CD3D_ENSG00000000000"]
    assert [kind for kind, _ in fate(names)] == ["exact", "shadowed", "summed", "summed", "shadowed"]
    table = map_genes(names, TARGET).table()
    assert table["token"].tolist() == ["SEPT9", "SEPT9", "CD3D", "CD3D", "CD3D"]
    assert fate(names[1:])[0] == ("mapped", "SEPT9")


def test_the_two_matr3_of_a_10x_reference():
    names = ["MATR3_ENSG00000280987", "MATR3_ENSG00000015479"]
    assert [kind for kind, _ in fate(names, ["MATR3"])] == ["shadowed", "mapped"]
    assert fate(["ENSG00000280987"], ["MATR3"]) == [("lost", "")]


def test_ensembl_ids_can_be_the_target():
    target = ["ENSG00000167286", "ENSG00000090382.4"]
    assert fate(["CD3D", "LYZ", "ENSG00000167286.9"], target) == [
        ("shadowed", ""),
        ("mapped", "ENSG00000090382.4"),
        ("mapped", "ENSG00000167286"),
    ]


def test_the_counts_and_the_names_are_said():
    found = map_genes(["CD3D", "LYZ ", "QARS", "x"], TARGET, np.array([5.0, 3.0, 1.0, 1.0]))
    assert found.covered == pytest.approx(0.8)
    assert found.counts == dict(zip(KINDS, (1, 1, 0, 0, 1, 1), strict=True))
    assert str(found) == (
        "2 of 4 names join a gene of the target, with 80.0 % of the counts\n"
        "1 exact, 1 mapped, 1 ambiguous, 1 lost\nambiguous: QARS\nlost: x"
    )
    assert str(map_genes([], TARGET)) == "0 of 0 names join a gene of the target"
    assert found.tokens == ("CD3D", "LYZ")


NAMES = ["ENSG00000167286.1", "x", "LYZ", "ENSG00000167286.2", "SEPT9", "SEPTIN9"]
COUNTS = np.array([[1, 9, 2, 3, 4, 8], [0, 9, 0, 5, 0, 8], [2, 0, 7, 0, 1, 0]])
SUMMED = np.array([[2, 4, 4], [0, 5, 0], [7, 2, 1]])  # LYZ, CD3D, SEPT9


class TestValues:
    def test_counts_are_summed_and_shadowed_ones_left_out(self):
        matrix = map_genes(NAMES, TARGET).apply(sparse.csr_matrix(COUNTS), logged=False)
        assert matrix.dtype == COUNTS.dtype
        assert np.array_equal(matrix.toarray(), np.pad(SUMMED, ((0, 0), (0, 6))))

    def test_log_values_are_undone_summed_and_taken_again(self):
        matrix = sparse.csr_matrix(np.log1p(COUNTS).astype(np.float32))
        found = map_genes(NAMES, TARGET).apply(matrix, logged=True)
        assert found.dtype == np.float32
        assert np.allclose(found.toarray()[:, :3], np.log1p(SUMMED), rtol=1e-6)
        assert np.array_equal(found.toarray()[:, [0, 2]], matrix.toarray()[:, [2, 4]])  # of one name: to the bit

    def test_those_that_are_kept_stand_in_the_order_of_the_names(self):
        found = map_genes(NAMES, TARGET)
        assert found.tokens == ("CD3D", "LYZ", "SEPT9")
        assert np.array_equal(found.merged(sparse.csr_matrix(COUNTS), logged=False).toarray(), SUMMED[:, [1, 0, 2]])

    def test_exact_names_are_taken_as_they_are(self):
        matrix = sparse.random(5, 3, 0.6, format="csr", random_state=0, dtype=np.float32)
        found = map_genes(["SEPT9", "x", "CD3D"], TARGET).merged(matrix, logged=True)
        assert (found != matrix[:, [0, 2]]).nnz == 0

    @given(st.permutations(range(len(NAMES))))
    def test_names_in_another_order_give_the_same(self, order):
        one, other = map_genes(NAMES, TARGET), map_genes([NAMES[i] for i in order], TARGET)
        assert other.kinds.tolist() == one.kinds[order].tolist()
        assert other.places.tolist() == one.places[order].tolist()
        matrix = sparse.csr_matrix(COUNTS)
        assert (one.apply(matrix, logged=False) != other.apply(matrix[:, order], logged=False)).nnz == 0


@pytest.mark.slow
@given(st.lists(st.sampled_from([*NAMES, *TARGET, "1-Mar", "HLA.DRA"]) | st.text(max_size=6), max_size=20))
def test_any_names_are_separation(names):
    found = map_genes(names, TARGET)
    assert sum(found.counts.values()) == len(names)
    assert ((found.places >= 0) == np.isin(found.kinds, KINDS[:3])).all()
    for place in set(found.places.tolist()) - {-1}:  # what joins one token joins it by one claim
        assert len({found.claims[i] for i in np.flatnonzero(found.places == place)}) == 1
    for i, name in enumerate(names):
        assert found.kinds[i] in (("exact", "summed") if name in TARGET else KINDS[1:])


@pytest.mark.parametrize(
    ("names", "species"),
    [
        (["ENSMUSG00000032094", "ENSMUSG00000024673.2"], "mouse"),
        (["ENSRNOG00000032094"], "rat"),
        (["ENSDARG00000032094"], "zebrafish"),
        (["ENSXYZG00000032094"], "another species (ENSXYZG)"),
        (["Cd3d", "Ms4a1", "Lyz2", "H2-Aa", "Gm12345", "1700001C02Rik"], "mouse or rat"),
        (["mm10___Cd3d", "mm10___Ms4a1"], "mouse or rat"),
        (["GRCh38_CD3D", "GRCh38_LYZ", "mm10___Cd3d"], ""),
        (["CD3D", "C1orf127", "C2orf74"], ""),
        (["C1orf127"], ""),
        (["ENSG00000167286"], ""),
        (["cd3d", "ms4a1"], ""),
        ([], ""),
    ],
)
def test_other_species_are_said_and_refused(names, species):
    assert other_species(names) == species
    if species:
        with pytest.raises(DatasetError, match="the genes are those of") as caught:
            refuse_other_species(names)
        assert species in str(caught.value)
        assert names[0] in str(caught.value)
    else:
        refuse_other_species(names)


def test_tokens_are_listed_once_however_often_they_are_asked_for():
    """Joining two sets asks for them gene by gene; listed each time, that is half a minute for 12,000 genes."""
    found = map_genes(["SEPT9", "CD3D"], ["CD3D", "SEPTIN9"])
    assert found.tokens == ("SEPTIN9", "CD3D")
    assert found.tokens is found.tokens
