"""Two data sets in one: what is matched, what is kept and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_cells import N_CELLS, N_GENES, counts, make, scanpy_log_normalised

from frostline.cells.datasets import Dataset, load_dataset
from frostline.cells.gene_table import ensembl_of
from frostline.cells.joining import join_datasets
from frostline.errors import DatasetError


class TestJoined:
    """Two technologies, two gene lists, two names of the label column."""

    @pytest.fixture
    def pair(self) -> tuple[Dataset, Dataset]:
        one = make(batch=["x", "y"] * (N_CELLS // 2), depth=np.arange(N_CELLS))
        one.obsm["X_scVI"], one.obsm["X_pca"] = np.ones((N_CELLS, 4)), np.ones((N_CELLS, 3))
        other = make(scanpy_log_normalised(counts()[:, ::-1] + 1))[: N_CELLS // 2].copy()
        other.obs = other.obs.rename(columns={"cell_type": "annotation"}).assign(depth=7, annotation=["B", "T"] * 6)
        other.obsm["X_scVI"], other.obsm["X_pca"] = np.zeros((N_CELLS // 2, 4)), np.ones((N_CELLS // 2, 2))
        other.var_names = [*reversed(other.var_names[5:]), "GX", "GY", "G1", "GZ", "G0"]
        return (
            load_dataset(one, "cell_type", group_key="donor", name="tenx"),
            load_dataset(other, "annotation", name="indrop"),
        )

    def test_common_genes_keep_the_values_they_had(self, pair):
        joined = join_datasets(*pair)
        expected = [gene for gene in pair[0].genes if gene in pair[1].genes]
        assert joined.genes == tuple(expected)
        assert len(expected) == 12
        position = [list(pair[1].genes).index(gene) for gene in expected]
        want = np.vstack([pair[0].matrix.toarray()[:, [0, 1, *range(5, 15)]], pair[1].matrix.toarray()[:, position]])
        np.testing.assert_array_equal(joined.matrix.toarray(), want)
        assert joined.matrix.has_sorted_indices
        assert (joined.matrix.format, joined.matrix.dtype) == ("csr", np.float32)
        assert joined.values_name == "counts / log-normalised"
        assert any("12 genes that both sets have (15 and 15)" in note for note in joined.notes)

    def test_genes_with_another_name_in_the_second_set_are_mapped(self):
        symbols = [*("CD3D", "LYZ", "MS4A1", "NKG7", "SEPT9", "G5"), *(f"H{i}" for i in range(6, N_GENES))]
        ids = [*ensembl_of(symbols[:5]), *symbols[5:]]
        one, other = make(), make(counts()[:, ::-1])
        one.var_names, other.var_names = symbols, ids[::-1]
        joined = join_datasets(
            *(load_dataset(adata, "cell_type", name=name) for adata, name in ((one, "a"), (other, "b")))
        )
        assert joined.genes == tuple(symbols)
        matrix = joined.matrix.toarray()
        np.testing.assert_array_equal(matrix[:N_CELLS], matrix[N_CELLS:])
        assert joined.matrix.has_sorted_indices
        assert any(note.endswith("(15 and 15); 5 of them have another name in b.") for note in joined.notes)

    def test_cells_carry_their_set_and_their_old_id(self, pair):
        joined = join_datasets(*pair)
        assert joined.sets == ("tenx", "indrop")
        assert joined.origin.tolist() == ["tenx"] * N_CELLS + ["indrop"] * (N_CELLS // 2)
        assert joined.cells[[0, N_CELLS]].tolist() == ["tenx/c0", "indrop/c0"]
        assert joined.original_cells.tolist() == [*pair[0].cells, *pair[1].cells]
        assert len(set(joined.cells)) == len(joined) == N_CELLS + N_CELLS // 2
        assert pair[0].original_cells.tolist() == pair[0].cells.tolist()
        assert (pair[0].sets, pair[0].origin) == ((), None)

    def test_labels_groups_and_common_columns_are_joined(self, pair):
        del pair[1].obs["donor"]
        joined = join_datasets(*pair, name="both")
        assert (joined.name, joined.label_key, joined.group_key) == ("both", "cell_type", "donor")
        assert joined.labels.tolist() == [*pair[0].labels, *pair[1].labels]
        assert joined.adata.obs["cell_type"].tolist() == joined.labels.tolist()
        assert joined.groups.tolist() == [*pair[0].groups, *["indrop"] * (N_CELLS // 2)]
        assert set(joined.adata.obs) == {"cell_type", "donor", "depth"}
        assert joined.adata.obs["depth"].tolist() == [*range(N_CELLS), *[7] * (N_CELLS // 2)]

    def test_the_groups_of_the_test_set_alone_will_do(self, pair):
        del pair[1].obs["donor"]
        groups = join_datasets(pair[1], pair[0]).groups
        assert groups.tolist() == [*["indrop"] * (N_CELLS // 2), *pair[0].groups]

    def test_a_set_that_was_loaded_without_groups_keeps_its_column_of_that_name(self, pair):
        donors = ["d1", "d9", *["d2"] * 9, None]
        pair[1].obs["donor"] = donors
        assert join_datasets(*pair).groups.tolist() == [*pair[0].groups, *donors[:-1], "indrop"]

    def test_embeddings_of_the_same_width_are_joined(self, pair):
        obsm = join_datasets(*pair).adata.obsm
        assert list(obsm) == ["X_scVI"]
        assert obsm["X_scVI"].sum(axis=1).tolist() == [4.0] * N_CELLS + [0.0] * (N_CELLS // 2)

    def test_sets_of_one_name_are_separation(self, pair):
        joined = join_datasets(pair[0], pair[0])
        assert joined.sets == ("tenx (train)", "tenx (test)")
        assert len(set(joined.cells)) == 2 * N_CELLS

    def test_no_common_gene_shows_what_was_seen_and_the_remedy(self, pair):
        adata = make()
        adata.var_names = [f"ENSG000001396{i:02d}" for i in range(N_GENES)]
        ensembl = load_dataset(adata, "cell_type", name="ensembl")
        with pytest.raises(
            DatasetError, match=r"share no gene \(seen: G0, G1, G2 in 'tenx'.*Ensembl ids: put gene symbols"
        ):
            join_datasets(pair[0], ensembl)
        adata.var_names = [f"g{i}" for i in range(N_GENES)]
        with pytest.raises(DatasetError, match=r"share no gene .*g0, g1, g2 in 'lower'\); put the same kind of names"):
            join_datasets(pair[0], load_dataset(adata, "cell_type", name="lower"))

    def test_fewer_than_two_common_labels_show_both_lists(self, pair):
        other = load_dataset(make(cell_type=["B", "b cell", "t cell"] * (N_CELLS // 3)), "cell_type", name="other")
        with pytest.raises(
            DatasetError, match=r"share 1 label.*'cell_type' of 'tenx' has B, NK, T; .*has B, b cell, t cell"
        ):
            join_datasets(pair[0], other)

    def test_the_inputs_stay_as_they_were(self, pair):
        before = [data.adata.obs.copy() for data in pair]
        join_datasets(*pair)
        for data, obs in zip(pair, before, strict=True):
            pd.testing.assert_frame_equal(data.adata.obs, obs)

    def test_a_joined_set_can_be_written(self, pair, tmp_path):
        joined = join_datasets(*pair)
        joined.adata.write_h5ad(tmp_path / "joined.h5ad")
        again = load_dataset(tmp_path / "joined.h5ad", "cell_type", group_key="donor")
        assert again.fingerprint() == joined.fingerprint()
