"""A job: the numbers of `evaluate_all`, but one failure is one strategy's, and what has finished stays."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from frostline.cells.splits import split
from frostline.comparison import jobs
from frostline.comparison.jobs import Job
from frostline.comparison.outcomes import complete_records
from frostline.errors import Cancelled, DatasetError, FrostlineError
from frostline.evaluation.evaluations import evaluate_all
from frostline.evaluation.journal import Journal
from frostline.strategies import FrozenProbe, HeadTuning, Lora, Majority, PcaKnn, PcaLogistic

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("instant_umap_throughout", "own_cache")]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def cuts(three_kinds, tiny_profile):
    """Two repeats."""
    return [split(three_kinds, seed=1, profile=tiny_profile, repeat=repeat) for repeat in (0, 1)]


@pytest.fixture
def head(small_checkpoint):
    return HeadTuning(checkpoint=str(small_checkpoint), epochs=3, min_steps=0)


@pytest.fixture
def lora(small_checkpoint):
    return Lora(checkpoint=str(small_checkpoint), epochs=2, min_steps=0, n_genes=40)


def timeless(records):
    """Without what is measured."""
    costs = [dataclasses.replace(record.cost, seconds={}, peak_memory=None) for record in records]
    return [dataclasses.replace(record, cost=cost) for record, cost in zip(records, costs, strict=True)]


def failing(monkeypatch, kind, method, error, when=lambda *args: True):
    original = getattr(kind, method)

    def fail(self, dataset, cut, *args):
        if when(cut):
            raise error
        return original(self, dataset, cut, *args)

    monkeypatch.setattr(kind, method, fail)


def states(job) -> dict[str, str]:
    return {name: progress.state for name, progress in job.progress.items()}


def keys(records) -> list[tuple[str, int]]:
    return [(record.strategy, record.repeat) for record in records]


class TestSame:
    def test_its_records_are_those_of_evaluate_all_to_the_last_bit(self, three_kinds, cuts, fresh, head, lora):
        strategies = [PcaLogistic(n_components=5), FrozenProbe(checkpoint=head.checkpoint), head, lora]
        job = Job(strategies, fresh(three_kinds), cuts)
        job.run()
        expected = list(evaluate_all(strategies, fresh(three_kinds), cuts))
        assert timeless(job.records) == timeless(expected)
        assert [record.history for record in job.records if record.strategy == "lora"] != [(), ()]
        assert job.comparison.records == job.records
        assert set(states(job).values()) == {"done"}
        assert (job.failures, job.warning, job.fraction) == ({}, "", 1.0)

    def test_what_was_passed_in_is_not_fitted(self, three_kinds, cuts, head):
        Job([head], three_kinds, cuts[:1]).run()
        assert head.classes_ == ()

    def test_before_it_runs_there_is_nothing(self, three_kinds, cuts):
        job = Job([Majority()], three_kinds, cuts)
        assert (job.records, job.comparison, job.fraction, states(job)) == ((), None, 0.0, {"majority": "waiting"})

    def test_two_of_one_name_or_repeat_are_refused(self, three_kinds, cuts, lora):
        """The second would get the records of the first."""
        with pytest.raises(FrostlineError, match="each strategy and each repeat can be in a job once"):
            Job([lora, dataclasses.replace(lora, rank=8)], three_kinds, cuts)
        with pytest.raises(FrostlineError, match="each strategy and each repeat can be in a job once"):
            Job([lora], three_kinds, [cuts[0], cuts[0].with_budget(three_kinds, 5)])

    def test_no_strategy_is_no_work(self, three_kinds, cuts):
        job = Job([], three_kinds, cuts)
        job.run()
        assert (job.records, job.comparison, job.fraction) == ((), None, 1.0)


@pytest.fixture(scope="module")
def others(three_kinds, cuts, instant_umap_throughout):
    """Records of two strategies without a third that fails."""
    return list(evaluate_all([Majority(), PcaLogistic(n_components=5)], three_kinds, cuts))


class TestFailure:
    @pytest.mark.parametrize("method", ["ensure_applicable", "fit", "predict_proba"])
    def test_one_that_fails_leaves_the_others_as_they_are(self, three_kinds, cuts, others, monkeypatch, method):
        error = RuntimeError("out of memory")
        failing(monkeypatch, PcaKnn, method, error)
        job = Job([Majority(), PcaKnn(), PcaLogistic(n_components=5)], three_kinds, cuts)
        job.run()
        assert states(job) == {"majority": "done", "pca_knn": "failed", "pca_logistic": "done"}
        assert job.failures == {"pca_knn": error}
        assert job.progress["pca_knn"].message == "out of memory"
        assert job.fraction == 1.0
        assert timeless(job.records) == timeless(others)
        assert job.comparison.strategies == ("majority", "pca_logistic")
        assert job.comparison.repeats == (0, 1)

    def test_one_whose_check_fails_is_not_fitted(self, three_kinds, cuts, monkeypatch):
        failing(monkeypatch, PcaKnn, "ensure_applicable", DatasetError("no"), when=lambda cut: cut.repeat == 1)
        failing(monkeypatch, PcaKnn, "fit", AssertionError("fitted"))
        job = Job([PcaKnn(), Majority()], three_kinds, cuts)
        job.run()
        assert isinstance(job.failures["pca_knn"], DatasetError)
        assert keys(job.records) == [("majority", 0), ("majority", 1)]

    def test_one_that_fails_in_the_second_repeat_keeps_its_first_record_beside_the_comparison(
        self, three_kinds, cuts, monkeypatch
    ):
        failing(monkeypatch, PcaKnn, "fit", MemoryError(), when=lambda cut: cut.repeat == 1)
        job = Job([PcaKnn(), Majority()], three_kinds, cuts)
        job.run()
        assert keys(job.records) == [("pca_knn", 0), ("majority", 0), ("majority", 1)]
        assert set(job.failures) == {"pca_knn"}
        assert job.progress["pca_knn"].message == "MemoryError"  # it says nothing of itself
        assert keys(job.comparison.records) == [("majority", 0), ("majority", 1)]

    def test_what_the_callback_raises_ends_the_run_and_is_no_failure_of_a_strategy(
        self, three_kinds, cuts, fresh, head
    ):
        raised = []

        def changed(job):
            if job.progress["head"].history:  # an epoch has ended: within the strategy
                raised.append(RuntimeError("nothing can be drawn"))
                raise raised[-1]

        job = Job([Majority(), head, PcaKnn()], fresh(three_kinds), cuts[:1], changed=changed)
        with pytest.raises(RuntimeError, match="nothing can be drawn") as caught:
            job.run()
        assert (caught.value, job.failures) == (raised[0], {})
        assert states(job) == {"majority": "done", "head": "stopped", "pca_knn": "stopped"}
        assert keys(job.records) == [("majority", 0)]

    def test_where_all_fail_there_is_nothing_to_compare(self, three_kinds, cuts, monkeypatch):
        failing(monkeypatch, Majority, "fit", OSError("gone"))
        job = Job([Majority()], three_kinds, cuts)
        job.run()
        assert (job.records, job.comparison, set(job.failures)) == ((), None, {"majority"})

    def test_where_one_failed_the_journal_keeps_the_files_of_earlier_runs(self, three_kinds, cuts, monkeypatch):
        strategies = [Majority(), PcaKnn()]
        Job(strategies[:1], three_kinds, cuts, journal=Journal.of(three_kinds, cuts)).run()
        failing(monkeypatch, PcaKnn, "fit", RuntimeError("this time"))
        finished = Journal.of(three_kinds, cuts).finished(strategies)
        Job(strategies, three_kinds, cuts, finished=finished, journal=Journal.of(three_kinds, cuts)).run()
        assert keys(Journal.of(three_kinds, cuts).finished(strategies)) == [("majority", 0), ("majority", 1)]


class TestCancel:
    def test_within_a_batch_it_keeps_what_has_finished_and_stops_the_rest(self, three_kinds, cuts, fresh, lora):
        strategies = [Majority(), lora, PcaKnn()]
        asked = []
        job = Job(strategies, fresh(three_kinds), cuts[:1])

        def cancelled():
            asked.append(job.progress["lora"].message)
            return asked[-1].startswith("epoch 2") and asked.count(asked[-1]) == 3

        with pytest.raises(Cancelled):
            job.run(cancelled)
        assert asked[-1] == "epoch 2 of at most 2"
        assert states(job) == {"majority": "done", "lora": "stopped", "pca_knn": "stopped"}
        assert keys(job.records) == keys(job.comparison.records) == [("majority", 0)]
        assert (len(job.progress["lora"].history), job.failures) == (1, {})
        assert 0 < job.progress["lora"].fraction < 1
        assert job.progress["pca_knn"].fraction == 0

    def test_it_can_be_taken_up_again_where_it_stopped(self, three_kinds, cuts, monkeypatch):
        strategies = [Majority(), PcaKnn()]
        job = Job(strategies, three_kinds, cuts)
        with pytest.raises(Cancelled):
            job.run(lambda: len(job.records) == 2)
        assert keys(job.records) == [("majority", 0), ("pca_knn", 0)]
        kept = job.records
        failing(monkeypatch, Majority, "fit", AssertionError("fitted again"), when=lambda cut: cut.repeat == 0)
        job.run()
        assert job.records[:2] == kept
        assert keys(job.records[2:]) == [("majority", 1), ("pca_knn", 1)]
        assert (set(states(job).values()), job.failures) == ({"done"}, {})

    def test_before_the_first_check_nothing_is_done(self, three_kinds, cuts, monkeypatch):
        failing(monkeypatch, Majority, "ensure_applicable", AssertionError("checked"))
        job = Job([Majority()], three_kinds, cuts)
        with pytest.raises(Cancelled):
            job.run(lambda: True)
        assert (states(job), job.failures) == ({"majority": "stopped"}, {})


class TestFinished:
    def test_finished_records_are_taken_over_and_not_computed_again(self, three_kinds, cuts, monkeypatch):
        done = list(evaluate_all([Majority(), PcaKnn()], three_kinds, cuts))
        failing(monkeypatch, Majority, "fit", AssertionError("fitted"))
        failing(monkeypatch, Majority, "ensure_applicable", AssertionError("checked"))
        failing(monkeypatch, PcaKnn, "fit", AssertionError("fitted"), when=lambda cut: cut.repeat == 0)
        job = Job([PcaKnn(), Majority()], three_kinds, cuts, finished=done[:3])
        assert keys(job.records) == [("pca_knn", 0), ("majority", 0), ("majority", 1)]
        job.run()
        assert job.failures == {}
        by_key = {(record.strategy, record.repeat): record for record in job.records}
        assert all(by_key[record.strategy, record.repeat] == record for record in done[:3])
        assert timeless([by_key["pca_knn", 1]]) == timeless(done[3:])

    def test_what_the_checks_find_is_that_of_the_data_set_as_it_is(self, three_kinds, cuts, fresh):
        """Records of an earlier run were made before obs had a clustering that decides the labels."""
        done = list(evaluate_all([Majority()], fresh(three_kinds), cuts))
        adata = three_kinds.adata.copy()
        adata.obs["leiden"] = [str(name) for name in np.unique(three_kinds.labels, return_inverse=True)[1]]
        job = Job([Majority()], fresh(three_kinds, adata=adata), cuts, finished=done)
        assert "labels-from-clusters" not in [finding.code for finding in job.comparison.findings]
        job.run()
        assert "labels-from-clusters" in [finding.code for finding in job.comparison.findings]
        assert "labels-from-clusters" not in [finding.code for finding in done[0].findings]
        for record, before in zip(job.records, done, strict=True):
            assert "'leiden' (adjusted Rand index 1.00)" in " ".join(finding.title for finding in record.findings)
            assert dataclasses.replace(record, findings=before.findings) == before

    def test_a_strategy_that_is_finished_is_done_even_when_the_job_is_stopped_before_it(self, three_kinds, cuts):
        done = list(evaluate_all([PcaKnn()], three_kinds, cuts))
        job = Job([Majority(), PcaKnn()], three_kinds, cuts, finished=done)
        assert job.fraction == 0.5
        with pytest.raises(Cancelled):
            job.run(lambda: job.progress["majority"].state == "running")
        assert states(job) == {"majority": "stopped", "pca_knn": "done"}


class TestOneAtATime:
    def test_a_second_job_is_refused_while_one_runs(self, three_kinds, cuts):
        inside, go_on = threading.Event(), threading.Event()

        def wait(job):
            inside.set()
            assert go_on.wait(60)

        first = Job([Majority()], three_kinds, cuts[:1], changed=wait)
        thread = threading.Thread(target=first.run)
        thread.start()
        try:
            assert inside.wait(60)
            second = Job([PcaKnn()], three_kinds, cuts[:1])
            with pytest.raises(FrostlineError, match="another run is under way in this kernel"):
                second.run()
            assert (states(second), second.records) == ({"pca_knn": "waiting"}, ())
        finally:
            go_on.set()
            thread.join(60)
        assert keys(first.records) == [("majority", 0)]
        second.run()
        assert keys(second.records) == [("pca_knn", 0)]

    @pytest.mark.parametrize("error", [RuntimeError("failed"), Cancelled("by the user"), KeyboardInterrupt()])
    def test_the_next_one_may_run_however_the_last_one_ended(self, three_kinds, cuts, monkeypatch, error):
        with monkeypatch.context() as patch:
            failing(patch, PcaKnn, "fit", error)
            job = Job([Majority(), PcaKnn(), PcaLogistic(n_components=5)], three_kinds, cuts[:1])
            if isinstance(error, RuntimeError):
                job.run()
                expected = {"majority": "done", "pca_knn": "failed", "pca_logistic": "done"}
            else:
                with pytest.raises(type(error)):
                    job.run()
                expected = {"majority": "done", "pca_knn": "stopped", "pca_logistic": "stopped"}
        assert states(job) == expected
        assert not jobs._one_at_a_time.locked()
        again = Job([PcaKnn()], three_kinds, cuts[:1])
        again.run()
        assert keys(again.records) == [("pca_knn", 0)]


class TestProgress:
    def test_every_fraction_rises_from_zero_to_one(self, three_kinds, cuts, fresh, head, lora):
        heard = []

        def changed(job):
            heard.append((job.fraction, {name: each.fraction for name, each in job.progress.items()}))

        job = Job([Majority(), head, lora], fresh(three_kinds), cuts, changed=changed)
        job.run()
        ways = [[total for total, _ in heard], *([each[name] for _, each in heard] for name in job.progress)]
        for way in ways:
            assert way == sorted(way)
            assert (way[0], way[-1]) == (0.0, 1.0)
            assert len(set(way)) > 4
        assert heard[-1][0] == 1.0

    def test_only_the_one_that_is_at_work_is_running(self, three_kinds, cuts):
        heard = []
        job = Job([Majority(), PcaKnn()], three_kinds, cuts[:1], changed=lambda job: heard.append(states(job)))
        job.run()
        seen = [tuple(found.values()) for found in heard]
        order = [("running", "waiting"), ("done", "waiting"), ("done", "running"), ("done", "done")]
        assert list(dict.fromkeys(seen)) == order

    def test_the_history_holds_the_epochs_of_the_record_as_they_end(self, three_kinds, cuts, fresh, head, lora):
        lengths = {"head": [], "lora": []}

        def changed(job):
            for name, found in lengths.items():
                if job.progress[name].state == "running":
                    found.append(len(job.progress[name].history))

        job = Job([head, lora], fresh(three_kinds), cuts, changed=changed)
        job.run()
        for record in job.records[-2:]:  # of the last repeat
            assert tuple(job.progress[record.strategy].history) == record.history
            assert set(lengths[record.strategy]) == set(range(len(record.history) + 1))

    def test_it_says_which_repeat_it_is_and_how_long_it_has_been(self, three_kinds, cuts):
        heard = []
        job = Job(
            [Majority()], three_kinds, cuts, changed=lambda job: heard.append(vars(job.progress["majority"]).copy())
        )
        job.run()
        messages = [each["message"] for each in heard]
        assert messages[0] == "repeat 1 of 2: starting"
        assert "repeat 2 of 2: starting" in messages
        assert messages[-1] == "done"
        seconds = [each["seconds"] for each in heard]
        assert seconds == sorted(seconds)
        assert seconds[-1] > 0


class TestOnDisk:
    def test_each_record_is_on_the_disk_as_soon_as_it_is_there(self, three_kinds, cuts, monkeypatch):
        seen = []
        original = PcaKnn.fit

        def fit(self, *args):
            seen.append(keys(Journal.of(three_kinds, cuts).finished([Majority(), PcaKnn()])))
            return original(self, *args)

        monkeypatch.setattr(PcaKnn, "fit", fit)
        job = Job([Majority(), PcaKnn()], three_kinds, cuts, journal=Journal.of(three_kinds, cuts))
        job.run()
        assert seen == [[("majority", 0)], [("majority", 0), ("pca_knn", 0), ("majority", 1)]]
        assert Journal.of(three_kinds, cuts).finished([Majority(), PcaKnn()]) == list(job.records)

    def test_what_a_run_took_over_is_still_there_when_it_is_complete(self, three_kinds, cuts):
        """Its own file alone is kept: it must hold what came from the files of earlier ones."""
        strategies = [Majority(), PcaKnn()]
        stopped = Job(strategies, three_kinds, cuts, journal=Journal.of(three_kinds, cuts))
        with pytest.raises(Cancelled):
            stopped.run(lambda: len(stopped.records) == 1)
        journal = Journal.of(three_kinds, cuts)
        job = Job(strategies, three_kinds, cuts, finished=journal.finished(strategies), journal=journal)
        assert keys(job.records) == [("majority", 0)]
        job.run()
        assert list(journal.folder.iterdir()) == [journal.file]
        found = Journal.of(three_kinds, cuts).finished(strategies)
        assert sorted(keys(found)) == sorted(keys(job.records))
        assert dict(zip(keys(found), found, strict=True)) == dict(zip(keys(job.records), job.records, strict=True))

    def test_a_repeat_from_the_disk_is_compared_with_one_of_this_run(self, three_kinds, cuts, fresh, lora):
        """Of a strategy with a tuple among its hyper-parameters, which the disk gives back as a list."""
        stopped = Job([lora], fresh(three_kinds), cuts, journal=Journal.of(three_kinds, cuts))
        with pytest.raises(Cancelled):
            stopped.run(lambda: len(stopped.records) == 1)
        finished = Journal.of(three_kinds, cuts).finished([lora])
        job = Job([lora], fresh(three_kinds), cuts, finished=finished, changed=lambda job: job.comparison)
        job.run()
        assert (job.taken_over, job.failures, job.comparison.repeats) == (1, {}, (0, 1))
        assert [type(record.parameters["targets"]) for record in job.records] == [list, list]

    def test_a_full_disk_is_said_and_nothing_else(self, three_kinds, cuts, monkeypatch):
        earlier = Journal.of(three_kinds, cuts)
        earlier.folder.mkdir(parents=True)
        earlier.file.write_text("\n")
        journal, original = Journal.of(three_kinds, cuts), Journal.add

        def add(self, strategy, record):
            if strategy.name == "majority":
                raise OSError(28, "No space left on device")
            original(self, strategy, record)

        monkeypatch.setattr(Journal, "add", add)
        job = Job([Majority(), PcaKnn()], three_kinds, cuts, journal=journal)
        job.run()
        assert "No space left on device" in job.warning
        assert "in memory only" in job.warning
        assert (len(job.records), job.failures, set(states(job).values())) == (4, {}, {"done"})
        assert job.comparison.strategies == ("majority", "pca_knn")
        assert keys(journal.finished([Majority(), PcaKnn()])) == [("pca_knn", 0), ("pca_knn", 1)]
        assert earlier.file.exists()  # the file of this run is not complete

    def test_without_a_journal_nothing_is_written(self, three_kinds, cuts, tmp_path):
        Job([Majority()], three_kinds, cuts).run()
        assert not (tmp_path / "cache").exists()


class TestCompleteRecords:
    """By hand."""

    def test_a_repeat_that_one_strategy_is_ahead_is_left_out(self, make_record):
        a0, b0, a1 = make_record("a"), make_record("b"), make_record("a", repeat=1)
        assert complete_records([a0]) == [a0]
        assert complete_records([a0, b0]) == [a0, b0]
        assert complete_records([a0, b0, a1]) == [a0, b0]

    def test_one_that_failed_takes_no_repeat_from_the_others(self, make_record):
        a0, b0, a1, c0 = make_record("a"), make_record("b"), make_record("a", repeat=1), make_record("c")
        assert complete_records([a0, b0, c0, a1], {"b", "c"}) == [a0, a1]
        assert complete_records([a0, b0, c0, a1], {"c"}) == [a0, b0]

    def test_where_all_failed_what_they_have_in_common_is_left(self, make_record):
        a0, b0, a1 = make_record("a"), make_record("b"), make_record("a", repeat=1)
        assert complete_records([a0, b0, a1], {"a", "b"}) == [a0, b0]
        assert complete_records([a0, a1], {"a"}) == [a0, a1]

    def test_nothing_in_common_is_nothing_to_compare(self, make_record):
        assert complete_records([make_record("a"), make_record("b", repeat=1)]) == []
        assert complete_records([], {"a"}) == []
