"""Frozen embeddings: what goes in, what comes out, what is computed once."""

from __future__ import annotations

import re

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import frostline
from frostline import embedding as embedding_module
from frostline.encoder import tokens as tokens_module
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.devices import device_of
from frostline.encoder.embedding import batches_by_length, embed, tokenize_cells
from frostline.errors import CheckpointError, DatasetError
from frostline.monitor import Monitor


def test_tokens_are_of_seed_0_unless_another_is_given(pbmc, small_checkpoint):
    opened = load_checkpoint(small_checkpoint)
    genes = [gene for gene in pbmc.genes if gene in opened.vocabulary]
    usual, zero, one = (
        tokenize_cells(pbmc, np.arange(20), genes, opened, **seed) for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert np.array_equal(usual.bins, zero.bins)
    assert not np.array_equal(usual.bins, one.bins)


def mended(message: str, **names):
    """What the line of code in an error message makes of an AnnData."""
    (line,) = re.findall(r"`(adata = [^`]*)`", message)
    names["frostline"] = frostline
    exec(line, names)
    return names["adata"]


@pytest.fixture
def adata(pbmc):
    """Twenty cells with log-normalised values in X."""
    return pbmc.adata.raw.to_adata()[:20].copy()


class TestEmbed:
    def test_rows_are_float32_of_norm_one_in_the_order_of_the_cells(self, adata, small_checkpoint):
        embedding = frostline.embed(adata, checkpoint=small_checkpoint)
        assert (embedding.shape, embedding.dtype) == ((20, 32), np.float32)
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-6)
        alone = np.concatenate([embed(adata[[i]], checkpoint=small_checkpoint) for i in range(20)])
        np.testing.assert_allclose(embedding, alone, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("container", [sparse.csc_matrix, sparse.csr_array, lambda x: x.toarray()])
    def test_the_container_of_the_values_does_not_matter(self, adata, small_checkpoint, container):
        expected = embed(adata, checkpoint=small_checkpoint)
        adata.X = container(adata.X)
        np.testing.assert_allclose(embed(adata, checkpoint=small_checkpoint), expected, rtol=0, atol=1e-6)

    def test_the_same_seed_gives_the_same_bits_and_another_seed_other_draws(self, adata, small_checkpoint):
        one, again, other = (embed(adata, checkpoint=small_checkpoint, seed=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, again)
        assert np.abs(one - other).max() > 1e-4

    def test_a_cell_does_not_depend_on_its_neighbours(self, adata, small_checkpoint):
        expected = embed(adata, checkpoint=small_checkpoint, max_length=60)
        order = np.random.default_rng(0).permutation(20)
        for rows in np.split(order, [3, 10]):
            part = embed(adata[rows], checkpoint=small_checkpoint, max_length=60)
            np.testing.assert_allclose(part, expected[rows], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()])
    def test_cells_are_read_in_blocks_and_come_out_the_same(self, adata, small_checkpoint, monkeypatch, container):
        expected = embed(adata, checkpoint=small_checkpoint, max_length=60)
        adata.X = container(adata.X)
        for module in (embedding_module, tokens_module):
            monkeypatch.setattr(module, "BLOCK", 700)  # a few cells
        np.testing.assert_allclose(embed(adata, checkpoint=small_checkpoint, max_length=60), expected, atol=1e-6)
        broken = sparse.lil_matrix(adata.X)
        broken[3, 5], broken[18, 7] = -1.0, np.nan
        adata.X = container(broken.tocsr())
        with pytest.raises(DatasetError, match=rf"^2 values .*-1.0 in cell '{adata.obs_names[3]}'"):
            embed(adata, checkpoint=small_checkpoint)

    def test_whole_groups_of_cells_have_the_bits_that_all_cells_have(self, adata, small_checkpoint, monkeypatch):
        """However the values are stored, in whatever blocks they are read, and whoever computes which groups."""
        monkeypatch.setattr(embedding_module, "TOGETHER", 6)
        monkeypatch.setitem(embedding_module.BATCH_TOKENS, device_of("auto").type, 200)
        expected = embed(adata, checkpoint=small_checkpoint, max_length=60)
        parts = [embed(adata[rows], checkpoint=small_checkpoint, max_length=60) for rows in (slice(12), slice(12, 20))]
        assert np.concatenate(parts).tobytes() == expected.tobytes()
        monkeypatch.setattr(tokens_module, "BLOCK", 300)
        adata.X = adata.X.toarray()
        assert embed(adata, checkpoint=small_checkpoint, max_length=60).tobytes() == expected.tobytes()

    def test_the_number_of_threads_does_not_change_a_bit(self, adata, small_checkpoint, monkeypatch):
        monkeypatch.setitem(embedding_module.BATCH_TOKENS, device_of("auto").type, 200)
        before, found = torch.get_num_threads(), []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                found.append(embed(adata, checkpoint=small_checkpoint, max_length=60, device="cpu").tobytes())
                assert torch.get_num_threads() == threads
            finally:
                torch.set_num_threads(before)
        assert found[0] == found[1]

    def test_key_added_writes_to_obsm_and_nothing_else_is_touched(self, adata, small_checkpoint):
        before = adata.copy()
        embed(adata, checkpoint=small_checkpoint)
        assert list(adata.obsm) == list(before.obsm)
        embedding = embed(adata, checkpoint=small_checkpoint, key_added="X_scGPT")
        np.testing.assert_array_equal(adata.obsm["X_scGPT"], embedding)
        assert (adata.X != before.X).nnz == 0

    def test_progress_is_reported(self, adata, small_checkpoint, monkeypatch):
        monkeypatch.setitem(embedding_module.BATCH_TOKENS, device_of("auto").type, 500)
        heard: list[float] = []
        embed(adata, checkpoint=small_checkpoint, monitor=Monitor(lambda fraction, _: heard.append(fraction)))
        assert len(heard) > 2
        assert heard == sorted(heard)
        assert 0 <= heard[0] < heard[-1] <= 1

    def test_a_cell_without_a_known_gene_is_named(self, adata, small_checkpoint):
        adata.X = sparse.diags([1.0] * 4 + [0.0] + [1.0] * 15).astype(np.float32).tocsr() @ adata.X
        with pytest.raises(DatasetError, match=rf"^765 of 765 genes.*1 cell.* no gene.*{adata.obs_names[4]}") as caught:
            embed(adata, checkpoint=small_checkpoint)
        left = mended(str(caught.value), adata=adata)
        assert left.obs_names.tolist() == [name for i, name in enumerate(adata.obs_names) if i != 4]
        embed(left, checkpoint=small_checkpoint)

    def test_many_cells_without_a_known_gene_are_left_out_by_one_line(self, adata, small_checkpoint):
        adata.X = sparse.diags([1.0] * 4 + [0.0] * 6 + [1.0] * 10).astype(np.float32).tocsr() @ adata.X
        with pytest.raises(DatasetError, match=r"6 cell.*embedding\.readable") as caught:
            embed(adata, checkpoint=small_checkpoint)
        assert mended(str(caught.value), adata=adata).n_obs == 14

    @pytest.mark.parametrize("n", [1, 6])
    def test_so_they_are_of_cells_that_a_file_backs(self, adata, small_checkpoint, tmp_path, n):
        adata.X = sparse.diags([0.0] * n + [1.0] * (20 - n)).astype(np.float32).tocsr() @ adata.X
        adata.write_h5ad(tmp_path / "cells.h5ad")
        backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        with pytest.raises(DatasetError, match=f"{n} cell.*Leave them out") as caught:
            embed(backed, checkpoint=small_checkpoint)
        left = mended(str(caught.value), adata=backed)
        backed.file.close()
        assert left.n_obs == 20 - n
        embed(left, checkpoint=small_checkpoint)

    def test_few_known_genes_are_said_first_and_why(self, adata, small_checkpoint):
        names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
        names[0] = adata.var_names[0]
        adata.var_names = names
        with pytest.raises(DatasetError, match=r"^1 of 765 genes are in the vocabulary.*Ensembl ids.*cell"):
            embed(adata, checkpoint=small_checkpoint)

    def test_too_few_known_genes_are_a_warning_where_each_cell_has_some(self, adata, small_checkpoint):
        few = adata[:, np.argsort(-np.asarray(adata.X.mean(axis=0)).ravel())[:100]].copy()
        with pytest.warns(UserWarning, match=r"100 of 100 genes.*with 100 % of the counts.*targeted panels"):
            embed(few, checkpoint=small_checkpoint)

    def test_symbols_are_found_in_a_column_of_var(self, adata, small_checkpoint):
        expected = embed(adata, checkpoint=small_checkpoint)
        adata.var["feature_name"] = pd.Categorical(adata.var_names)
        adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
        np.testing.assert_array_equal(embed(adata, checkpoint=small_checkpoint), expected)
        with pytest.raises(DatasetError, match=r"gene column 'symbol' is not in adata\.var; it has: .*feature_name"):
            embed(adata, checkpoint=small_checkpoint, gene_column="symbol")
        with pytest.raises(DatasetError, match=r"^0 of 765 genes.*Load with gene_column='feature_name'"):
            embed(adata, checkpoint=small_checkpoint, gene_column="var_names")

    @pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
    def test_a_bad_value_names_its_cell_and_gene(self, adata, small_checkpoint, value):
        dense = adata.X.toarray()
        dense[7, 30] = value
        adata.X = dense
        cell, gene = adata.obs_names[7], adata.var_names[30]
        with pytest.raises(DatasetError, match=rf"1 values .*{value} in cell '{cell}', gene '{gene}'"):
            embed(adata, checkpoint=small_checkpoint)

    def test_no_known_gene_says_what_the_names_look_like(self, adata, small_checkpoint):
        adata.var_names = [f"ENSG009{i:08d}" for i in range(adata.n_vars)]
        with pytest.raises(DatasetError, match=r"^0 of 765 genes.*Ensembl ids"):
            embed(adata, checkpoint=small_checkpoint)

    def test_no_values_at_all_are_refused(self, adata, small_checkpoint):
        adata.X = None
        with pytest.raises(DatasetError, match="X"):
            embed(adata, checkpoint=small_checkpoint)

    def test_no_cells_give_no_rows(self, adata, small_checkpoint):
        assert embed(adata[:0].copy(), checkpoint=small_checkpoint).shape == (0, 32)

    def test_an_unknown_checkpoint_is_refused(self, adata):
        with pytest.raises(CheckpointError, match="unknown checkpoint 'nothing'"):
            embed(adata, checkpoint="nothing")

    def test_ties_of_the_golden_cells_stay_as_near_the_official_draw_as_another_official_draw(self, golden):
        """Two official seeds give cells of mean cosine 0.992 on these random weights."""
        adata = anndata.read_h5ad(golden / "input.h5ad")
        official = np.load(golden / "emb_ties_seed0.npy")
        for seed in range(3):
            cosine = (embed(adata, checkpoint=golden / "checkpoint", seed=seed) * official).sum(axis=1)
            assert cosine.mean() == pytest.approx(0.992, abs=0.003)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 2_000))
def test_batches_hold_every_cell_once_and_no_more_tokens_than_allowed(lengths, batch_tokens):
    lengths = np.array(lengths)
    batches = list(batches_by_length(lengths, batch_tokens))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * (lengths[rows].max() + 1) <= batch_tokens
