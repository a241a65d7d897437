"""The journal: what has finished survives the kernel, and nothing else passes for it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.encoder.catalogue import cache_folder
from frostline.encoder.checkpoints import load_checkpoint, save_checkpoint
from frostline.evaluation import journal as journal_module
from frostline.evaluation.evaluations import evaluate
from frostline.evaluation.journal import KEPT, Journal
from frostline.strategies import FrozenProbe, HeadTuning, Majority, PcaKnn, PcaLogistic, ProbeObsm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("instant_umap", "own_cache")]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pca(three_kinds, small_split):
    """A strategy and its record."""
    strategy = PcaLogistic(n_components=5)
    return strategy, evaluate(strategy, three_kinds, small_split)


@pytest.fixture(scope="module")
def small_split(three_kinds, tiny_profile):
    return split(three_kinds, seed=1, profile=tiny_profile)


def written(strategy, record, dataset, cuts) -> Journal:
    journal = Journal.of(dataset, cuts)
    journal.add(strategy, record)
    return journal


class TestRoundTrip:
    def test_a_record_comes_back_to_the_last_bit(self, three_kinds, small_split, small_checkpoint):
        strategy = HeadTuning(checkpoint=str(small_checkpoint), epochs=2)
        record = evaluate(strategy, three_kinds, small_split)
        assert record.history
        assert record.umap is not None
        written(strategy, record, three_kinds, [small_split])
        (found,) = Journal.of(three_kinds, [small_split]).finished([strategy])
        assert found.to_json() == record.to_json()
        np.testing.assert_array_equal(found.probabilities, record.probabilities)

    def test_nothing_is_written_before_the_first_record(self, three_kinds, small_split):
        journal = Journal.of(three_kinds, [small_split])
        assert journal.finished([Majority()]) == []
        journal.close()
        assert not cache_folder("runs").exists()

    def test_repeats_are_kept_apart_and_only_wanted_strategies_come_back(self, make_record, three_kinds, tiny_profile):
        cuts = [split(three_kinds, seed=1, profile=tiny_profile, repeat=repeat) for repeat in (0, 1)]
        journal = Journal.of(three_kinds, cuts)
        records = [make_record("majority", repeat=repeat) for repeat in (0, 1)]
        for record in records:
            journal.add(Majority(), record)
        journal.add(PcaKnn(), make_record("pca_knn"))
        assert Journal.of(three_kinds, cuts).finished([Majority()]) == records

    def test_the_same_data_loaded_again_is_the_same(self, pca, three_kinds, small_split, tiny_profile):
        strategy, record = pca
        written(strategy, record, three_kinds, [small_split])
        again = load_dataset(three_kinds.adata.copy(), "bulk_labels", name="three kinds")
        cut = split(again, seed=1, profile=tiny_profile)
        assert Journal.of(again, [cut]).finished([PcaLogistic(n_components=5)]) == [record]

    def test_the_latest_of_two_wins(self, make_record, three_kinds, small_split):
        records = [make_record("majority", skill=skill) for skill in (1.0, 2.0, 3.0)]
        assert records[0] != records[1] != records[2]
        first = written(Majority(), records[0], three_kinds, [small_split])
        second = written(Majority(), records[1], three_kinds, [small_split])
        for newer, (journal, record) in enumerate(((first, records[0]), (second, records[1]))):
            for path in (first.file, second.file):
                os.utime(path, ns=(1, 1))
            os.utime(journal.file, ns=(2, 2))
            assert first.finished([Majority()]) == [record], newer
        second.add(Majority(), records[2])  # in one file the last line
        assert first.finished([Majority()]) == [records[2]]


KILLED = """
import os, sys
from frostline.evaluation import maps
maps.umap_of = lambda embedding, *, seed: None
from frostline.cells.datasets import load_dataset
from frostline.comparison.jobs import Job
from frostline.evaluation.journal import Journal
from frostline.profiles import Profile
from frostline.cells.splits import split
from frostline.strategies import Majority, PcaLogistic

def die(*args, **kwargs):
    os._exit(9)

