"""Labelled cells as a file: from memory, from a file, from a name; never onto what was read."""

from __future__ import annotations

import re

import anndata
import numpy as np
import pytest
from kept_models import islet_model, islets

from frostline.annotation.annotating import annotate
from frostline.annotation.saving import save_labelled
from frostline.errors import DatasetError, FrostlineError


@pytest.fixture
def cells():
    adata = islets().adata[:20].copy()
    adata.obs = adata.obs[[]]
    return adata


def test_cells_in_memory_are_written_with_their_labels(cells, tmp_path):
    found = annotate(islet_model(), cells)
    saved = anndata.read_h5ad(save_labelled(found, cells, tmp_path / "out.h5ad"))
    assert saved.obs["frostline"].astype(str).tolist() == found.obs["frostline"].astype(str).tolist()
    np.testing.assert_array_equal(saved.obsm["frostline_probabilities"], found.probabilities)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]


def test_a_data_set_is_not_changed(tmp_path):
    found = annotate(islet_model(), islets())
    saved = anndata.read_h5ad(save_labelled(found, islets(), tmp_path / "out.h5ad"))
    assert "frostline" in saved.obs
    assert "frostline" not in islets().adata.obs


def test_a_registered_name_is_written_with_its_cells(tmp_path):
    found = annotate(islet_model(), "pancreas")
    saved = anndata.read_h5ad(save_labelled(found, "pancreas", tmp_path / "out.h5ad"))
    assert saved.shape == (175, 12_474)
    assert saved.obs["frostline_confidence"].tolist() == found.obs["frostline_confidence"].tolist()


def test_a_file_open_on_disk_is_copied_and_stays(cells, tmp_path):
    cells.write_h5ad(tmp_path / "in.h5ad")
    before = (tmp_path / "in.h5ad").read_bytes()
    backed = anndata.read_h5ad(tmp_path / "in.h5ad", backed="r")
    found = annotate(islet_model(), backed)
    save_labelled(found, backed, tmp_path / "out.h5ad")
    with pytest.raises(FrostlineError, match="the file that was read"):
        save_labelled(found, backed, tmp_path / "in.h5ad", overwrite=True)
    backed.file.close()
    assert "frostline" in anndata.read_h5ad(tmp_path / "out.h5ad").obs
    assert (tmp_path / "in.h5ad").read_bytes() == before


@pytest.mark.parametrize("layer", [None, "raw", "umi"])
def test_what_was_changed_in_an_open_file_is_annotated_and_saved(cells, tmp_path, layer):
    expected, names, genes = annotate(islet_model(), cells.copy()).obs, cells.obs_names, cells.var_names
    cells.layers["umi"], cells.raw = cells.X.copy(), cells.copy()
    cells.obs_names, cells.var_names = [f"cell {i}" for i in range(20)], [f"gene {i}" for i in range(2_000)]
    cells.write_h5ad(tmp_path / "in.h5ad")
    before = (tmp_path / "in.h5ad").read_bytes()
    backed = anndata.read_h5ad(tmp_path / "in.h5ad", backed="r")
    backed.obs_names, backed.var_names, backed.obs["cluster"] = names, genes, "x"
    found = annotate(islet_model(), backed, layer=layer)
    saved = anndata.read_h5ad(save_labelled(found, backed, tmp_path / "out.h5ad"))
    backed.file.close()
    assert saved.obs["frostline"].astype(str).tolist() == expected["frostline"].astype(str).tolist()
    assert (saved.obs_names.tolist(), saved.var_names.tolist()) == (names.tolist(), genes.tolist())
    assert set(saved.obs["cluster"]) == {"x"}
    assert [sorted(saved.obsm), sorted(saved.uns)] == [["X_frostline", "frostline_probabilities"], ["frostline"]]
    for matrix in (saved.X, saved.raw.X, saved.layers["umi"]):
        assert (matrix != cells.X).nnz == 0
    assert (tmp_path / "in.h5ad").read_bytes() == before


def test_what_was_read_is_never_written(cells, tmp_path):
    cells.write_h5ad(tmp_path / "in.h5ad")
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "in.h5ad")
    found = annotate(islet_model(), tmp_path / "in.h5ad")
    for name in ("in.h5ad", "link.h5ad"):
        with pytest.raises(FrostlineError, match="the file that was read"):
            save_labelled(found, tmp_path / "in.h5ad", tmp_path / name, overwrite=True)


def test_a_file_that_is_gone_is_named(cells, tmp_path):
    cells.write_h5ad(tmp_path / "in.h5ad")
    found = annotate(islet_model(), tmp_path / "in.h5ad")
    (tmp_path / "in.h5ad").unlink()
    (tmp_path / "out.h5ad").write_text("mine")
    for save in (found.save, lambda out: save_labelled(found, tmp_path / "in.h5ad", out, overwrite=True)):
        with pytest.raises(FrostlineError, match=r"in\.h5ad is not there any more"):
            save(tmp_path / "out.h5ad")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.txt", "does not end in .h5ad"),
        ("gone/out.h5ad", "there is no folder"),
        ("there.h5ad", "is there already"),
        ("folder.h5ad", "is a folder"),
    ],
)
def test_other_names_are_refused_with_a_remedy(cells, tmp_path, name, said):
    (tmp_path / "there.h5ad").write_text("mine")
    (tmp_path / "folder.h5ad").mkdir()
    found = annotate(islet_model(), cells)
    with pytest.raises(FrostlineError, match=said):
        save_labelled(found, cells, tmp_path / name)
    assert (tmp_path / "there.h5ad").read_text() == "mine"


def test_a_file_that_is_there_is_replaced_when_asked(cells, tmp_path):
    (tmp_path / "there.h5ad").write_text("mine")
    save_labelled(annotate(islet_model(), cells), cells, tmp_path / "there.h5ad", overwrite=True)
    assert "frostline" in anndata.read_h5ad(tmp_path / "there.h5ad").obs


@pytest.mark.parametrize(
    ("place", "name", "value", "said"),
    [
        ("obs", "mixed", [1, "a", None, 2.0] * 5, r"obs\['mixed'\].astype\(str\)"),
        ("uns", "tree", object(), r"del adata\.uns\['tree'\]"),
    ],
)
def test_a_part_that_cannot_be_written_is_named_and_the_remedy_works(cells, tmp_path, place, name, value, said):
    getattr(cells, place)[name] = value
    found = annotate(islet_model(), cells)
    with pytest.raises(DatasetError, match=rf"refuses to write these cells: .*{said}") as error:
        save_labelled(found, cells, tmp_path / "out.h5ad")
    assert not list(tmp_path.iterdir())
    exec(re.search(r"Mend them \((.*)\), and save again", str(error.value))[1], {"adata": cells})
    assert "frostline" in anndata.read_h5ad(save_labelled(found, cells, tmp_path / "out.h5ad")).obs


def test_cells_that_were_changed_since_are_refused(cells, tmp_path):
    found = annotate(islet_model(), cells)
    cells.obs["frostline"] = "B cell"
    with pytest.raises(FrostlineError, match=r"does not hold the labels any more .* Annotate it again"):
        save_labelled(found, cells, tmp_path / "out.h5ad")
    with pytest.raises(FrostlineError, match="does not hold the labels any more"):
        save_labelled(found, cells[:3].copy(), tmp_path / "out.h5ad")
