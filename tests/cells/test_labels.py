"""Columns of labels and groups: what is refused brings a line that mends it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from frostline.cells.labels import read_labels, refuse_bad_groups
from frostline.errors import DatasetError


def cells(kinds, **columns) -> AnnData:
    obs = pd.DataFrame({"kind": kinds, **columns}, index=[f"c{i}" for i in range(len(kinds))])
    return AnnData(np.ones((len(kinds), 2), dtype=np.float32), obs=obs)


def refused(work) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        work()
    return caught.value


def mended(error: DatasetError, adata: AnnData) -> AnnData:
    """What the line makes of an AnnData."""
    names = {"adata": adata.copy()}
    exec(error.line, names)
    return names["adata"]


def test_labels_are_text_in_the_order_of_the_cells():
    assert read_labels(cells(pd.Categorical([2, 1, 2])).obs, "kind").tolist() == ["2", "1", "2"]


def test_cells_without_a_label_are_left_out_by_the_line():
    adata = cells(["B", None, "T", "T"])
    error = refused(lambda: read_labels(adata.obs, "kind"))
    assert "missing for 1 of 4 cells" in str(error)
    assert read_labels(mended(error, adata).obs, "kind").tolist() == ["B", "T", "T"]


def test_a_column_that_stands_twice_is_kept_once_by_the_line():
    adata = cells(["B", "T"], other=["x", "y"])
    adata.obs.columns = ["kind", "kind"]
    error = refused(lambda: read_labels(adata.obs, "kind"))
    obs = adata.obs.copy()
    names = {"adata": AnnData(obs=pd.DataFrame(index=obs.index))}
    names["adata"].obs = obs
    exec(error.line, names)
    assert read_labels(names["adata"].obs, "kind").tolist() == ["B", "T"]


def test_names_that_no_file_holds_are_replaced_by_the_line():
    adata = cells(["B\0", "T"])
    error = refused(lambda: read_labels(adata.obs, "kind"))
    assert read_labels(mended(error, adata).obs, "kind").tolist() == ["B?", "T"]


@pytest.mark.parametrize(
    ("kinds", "key", "said"),
    [
        (["B", "T"], "kinds", "'kinds' is not in obs, which has: kind"),
        (["B", "T"], None, "name the label column; obs has: kind"),
        (["B", "B"], "kind", "has only 'B'; a comparison needs two classes"),
        ([], "kind", "has no cell at all"),
        ([None, None], "kind", "has no label at all; a comparison needs two classes or more: load with another"),
        (["B", None, "B"], "kind", "has only 'B'; a comparison needs two classes"),
        ([None, *(f"x{i}" for i in range(51))], "kind", "51 different values in 51 cells: these are no classes"),
        ([["B"], ["T", "NK"]], "kind", "'kind' holds ['B'], and must have one value a cell"),
        ([f"x{i}" for i in range(51)], "kind", "51 different values in 51 cells: these are no classes"),
    ],
)
def test_where_somebody_has_to_choose_there_is_no_line(kinds, key, said):
    error = refused(lambda: read_labels(cells(kinds).obs, key))
    assert said in str(error)
    assert error.line == ""


def test_groups_may_be_one_but_not_missing():
    adata = cells(["B", "T"], one=["x", "x"], gap=["x", None])
    refuse_bad_groups(adata.obs, None)
    refuse_bad_groups(adata.obs, "one")
    error = refused(lambda: refuse_bad_groups(adata.obs, "gap"))
    assert "group column 'gap' is missing for 1 of 2 cells" in str(error)
    refuse_bad_groups(mended(error, adata).obs, "gap")


def test_groups_that_no_cell_has_leave_nothing_to_mend():
    error = refused(lambda: refuse_bad_groups(cells(["B", "T"], gap=[None, None]).obs, "gap"))
    assert (str(error), error.line) == (
        "group column 'gap' has no group of any cell; load with another group_key, or none",
        "",
    )


def test_groups_are_not_the_labels():
    adata = cells(["B", "T"], donor=["x", "y"])
    with pytest.raises(DatasetError, match="column 'kind' is given for labels and for groups"):
        refuse_bad_groups(adata.obs, "kind", "kind")
    refuse_bad_groups(adata.obs, "donor", "kind")
