"""Where embeddings are written: tried before the work, whole or not at all, and kept whatever happens."""

from __future__ import annotations

import errno
import re
import shlex
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from frostline.cells import saving
from frostline.errors import DatasetError, FrostlineError

EMBEDDING = np.random.default_rng(0).random((4, 3)).astype(np.float32)


def cells() -> anndata.AnnData:
    obs = pd.DataFrame({"kind": list("abab")}, index=list("wxyz"))
    var = pd.DataFrame({"n": range(5)}, index=[f"g{i}" for i in range(5)])
    adata = anndata.AnnData(sparse.csr_matrix(np.eye(4, 5, dtype=np.float32)), obs=obs, var=var)
    adata.raw, adata.layers["dense"], adata.layers["csc"] = adata.copy(), adata.X.toarray(), adata.X.tocsc()
    adata.obsm["x"], adata.obsp["near"], adata.uns["a"] = np.ones((4, 2)), sparse.eye(4, format="csr"), {"b": [1]}
    return adata


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mixed(adata):
    adata.obs["mixed"] = pd.Series([1, "a", None, 2.0], index=adata.obs_names, dtype=object)


def mixed_var(adata):
    adata.var["mixed"] = pd.Series([1, "a", None, 2.0, []], index=adata.var_names, dtype=object)


def reserved(adata):
    adata.obs["_index"] = 1


def reserved_in_raw(adata):
    adata.raw.var.rename(columns={"n": "_index"}, inplace=True)


def foreign(adata):
    adata.uns["a"]["c"] = object()


def columns(adata):
    adata.obs = pd.concat([adata.obs, adata.obs], axis=1)


def numbers(adata):
    adata.obs[5] = 1


def objects(adata):
    adata.layers["odd"] = np.array(adata.X.toarray(), dtype=object)


def table(adata):
    adata.obsm["t"] = pd.DataFrame({"u": [1, "a", 2, 3], "v": 1}, index=adata.obs_names)


class TestTried:
    def test_what_can_be_written_is_let_through_and_leaves_nothing(self, tmp_path):
        adata = cells()
        saving.refuse_unwritable(adata, tmp_path / "out.h5ad")
        assert names(tmp_path) == set()
        assert adata.obs["kind"].dtype == object
        assert (adata.X != cells().X).nnz == 0

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "harm", [mixed, mixed_var, reserved, reserved_in_raw, foreign, columns, numbers, objects, table]
    )
    def test_what_cannot_is_refused_as_writing_would_and_the_remedy_works(self, tmp_path, harm):
        adata = cells()
        harm(adata)
        with pytest.raises(Exception, match=r"reserved|convert|registered|[Cc]olumn|key"):
            adata.copy().write_h5ad(tmp_path / "direct.h5ad")
        (tmp_path / "direct.h5ad").unlink(missing_ok=True)
        with pytest.raises(DatasetError, match=r"refuses to write it: .*alone: -o \S*out\.npy$") as error:
            saving.refuse_unwritable(adata, tmp_path / "out.h5ad")
        assert names(tmp_path) == set()
        line = re.search(r"read_h5ad\(\.\.\.\); (.*); adata\.write_h5ad", str(error.value))
        assert line is not None
        exec(line[1], {"adata": adata, "anndata": anndata})
        saving.refuse_unwritable(adata, tmp_path / "out.h5ad")
        saving.save(EMBEDDING, adata, tmp_path / "out.h5ad")
        assert names(tmp_path) == {"out.h5ad"}

    def test_what_is_printed_to_write_the_embedding_alone_can_be_pasted(self, tmp_path):
        adata, folder = cells(), tmp_path / "my cells"
        folder.mkdir()
        foreign(adata)
        with pytest.raises(DatasetError) as error:
            saving.refuse_unwritable(adata, folder / "out.h5ad")
        assert shlex.split(str(error.value).rpartition("alone: ")[2]) == ["-o", str(folder / "out.npy")]

    def test_an_embedding_alone_can_always_be_written(self, tmp_path):
        adata = cells()
        foreign(adata)
        saving.refuse_unwritable(adata, tmp_path / "out.npy")
        saving.save(EMBEDDING, adata, tmp_path / "out.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), EMBEDDING)

    def test_a_file_with_a_reserved_column_in_raw(self, tmp_path):
        """As SeuratDisk writes one: anndata reads it."""
        cells().write_h5ad(tmp_path / "seurat.h5ad")
        with h5py.File(tmp_path / "seurat.h5ad", "r+") as file:
            table = file["raw/var"]
            table.move("_index", "names")
            table.move("n", "_index")
            table.attrs["_index"], table.attrs["column-order"] = "names", ["_index"]
        with pytest.raises(DatasetError, match=r"adata\.raw\.var\.rename\(columns=\{'_index'"):
            saving.refuse_unwritable(anndata.read_h5ad(tmp_path / "seurat.h5ad"), tmp_path / "out.h5ad")


class TestTarget:
    def test_each_bad_place_is_named(self, tmp_path, monkeypatch):
        source = tmp_path / "in.h5ad"
        source.touch()
        (tmp_path / "same.h5ad").hardlink_to(source)
        (tmp_path / "dir.h5ad").mkdir()
        for name, said in (
            ("out.csv", "must end in .npy or .h5ad"),
            ("nowhere/out.npy", "there is no folder"),
            ("dir.h5ad", "is a folder"),
            ("in.h5ad", "is the file that is read"),
            ("same.h5ad", "is the file that is read"),
            ("in.h5ad/out.npy", "there is no folder"),
        ):
            with pytest.raises(FrostlineError, match=re.escape(said)):
                saving.refuse_bad_target(source, tmp_path / name)
        saving.refuse_bad_target(source, tmp_path / "out.npy")
        assert names(tmp_path) == {"in.h5ad", "same.h5ad", "dir.h5ad"}

        def refuse(self, *args, **options):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "touch", refuse)
        with pytest.raises(FrostlineError, match=r"cannot be written to \(.*Permission denied"):
            saving.refuse_bad_target(source, tmp_path / "out.npy")


