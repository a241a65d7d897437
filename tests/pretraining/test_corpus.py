"""The corpus: how sets are pooled, what is computed from them and which files are refused."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse
from small_pretraining import N_GENES, SMALL, counts

from frostline.errors import DatasetError
from frostline.pretraining import runs
from frostline.pretraining.corpus import gene_vectors, principal_components, read_corpus
from frostline.pretraining.runs import pretrain

pytestmark = pytest.mark.slow


def test_subsets_are_the_cells_own_tokens_without_repeats(corpus):
    tokens = read_corpus(corpus).tokens(seed=0)
    ids, values = runs.draw_subset(tokens, 12, 13, np.random.default_rng(1))
    assert (ids[:, 0] == 1).all()
    assert (values[:, 0] == -2).all()
    for row, (start, stop) in enumerate(zip(tokens.offsets, tokens.offsets[1:], strict=False)):
        cell = dict(zip(tokens.gene_ids[start:stop], tokens.bins[start:stop], strict=True))
        shown = [(g, v) for g, v in zip(ids[row, 1:], values[row, 1:], strict=True) if g != 0]
        assert len({g for g, _ in shown}) == len(shown) == min(12, stop - start)
        assert all(cell[g] == v for g, v in shown)


def test_pooling_keeps_every_count_and_drops_rare_genes(corpus):
    pooled = read_corpus(corpus)
    first, second = (anndata.read_h5ad(path).to_df() for path in corpus)
    both = np.concatenate([frame.reindex(columns=pooled.genes, fill_value=0) for frame in (first, second)])
    np.testing.assert_array_equal(pooled.counts.toarray(), both)
    assert len(pooled.measured[0]) == N_GENES
    assert [pooled.genes[i] for i in pooled.measured[1]] == list(second.columns)
    kept = pooled.frequent(0.5)
    often = ((first > 0).mean() >= 0.5) | ((second > 0).mean() >= 0.5).reindex(first.columns, fill_value=False)
    assert list(kept.genes) == sorted(often[often].index)
    assert {kept.genes[i] for i in kept.measured[1]} == set(kept.genes) & set(second.columns)


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0])
def test_components_are_those_of_the_log_normalised_cells_scaled_towards_equal_weight(corpus, exponent):
    pooled = read_corpus(corpus)
    counts = pooled.counts.toarray().astype(np.float64)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    left, singular, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    expected = left[:, :4] * singular[:4] ** exponent
    expected /= np.sqrt((expected**2).mean())
    scores = principal_components(pooled, 4, seed=0, exponent=exponent)
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores * signs, expected, atol=1e-3)


def test_genes_start_as_directions_of_co_expression_centred_by_how_often_they_are_expressed(corpus):
    pooled = read_corpus(corpus)
    logged = pooled.log_normalised().toarray().astype(np.float64)
    _, singular, right = np.linalg.svd(logged, full_matrices=False)
    vectors = right[:4].T * np.sqrt(singular[:4])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = vectors - np.average(vectors, axis=0, weights=(logged > 0).sum(axis=0))
    found = gene_vectors(pooled, 4, seed=0)
    np.testing.assert_allclose(found * np.sign((found * expected).sum(axis=0)), expected, atol=1e-2)


def test_neighbours_add_the_mean_components_of_the_most_similar_cells(corpus):
    """By hand, with all distances: the means over the five nearest, itself among them, scaled as the components."""
    pooled = read_corpus(corpus)
    alone = principal_components(pooled, 3, seed=0, exponent=0.25)
    both = principal_components(pooled, 3, seed=0, exponent=0.25, n_neighbors=5)
    assert both.shape == (len(alone), 6)
    np.testing.assert_allclose(both[:, :3] / both[:, :3].std(axis=0), alone / alone.std(axis=0), atol=1e-3)
    assert np.mean(both**2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(both[:, 3:].std(axis=0), both[:, :3].std(axis=0), rtol=1e-4)

    logged = pooled.log_normalised().toarray().astype(np.float64)
    left, singular, _ = np.linalg.svd(logged - logged.mean(axis=0), full_matrices=False)
    space = (left * singular)[:, :50]
    distances = ((space[:, None] - space[None]) ** 2).sum(axis=2)
    nearest = np.argsort(distances, axis=1)[:, :5]
    assert (nearest[:, 0] == np.arange(len(space))).all()
    means = space[nearest, :3].mean(axis=1)
    for column in range(3):
        found = np.corrcoef(means[:, column], both[:, 3 + column])[0, 1]
        same_sign = np.sign(np.corrcoef(space[:, column], both[:, column])[0, 1])
        assert found * same_sign == pytest.approx(1, abs=1e-4)


def write(adata: anndata.AnnData, path: Path) -> Path:
    adata.write_h5ad(path)
    return path


def spoil(path: Path, how: str) -> Path:
    """Write a file that cannot be pre-trained on."""
    adata = counts(0)
    if how == "truncated":
        write(adata, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path
    if how == "repeated genes":
        adata.var_names = ["G000", "G000", *adata.var_names[2:]]
    elif how == "empty cell":
        adata.X = sparse.diags([0.0] + [1.0] * (adata.n_obs - 1)).astype(np.float32).tocsr() @ adata.X
    elif how == "no values":
        adata.X = None
    else:
        adata.X.data[5] = {"negative": -1.0, "missing": np.nan, "infinite": np.inf, "fraction": 0.5}[how]
    return write(adata, path)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")  # said while the file is made
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "cannot be read"),
        ("negative", "seen: -1"),
        ("missing", "seen: nan"),
        ("infinite", "seen: inf"),
        ("fraction", "counts in X .* seen: 0.5"),
        ("repeated genes", "not unique.*G000"),
        ("empty cell", "first in row 0"),
        ("no values", "X is empty"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path, how, message):
    path = spoil(tmp_path / "bad.h5ad", how)
    with pytest.raises(DatasetError, match=rf"(?s)bad\.h5ad.*{message}"):
        pretrain([path], tmp_path / "out", steps=2, settings=SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("paths", "message"),
    [([], "corpus is empty"), (["nowhere.h5ad"], r"nowhere\.h5ad does not exist"), (["."], "is a folder")],
)
def test_a_missing_corpus_is_refused(tmp_path, paths, message):
    with pytest.raises(DatasetError, match=message):
        pretrain([tmp_path / path for path in paths], tmp_path / "out")


def test_the_same_file_twice_is_refused(corpus, tmp_path):
    with pytest.raises(DatasetError, match="more than once"):
        pretrain([corpus[0], corpus[0]], tmp_path)
