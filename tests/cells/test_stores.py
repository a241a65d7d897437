"""Files of cells of both kinds: known by their marks, opened alike, refused by name."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem

from frostline.cells import stores
from frostline.cells.refusals import refuse_repeated_cells
from frostline.cells.stores import CellNames, is_store, names_in, opened_store, refuse_no_store
from frostline.errors import Cancelled, DatasetError, FrostlineError


@pytest.fixture(params=["h5ad", "zarr"])
def cells(request, tmp_path) -> Path:
    """Ten cells of two genes, whose index has a name."""
    obs = pd.DataFrame(index=pd.Index([f"ü{i}" for i in range(10)], name="barcode"))
    made = ad.AnnData(np.ones((10, 2), dtype=np.float32), obs=obs)
    path = tmp_path / f"cells.{request.param}"
    if request.param == "h5ad":
        made.write_h5ad(path)
    else:
        write_elem(zarr.open_group(path, mode="w", zarr_format=2), "/", made)
    return path


def test_both_are_opened_and_their_names_read_block_by_block(cells, monkeypatch):
    monkeypatch.setattr(stores, "BLOCK", 3)
    refuse_no_store(cells)
    with opened_store(cells) as file:
        assert file["X"].shape == (10, 2)
        names = names_in(file["obs"])
    expected = [f"ü{i}" for i in range(10)]
    assert (list(names), len(names), names.name, names.is_unique) == (expected, 10, "barcode", True)
    for rows in (slice(None), slice(2, 5), np.array([0, 9])):
        pd.testing.assert_index_equal(names[rows], pd.Index(expected, name="barcode")[rows])


def test_names_of_a_file_are_held_in_few_bytes(tmp_path):
    n = 20_000
    with h5py.File(tmp_path / "made.h5", "w") as file:
        write_elem(file, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
    with h5py.File(tmp_path / "made.h5") as file:
        tracemalloc.start()
        try:
            names = names_in(file["obs"])
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert names[n - 1 :].tolist() == [f"cell{n - 1}"]
    assert held / n < 30  # a Python string of ten letters takes 59 bytes, and 8 where it is listed


@pytest.mark.parametrize("same_hashes", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_a_name_that_stands_twice_is_found_in_any_block(monkeypatch, twice, same_hashes):
    monkeypatch.setattr(stores, "BLOCK", 3)
    if same_hashes:  # which are no proof
        monkeypatch.setattr("pandas.util.hash_array", lambda block, **_: np.zeros(len(block), dtype=np.uint64))
    texts = ["a", "b", "c", "d", "e", "f", "g", "b" if twice else "h"]
    names = CellNames(np.array(texts, dtype=np.dtypes.StringDType()))
    assert names.is_unique is not twice
    if not twice:
        refuse_repeated_cells(names)
        return
    with pytest.raises(DatasetError, match=r"not unique, for example 'b'; call adata\.obs_names_make_unique\(\)"):
        refuse_repeated_cells(names)


def test_a_folder_of_zarr_is_known_by_its_files(tmp_path):
    for version in (2, 3):
        zarr.open_group(tmp_path / f"v{version}", mode="w", zarr_format=version)
        assert is_store(tmp_path / f"v{version}")
    assert not is_store(tmp_path)


def test_what_fails_inside_is_one_error(cells):
    with pytest.raises(DatasetError, match=f"{cells.name} cannot be read .*no such table"), opened_store(cells):
        raise OSError("no such table")


@pytest.mark.parametrize("error", [FrostlineError, Cancelled])
def test_what_is_no_matter_of_the_file_stays_what_it_is(cells, error):
    with pytest.raises(error, match=r"^as it was said$"), opened_store(cells):
        raise error("as it was said")


def test_a_folder_of_something_else_in_zarr_is_refused(tmp_path):
    zarr.open_group(tmp_path / "image.zarr", mode="w").create_group("var")
    with (
        pytest.raises(DatasetError, match=r"image\.zarr cannot be read as a zarr folder of anndata: it has no obs"),
        opened_store(tmp_path / "image.zarr"),
    ):
        pytest.fail("it was opened")


def test_without_zarr_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with (
        pytest.raises(FrostlineError, match=r"pip install 'frostline\[cluster\]' to read it"),
        opened_store(tmp_path / "x.zarr"),
    ):
        pytest.fail("it was opened")


def test_what_is_neither_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("cell,gene\n")
    for path in (tmp_path / "table.csv", tmp_path / "nowhere.h5ad", tmp_path):
        with pytest.raises(DatasetError, match=path.name):
            refuse_no_store(path)


def test_names_that_are_no_texts_are_read_too(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        group = file.create_group("obs")
        group.attrs["_index"] = "_index"
        index = group.create_dataset("_index", data=np.array([3, 1, 2]))
        index.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        names = names_in(group)
    assert (names.tolist(), names.name) == ([3, 1, 2], None)
