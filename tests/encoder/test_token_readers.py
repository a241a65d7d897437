"""How cells become tokens, decided once: what the values are is found block by block as on the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from frostline.cells.genes import match_genes
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.token_readers import TokenReader, ValueKind, expressing, ids_of
from frostline.encoder.tokens import tokenize
from frostline.errors import DatasetError


def rows(*values):
    return sparse.csr_matrix(np.array(values, dtype=np.float32))


@pytest.mark.parametrize(
    ("parts", "logged"),
    [
        ([rows([1, 2])], False),
        ([rows([1.5, 2])], True),
        ([rows([1.5, 2]), rows([400, 0])], False),
        ([rows([1, 2]), rows([0.5, 0])], True),
        ([rows([0, 0])], False),
    ],
)
def test_values_are_logarithms_if_they_are_small_and_have_decimals(parts, logged):
    kind = ValueKind()
    for part in parts:
        kind = kind.joined(ValueKind.of(part))
    assert kind.logged is logged
    assert ValueKind.of(sparse.vstack(parts, format="csr")) == kind


def test_a_stored_zero_and_an_unknown_gene_are_no_expression():
    matrix = sparse.csr_matrix(
        (np.array([0, 1, 2], dtype=np.float32), np.array([0, 1, 0]), np.array([0, 1, 2, 3, 3])), shape=(4, 2)
    )
    assert expressing(matrix, np.array([True, False])).tolist() == [False, False, True, False]


def test_ids_are_those_of_the_vocabulary():
    mini = load_checkpoint("mini")
    found = ids_of(["CD3D", "LYZ"], mini)
    assert (found.dtype, found.tolist()) == (np.int32, [mini.vocabulary["CD3D"], mini.vocabulary["LYZ"]])


@pytest.mark.parametrize("how", [{}, {"max_length": 3}, {"max_length": 3, "seed": 1}, {"long_cells": "highest"}])
def test_cells_are_read_as_it_was_asked_to(how):
    names, mini = ["CD3D", "LYZ", "CD8A", "MS4A1", "NKG7"], load_checkpoint("mini")
    cells = rows([1, 2, 3, 4, 5], [5, 1, 2, 4, 3], [9, 8, 7, 6, 5])
    how = {"max_length": 4, **how}
    found = TokenReader.of(match_genes(names, mini.vocabulary), mini, logged=False, **how).tokens(cells)
    expected = tokenize(cells, ids_of(names, mini), **how)
    assert found.lengths.tolist() == [how["max_length"] - 1] * 3
    np.testing.assert_array_equal(found.gene_ids, expected.gene_ids)
    np.testing.assert_array_equal(found.bins, expected.bins)


class TestOtherKinds:
    @staticmethod
    def reader(names, *, logged):
        mini = load_checkpoint("mini")
        return TokenReader.of(match_genes(names, mini.vocabulary), mini, logged=logged)

    def test_are_refused_where_genes_are_summed(self):
        names = ["CD3D", "ENSG00000090382.7", "ENSG00000090382.8"]  # the last two are one gene
        logs, counts = (self.reader(names, logged=logged) for logged in (True, False))
        assert logs.map.counts["summed"]
        with pytest.raises(DatasetError, match=r"like logarithms, in others \(largest value 700\) like counts"):
            logs.refuse_others(rows([700, 1, 0]), "x")
        with pytest.raises(DatasetError, match=r"like counts, in others \(largest value 1\.5\) like logarithms"):
            counts.refuse_others(rows([1.5, 1, 0]), "x")
        for reader, fit in ((logs, rows([1.5, 0, 0])), (counts, rows([700, 0, 0])), (logs, rows([0, 0, 0]))):
            reader.refuse_others(fit, "x")

    def test_are_let_in_where_none_is(self):
        self.reader(["LYZ", "CD3D"], logged=True).refuse_others(rows([700, 1]), "x")
