"""Parts of an atlas as workers read them: the same rows from every layout, and no others."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse

from frostline.annotation.labelling import PIECE
from frostline.cells.queries import open_matrices
from frostline.cluster.sources import Source, fingerprint, refuse_undivided, rows_of
from frostline.encoder.tokens import TOGETHER
from frostline.errors import DatasetError

VALUES = np.random.default_rng(0).poisson(0.7, (30, 6)).astype(np.float32)


def written(folder: Path, layout: str, values=VALUES, **options) -> Path:
    made = ad.AnnData(
        values if "dense" in layout else sparse.csr_matrix(values),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(values))]),
        var=pd.DataFrame(index=[f"G{i}" for i in range(values.shape[1])]),
    )
    if layout.endswith("zarr"):
        write_elem(zarr.open_group(folder / "x.zarr", mode="w", zarr_format=2), "/", made)
        return folder / "x.zarr"
    made.write_h5ad(folder / "x.h5ad", **options)
    return folder / "x.h5ad"


@pytest.mark.parametrize("layout", ["csr", "dense", "csr zarr", "dense zarr"])
def test_rows_and_names_are_those_asked_for(tmp_path, layout):
    source = Source(written(tmp_path, layout), None, VALUES.shape)
    for start, stop in ((0, 30), (7, 19), (29, 30)):
        matrix, names = source.read(start, stop)
        assert np.array_equal(matrix.toarray(), VALUES[start:stop])
        assert names.tolist() == [f"c{i}" for i in range(start, stop)]


def test_an_older_layout_and_csc_are_refused(tmp_path):
    path = written(tmp_path, "csr")
    whole = ad.read_h5ad(path)
    whole.X = whole.X.tocsc()
    whole.write_h5ad(path)
    with pytest.raises(DatasetError, match=r"gene by gene \(CSC\)"):
        Source(path, None, VALUES.shape).read(0, 3)


def test_parts_are_whole_blocks_along_the_chunks_on_disk(tmp_path):
    """3,000 cells of 6 genes in chunks of 512 rows: blocks of 1,024 are two chunks each."""
    path = written(tmp_path, "dense", np.ones((3_000, 6), dtype=np.float32), compression="gzip")
    with open_matrices(path) as found:
        assert rows_of(path, None, found) == 1_024
        assert rows_of(path, None, found, 1) == 1_024
        assert rows_of(path, None, found, 1_025) == 2_048


def test_an_atlas_is_known_again_by_names_and_values(tmp_path):
    def print_of(values, layout="csr"):
        path = written(tmp_path, layout, values)
        with open_matrices(path) as found:
            return fingerprint(found, tuple(map(str, found.var.index)))

    other = VALUES.copy()
    other[17, 2] += 1
    assert print_of(VALUES) == print_of(VALUES.copy())
    assert print_of(VALUES) != print_of(other)
    assert print_of(VALUES) != print_of(VALUES[:, ::-1])


def test_parts_are_whole_pieces_of_labelling_too():
    """Parts are whole groups of embedding; labels are computed piece by piece."""
    assert TOGETHER % PIECE == 0


@pytest.mark.parametrize("table", ["obs", "var"])
@pytest.mark.filterwarnings("ignore:Forward slashes:FutureWarning")
def test_a_column_that_zarr_cannot_hold_is_refused_by_name_and_the_line_mends_it(tmp_path, table):
    adata = ad.AnnData(sparse.csr_matrix(np.ones((4, 3), dtype=np.float32)))
    setattr(adata, table, getattr(adata, table).assign(**{"CD4/CD8": 1.0}))
    adata.write_h5ad(tmp_path / "atlas.h5ad")
    with pytest.raises(DatasetError, match=f"{table} has a column 'CD4/CD8': a slash in a name") as refused:
        refuse_undivided(tmp_path / "atlas.h5ad")
    line = str(refused.value).partition("in the atlas: ")[2].partition("; ")[0]
    exec(line, {"adata": adata})
    adata.write_h5ad(tmp_path / "atlas.h5ad")
    refuse_undivided(tmp_path / "atlas.h5ad")