class TestKept:
    @pytest.fixture
    def full(self, monkeypatch):
        def refuse(self, path, *args, **options):
            Path(path).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(anndata.AnnData, "write_h5ad", refuse)

    def test_when_the_disk_is_full_the_embedding_is_beside_and_the_message_says_so(self, tmp_path, full):
        (tmp_path / "out.embedding.npy").write_text("somebody's")
        (tmp_path / "out.h5ad").write_text("older")
        with pytest.raises(FrostlineError, match=r"No space left.*is kept: np\.load\('(.*)'\)") as error:
            saving.save(EMBEDDING, cells(), tmp_path / "out.h5ad")
        kept = tmp_path / "out.embedding-1.npy"
        assert str(kept) in str(error.value)
        np.testing.assert_array_equal(np.load(kept), EMBEDDING)
        assert names(tmp_path) == {"out.h5ad", "out.embedding.npy", "out.embedding-1.npy"}
        assert (tmp_path / "out.h5ad").read_text() == "older"

    def test_or_in_a_temporary_folder(self, tmp_path, full, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        folder = tmp_path / "gone"
        with pytest.raises(FrostlineError, match=r"could not be written .*temporary/out\.embedding\.npy"):
            saving.save(EMBEDDING, cells(), folder / "out.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "temporary" / "out.embedding.npy"), EMBEDDING)

    def test_an_interruption_leaves_nothing(self, tmp_path, monkeypatch):
        def interrupt(self, path, *args, **options):
            Path(path).write_bytes(b"half of it")
            raise KeyboardInterrupt

        monkeypatch.setattr(anndata.AnnData, "write_h5ad", interrupt)
        with pytest.raises(KeyboardInterrupt):
            saving.save(EMBEDDING, cells(), tmp_path / "out.h5ad")
        assert names(tmp_path) == set()


def test_a_file_of_cells_that_is_no_result_is_not_replaced(tmp_path):
    """Someone's own cells, under the name that was given for the output; a result may be made a second time."""
    own, source = tmp_path / "mine.h5ad", tmp_path / "query.h5ad"
    cells().write_h5ad(source)
    for write in (cells().write_h5ad, lambda path: path.write_text("notes")):
        write(own)
        with pytest.raises(FrostlineError, match=r"mine.h5ad is there already, and no result of frostline: choose"):
            saving.refuse_bad_target(source, own)
    for key in ("X_scGPT", "kinds_probabilities"):
        result = cells()
        result.obsm[key] = EMBEDDING
        result.write_h5ad(own)
        saving.refuse_bad_target(source, own)
