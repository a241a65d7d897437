"""Comparisons put only comparable records side by side, and never make up a number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from frostline.comparison import METRICS, compare
from frostline.errors import FrostlineError
from frostline.records import Cost


def scores(accuracy, macro_f1, silhouette=0.1) -> dict:
    return {"metrics": {"accuracy": accuracy, "macro_f1": macro_f1, "silhouette": silhouette}}


class TestRefusals:
    def test_different_test_cells(self, make_record):
        with pytest.raises(FrostlineError, match=r"different test cells, labels or classes: head, lora"):
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

    def test_its_columns_are_those_of_the_tutorial(self, make_record):
        assert list(compare([make_record()]).leaderboard().columns) == [
            "strategy",
            "accuracy",
            "macro_f1",
            "silhouette",
            "seconds",
            "trainable_parameters",
        ]

    def test_numbers_are_means_over_repeats(self, make_record):
        records = [
            make_record("head", repeat=0, **scores(0.5, 0.4, 0.0), cost=Cost({"fit": 1.0}, 10, 20)),
            make_record("head", repeat=1, **scores(0.7, 0.8, 0.2), cost=Cost({"fit": 3.0}, 12, 20)),
        ]
        row = compare(records).leaderboard().iloc[0]
        assert [row[key] for key in METRICS] == pytest.approx([0.6, 0.6, 0.1])
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
        table = compare([make_record("head", **scores(0.5, 2 / 3, -0.25))]).table()
        assert table.iloc[0].tolist() == ["head", "0.5000", "0.6667", "-0.2500", "3.8", "1,234"]


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
