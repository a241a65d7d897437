"""Columns of obs that look like groups: by their names and by their values."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from small_cells import N_CELLS, make

from frostline.cells.groups import PEOPLE_WORDS, group_columns


class TestGroupColumns:
    def columns(self, **obs) -> tuple[str, ...]:
        cells = [f"c{i}" for i in range(40)]
        adata = anndata.AnnData(np.ones((40, 2), np.float32), obs=pd.DataFrame(obs, index=cells))
        return group_columns(adata)

    @pytest.mark.parametrize(
        "name",
        [
            *("donor", "donor_id", "DonorID", "patient", "Patient.Number", "individual", "subject_id", "sample"),
            *("sampleID", "samples", "orig.ident", "library", "batch", "Batch", "study", "chemistry", "10x_chemistry"),
            *("technology", "tech", "assay", "dataset"),
        ],
    )
    def test_names_of_groups_are_known(self, name):
        assert self.columns(**{name: ["a", "b"] * 20}) == (name,)

    @pytest.mark.parametrize(
        "name",
        ["louvain", "phase", "n_samples", "library_size", "batch_score", "donor_age", "technical", "bulk", "type"],
    )
    def test_names_of_other_columns_are_not(self, name):
        assert self.columns(**{name: ["a", "b"] * 20}) == ()

    @pytest.mark.parametrize(
        ("values", "found"),
        [
            (["a"] * 40, False),  # one group
            ([f"s{i}" for i in range(40)], False),  # a group for every cell
            ([f"s{i // 2}" for i in range(40)], True),
            ([f"s{i // 2}" for i in range(39)] + ["s99"], False),
            ([1.0, 2.0, np.nan, 2.0] * 10, True),  # whole numbers, some missing
            ([0.5, 1.5] * 20, False),
            ([True, False] * 20, True),
            ([None, "x", "y", "x"] * 10, True),
            ([None] * 40, False),
        ],
    )
    def test_values_must_be_groups_of_more_than_one_cell(self, values, found):
        assert bool(self.columns(donor=values)) == found

    def test_what_tells_people_apart_comes_first(self):
        two = ["a", "b"] * 20
        assert self.columns(technology=two, batch=two, sample=two, donor=two) == (
            "donor",
            "sample",
            "batch",
            "technology",
        )

    def test_other_words_can_be_looked_for(self):
        adata = make(batch=["x", "y"] * (N_CELLS // 2))
        assert group_columns(adata) == ("donor", "batch")
        assert group_columns(adata, PEOPLE_WORDS) == ("donor",)
