"""Evaluation: a record that holds what happened, checked before it starts, stoppable while it runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import f1_score

import frostline
from frostline.cells.datasets import load_dataset
from frostline.cells.splits import split
from frostline.comparison.comparisons import compare
from frostline.errors import Cancelled, CheckpointError, DatasetError, FrostlineError
from frostline.evaluation import evaluations
from frostline.evaluation.evaluations import (
    evaluate,
    evaluate_all,
    label_efficiency,
    leave_one_class_out,
)
from frostline.evaluation.maps import MIN_CELLS_FOR_UMAP
from frostline.evaluation.metrics import METRICS, PREDICTED, accuracy, chosen_metrics, macro_f1, silhouette
from frostline.monitor import Monitor
from frostline.records import Record, fingerprint_of
from frostline.strategies import STRATEGIES, FrozenProbe, HeadTuning, Majority, PcaLogistic

pytestmark = pytest.mark.slow


@pytest.fixture
def probe(small_checkpoint):
    return FrozenProbe(checkpoint=str(small_checkpoint))


@pytest.fixture
def head(small_checkpoint):
    return HeadTuning(checkpoint=str(small_checkpoint), epochs=3)


@pytest.fixture
def fits(monkeypatch):
    """Names of the strategies that were fitted, in order."""
    seen: list[str] = []
    for kind in (PcaLogistic, FrozenProbe, HeadTuning):
        original = kind.fit

        def fit(self, *args, original=original, **kwargs):
            seen.append(self.name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "fit", fit)
    return seen


@pytest.fixture(scope="module")
def evaluated() -> list[Record]:
    """The record that several tests look at, once it is made."""
    return []


@pytest.mark.usefixtures("instant_umap")
class TestRecord:
    @pytest.fixture
    def record(self, evaluated, head, pbmc, cut) -> Record:
        if not evaluated:
            evaluated.append(evaluate(head, pbmc, cut))
        return evaluated[0]

    def test_it_holds_the_test_cells_and_their_true_labels(self, record, pbmc, cut):
        assert record.cells == tuple(pbmc.cells[cut.test])
        assert record.labels == tuple(pbmc.labels[cut.test])
        assert record.sizes == cut.sizes
        assert (record.fingerprint, record.test_fingerprint) == (cut.fingerprint, cut.test_fingerprint)
        assert (record.seed, record.repeat, record.profile) == (cut.seed, cut.repeat, "tiny")
        assert (record.dataset, record.label_key) == ("pbmc68k-reduced", "bulk_labels")

    def test_its_metrics_are_those_of_its_predictions(self, record):
        assert record.metrics["accuracy"] == accuracy(record.labels, record.predicted)
        assert record.metrics["macro_f1"] == macro_f1(record.labels, record.predicted)

    def test_its_predictions_are_those_of_the_strategy_fitted_alone(self, record, head, pbmc, cut):
        fitted = dataclasses.replace(head).fit(pbmc, cut)
        np.testing.assert_array_equal(record.probabilities, fitted.predict_proba(pbmc, cut.test))
        expected = silhouette(fitted.embed(pbmc, cut.test).astype(np.float64), record.labels)
        assert record.metrics["silhouette"] == pytest.approx(expected)
        assert record.history == fitted.history_
        assert record.cost.trainable_parameters == fitted.cost().trainable_parameters

    def test_it_can_be_written_and_read(self, record):
        assert Record.from_json(record.to_json()) == record

    def test_it_carries_what_a_reader_must_know(self, record, pbmc, cut):
        assert set(pbmc.notes) | set(cut.notes) <= set(record.notes)

    def test_the_same_seed_gives_the_same_record_apart_from_the_seconds(self, record, head, pbmc, cut, fresh):
        again = evaluate(head, fresh(pbmc), cut)
        assert dataclasses.replace(again, cost=record.cost) == record


@pytest.mark.usefixtures("instant_umap")
class TestProgress:
    def test_it_rises_from_zero_to_one(self, head, pbmc, cut, fresh):
        heard = []
        evaluate(head, fresh(pbmc), cut, monitor=Monitor(lambda *said: heard.append(said)))
        fractions = [fraction for fraction, _ in heard]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)
        assert all(message for _, message in heard)

    def test_over_several_strategies_it_rises_from_zero_to_one_and_names_them(self, head, probe, pbmc, cut, fresh):
        heard = []
        again = split(pbmc, seed=3, profile=cut.profile, repeat=1)
        list(evaluate_all([probe, head], fresh(pbmc), [cut, again], monitor=Monitor(lambda *said: heard.append(said))))
        fractions = [fraction for fraction, _ in heard]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)
        assert heard[-1][1].startswith("head, repeat 2 of 2: ")

    def test_it_can_be_cancelled_at_any_step(self, head, pbmc, cut, fresh):
        steps = []
        evaluate(head, fresh(pbmc), cut, monitor=Monitor(lambda *said: steps.append(said)))
        for share in (0.0, 0.5, 1.0):  # the last of them says that all is done, and does not ask
            asked, stop = iter(range(10_000)), int(share * (len(steps) - 2))
            monitor = Monitor(cancelled=lambda asked=asked, stop=stop: next(asked) >= stop)
            with pytest.raises(Cancelled):
                evaluate(head, fresh(pbmc), cut, monitor=monitor)
            assert head.classes_ == ()

    @pytest.mark.parametrize("name", ["frozen_probe", "lora"])
    def test_it_can_be_cancelled_within_the_cells_that_are_predicted(self, name, small_checkpoint, pbmc, cut, fresh):
        """Encoding them may take longer than training."""
        said = []
        strategy = STRATEGIES[name](checkpoint=str(small_checkpoint))
        strategy = dataclasses.replace(strategy, epochs=1, min_steps=0) if name == "lora" else strategy

        cancelled = lambda: bool(said) and said[-1][0] > 0.85  # noqa: E731
        with pytest.raises(Cancelled, match="cells embedded"):
            evaluate(strategy, fresh(pbmc), cut, monitor=Monitor(lambda *step: said.append(step), cancelled))

    def test_a_cancel_after_the_last_step_loses_no_record(self, pbmc, cut, fresh):
        said = []
        cancelled = lambda: bool(said) and said[-1][0] >= 0.85  # noqa: E731
        record = evaluate(PcaLogistic(), fresh(pbmc), cut, monitor=Monitor(lambda *step: said.append(step), cancelled))
        assert record.strategy == "pca_logistic"
        assert said[-1] == (1.0, "done")

    def test_records_that_were_finished_before_the_cancel_are_kept(self, head, pbmc, cut):
        kept: list[Record] = []

        def keep_all():
            for record in evaluate_all(
                [PcaLogistic(), head], pbmc, [cut], monitor=Monitor(cancelled=lambda: bool(kept))
            ):
                kept.append(record)

        with pytest.raises(Cancelled):
            keep_all()
        assert [record.strategy for record in kept] == ["pca_logistic"]


@pytest.mark.usefixtures("instant_umap")
class TestChecks:
    def test_records_come_split_by_split_in_the_order_of_the_strategies(self, head, pbmc, cut, tiny_profile):
        again = split(pbmc, seed=3, profile=tiny_profile, repeat=1)
        records = list(evaluate_all([head, PcaLogistic()], pbmc, [cut, again]))
        assert [(r.strategy, r.repeat) for r in records] == [
            ("head", 0),
            ("pca_logistic", 0),
            ("head", 1),
            ("pca_logistic", 1),
        ]
        assert records[0].test_fingerprint == records[1].test_fingerprint != records[2].test_fingerprint

    def test_every_strategy_checks_every_split_before_the_first_one_trains(self, fits, head, pbmc, cut):
        broken = dataclasses.replace(head, checkpoint="nothing")
        with pytest.raises(CheckpointError, match="unknown checkpoint 'nothing'"):
            list(evaluate_all([PcaLogistic(), broken], pbmc, [cut]))
        assert fits == []

    def test_a_cell_without_known_genes_is_refused_before_training(self, fits, probe, pbmc, cut, fresh):
        matrix = pbmc.matrix.tolil(copy=True)
        matrix[cut.test[0]] = 0
        with pytest.raises(DatasetError, match=pbmc.cells[cut.test[0]]):
            evaluate(probe, fresh(pbmc, matrix=matrix.tocsr()), cut)
        assert fits == []

    def test_no_strategies_give_no_records(self, pbmc, cut):
        assert list(evaluate_all([], pbmc, [cut])) == []

    def test_the_verbs_are_at_the_top_of_the_package(self):
        assert frostline.evaluate is evaluate
        assert frostline.evaluate_all is evaluate_all


@pytest.mark.usefixtures("instant_umap")
class TestValidation:
    def test_temperature_and_thresholds_come_from_the_validation_cells(self, head, pbmc, cut):
        record = evaluate(head, pbmc, cut)
        assert record.validation_cells == tuple(pbmc.cells[cut.validation])
        assert record.validation_labels == tuple(pbmc.labels[cut.validation])
        fitted = dataclasses.replace(head).fit(pbmc, cut)
        np.testing.assert_array_equal(record.validation_probabilities, fitted.predict_proba(pbmc, cut.validation))
        expected = chosen_metrics(
            record.labels,
            record.probabilities,
            record.validation_labels,
            record.validation_probabilities,
            record.classes,
        )
        assert {key: record.metrics[key] for key in expected} == expected
        assert set(record.metrics) == set(METRICS)

    def test_findings_of_one_label_column_never_appear_for_another(self, pbmc, instant_umap):
        """Two columns of equal values, on one cache: only one is named after a clustering."""
        adata = pbmc.adata.copy()
        adata.obs["my_cluster"] = adata.obs["kind"] = adata.obs["bulk_labels"].astype(str)
        one = load_dataset(adata, "kind", layer="raw")
        other = one.relabelled("my_cluster")
        assert other.cache is one.cache
        said = [" ".join(f.title for f in evaluate(PcaLogistic(), data, split(data)).findings) for data in (one, other)]
        assert "'my_cluster' is named after a clustering" not in said[0]
        assert "'my_cluster' is named after a clustering" in said[1]

    def test_groups_costs_and_findings_are_in_the_record(self):
        pancreas = frostline.load_dataset("pancreas")
        cut = split(pancreas, seed=0)
        record = evaluate(PcaLogistic(), pancreas, cut)
        assert (record.split_kind, record.group_key) == ("group", "donor")
        assert record.groups == tuple(pancreas.groups[cut.test])
        assert (record.n_train_groups, record.left_out) == (len(cut.groups["train"]), {}) == (2, {})
        assert record.cost.saved_bytes > 1_000
        assert record.cost.peak_memory is None or record.cost.peak_memory > 0
        assert record.chosen == {"C": dataclasses.replace(PcaLogistic()).fit(pancreas, cut).probe_.c}
        assert "C of 0.001" in record.searched
        assert "few-test-cells" in {finding.code for finding in record.findings}

    @pytest.mark.parametrize(("train_key", "test_key"), [("donor", None), (None, "donor"), ("donor", "donor")])
    def test_groups_of_an_external_set_are_in_the_record_where_it_has_some(self, train_key, test_key):
        adata = frostline.load_dataset("pancreas").adata
        sides = [adata[adata.obs["donor"].isin(names)] for names in (["human1", "human3"], ["human2", "human4"])]
        keys = zip(sides, (train_key, test_key), ("one", "other"), strict=True)
        sets = [load_dataset(side.copy(), "cell_type", group_key=key, name=name) for side, key, name in keys]
        joined = frostline.join_datasets(*sets)
        record = evaluate(PcaLogistic(), joined, split(joined))
        assert (record.n_train_groups is None) == (train_key is None)
        assert set(record.groups or ()) == (set() if test_key is None else {"human2", "human4"})

    def test_classes_that_no_split_holds_are_in_the_record(self, pbmc):
        adata = pbmc.adata.copy()
        labels = adata.obs["bulk_labels"].astype(str).to_numpy()
        labels[:2] = "rare"
        adata.obs["kind"] = labels
        data = load_dataset(adata, "kind", layer="raw")
        record = evaluate(PcaLogistic(), data, split(data))
        assert record.left_out == {"rare": 2}
        assert frostline.compare([record]).verdict.endswith(
            "Classes left out of all splits, with their cells: rare (2)."
        )


@pytest.mark.usefixtures("instant_umap")
class TestStudies:
    def test_fewer_labels_keep_the_test_cells_and_the_budget(self, pbmc, cut):
        plain = evaluate(PcaLogistic(), pbmc, cut)
        records = list(label_efficiency([PcaLogistic()], pbmc, [cut], budgets=[8, 4, 4]))
        assert [record.budget for record in records] == [4, 8]
        for record in records:
            assert (record.cells, record.labels) == (plain.cells, plain.labels)
            assert record.sizes["train"] + record.sizes["validation"] <= record.budget * len(record.classes)
            assert (record.umap, record.validation_probabilities, record.findings) == (None, None, ())
            assert set(record.metrics) == set(PREDICTED)  # a study is read by its predictions alone
        assert frostline.compare([plain, *records]).label_efficiency()["budget"].isna().tolist() == [False, False, True]

    def test_a_budget_that_takes_nothing_away_is_passed_over(self, pbmc, cut):
        assert list(label_efficiency([PcaLogistic()], pbmc, [cut], budgets=[10_000])) == []

    def test_a_budget_is_measured_on_all_splits_or_on_none(self):
        """Donors have other numbers of cells, and a budget that is tested on some of them is not comparable."""
        pancreas = load_dataset("pancreas")
        cuts = [split(pancreas, repeat=i) for i in range(4)]
        rest = [np.concatenate([cut.train, cut.validation]) for cut in cuts]
        largest = sorted(np.unique(pancreas.labels[rows], return_counts=True)[1].max() for rows in rest)
        assert largest[0] < largest[-1]
        budgets = [int(largest[0]), int(largest[-1])]
        records = list(label_efficiency([Majority()], pancreas, cuts, budgets=budgets))
        assert [(record.budget, record.repeat) for record in records] == [(budgets[0], i) for i in range(4)]

    def test_a_withheld_class_is_never_predicted_and_every_test_cell_has_a_distance(self, pbmc, cut):
        (record,) = leave_one_class_out([PcaLogistic()], pbmc, [cut], classes=["Dendritic"])
        assert record.unseen == "Dendritic"
        assert "Dendritic" in record.untrained
        assert "Dendritic" not in record.predicted
        assert "Dendritic" in record.labels
        changed = cut.without_class(pbmc, "Dendritic")
        fitted = PcaLogistic().fit(pbmc, changed)
        train, test = (fitted.embed(pbmc, rows).astype(float) for rows in (changed.train, changed.test))
        expected = [np.sort(np.linalg.norm(train - cell, axis=1))[:5].mean() for cell in test]
        np.testing.assert_allclose(record.distances, expected, rtol=1e-6)

    def test_every_class_with_training_and_test_cells_is_withheld_once(self, pbmc, cut):
        records = list(leave_one_class_out([Majority()], pbmc, [cut]))
        both = set(pbmc.labels[cut.train]) & set(pbmc.labels[cut.test])
        assert [record.unseen for record in records] == sorted(both)

    def test_what_cannot_be_withheld_is_refused(self, pbmc, cut):
        with pytest.raises(FrostlineError, match="class 'Neuron' has no training cell to withhold; known: "):
            leave_one_class_out([PcaLogistic()], pbmc, [cut], classes=["Neuron"])
        two = dataclasses.replace(cut, train=cut.train[np.isin(pbmc.labels[cut.train], cut.classes[:2])])
        with pytest.raises(FrostlineError, match="needs three classes with training cells"):
            leave_one_class_out([PcaLogistic()], pbmc, [two], classes=list(cut.classes[:1]))
        assert list(leave_one_class_out([PcaLogistic()], pbmc, [two])) == []

    def test_one_embedding_serves_all_repeats_and_studies(self, probe, pbmc, fresh, monkeypatch, tiny_profile):
        from frostline.encoder import frozen

        seen, original = [], frozen.encode

        def encode(encoder, tokens, **how):
            seen.append(len(tokens))
            return original(encoder, tokens, **how)

        monkeypatch.setattr(frozen, "encode", encode)
        dataset = fresh(pbmc)
        cuts = [split(dataset, seed=3, profile=tiny_profile, repeat=repeat) for repeat in (0, 1)]
        list(evaluate_all([probe], dataset, cuts))
        cells = np.unique(np.concatenate([rows for cut in cuts for rows in (cut.train, cut.validation, cut.test)]))
        embedded = [n for n in seen if n > 1]  # single cells warm the encoder up
        assert sum(embedded) == len(cells)
        seen.clear()
        list(label_efficiency([probe], dataset, cuts, budgets=[4]))
        list(leave_one_class_out([probe], dataset, cuts, classes=["Dendritic"]))
        assert [n for n in seen if n > 1] == []


def test_a_record_of_few_test_cells_has_no_map(pbmc, cut):
    test = cut.test[: MIN_CELLS_FOR_UMAP - 1]
    tested = fingerprint_of(pbmc.cells[test].tolist(), pbmc.labels[test].tolist())
    few = dataclasses.replace(cut, test=test, test_fingerprint=tested)
    assert evaluate(PcaLogistic(), pbmc, few).umap is None


def test_records_of_relabelled_copies_hold_the_hash_of_their_own_labels(three_kinds, fresh):
    """Python gives the labels of a copy the address of others that are gone."""
    dataset = fresh(three_kinds, adata=three_kinds.adata.copy())
    for i in range(3):
        dataset.adata.obs[f"labels{i}"] = np.roll(three_kinds.labels, i)
    for i in range(60):
        dataset = dataset.relabelled(f"labels{i % 3}")
        assert evaluations._data_sha256(dataset) == dataset.fingerprint()


def test_a_split_whose_validation_cells_train_leaves_undefined_what_is_chosen_on_them(instant_umap):
    pancreas = load_dataset("pancreas")
    cut = split(pancreas)
    record = evaluate(PcaLogistic(n_components=5), pancreas, cut.with_validation_trained(pancreas))
    assert (record.validation_cells, record.validation_labels, record.validation_probabilities) == ((), (), None)
    assert record.validation_groups is None
    undefined = {name for name, value in record.metrics.items() if value is None}
    assert undefined == set(chosen_metrics(["B"], np.ones((1, 1)), [], None, ["B"]))
    assert record.metrics["macro_f1"] == pytest.approx(f1_score(record.labels, record.predicted, average="macro"))
    assert Record.from_json(record.to_json()) == record
    board = compare([record]).leaderboard()
    assert board["macro_f1"].tolist() == [record.metrics["macro_f1"]]
