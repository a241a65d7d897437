"""What a worker does with a part: it takes no work and no weights of another run, and writes what it found."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import zarr
from kept_models import islet_model, islets
from scipy import sparse

import frostline
from frostline.annotation.refitting import read_query
from frostline.cells.queries import open_cells
from frostline.cluster import works
from frostline.cluster.arrays import Array
from frostline.cluster.labels import light
from frostline.cluster.parts import OutputPlan, held
from frostline.cluster.sources import Source
from frostline.cluster.works import Embedding, Labelling, compute, kept
from frostline.errors import FrostlineError

SUM = Array("store/obsm/sum", "float32", 1)


class Sums:
    """Work that adds up each cell."""

    arrays = (SUM,)
    encodes = False

    def compute(self, matrix, names, start):
        return {SUM.place: matrix.sum(axis=1)}, {"first": names[0], "start": start}


@pytest.fixture
def unfinished(tmp_path):
    with held(tmp_path / "out.zarr", OutputPlan({"command": "sum"}, 5, 2, (SUM,))) as unfinished:
        SUM.make(unfinished.folder / SUM.place, 2, 5)
        yield unfinished


@pytest.fixture
def source(tmp_path):
    import anndata

    values = sparse.csr_matrix(np.arange(15, dtype=np.float32).reshape(5, 3))
    obs = pd.DataFrame(index=list("abcde"))
    anndata.AnnData(values, obs=obs).write_h5ad(tmp_path / "in.h5ad")
    return Source(tmp_path / "in.h5ad", None, (5, 3))


def test_a_part_is_read_computed_and_written(unfinished, source):
    """Rows 2 and 3 of 0 1 2 / 3 4 5 / 6 7 8 / 9 10 11 / 12 13 14."""
    facts = compute(unfinished, source, kept(Sums(), unfinished), 1)
    assert facts == {"first": "c", "start": 2}
    assert unfinished.facts(1) == facts
    found = zarr.open_array(unfinished.folder / SUM.place, mode="r")[:]
    assert found[2:4].tolist() == [[21.0], [30.0]]


def test_work_that_another_run_wrote_is_not_taken(unfinished, source):
    sha256 = kept(Sums(), unfinished)
    path = unfinished.folder / works.WORK
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    path.write_bytes(path.read_bytes() + b" ")
    works._work.cache_clear()
    with pytest.raises(FrostlineError, match="is not what this run wrote: is another one at work on the same output"):
        compute(unfinished, source, sha256, 0)


def test_what_no_encoder_computes_is_computed_without_torch():
    """It takes longer to import than 50,000 cells to label."""
    code = "import sys, frostline.cluster.atlases; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_other_weights_under_the_same_name_are_refused():
    weights = frostline.load_checkpoint("mini").weights_sha256
    assert works._encoder("mini", weights).config.d_model == 128
    with pytest.raises(FrostlineError, match="'mini' holds other weights on this worker; copy it again"):
        works._encoder("mini", "0" * 64)


def test_an_embedding_is_one_array_of_obsm():
    (array,) = Embedding(None, "mini", "", 128, (), "X_mine").arrays
    assert array == Array("store/obsm/X_mine", "float32", 128)


@pytest.fixture(scope="module")
def labelling():
    """Of 5,000 cells, as far as it looks at their number."""
    with open_cells(islets().adata) as query:
        reading = read_query(islet_model(), query)
        return Labelling(reading, light(query), 5_000, "kind")


def test_labels_are_two_tables_two_columns_and_four_codes(labelling):
    n_classes = len(set(islets().labels))
    assert [(array.place, array.dtype, array.width) for array in labelling.arrays] == [
        ("store/obsm/X_kind", "float32", 10),  # components of the model
        ("store/obsm/kind_probabilities", "float32", n_classes),
        ("store/obs/kind_confidence", "float64", None),
        ("store/obs/kind_p_known", "float64", None),
        ("codes/label", "int32", None),
        ("codes/label_second", "int32", None),
        ("codes/label_set", "int32", None),
        ("codes/label_reason", "int8", None),
    ]


def test_cells_that_are_watched_are_those_of_the_part(labelling):
    """1,000 of 5,000 are watched, evenly: those of rows 1,024 to 1,198 are in a part of 175 cells from 1,024 on."""
    matrix = sparse.csr_matrix(islets().adata.X)
    arrays, facts = labelling.compute(matrix, pd.Index(islets().adata.obs_names), 1_024)
    watched = [row for row in np.linspace(0, 4_999, 1_000).astype(int) if 1_024 <= row < 1_024 + 175]
    assert len(facts["watch"]["features"]) == len(watched) == 35
    confidence = arrays["store/obs/kind_confidence"]
    assert facts["watch"]["reasons"] == arrays["codes/label_reason"][np.array(watched) - 1_024].tolist()
    assert np.allclose(confidence, arrays["store/obsm/kind_probabilities"].max(axis=1), rtol=1e-6)
    for end in ("", "_second", "_set", "_reason"):
        values, cells = np.unique(arrays[f"codes/label{end}"], return_counts=True)
        assert sorted(map(tuple, facts["counts"][end])) == list(zip(values.tolist(), cells.tolist(), strict=True))
