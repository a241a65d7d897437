"""What is decided before an atlas is handed out, and the columns that are made of its parts."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import read_elem, write_elem
from kept_models import islets
from scipy import sparse

import frostline
from frostline.cells.queries import open_cells, open_matrices
from frostline.cluster import labels, parts
from frostline.cluster.arrays import Array
from frostline.cluster.parts import OutputPlan, held
from frostline.errors import DatasetError

ANSWERS = [["B", "T"], ["T"], ["B"]]


@pytest.fixture
def unfinished(tmp_path):
    """Five cells in parts of two, with columns `age` and `kind_confidence`, and codes of two columns of names."""
    arrays = (Array("codes/label", "int32"), Array("codes/label_set", "int32"))
    with held(tmp_path / "out.zarr", OutputPlan({"command": "annotate"}, 5, 2, arrays)) as unfinished:
        obs = pd.DataFrame({"kind_confidence": 0.5, "age": np.arange(5)}, index=list("abcde"))
        write_elem(zarr.open_group(unfinished.store, mode="w", zarr_format=2), "/", ad.AnnData(obs=obs))
        for array in arrays:
            array.make(unfinished.folder / array.place, 2, 5)
        yield unfinished


def put(unfinished, **codes):
    for name, values in codes.items():
        zarr.open_array(unfinished.folder / "codes" / name, mode="r+")[:] = values


def test_answers_of_parts_are_one_list_in_the_order_of_the_cells():
    answers = {("B", "T"): 0}
    assert labels._merged(ANSWERS, answers).tolist() == [0, 1, 2, -1]  # the last one is that of Unknown
    assert labels._merged([["B", "T"], ["B"], ["C"]], answers).tolist() == [0, 2, 3, -1]
    assert answers == {("B", "T"): 0, ("T",): 1, ("B",): 2, ("C",): 3}


def test_counts_are_of_all_parts_by_the_places_in_all_answers():
    facts = {
        0: {"counts": {"": [[-1, 2], [0, 5]], "_set": [[-1, 2], [1, 5]]}},
        1: {"counts": {"": [[0, 1], [1, 3]], "_set": [[1, 4]]}},
    }
    places = {0: np.array([0, 1, 2, -1]), 1: np.array([0, 2, -1])}
    assert labels._counts("", facts, places) == {-1: 2, 0: 6, 1: 3}
    assert labels._counts("_set", facts, places) == {-1: 2, 1: 5, 2: 4}


def test_a_column_is_a_categorical_of_the_names_that_cells_have(unfinished):
    put(unfinished, label=[1, -1, 1, 2, -1])
    places = dict.fromkeys(range(3), np.array([-1]))
    labels._column(unfinished, "kind", "", ["A", "B", "C", "Unknown"], {1: 2, -1: 2, 2: 1}, places)
    found = read_elem(zarr.open_group(unfinished.store, mode="r")["obs/kind"])
    assert found.tolist() == ["B", "Unknown", "B", "C", "Unknown"]
    assert found.categories.tolist() == ["B", "C", "Unknown"]  # no cell is an A


def test_sets_of_a_part_are_named_by_all_answers(unfinished):
    """In parts 0 and 2 place 1 is T, in part 1 it is B; the whole list and Unknown are one name."""
    put(unfinished, label_set=[1, 0, 1, -1, 1])
    names = ["Unknown", "T", "B", "Unknown"]
    places = {0: np.array([0, 1, -1]), 1: np.array([0, 2, -1]), 2: np.array([0, 1, -1])}
    labels._column(unfinished, "kind_set", "_set", names, {1: 2, 0: 1, 2: 1, -1: 1}, places)
    found = read_elem(zarr.open_group(unfinished.store, mode="r")["obs/kind_set"])
    assert found.tolist() == ["T", "Unknown", "B", "Unknown", "T"]
    assert found.categories.tolist() == ["Unknown", "T", "B"]


def test_new_columns_stand_behind_the_others(unfinished):
    labels._order(unfinished, "kind")
    found = list(parts.group_of(unfinished.store / "obs").attrs["column-order"])
    assert found[0] == "age"
    assert found.count("kind_confidence") == 1
    assert len(found) == 7


def test_watched_cells_are_those_of_all_parts_in_order():
    def of(*best):
        return {"watch": {"features": [[float(b)] for b in best], "reasons": [0 for _ in best], "best": list(best)}}

    found = labels._watch({1: of(7), 0: of(5, 6), 2: of()})
    assert {name: array.tolist() for name, array in found.items()} == {
        "features": [[5.0], [6.0], [7.0]],
        "reasons": [0, 0, 0],
        "best": [5, 6, 7],
    }


def test_what_is_sent_to_workers_holds_no_cell():
    with open_cells(islets().adata) as query:
        sent = labels.light(query)
        assert (len(query), len(sent), len(sent.obs_names)) == (175, 0, 0)
        assert (sent.genes, sent.values) == (query.genes, query.values)


def atlas(tmp_path, names, values):
    path = tmp_path / "atlas.h5ad"
    ad.AnnData(sparse.csr_matrix(np.array(values, dtype=np.float32)), var=pd.DataFrame(index=names)).write_h5ad(path)
    return path


def reader_of(path):
    with open_matrices(path) as found:
        return labels.token_reader(found, frostline.load_checkpoint("mini"), None, seed=0, max_length=10)


def test_genes_that_no_checkpoint_knows_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="mini"):
        reader_of(atlas(tmp_path, ["aa1", "aa2"], [[1, 2], [3, 4]]))


def test_few_known_genes_are_a_warning(tmp_path):
    names = ["CD3D", *(f"aa{i}" for i in range(20))]
    with pytest.warns(UserWarning, match="1 of 21"):
        reader, genes = reader_of(atlas(tmp_path, names, [[5] * 21, [1] * 21]))
    assert genes == tuple(names)
    assert not reader.logged


def test_values_with_decimals_that_are_small_are_logarithms(tmp_path):
    for values, logged in (([0.5, 1.5, 2.0, 0.1], True), ([1, 2, 300, 4], False)):
        with pytest.warns(UserWarning, match="only 4 genes, as targeted panels have"):
            reader, _ = reader_of(atlas(tmp_path, ["CD3D", "CD8A", "MS4A1", "CD19"], [values] * 3))
        assert reader.logged is logged
