"""Tokens: the bins of the official code, drawn as a pure function of seed and cell."""

from __future__ import annotations

import tracemalloc

import anndata
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from frostline.cells.genes import match_genes
from frostline.encoder import tokens as tokens_module
from frostline.encoder.checkpoints import load_checkpoint
from frostline.encoder.tokens import N_BINS, TokenBlocks, Tokens, admissible_bins, runs, tokenize
from frostline.errors import DatasetError

EDGES = np.linspace(0, 1, N_BINS - 1)
POSITIVE = {"min_value": np.float32(1e-3), "max_value": np.float32(1e4), "width": 32}


def cell_values(*, unique: bool = False, max_size: int = 400):
    """Positive values of one cell: of any shape, or a handful of distinct ones repeated often."""
    free = arrays(np.float32, st.integers(1, max_size), elements=st.floats(**POSITIVE), unique=unique)
    if unique:
        return free
    pool = arrays(np.float32, st.integers(1, 8), elements=st.floats(**POSITIVE))
    length, seed = st.integers(1, max_size), st.integers(0, 2**32 - 1)
    tied = st.builds(lambda p, n, s: np.random.default_rng(s).choice(p, n), pool, length, seed)
    counts = st.builds(lambda n, s: 1 + np.random.default_rng(s).geometric(0.4, n).astype(np.float32), length, seed)
    return free | tied | counts


def matrix_of(rows: list[np.ndarray], n_genes: int | None = None) -> sparse.csr_matrix:
    """Cells that express the first genes, each as many as it has values."""
    lengths = [len(row) for row in rows]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate([np.arange(n) for n in lengths])
    return sparse.csr_matrix((np.concatenate(rows), indices, indptr), shape=(len(rows), n_genes or max(lengths)))


def ids_of(matrix) -> np.ndarray:
    return np.arange(10, 10 + matrix.shape[1], dtype=np.int32)