dataset = load_dataset(sys.argv[1], "bulk_labels", name="three kinds")
cut = split(dataset, seed=1, profile=Profile(**eval(sys.argv[2])))
PcaLogistic.fit = die
Job([Majority(), PcaLogistic()], dataset, [cut], journal=Journal.of(dataset, [cut])).run()
"""


class TestDamage:
    def test_a_process_that_is_killed_leaves_what_had_finished(self, three_kinds, small_split, tiny_profile, tmp_path):
        three_kinds.adata.write_h5ad(tmp_path / "three.h5ad")
        sizes = repr(dataclasses.asdict(tiny_profile))
        command = [sys.executable, "-c", KILLED, str(tmp_path / "three.h5ad"), sizes]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 9, done.stderr
        found = Journal.of(three_kinds, [small_split]).finished([Majority(), PcaLogistic()])
        expected = dataclasses.replace(evaluate(Majority(), three_kinds, small_split), umap=None)
        (record,) = found
        assert dataclasses.replace(record, cost=expected.cost) == expected

    @pytest.mark.parametrize("tail", ["torn", "bytes", "foreign"])
    def test_a_damaged_last_line_is_passed_over(self, make_record, three_kinds, small_split, tail):
        journal = written(Majority(), make_record("majority"), three_kinds, [small_split])
        journal.add(PcaKnn(), make_record("pca_knn"))
        content = journal.file.read_bytes()
        entry = json.loads(content.splitlines()[-1])
        torn = content[: content.rindex(b'{"strategy"') + 200]
        foreign = json.dumps({"strategy": entry["strategy"], "record": '{"strategy": "pca_knn"}'}).encode()
        start = content[: content.rindex(b'{"strategy"')]
        damaged = {"torn": torn, "bytes": start + b'{"strategy": "\xff\x00', "foreign": start + foreign + b"\n"}[tail]
        journal.file.write_bytes(damaged)
        assert [record.strategy for record in journal.finished([Majority(), PcaKnn()])] == ["majority"]

    def test_a_line_that_a_full_disk_cut_off_does_not_take_the_next_one_with_it(
        self, make_record, three_kinds, small_split
    ):
        journal = written(Majority(), make_record("majority"), three_kinds, [small_split])
        journal.file.write_bytes(journal.file.read_bytes()[:-50])
        journal.add(PcaKnn(), make_record("pca_knn"))
        assert [record.strategy for record in journal.finished([Majority(), PcaKnn()])] == ["pca_knn"]


class TestSame:
    """Nothing is taken over that another evaluation would not have given."""

    def test_another_hyper_parameter(self, pca, three_kinds, small_split):
        strategy, record = pca
        journal = written(strategy, record, three_kinds, [small_split])
        assert journal.finished([strategy]) == [record]
        assert journal.finished([PcaLogistic(n_components=6)]) == []

    def test_another_strategy_of_the_same_parameters(self, pca, three_kinds, small_split):
        strategy, record = pca
        journal = written(strategy, record, three_kinds, [small_split])
        other = PcaKnn(**strategy.parameters)
        assert other.parameters == strategy.parameters
        assert journal.finished([other]) == []

    @pytest.mark.parametrize("changes", [{"seed": 2}, {"repeat": 1}, {"profile": "smaller"}])
    def test_another_split(self, pca, three_kinds, small_split, tiny_profile, changes):
        strategy, record = pca
        written(strategy, record, three_kinds, [small_split])
        how = {"seed": 1, "profile": tiny_profile}
        if "profile" in changes:
            changes = {"profile": dataclasses.replace(tiny_profile, max_genes=100)}
        assert Journal.of(three_kinds, [split(three_kinds, **how)]).finished([strategy]) == [record]
        assert Journal.of(three_kinds, [split(three_kinds, **how | changes)]).finished([strategy]) == []

    @pytest.mark.parametrize("change", ["label column", "labels", "values", "name", "group column", "groups"])
    def test_other_data(self, pca, three_kinds, tiny_profile, change):
        strategy, record = pca
        adata = three_kinds.adata.copy()
        adata.obs["same"] = adata.obs["bulk_labels"]
        adata.obs["lane"] = np.arange(len(adata)) % 5
        adata.obs["donor"] = adata.obs["lane"]

        def opened(adata, label_key="bulk_labels", group_key="lane", name="three kinds"):
            dataset = load_dataset(adata, label_key, group_key=group_key, name=name)
            return Journal.of(dataset, [split(dataset, kind="group", seed=1, profile=tiny_profile)])

        opened(adata).add(strategy, record)
        assert opened(adata.copy()).finished([strategy]) == [record]
        changed = adata.copy()
        how = {}
        if change == "label column":  # with the same labels
            how = {"label_key": "same"}
        elif change == "labels":
            changed.obs["bulk_labels"] = changed.obs["bulk_labels"].to_numpy()[::-1]
        elif change == "values":
            changed.X[0, changed.X[0].nonzero()[1][0]] += 0.5
        elif change == "name":
            how = {"name": "others"}
        elif change == "group column":  # with the same groups
            how = {"group_key": "donor"}
        else:
            changed.obs["lane"] = (np.arange(len(adata)) + 1) % 5
        assert opened(changed, **how).finished([strategy]) == []

    def test_other_weights_in_the_same_folder(self, make_record, three_kinds, small_split, small_checkpoint, tmp_path):
        opened = load_checkpoint(small_checkpoint)
        encoder = opened.encoder()
        folder = tmp_path / "encoder"
        save_checkpoint(folder, encoder, opened.vocabulary)
        strategy, record = FrozenProbe(checkpoint=str(folder)), make_record("frozen_probe")
        journal = written(strategy, record, three_kinds, [small_split])
        assert journal.finished([strategy]) == [record]
        with torch.no_grad():
            next(encoder.parameters()).view(-1)[0] += 1
        save_checkpoint(folder, encoder, opened.vocabulary)
        assert journal.finished([strategy]) == []

    def test_another_embedding_under_the_same_key(self, make_record, three_kinds, tiny_profile):
        adata = three_kinds.adata.copy()
        adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(len(adata), 4))
        adata.obsm["X_mine"][0, 0] = np.nan  # of whichever cell: the strategy's own check looks at the split's alone
        record = make_record("probe_obsm:X_mine")

        def opened(adata):
            dataset = load_dataset(adata, "bulk_labels", name="three kinds")
            return Journal.of(dataset, [split(dataset, seed=1, profile=tiny_profile)])

        opened(adata).add(ProbeObsm("X_mine"), record)
        adata.obsm["X_other"] = adata.obsm["X_mine"] + 1
        assert opened(adata).finished([ProbeObsm("X_mine")]) == [record]
        adata.obsm["X_mine"][3, 2] += 1e-9
        assert opened(adata).finished([ProbeObsm("X_mine")]) == []

    def test_another_version(self, pca, three_kinds, small_split, monkeypatch):
        strategy, record = pca
        written(strategy, record, three_kinds, [small_split])
        monkeypatch.setattr(journal_module, "version", lambda name: "99")
        assert Journal.of(three_kinds, [small_split]).finished([strategy]) == []

    def test_a_strategy_that_cannot_run_has_none_and_hinders_no_other(self, pca, three_kinds, small_split):
        strategy, record = pca
        journal = written(strategy, record, three_kinds, [small_split])
        broken = [FrozenProbe(checkpoint="nothing"), ProbeObsm("X_nothing")]
        assert journal.finished([*broken, strategy]) == [record]


class TestHousekeeping:
    def test_closing_keeps_only_the_file_of_this_run(self, make_record, three_kinds, small_split, tiny_profile):
        elsewhere = written(
            Majority(), make_record("majority"), three_kinds, [split(three_kinds, seed=2, profile=tiny_profile)]
        )
        earlier = written(Majority(), make_record("majority"), three_kinds, [small_split])
        journal = written(Majority(), make_record("majority", skill=3.0), three_kinds, [small_split])
        journal.close()
        assert list(journal.folder.iterdir()) == [journal.file]
        assert not earlier.file.exists()
        assert elsewhere.file.exists()

    def test_closing_leaves_what_another_kernel_is_at_work_on(self, make_record, three_kinds, small_split):
        records = [make_record("majority", skill=skill) for skill in (1.0, 2.0, 3.0)]
        before = written(Majority(), records[0], three_kinds, [small_split])
        os.utime(before.file, ns=(1, 1))
        journal = written(Majority(), records[1], three_kinds, [small_split])
        since = written(Majority(), records[2], three_kinds, [small_split])  # begun after this run
        before.add(PcaKnn(), make_record("pca_knn"))  # gone on with after this run began
        journal.close()
        assert set(journal.folder.iterdir()) == {before.file, journal.file, since.file}

    def test_closing_what_has_written_nothing_forgets_nothing(self, make_record, three_kinds, small_split):
        earlier = written(Majority(), make_record("majority"), three_kinds, [small_split])
        Journal.of(three_kinds, [small_split]).close()
        assert earlier.file.exists()

    def test_a_file_that_another_run_has_just_forgotten_has_no_lines(self, tmp_path):
        assert journal_module._lines(tmp_path / "gone.jsonl") == []

    def test_at_most_so_many_folders_are_kept_the_latest(self, make_record, three_kinds, small_split):
        record = make_record("majority")
        journals = [
            written(Majority(), record, dataclasses.replace(three_kinds, name=f"set {i}"), [small_split])
            for i in range(KEPT)
        ]
        for i, journal in enumerate(journals):
            os.utime(journal.folder, ns=(1 + i, 1 + i))
        journals[0].add(Majority(), record)  # the oldest is written to again: a line more in its file
        assert len(list(cache_folder("runs").iterdir())) == KEPT  # a folder that is there pushes no other out
        last = written(Majority(), record, three_kinds, [small_split])
        left = {path.name for path in cache_folder("runs").iterdir()}
        assert left == {journal.folder.name for journal in (*journals, last)} - {journals[1].folder.name}
        assert len(left) == KEPT
        assert last.finished([Majority()]) == [record]
