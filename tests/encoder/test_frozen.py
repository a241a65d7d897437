"""Frozen states are computed once for all strategies of a data set, and once for all runs on a machine."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from frostline.encoder import caches, frozen
from frostline.encoder.checkpoints import Checkpoint, load_checkpoint
from frostline.encoder.embedding import encode, tokenize_cells
from frostline.encoder.frozen import frozen_states
from frostline.errors import Cancelled, DatasetError
from frostline.memory import Peak
from frostline.monitor import Monitor
from frostline.strategies import FrozenProbe


class TestFrozenStates:
    @pytest.fixture
    def opened(self, small_checkpoint):
        return load_checkpoint(small_checkpoint)

    def test_each_cell_is_computed_once(self, pbmc, fresh, opened, encoded_cells):
        dataset, genes = fresh(pbmc), pbmc.genes[:200]
        first = frozen_states(dataset, np.arange(30), genes, opened).states
        assert sum(encoded_cells) == 30
        second = frozen_states(dataset, np.arange(20, 40), genes, opened).states
        assert sum(encoded_cells) == 40
        np.testing.assert_array_equal(first[20:], second[:10])

    def test_they_are_the_states_of_these_tokens(self, pbmc, fresh, opened):
        cells, genes = np.array([7, 3, 7]), pbmc.genes[:200]
        states = frozen_states(fresh(pbmc), cells, genes, opened, seed=2).states
        expected = encode(opened.encoder(), tokenize_cells(pbmc, cells, genes, opened, seed=2))
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-5)

    def test_the_encoder_is_read_once_for_what_comes_piece_by_piece(self, pbmc, fresh, opened, monkeypatch):
        read, build = [], Checkpoint.encoder
        monkeypatch.setattr(Checkpoint, "encoder", lambda checkpoint: read.append(checkpoint.name) or build(checkpoint))
        monkeypatch.setattr(frozen, "_PLACED", {})
        mini = load_checkpoint("mini")
        for piece in (np.arange(3), np.arange(3, 6)):
            frozen_states(fresh(pbmc), piece, pbmc.genes[:200], opened)
        assert read == [opened.name]
        for other in (mini, opened):  # only the last one is held
            frozen_states(fresh(pbmc), np.arange(3), pbmc.genes[:200], other)
        assert read == [opened.name, mini.name, opened.name]

    @pytest.mark.parametrize("change", [{"seed": 1}, {"max_length": 20}, {"genes": 100}])
    def test_another_way_to_make_tokens_is_another_computation(self, pbmc, fresh, opened, encoded_cells, change):
        dataset, cells = fresh(pbmc), np.arange(10)
        options = {"seed": 0, "max_length": 1200, "genes": 200}
        one = frozen_states(dataset, cells, pbmc.genes[: options.pop("genes")], opened, **options).states
        options.update({"genes": 200, **change})
        other = frozen_states(dataset, cells, pbmc.genes[: options.pop("genes")], opened, **options).states
        assert sum(encoded_cells) == 20
        assert np.abs(one - other).max() > 1e-4

    def test_other_genes_of_long_cells_are_another_computation(self, pbmc, fresh, opened, encoded_cells):
        dataset, cells, genes = fresh(pbmc), np.arange(10), pbmc.genes[:200]
        one, other = (
            frozen_states(dataset, cells, genes, opened, max_length=20, long_cells=which).states
            for which in ("random", "highest")
        )
        assert sum(encoded_cells) == 20
        assert np.abs(one - other).max() > 1e-4

    def test_seconds_are_charged_to_everyone_who_uses_a_cell(self, pbmc, fresh, opened):
        dataset, genes = fresh(pbmc), pbmc.genes[:200]
        all_of_them = frozen_states(dataset, np.arange(30), genes, opened).seconds
        again = frozen_states(dataset, np.arange(30), genes, opened).seconds
        a_third = frozen_states(dataset, np.arange(10), genes, opened).seconds
        assert all_of_them > 0
        assert again == pytest.approx(all_of_them)
        assert a_third == pytest.approx(all_of_them / 3)

    def test_so_is_the_peak_memory(self, pbmc, fresh, opened, monkeypatch):
        dataset, genes = fresh(pbmc), pbmc.genes[:200]
        for cells, found, expected in ((30, 7_000, 7_000), (30, 9_000, 7_000), (60, 5_000, 7_000), (90, 8_000, 8_000)):

            @contextmanager
            def measured(*, collect, found=found):
                yield Peak(found)

            monkeypatch.setattr(frozen, "peak_memory", measured)
            assert frozen_states(dataset, np.arange(cells), genes, opened).peak == expected

    def test_work_that_was_cancelled_is_done_when_asked_for_again(self, pbmc, fresh, opened):
        dataset, genes, cells = fresh(pbmc), pbmc.genes[:200], np.arange(10)
        with pytest.raises(Cancelled):
            frozen_states(dataset, cells, genes, opened, monitor=Monitor(cancelled=lambda: True))
        states = frozen_states(dataset, cells, genes, opened).states
        expected = frozen_states(fresh(pbmc), cells, genes, opened).states
        np.testing.assert_array_equal(states, expected)

    def test_cells_without_a_known_gene_are_named(self, pbmc, fresh, opened):
        matrix = pbmc.matrix.tolil(copy=True)
        matrix[5] = 0
        dataset = fresh(pbmc, matrix=matrix.tocsr())
        with pytest.raises(DatasetError, match=f"1 cell.*{pbmc.cells[5]}"):
            frozen_states(dataset, np.arange(10), pbmc.genes, opened)


class TestAcrossRuns:
    """A fresh copy of a data set stands for another run: it shares nothing in memory."""

    @pytest.fixture(autouse=True)
    def kept(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path))
        monkeypatch.setenv(caches.LIMIT, "100")
        monkeypatch.setattr(caches, "WORTH", 0.0)

    @pytest.fixture
    def opened(self, small_checkpoint):
        return load_checkpoint(small_checkpoint)

    def test_what_an_earlier_run_computed_needs_no_encoder(self, pbmc, fresh, opened, encoded_cells):
        first = frozen_states(fresh(pbmc), np.arange(20), pbmc.genes, opened)
        encoded_cells.clear()
        again = frozen_states(fresh(pbmc), np.arange(30), pbmc.genes, opened)
        assert sum(encoded_cells) == 10
        assert (first.earlier, again.earlier) == (0, 20)
        np.testing.assert_array_equal(again.states[:20], first.states)
        assert again.seconds > first.seconds > 0
        assert first.peak is None or again.peak >= first.peak

    def test_cells_of_two_runs_are_kept_together(self, pbmc, fresh, opened, encoded_cells):
        one, other = fresh(pbmc), fresh(pbmc)
        frozen_states(one, np.arange(3), pbmc.genes, opened)
        frozen_states(other, np.arange(3), pbmc.genes, opened)  # now both know the same three
        frozen_states(one, np.arange(5, 9), pbmc.genes, opened)
        frozen_states(other, np.arange(10, 12), pbmc.genes, opened)
        encoded_cells.clear()
        cells = np.array([0, 1, 2, 5, 6, 7, 8, 10, 11])
        assert frozen_states(fresh(pbmc), cells, pbmc.genes, opened).earlier == 9
        assert sum(encoded_cells) == 0

    @pytest.mark.parametrize(
        "change", [{"seed": 1}, {"max_length": 20}, {"precision": "bf16"}, {"genes": 100}, {"values": 2.0}]
    )
    def test_what_decides_the_states_decides_the_file(self, pbmc, fresh, opened, encoded_cells, change):
        frozen_states(fresh(pbmc), np.arange(4), pbmc.genes, opened)
        encoded_cells.clear()
        genes = pbmc.genes[: change.pop("genes", None)]
        dataset = fresh(pbmc, matrix=pbmc.matrix * np.float32(change.pop("values", 1.0)))
        assert frozen_states(dataset, np.arange(4), genes, opened, **change).earlier == 0
        assert sum(encoded_cells) == 4

    @pytest.mark.parametrize("damage", [b"", b"PK no archive", None])
    def test_a_damaged_file_is_computed_again(self, pbmc, fresh, opened, encoded_cells, damage):
        expected = frozen_states(fresh(pbmc), np.arange(4), pbmc.genes, opened).states
        [(path, _)] = caches.entries()
        whole = path.read_bytes()
        flipped = whole[:400] + bytes([whole[400] ^ 255]) + whole[401:]  # among the states
        path.write_bytes(flipped if damage is None else damage)
        encoded_cells.clear()
        again = frozen_states(fresh(pbmc), np.arange(4), pbmc.genes, opened)
        assert (sum(encoded_cells), again.earlier) == (4, 0)
        np.testing.assert_array_equal(again.states, expected)
        assert frozen_states(fresh(pbmc), np.arange(4), pbmc.genes, opened).earlier == 4

    def test_a_strategy_says_that_its_seconds_are_of_an_earlier_run(self, pbmc, cut, fresh, small_checkpoint):
        strategies = [FrozenProbe(checkpoint=str(small_checkpoint)).fit(fresh(pbmc), cut) for _ in range(2)]
        notes = [" ".join(each.notes(pbmc)) for each in strategies]
        n = len(cut.train)
        assert "earlier run" not in notes[0]
        assert f"Frozen states of {n:,} cells were computed by an earlier run" in notes[1]
        assert strategies[1].seconds_["embed"] == pytest.approx(strategies[0].seconds_["embed"])