def counts_matrix(n_cells: int, n_genes: int, seed: int = 0, rate: float = 0.6) -> sparse.csr_matrix:
    """Poisson counts with ties everywhere; no cell is empty."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(rate * rng.gamma(1.0, 1.0, n_genes), (n_cells, n_genes)).astype(np.float32)
    values[:, 0] += 1
    return sparse.csr_matrix(values)


def by_gene(tokens: Tokens, cell: int) -> dict[int, int]:
    span = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
    return dict(zip(tokens.gene_ids[span].tolist(), tokens.bins[span].tolist(), strict=True))


def assert_same(one: Tokens, other: Tokens) -> None:
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.gene_ids, other.gene_ids)
    np.testing.assert_array_equal(one.bins, other.bins)


@pytest.fixture(scope="module")
def cells(golden):
    """CSR matrix and vocabulary ids of a golden input."""
    vocabulary = load_checkpoint(golden / "checkpoint").vocabulary

    def read(name):
        adata = anndata.read_h5ad(golden / f"{name}.h5ad")
        return sparse.csr_matrix(adata.X), match_genes(list(adata.var_names), vocabulary).ids

    return read


class TestOfficialCode:
    def test_tie_free_tokens_are_the_official_ones(self, golden, cells):
        official = np.load(golden / "tokens_tiefree.npz")
        tokens = tokenize(*cells("input_tiefree"))
        lengths = (official["gene_ids"] != 1997).sum(axis=1) - 1  # <pad>; <cls> is in front
        np.testing.assert_array_equal(tokens.lengths, lengths)
        present = np.arange(official["gene_ids"].shape[1] - 1) < lengths[:, None]
        np.testing.assert_array_equal(tokens.gene_ids, official["gene_ids"][:, 1:][present])
        np.testing.assert_array_equal(tokens.bins, official["values"][:, 1:][present])

    def test_bins_of_normalised_values_are_those_of_the_preprocessor(self, golden):
        official = np.load(golden / "preprocessor_tiefree.npz")
        matrix = sparse.csr_matrix(official["X_normed"])
        tokens = tokenize(matrix, np.arange(matrix.shape[1], dtype=np.int32))
        binned = sparse.csr_matrix((tokens.bins, tokens.gene_ids, tokens.offsets), shape=matrix.shape)
        np.testing.assert_array_equal(binned.toarray(), official["X_binned"])

    def test_admissible_bins_of_ties_are_the_official_ones(self, golden, cells):
        matrix, ids = cells("input")
        support = np.load(golden / "tie_support.npz")
        column = {gene: i for i, gene in enumerate(support["gene_ids"].tolist())}
        kept = matrix[:, ids >= 0]
        columns = np.array([column[gene] for gene in ids[ids >= 0].tolist()])[kept.indices]
        rows = np.repeat(np.arange(kept.shape[0]), np.diff(kept.indptr))
        lo, hi = admissible_bins(kept.data, kept.indptr.astype(np.int64))
        np.testing.assert_array_equal(lo, support["lo"][rows, columns])
        np.testing.assert_array_equal(hi, support["hi"][rows, columns])
        assert (hi - lo > 1).mean() > 0.9  # the rule for ties decides nearly every value of these cells

    @pytest.mark.parametrize("seed", range(4))
    def test_drawn_bins_of_ties_are_admissible(self, golden, cells, seed):
        matrix, ids = cells("input")
        kept = matrix[:, ids >= 0]
        lo, hi = admissible_bins(kept.data, kept.indptr.astype(np.int64))
        bins = tokenize(matrix, ids, seed=seed).bins.astype(int)
        assert ((bins <= hi) & ((bins > lo) | (bins == hi))).all()

    def test_shortened_cells_hold_as_many_genes_as_the_official_ones(self, golden, cells):
        official = np.load(golden / "tokens_tiefree_maxlen200_seed0.npz")
        lengths = (official["gene_ids"] != 1997).sum(axis=1) - 1
        tokens = tokenize(*cells("input_tiefree"), max_length=200)
        np.testing.assert_array_equal(tokens.lengths, lengths)


class TestArithmetic:
    @given(st.lists(cell_values(), min_size=1, max_size=6))
    def test_admissible_bins_are_those_of_numpy_quantile_and_digitize(self, rows):
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        lo, hi = admissible_bins(np.concatenate(rows), offsets)
        for row, start, stop in zip(rows, offsets, offsets[1:], strict=False):
            edges = np.quantile(row, EDGES)
            np.testing.assert_array_equal(lo[start:stop], np.digitize(row, edges, right=True))
            np.testing.assert_array_equal(hi[start:stop], np.digitize(row, edges))

    @pytest.mark.parametrize("n_distinct", [1, 3, 40, None])
    def test_every_length_up_to_400_agrees_with_numpy(self, n_distinct):
        rng = np.random.default_rng(0)
        rows = [rng.lognormal(0, 2, n).astype(np.float32) for n in range(1, 401)]
        if n_distinct is not None:
            rows = [rng.choice(row[:n_distinct], len(row)) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        lo, hi = admissible_bins(np.concatenate(rows), offsets)
        edges = [np.quantile(row, EDGES) for row in rows]
        np.testing.assert_array_equal(
            lo, np.concatenate([np.digitize(row, e, right=True) for row, e in zip(rows, edges, strict=True)])
        )
        np.testing.assert_array_equal(
            hi, np.concatenate([np.digitize(row, e) for row, e in zip(rows, edges, strict=True)])
        )

    @given(cell_values(), st.integers(0, 2**64 - 1))
    def test_bins_of_a_cell_rise_with_its_values_from_at_least_1_to_50(self, row, seed):
        tokens = tokenize(matrix_of([row]), ids_of(row[None]), seed=seed)
        assert tokens.bins.min() >= 1
        assert tokens.bins.max() <= 50
        lo, hi = admissible_bins(row, np.array([0, len(row)]))
        order = np.argsort(row, kind="stable")
        rises = np.diff(row[order]) > 0
        assert (tokens.bins[order][1:] >= tokens.bins[order][:-1])[rises].all()
        assert ((tokens.bins <= hi) & ((tokens.bins > lo) | (tokens.bins == hi))).all()

    def test_the_draw_is_uniform_over_the_admissible_bins(self):
        """70 equal values of 100 span 35 bins; each is drawn equally often (chi-square, 5 sigma)."""
        row = np.concatenate([np.full(70, 2.0), np.linspace(3, 9, 30)]).astype(np.float32)
        matrix = matrix_of([row])
        lo, hi = admissible_bins(row, np.array([0, 100]))
        width = int(hi[0] - lo[0])
        drawn = np.concatenate([tokenize(matrix, ids_of(matrix), seed=seed).bins[:70] for seed in range(400)])
        counts = np.bincount(drawn, minlength=51)[lo[0] + 1 : hi[0] + 1]
        assert counts.sum() == len(drawn) == 28_000
        expected = len(drawn) / width
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_square - (width - 1)) < 5 * np.sqrt(2 * (width - 1))


class TestInvariance:
    @given(cell_values(unique=True), st.integers(0, 2**32 - 1))
    def test_any_strictly_increasing_transform_of_distinct_values_changes_nothing(self, row, seed):
        rng = np.random.default_rng(seed)
        other = np.cumsum(rng.lognormal(0, 2, len(row)) + 1e-2).astype(np.float32)
        assume((np.diff(other) > 0).all())
        transformed = other[np.argsort(np.argsort(row))]
        ids = ids_of(row[None])
        assert_same(tokenize(matrix_of([row]), ids), tokenize(matrix_of([transformed]), ids))

    @given(cell_values(), st.sampled_from([0.125, 0.5, 4.0, 1024.0]))
    def test_scaling_by_a_power_of_two_changes_nothing_even_with_ties(self, row, factor):
        ids = ids_of(row[None])
        assert_same(tokenize(matrix_of([row]), ids), tokenize(matrix_of([row * np.float32(factor)]), ids))

    @given(cell_values(), st.sampled_from([np.sqrt, np.log1p, np.square, lambda x: 1 - 1 / (1 + x)]))
    def test_a_smooth_transform_changes_nothing_even_with_ties(self, row, transform):
        """Lengths 7 k + 1 are left out: there a quantile falls on a value up to the rounding of its index."""
        assume((len(row) - 1) % 7)
        transformed = transform(row)
        assume(len(np.unique(transformed)) == len(np.unique(row)))  # float32 did not merge two values
        ids = ids_of(row[None])
        assert_same(tokenize(matrix_of([row]), ids), tokenize(matrix_of([transformed]), ids))

    @given(st.integers(0, 2**32 - 1), st.integers(2, 80))
    def test_the_order_of_genes_does_not_matter(self, seed, n_genes):
        matrix = counts_matrix(3, n_genes, seed)
        order = np.random.default_rng(seed).permutation(n_genes)
        ids = ids_of(matrix)
        one, other = tokenize(matrix, ids, seed=1), tokenize(matrix[:, order], ids[order], seed=1)
        for cell in range(3):
            assert by_gene(one, cell) == by_gene(other, cell)

    @given(st.integers(0, 2**32 - 1), st.sampled_from([15, 1200]))
    def test_the_order_and_the_grouping_of_cells_do_not_matter(self, seed, max_length):
        matrix = counts_matrix(12, 40, seed)
        ids = ids_of(matrix)
        together = tokenize(matrix, ids, seed=5, max_length=max_length)
        order = np.random.default_rng(seed).permutation(12)
        for rows in np.split(order, [1, 5]):
            assert_same(tokenize(matrix[rows], ids, seed=5, max_length=max_length), together.take(rows))

    def test_chunks_do_not_matter(self, monkeypatch):
        matrix = counts_matrix(50, 60)
        together = tokenize(matrix, ids_of(matrix), max_length=20)
        monkeypatch.setattr(tokens_module, "_CHUNK", 7)
        assert_same(tokenize(matrix, ids_of(matrix), max_length=20), together)

    def test_genes_that_the_vocabulary_lacks_do_not_enter_the_bins(self):
        matrix = counts_matrix(5, 60)
        ids = ids_of(matrix)
        ids[::3] = -1
        kept = ids >= 0
        assert_same(tokenize(matrix, ids), tokenize(matrix[:, kept], ids[kept]))

    def test_stored_zeros_are_no_tokens(self):
        matrix = counts_matrix(5, 30)
        stored = matrix.copy()
        stored.data[stored.data == 2] = 0
        cleaned = stored.copy()
        cleaned.eliminate_zeros()
        assert cleaned.nnz < stored.nnz
        assert_same(tokenize(stored, ids_of(matrix)), tokenize(cleaned, ids_of(matrix)))


class TestSeed:
    def test_the_same_seed_gives_the_same_tokens(self):
        matrix = counts_matrix(20, 80)
        assert_same(tokenize(matrix, ids_of(matrix), seed=7), tokenize(matrix, ids_of(matrix), seed=7))

    def test_another_seed_draws_other_bins_for_ties_of_the_same_genes(self):
        matrix = counts_matrix(20, 80)
        one, other = (tokenize(matrix, ids_of(matrix), seed=seed) for seed in (0, 1))
        np.testing.assert_array_equal(one.gene_ids, other.gene_ids)
        assert (one.bins != other.bins).mean() > 0.5

    def test_the_seed_decides_nothing_without_ties(self):
        values = np.random.default_rng(0).permutation(60).reshape(1, 60).astype(np.float32) + 1
        matrix = sparse.csr_matrix(values)
        assert_same(tokenize(matrix, ids_of(matrix), seed=0), tokenize(matrix, ids_of(matrix), seed=1))

    def test_draws_of_different_cells_are_unrelated(self):
        """Cells of equal values but other genes: their draws agree as often as chance lets them."""
        rows = [np.full(40, 2.0, dtype=np.float32)] * 200
        matrix = sparse.block_diag([sparse.csr_matrix(row) for row in rows], format="csr")
        bins = tokenize(matrix, ids_of(matrix)).bins.reshape(200, 40).astype(float)
        correlation = np.corrcoef(bins)[np.triu_indices(200, 1)]
        assert abs(correlation.mean()) < 0.01
        assert np.abs(correlation).max() < 0.75

    def test_draws_of_different_genes_of_a_cell_are_unrelated(self):
        matrix = sparse.csr_matrix(np.full((1, 40), 2.0, dtype=np.float32))
        bins = np.array([tokenize(matrix, ids_of(matrix), seed=seed).bins for seed in range(600)], dtype=float)
        correlation = np.corrcoef(bins.T)[np.triu_indices(40, 1)]
        assert abs(correlation.mean()) < 0.01
        assert np.abs(correlation).max() < 0.25


@pytest.fixture(scope="module")
def matrix():
    return counts_matrix(30, 120, rate=1.0)


class TestMaxLength:
    def test_long_cells_keep_max_length_minus_one_genes_with_their_bins(self, matrix):
        full = tokenize(matrix, ids_of(matrix))
        short = tokenize(matrix, ids_of(matrix), max_length=50)
        np.testing.assert_array_equal(short.lengths, np.minimum(full.lengths, 49))
        assert (full.lengths > 49).any()
        for cell in range(len(full)):
            assert by_gene(short, cell).items() <= by_gene(full, cell).items()
            assert len(by_gene(short, cell)) == short.lengths[cell]

    def test_the_highest_bins_are_kept_where_that_is_asked_for(self, matrix):
        full = tokenize(matrix, ids_of(matrix))
        short = tokenize(matrix, ids_of(matrix), max_length=20, long_cells="highest")
        random = tokenize(matrix, ids_of(matrix), max_length=20)
        np.testing.assert_array_equal(short.lengths, np.minimum(full.lengths, 19))
        for cell in range(len(full)):
            kept, whole = by_gene(short, cell), by_gene(full, cell)
            assert kept.items() <= whole.items()
            assert sorted(kept.values()) == sorted(whole.values())[-19:]
        assert sum(map(int, random.bins)) < sum(map(int, short.bins))

    def test_equal_bins_are_drawn_among_and_no_place_is_preferred(self):
        matrix = matrix_of([np.full(40, 2.0, dtype=np.float32)])
        kept = np.zeros(40)
        for seed in range(400):
            tokens = tokenize(matrix, ids_of(matrix), seed=seed, max_length=21, long_cells="highest")
            kept[tokens.gene_ids - 10] += 1
        assert (np.abs(kept - 200) < 50).all()  # of a share of a half, five standard deviations

    def test_another_word_for_long_cells_is_refused(self, matrix):
        with pytest.raises(ValueError, match="long_cells is 'longest', and must be one of random, highest"):
            tokenize(matrix, ids_of(matrix), long_cells="longest")

    def test_cells_that_fit_exactly_are_left_whole(self, matrix):
        full = tokenize(matrix, ids_of(matrix))
        longest = int(full.lengths.max())
        assert_same(tokenize(matrix, ids_of(matrix), max_length=longest + 1), full)
        assert tokenize(matrix, ids_of(matrix), max_length=longest).lengths.max() == longest - 1

    def test_the_sample_is_that_of_the_seed_and_of_no_other(self, matrix):
        ids = ids_of(matrix)
        one, again, other = (tokenize(matrix, ids, max_length=20, seed=seed) for seed in (3, 3, 4))
        assert_same(one, again)
        assert set(by_gene(one, 0)) != set(by_gene(other, 0))

    def test_the_order_of_genes_does_not_change_the_sample(self, matrix):
        ids, order = ids_of(matrix), np.random.default_rng(0).permutation(matrix.shape[1])
        one = tokenize(matrix, ids, max_length=20)
        other = tokenize(matrix[:, order], ids[order], max_length=20)
        assert all(by_gene(one, cell) == by_gene(other, cell) for cell in range(len(one)))

    def test_every_gene_is_sampled_equally_often_whatever_its_bin(self):
        row = np.arange(1, 61, dtype=np.float32)
        matrix = matrix_of([row])
        kept = np.zeros(60)
        for seed in range(600):
            kept[tokenize(matrix, ids_of(matrix), seed=seed, max_length=21).gene_ids - 10] += 1
        sigma = np.sqrt(600 * (1 / 3) * (2 / 3))
        assert np.abs(kept - 200).max() < 5 * sigma

    def test_less_than_two_is_refused(self, matrix):
        with pytest.raises(ValueError, match=r"max_length is 1, .* from 2 to .* \(tokens\)"):
            tokenize(matrix, ids_of(matrix), max_length=1)


class TestSize:
    def test_a_token_takes_at_most_six_bytes(self):
        tokens = tokenize(counts_matrix(40, 200), np.arange(200, dtype=np.int32))
        assert (tokens.gene_ids.dtype, tokens.bins.dtype) == (np.int32, np.uint8)
        n_bytes = tokens.gene_ids.nbytes + tokens.bins.nbytes + tokens.offsets.nbytes
        assert n_bytes <= 6 * len(tokens.gene_ids)

    def test_the_matrix_is_never_made_dense(self):
        rng = np.random.default_rng(0)
        genes = rng.integers(0, 60_000, 100_000)
        counts = 1 + rng.geometric(0.4, 100_000).astype(np.float32)
        matrix = sparse.csr_matrix((counts, genes, np.arange(0, 100_001, 100)), shape=(1_000, 60_000))
        ids = np.arange(60_000, dtype=np.int32)
        tracemalloc.start()
        tokenize(matrix, ids)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40e6  # dense it would take 240 MB


class TestRefusals:
    @pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
    def test_values_that_cannot_be_binned(self, value):
        matrix = counts_matrix(3, 10)
        matrix.data[3:5] = 0, value
        with pytest.raises(DatasetError, match=rf"seen: {value}.*cannot be binned"):
            tokenize(matrix, ids_of(matrix))

    def test_a_cell_without_a_known_gene_is_named_by_its_row_across_chunks(self, monkeypatch):
        monkeypatch.setattr(tokens_module, "_CHUNK", 4)
        values = np.ones((10, 3), dtype=np.float32)
        values[9, 1:] = 0
        with pytest.raises(DatasetError, match=r"1 cell.*row 9.*filter_cells"):
            tokenize(sparse.csr_matrix(values), np.array([-1, 1, 2], dtype=np.int32))


class TestTake:
    def test_take_returns_the_cells_asked_for_in_that_order(self):
        matrix = counts_matrix(8, 30)
        tokens = tokenize(matrix, ids_of(matrix))
        rows = np.array([5, 0, 5, 7])
        taken = tokens.take(rows)
        assert len(taken) == 4
        assert [by_gene(taken, i) for i in range(4)] == [by_gene(tokens, row) for row in rows]

    def test_taking_nothing_gives_no_cells(self):
        matrix = counts_matrix(3, 10)
        taken = tokenize(matrix, ids_of(matrix)).take(np.array([], dtype=int))
        assert len(taken) == 0
        assert len(taken.gene_ids) == 0

    def test_no_cells_give_no_tokens(self):
        tokens = tokenize(sparse.csr_matrix((0, 5), dtype=np.float32), np.arange(5, dtype=np.int32))
        assert len(tokens) == 0


class TestBlocks:
    def test_runs_hold_every_cell_once_and_no_more_values_than_allowed(self):
        lengths = np.random.default_rng(0).integers(0, 40, 500)
        cut = list(runs(lengths, 100, 7))
        assert [cell for run in cut for cell in range(run.start, run.stop)] == list(range(500))
        sizes = [(int(lengths[run].sum()), run.stop - run.start) for run in cut]
        assert all(values <= 100 and n <= 7 for values, n in sizes)
        # greedy: the first cell of the next run would not have fitted
        assert all(
            n == 7 or values + lengths[run.stop] > 100 for (values, n), run in zip(sizes[:-1], cut[:-1], strict=True)
        )

    def test_a_cell_above_the_limit_has_a_run_of_its_own(self):
        assert [(run.start, run.stop) for run in runs(np.array([5, 900, 0, 5]), 100)] == [(0, 1), (1, 2), (2, 4)]

    @pytest.mark.parametrize(("block", "chunk"), [(1, 2**18), (700, 2**18), (2**20, 300), (2**20, 1)])
    def test_blocks_and_chunks_change_no_token(self, monkeypatch, cells, block, chunk):
        matrix, ids = cells("input_tiefree")
        expected = tokenize(matrix, ids, seed=3, max_length=90)
        monkeypatch.setattr(tokens_module, "BLOCK", block)
        monkeypatch.setattr(tokens_module, "_CHUNK", chunk)
        lengths = np.diff(matrix.indptr)
        asked: list[slice] = []

        def make(run):
            asked.append(run)
            return tokenize(matrix[run], ids, seed=3, max_length=90)

        made = TokenBlocks(lengths, make)
        assert_same(made.all(), expected)
        assert asked == list(runs(lengths, block))
        for groups in (list(made.groups(7)), list(expected.groups(7))):
            assert [len(group) for group in groups] == [min(7, len(lengths) - i) for i in range(0, len(lengths), 7)]
            for i, group in enumerate(groups):
                assert_same(group, expected.take(np.arange(7 * i, 7 * i + len(group))))

    def test_the_row_of_a_cell_without_a_known_gene_is_that_in_the_whole_matrix(self, monkeypatch):
        monkeypatch.setattr(tokens_module, "_CHUNK", 2)
        matrix = sparse.csr_matrix(np.array([[1, 2, 0], [3, 1, 0], [0, 0, 4]], dtype=np.float32))
        with pytest.raises(DatasetError, match="the first in row 2"):
            tokenize(matrix, np.array([1, 2, -1], dtype=np.int32))
