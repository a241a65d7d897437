"""Comparisons put only comparable records side by side, and never make up a number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from frostline.comparison.comparisons import compare
from frostline.comparison.report import costs_table
from frostline.errors import FrostlineError
from frostline.evaluation.metrics import METRICS, false_positive_rate, macro_f1
from frostline.records import Cost, Finding


def scores(accuracy, macro_f1, silhouette=0.1) -> dict:
    return {"metrics": {"accuracy": accuracy, "macro_f1": macro_f1, "silhouette": silhouette}}


def finding(code, severity="warning") -> Finding:
    return Finding(code, severity, f"{code} was found", "It matters.", "Do something.")


class TestRefusals:
    def test_different_test_cells(self, make_record):
        with pytest.raises(FrostlineError, match=r"different test cells, labels or classes: head .*, lora"):
            compare([make_record("head"), make_record("lora", test_fingerprint="other")])

    def test_a_strategy_twice(self, make_record):
        with pytest.raises(FrostlineError, match="two records of 'head', repeat 0"):
            compare([make_record("head"), make_record("lora"), make_record("head")])

    def test_unequal_repeats(self, make_record):
        records = [make_record("head"), make_record("head", repeat=1), make_record("lora")]
        with pytest.raises(FrostlineError, match=r"different repeats: .*'head': \{0, 1\}.*'lora': \{0\}"):
            compare(records)

    def test_nothing(self):
        with pytest.raises(FrostlineError, match="no record to compare"):
            compare([])


class TestLeaderboard:
    def test_it_is_sorted_by_macro_f1_and_then_accuracy(self, make_record):
        comparison = compare(
            [
                make_record("a", **scores(0.9, 0.5)),
                make_record("b", **scores(0.7, 0.8)),
                make_record("c", **scores(0.8, 0.8)),
                make_record("d", **scores(0.1, 0.6)),
            ]
        )
        assert comparison.leaderboard()["strategy"].tolist() == ["c", "b", "d", "a"]
        assert comparison.best == "c"
        assert comparison.strategies == ("a", "b", "c", "d")

    def test_full_ties_keep_the_order_of_evaluation(self, make_record):
        records = [make_record(name, **scores(0.5, 0.5)) for name in ("z", "m", "a")]
        assert compare(records).leaderboard()["strategy"].tolist() == ["z", "m", "a"]

    def test_it_has_every_metric_with_the_interval_and_every_cost(self, make_record):
        assert list(compare([make_record()]).leaderboard().columns) == [
            "strategy",
            "macro_f1",
            "macro_f1_low",
            "macro_f1_high",
            *(key for key in METRICS if key != "macro_f1"),
            "seconds",
            "trainable_parameters",
            "total_parameters",
            "peak_memory",
            "device_memory",
            "saved_bytes",
        ]

    def test_a_cost_that_could_not_be_measured_is_na(self, make_record):
        board = compare([make_record(cost=Cost({"fit": 1.0}, 1, 2))]).leaderboard()
        assert board["peak_memory"].iloc[0] is pd.NA
        assert compare([make_record(cost=Cost({"fit": 1.0}, 1, 2))]).table()["Peak MB"].tolist() == ["NA"]

    def test_the_memory_of_a_gpu_is_shown_where_one_was_used(self, make_record):
        baseline = make_record("pca_logistic", cost=Cost({"fit": 1.0}, 1, 2, 2**20))
        tuned = make_record("lora", cost=Cost({"fit": 1.0}, 1, 2, 2**20, device_memory=5 * 2**20))
        both = compare([baseline, tuned])
        assert set(both.table()["GPU MB"]) == {"NA", "5"}
        assert set(costs_table(both)["Peak memory of the GPU (MB)"]) == {"NA", "5"}
        assert set(both.metrics()["device_memory"].dropna()) == {5 * 2**20}
        assert not any(
            "GPU" in heading for heading in [*compare([baseline]).table(), *costs_table(compare([baseline]))]
        )

    def test_numbers_are_means_over_repeats(self, make_record):
        records = [
            make_record("head", repeat=0, **scores(0.5, 0.4, 0.0), cost=Cost({"fit": 1.0}, 10, 20)),
            make_record("head", repeat=1, **scores(0.7, 0.8, 0.2), cost=Cost({"fit": 3.0}, 12, 20)),
        ]
        row = compare(records).leaderboard().iloc[0]
        assert [row[key] for key in ("accuracy", "macro_f1", "silhouette")] == pytest.approx([0.6, 0.6, 0.1])
        assert (row["seconds"], row["trainable_parameters"]) == (2.0, 12)

    def test_an_undefined_number_is_na_and_not_zero(self, make_record):
        records = [
            make_record("head", repeat=0, **scores(0.5, 0.4, None)),
            make_record("head", repeat=1, **scores(0.5, 0.4, 0.3)),
        ]
        board = compare(records).leaderboard()
        assert board["silhouette"].iloc[0] is pd.NA
        assert compare(records).metrics()["silhouette"].isna().tolist() == [True, False]
        assert compare(records).table()["Silhouette"].tolist() == ["NA"]
        assert "NA" in compare(records)._repr_html_()

    def test_a_column_without_one_defined_number_is_na(self, make_record):
        board = compare([make_record(name, **scores(0.5, 0.4, None)) for name in ("head", "lora")]).leaderboard()
        assert board["silhouette"].isna().all()

    def test_an_undefined_macro_f1_stands_last(self, make_record):
        records = [make_record("a", **scores(0.9, None)), make_record("b", **scores(0.1, 0.1))]
        assert compare(records).leaderboard()["strategy"].tolist() == ["b", "a"]

    def test_the_table_for_readers_has_four_decimals(self, make_record):
        comparison = compare([make_record("head", **scores(0.5, 2 / 3, -0.25))])
        interval = comparison.intervals["head"]
        shown = f"{np.floor(1000 * interval.low) / 1000:.3f} to {np.ceil(1000 * interval.high) / 1000:.3f}"
        row = comparison.table().iloc[0].tolist()
        assert row == ["head", "0.6667", shown, "0.5000", "-0.2500", "3.8", "1,234", "3"]


class TestTables:
    @pytest.fixture
    def comparison(self, make_record):
        return compare([make_record(name, repeat=repeat) for repeat in (0, 1) for name in ("head", "lora")])

    def test_predictions_hold_every_test_cell_of_every_record(self, comparison):
        table = comparison.predictions()
        assert list(table.columns) == [
            "cell",
            "label",
            "strategy",
            "repeat",
            "predicted",
            "p_B cell",
            "p_NK",
            "p_T cell",
        ]
        assert len(table) == 4 * 40
        for record in comparison.records:
            rows = table[(table["strategy"] == record.strategy) & (table["repeat"] == record.repeat)]
            assert tuple(rows["cell"]) == record.cells
            assert tuple(rows["label"]) == record.labels
            assert tuple(rows["predicted"]) == record.predicted
            np.testing.assert_array_equal(rows.iloc[:, 5:].to_numpy(), record.probabilities)

    def test_metrics_hold_one_row_a_strategy_and_repeat_with_every_cost(self, comparison):
        table = comparison.metrics()
        assert list(zip(table["strategy"], table["repeat"], strict=True)) == [
            ("head", 0),
            ("lora", 0),
            ("head", 1),
            ("lora", 1),
        ]
        record = comparison.records[0]
        row = table.iloc[0]
        assert row["accuracy"] == record.metrics["accuracy"]
        assert row["fit_seconds"] == 2.0
        assert row["seconds"] == 3.75
        assert (row["trainable_parameters"], row["total_parameters"]) == (1234, 56789)
        assert [row[f"n_{part}"] for part in ("train", "validation", "test", "genes")] == [90, 30, 40, 500]

    def test_the_confusion_matrix_counts_every_test_cell_of_every_repeat(self, comparison):
        counts = comparison.confusion("head")
        assert counts.sum() == 2 * 40
        records = comparison.of("head")
        labels = [label for record in records for label in record.labels]
        predicted = [name for record in records for name in record.predicted]
        for i, true in enumerate(comparison.classes):
            assert counts[i].sum() == labels.count(true)
            for j, called in enumerate(comparison.classes):
                pairs = list(zip(labels, predicted, strict=True))
                assert counts[i, j] == pairs.count((true, called))

    def test_records_of_a_strategy_come_by_repeat(self, make_record):
        comparison = compare([make_record(repeat=repeat) for repeat in (2, 0, 1)])
        assert [record.repeat for record in comparison.of("head")] == [0, 1, 2]
        assert comparison.repeats == (0, 1, 2)

    def test_notes_are_said_once(self, make_record):
        records = [make_record("head", notes=("one", "two")), make_record("lora", notes=("two", "three"))]
        assert compare(records).notes == ("one", "two", "three")

    def test_a_wrong_strategy_lists_the_known_ones(self, comparison):
        for question in (comparison.of, comparison.confusion):
            with pytest.raises(FrostlineError, match="unknown strategy 'magic'; known: head, lora"):
                question("magic")

    def test_the_table_of_classes_has_a_row_for_each_strategy_repeat_and_class(self, comparison):
        table = comparison.class_metrics()
        assert len(table) == 2 * 2 * 3
        for record in comparison.records:
            rows = table[(table["strategy"] == record.strategy) & (table["repeat"] == record.repeat)]
            assert rows["f1"].mean() == pytest.approx(record.metrics["macro_f1"])
            assert rows["auroc"].mean() == pytest.approx(record.metrics["auroc"])
            assert rows["support"].sum() == 40

    def test_what_makes_the_numbers_wrong_is_said_before_the_verdict(self, make_record):
        records = [
            make_record("head", findings=(finding("little-vocabulary"), finding("calm"), finding("leak", "error"))),
            make_record("pca", findings=(finding("calm"), finding("leak", "error"))),
        ]
        verdict = compare(records).verdict
        assert verdict.startswith("Warning: leak was found. Warning: little-vocabulary was found (head). ")
        assert "calm" not in verdict
        assert "Warning" not in compare([make_record("head", findings=(finding("calm"),))]).verdict

    @pytest.mark.parametrize(
        ("severity", "said"),
        [
            (
                "warning",
                "Warning: labels-from-clusters was found, which favours strategies on principal components and ",
            ),
            ("note", "Note: labels-from-clusters was found, which may favour strategies on principal components. "),
        ],
    )
    def test_labels_that_follow_from_clusters_say_which_way_they_tilt_the_verdict(self, make_record, severity, said):
        found = (finding("labels-from-clusters", severity),)
        assert compare([make_record(name, findings=found) for name in ("head", "pca")]).verdict.startswith(said)

    def test_every_pair_has_its_test_and_its_verdict(self, comparison):
        table = comparison.test_table()
        assert table[["first", "second"]].values.tolist() == [["head", "lora"]]
        means = {name: np.mean([r.metrics["macro_f1"] for r in comparison.of(name)]) for name in ("head", "lora")}
        assert table["difference"].iloc[0] == pytest.approx(means["head"] - means["lora"])
        assert table["verdict"].str.len().min() > 20

    def test_a_single_strategy_has_no_pairs(self, make_record):
        comparison = compare([make_record()])
        assert comparison.test_table().empty
        assert comparison.verdict == "Only head was evaluated: there is nothing to choose from."


class TestGroups:
    """The kind of split says what is independent, and the table shows what the verdict is of."""

    def held_out(self, make_record, names="abcd", n_train_groups=5, **changes):
        groups = {"group_key": "donor", "split_kind": "group", "n_train_groups": n_train_groups, **changes}
        return [
            make_record(strategy, repeat=i, groups=(name,) * 40, **groups)
            for strategy in ("head", "lora")
            for i, name in enumerate(names)
        ]

    def test_held_out_groups_are_the_unit_and_macro_f1_is_their_mean(self, make_record):
        comparison = compare(self.held_out(make_record, left_out={"rare": 2}))
        assert (comparison.ground.unit, comparison.ground.n_units, comparison.ground.training) == ("groups", 4, 0.2)
        assert comparison.test_table()["mcnemar_p"].isna().all()
        for row in comparison.leaderboard().to_dict("records"):
            scores = [macro_f1(record.labels, record.predicted) for record in comparison.of(row["strategy"])]
            assert row["macro_f1"] == pytest.approx(np.mean(scores))
            assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]
        assert "on new groups (donor; 4 tested, trained on 5)" in comparison.verdict
        assert comparison.verdict.endswith("Classes left out of all splits, with their cells: rare (2).")

    def test_a_group_tested_in_two_repeats_counts_once_and_one_of_few_cells_not_at_all(self, make_record):
        groups = ("a",) * 16 + ("b",) * 15 + ("tiny",) * 9
        records = [make_record(repeat=i, groups=groups, group_key="donor", split_kind="group") for i in (0, 1)]
        records += [make_record(repeat=2, groups=("c",) * 40, group_key="donor", split_kind="group")]
        comparison = compare(records)
        assert (comparison.ground.n_units, comparison.ground.small) == (3, ("tiny",))
        first, again = (record.labels[:16] for record in comparison.records[:2])
        parts = [macro_f1(x, r.predicted[:16]) for x, r in zip((first, again), comparison.records, strict=False)]
        assert comparison.ground.scores["head"][0] == pytest.approx(np.mean(parts))
        assert "Not counted, with fewer than 10 test cells: tiny." in comparison.verdict

    @pytest.mark.parametrize("names", ["a", "ab"])
    def test_fewer_than_three_groups_are_numbers_without_interval_or_test(self, make_record, names):
        comparison = compare(self.held_out(make_record, names))
        board, tests = comparison.leaderboard(), comparison.test_table()
        assert comparison.ground.unit == "none"
        assert board[["macro_f1_low", "macro_f1_high"]].isna().all(axis=None)
        assert comparison.table()["95 % interval"].tolist() == ["NA", "NA"]
        assert tests[["low", "high", "p_adjusted", "p_equivalent", "detectable", "mcnemar_p"]].isna().all(axis=None)
        assert tests["claim"].tolist() == ["untestable"]
        assert "better" not in comparison.verdict + " ".join(tests["verdict"])
        assert comparison.label_efficiency().empty

    def test_a_random_split_is_of_cells_or_splits_whatever_columns_there_are(self, make_record):
        groups = {"groups": ("a", "b", "c", "d") * 10, "group_key": "donor"}
        records = [make_record(name, repeat=r, **groups) for r in range(3) for name in ("head", "lora")]
        assert (compare(records[:2]).ground.unit, compare(records[:2]).ground.n_units) == ("cells", 40)
        assert compare(records[:4]).ground.unit == "cells"
        assert (compare(records).ground.unit, compare(records).ground.n_units) == ("splits", 3)
        assert compare(records).ground.training == pytest.approx(40 / 90)
        assert compare(records).predictions()["group"].tolist() == ["a", "b", "c", "d"] * 60

    def test_an_external_set_is_one_set_however_often_it_is_tested(self, make_record):
        fixed = make_record()
        same = {"cells": fixed.cells, "labels": fixed.labels, "split_kind": "cross"}
        records = [make_record(name, repeat=r, **same) for r in range(3) for name in ("head", "lora")]
        assert (compare(records).ground.unit, compare(records).ground.n_units) == ("cells", 40)
        donors = {"groups": ("a", "b", "c") * 13 + ("a",), "group_key": "donor"}
        external = compare([make_record(name, **same, **donors) for name in ("head", "lora")])
        assert (external.ground.unit, external.ground.n_units, external.ground.training) == ("groups", 3, 0.0)
        assert "Of these fitted models on new groups (donor; 3 tested)" in external.verdict


class TestStudies:
    def of(self, make_record, name="head", **changes):
        return make_record(name, **changes)

    def test_records_are_sorted_into_what_they_measure(self, make_record):
        records = [
            make_record("head"),
            make_record("head", budget=5),
            make_record("head", unseen="NK", distances=np.ones(40)),
        ]
        comparison = compare(records)
        assert [len(part) for part in (comparison.records, comparison.budget_records, comparison.unseen_records)] == [
            1
        ] * 3
        assert comparison.strategies == ("head",)

    def test_studies_alone_are_no_comparison(self, make_record):
        with pytest.raises(FrostlineError, match="no record to compare"):
            compare([make_record(budget=5)])

    def test_a_study_on_other_test_cells_is_refused(self, make_record):
        with pytest.raises(FrostlineError, match="different test cells"):
            compare([make_record("head"), make_record("head", budget=5, test_fingerprint="other")])

    def test_the_same_budget_twice_is_refused(self, make_record):
        with pytest.raises(FrostlineError, match="two records of 'head', repeat 0"):
            compare([make_record(), make_record(budget=5), make_record(budget=5)])

    def test_label_efficiency_ends_with_all_cells(self, make_record):
        few = {"train": 12, "validation": 3, "test": 40, "genes": 500}
        records = [make_record(name, repeat=r) for r in (0, 1) for name in ("head", "lora", "pca_logistic")]
        records += [make_record(n, repeat=r, budget=5, skill=0.5, sizes=few) for r in (0, 1) for n in ("head", "lora")]
        comparison = compare(records)
        table = comparison.label_efficiency()
        assert list(zip(table["strategy"], table["budget"].fillna(0), strict=True)) == [
            ("head", 5),
            ("lora", 5),
            ("head", 0),
            ("lora", 0),
        ]
        assert table["labelled_cells"].tolist() == [15, 15, 120, 120]
        for row in table.fillna({"budget": 0}).to_dict("records"):
            found = [r for r in records if r.strategy == row["strategy"] and (r.budget or 0) == row["budget"]]
            assert row["macro_f1"] == pytest.approx(np.mean([macro_f1(r.labels, r.predicted) for r in found]))
            assert row["low"] <= row["macro_f1"] <= row["high"]

    def test_nothing_measured_is_an_empty_table(self, make_record):
        comparison = compare([make_record()])
        assert comparison.label_efficiency().empty
        assert comparison.unknown_cells().empty

    def test_unknown_cells_are_said_by_doubt_and_by_distance(self, make_record):
        plain = make_record()
        hidden = np.array(plain.labels) == "NK"
        record = make_record(unseen="NK", distances=np.where(hidden, 5.0, 1.0))
        row = compare([plain, record]).unknown_cells().iloc[0]
        assert (row["strategy"], row["unseen"], row["n_unseen"], row["n_known"]) == (
            "head",
            "NK",
            hidden.sum(),
            40 - hidden.sum(),
        )
        assert (row["auroc_distance"], row["fpr95_distance"]) == (1.0, 0.0)
        doubt = 1 - record.probabilities.max(axis=1)
        pairs = [(d > e) + 0.5 * (d == e) for d in doubt[hidden] for e in doubt[~hidden]]
        assert row["auroc_confidence"] == pytest.approx(np.mean(pairs))
        assert row["fpr95_confidence"] == false_positive_rate(doubt, hidden)

    def test_a_withheld_class_without_test_cells_is_na(self, make_record):
        record = make_record(unseen="Platelet", distances=np.ones(40))
        row = compare([make_record(), record]).unknown_cells().iloc[0]
        assert row["n_unseen"] == 0
        assert row["auroc_confidence"] is pd.NA


class TestFindings:
    def test_each_is_said_once_and_the_gravest_first(self, make_record):
        records = [
            make_record("head", findings=(finding("b", "note"), finding("a"))),
            make_record("lora", findings=(finding("a"), finding("c", "error"))),
        ]
        comparison = compare(records)
        assert [f.code for f in comparison.findings] == ["c", "a", "b"]

    def test_warnings_stand_beside_the_table(self, make_record):
        comparison = compare([make_record(findings=(finding("<leak>"), finding("calm", "note")))])
        assert "warning: <leak> was found" in repr(comparison)
        assert "warning: &lt;leak&gt; was found" in comparison._repr_html_()
        assert "calm" not in repr(comparison)
        assert comparison.verdict in repr(comparison)

    def test_what_was_found_and_the_verdict_stand_above_the_table(self, make_record):
        comparison = compare([make_record(findings=(finding("leak"),))])
        for shown in (repr(comparison), comparison._repr_html_()):
            assert shown.index("leak was found") < shown.index(comparison.verdict) < shown.index("Macro-F1")

    def test_a_check_that_warned_in_every_repeat_stands_there_once(self, make_record):
        records = [
            make_record(repeat=i, findings=(Finding("few", "warning", f"{i} cells", "It matters.", "Test more."),))
            for i in (3, 4)
        ]
        assert len(compare(records).findings) == 2
        assert [line for line in repr(compare(records)).splitlines() if "warning" in line] == ["warning: 3 cells"]

    def test_an_unknown_severity_is_refused(self):
        with pytest.raises(ValueError, match="severity 'fatal' is none of error, warning, note"):
            finding("x", "fatal")


class TestLikeWithLike:
    """Of two hand-made records the verdict takes the probe that reads the genes of what was tuned."""

    def records(self, make_record, **genes):
        return [make_record(name, genes_read=n, weights_sha256="a" * 64) for name, n in genes.items()]

    def test_the_probe_on_the_same_genes_is_found(self, make_record):
        made = self.records(make_record, frozen_probe=7424, **{"frozen_probe:500": 500}, head=7424, lora=500, full=2000)
        found = compare(made).evidence
        assert found.probes == {"lora": "frozen_probe:500", "full": None}
        assert found.genes_read["lora"] == 500
        assert "500 genes" in compare(made).verdict
        assert "full reads 2,000 genes, and no frozen probe the same; frozen_probe:2000 does." in compare(made).verdict

    def test_all_known_genes_are_the_same_for_both(self, make_record):
        made = self.records(make_record, frozen_probe=752, lora=752)
        assert compare(made).evidence.probes == {"lora": "frozen_probe"}

    def test_another_checkpoint_is_not_alike(self, make_record):
        probe, lora = self.records(make_record, frozen_probe=500, lora=500)
        made = [probe, dataclasses.replace(lora, weights_sha256="b" * 64)]
        assert list(compare(made).evidence.probes.values()) == [None]

    def test_nothing_is_said_without_a_probe_or_of_records_that_do_not_say_what_they_read(self, make_record):
        assert compare(self.records(make_record, pca_logistic=500, lora=500)).evidence.probes == {}
        old = compare([make_record("frozen_probe"), make_record("lora")])
        assert old.evidence.probes == {}
        assert "genes" not in old.verdict
