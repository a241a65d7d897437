"""Columns that can be asked what their values are, and those that cannot."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from frostline.cells.columns import collection_in, columns_of
from frostline.cells.datasets import load_dataset
from frostline.cells.previews import preview
from frostline.cells.splits import split
from frostline.evaluation import checks


@pytest.mark.parametrize("value", [["T", "NK"], {"T"}, {"T": 1}, np.array([1, 2])])
def test_columns_of_collections_are_left_out(value):
    table = pd.DataFrame({"kind": ["B", "T"], "mixed": ["B", 1.5]}).assign(
        several=pd.Series(["B", value], dtype=object)
    )
    assert list(columns_of(table)) == ["kind", "mixed"]
    assert collection_in(table["several"]) is value


@pytest.mark.parametrize(
    "values", [["B", None], [("a", 1), ("b", 2)], pd.Categorical(["B", "T"]), [1, 2.5], [pd.NA, "x"]]
)
def test_columns_of_one_value_a_cell_are_kept(values):
    assert list(columns_of(pd.DataFrame({"kind": values}))) == ["kind"]


def test_lists_in_a_column_that_nobody_needs_are_no_hindrance(three_kinds):
    adata = three_kinds.adata.copy()
    without = checks.review(three_kinds, split(three_kinds))
    adata.obs["terms"] = [["a"], ["b"]] * (adata.n_obs // 2)
    dataset = load_dataset(adata, "bulk_labels", name=three_kinds.name)
    assert checks.review(dataset, split(dataset)) == without
    assert "terms" not in [column.name for column in preview(adata).columns]
