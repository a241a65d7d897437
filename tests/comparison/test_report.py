"""Tables and report.md say what the records say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from frostline import report
from frostline.comparison.comparisons import compare
from frostline.records import Finding


@pytest.fixture
def comparison(make_record):
    return compare(
        [make_record("pca_logistic", skill=3.0), make_record("frozen_probe"), make_record("lora", skill=1.0)]
    )


class TestMarkdown:
    def test_it_states_data_split_seed_and_leaderboard(self, comparison):
        text = report.report_markdown(comparison)
        assert text.startswith("# Cell type annotation of hand-made\n")
        for fact in (
            "Label column `cell_type`, 3 classes",
            "Profile `quickstart`, seed 42, 1 repeat(s)",
            "Stratified random split: 90 training, 30 validation and 40 test cells",
            "mean F1 over the 3 classes that have a test cell",
            "500 genes",
            "- Made by hand.",
        ):
            assert fact in text, fact
        assert report.markdown_table(comparison.table()) in text
        assert "mini" not in text

    def test_its_rows_stand_in_the_order_of_the_leaderboard(self, comparison):
        text = report.report_markdown(comparison).split("## Leaderboard")[1].split("## ")[0]
        rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
        assert rows[2:] == comparison.leaderboard()["strategy"].tolist()

    def test_every_section_has_its_table(self, comparison):
        text = report.report_markdown(comparison)
        for table in (
            report.tests_table(comparison),
            report.class_metrics_table(comparison),
            report.calibration_table(comparison),
            report.prediction_sets_table(comparison),
            report.costs_table(comparison),
        ):
            assert report.markdown_table(table) in text
        assert "## Label efficiency" not in text
        assert "## Unknown cells" not in text
        assert "## Checks" not in text

    def test_a_budget_that_a_strategy_was_not_studied_with_is_na(self, make_record):
        records = [make_record(name) for name in ("head", "lora")]
        studies = [make_record("head", budget=5), make_record("head", budget=10), make_record("lora", budget=5)]
        comparison = compare([*records, *studies])
        table = report.label_efficiency_table(comparison).set_index("Strategy")
        assert list(table) == ["5", "10", "all"]
        assert (table == "NA").stack().loc[lambda missing: missing].index.tolist() == [("lora", "10")]
        assert report.markdown_table(table.reset_index()) in report.report_markdown(comparison)

    def test_studies_and_findings_have_sections_when_there_are_any(self, make_record):
        finding = Finding("shared-group", "warning", "donor a is on both sides", "It matters.", "Hold donors out.")
        plain = make_record(findings=(finding,))
        few = {"train": 12, "validation": 3, "test": 40, "genes": 500}
        records = [plain, make_record(budget=5, sizes=few), make_record(unseen="NK", distances=np.ones(40))]
        text = report.report_markdown(compare(records))
        assert "| Strategy | 5 | all |" in text
        assert "| head | NK |" in text
        assert "| shared-group | warning | donor a is on both sides | It matters. | Hold donors out. |" in text

    def test_what_sets_promise_is_said_by_the_design(self, make_record):
        def said(**changes):
            text = report.report_markdown(compare([make_record(**changes)]))
            return text.split("## Prediction sets")[1].split("\n\n")[2]

        held = {"split_kind": "group", "group_key": "donor", "groups": ("a",) * 40}
        assert "promised for new cells of the same origin, on average" in said()
        few = said(**held, validation_groups=("b",) * 15 + ("c",) * 15)
        assert "for new groups that is no promise; calibrated on 2 of them, and a promise takes 9 or more." in few
        nine = said(**held, validation_groups=tuple("bcdefghij") * 3 + ("b",) * 3)
        assert "for new groups that is no promise." in nine
        assert "nothing is promised for cells of another origin" in said(split_kind="cross")
        bare = {"validation_cells": (), "validation_labels": (), "validation_probabilities": None}
        assert "No prediction sets: it takes 9 validation cells or more" in said(**bare)

    def test_sets_by_strategy_are_of_all_cells_and_name_where_they_do_least(self, make_record):
        probabilities = np.tile([0.6, 0.3, 0.1], (40, 1))
        labels = ("B cell",) * 10 + ("T cell",) * 10 + ("NK",) * 15 + ("T cell",) * 5
        record = make_record(
            groups=("a",) * 20 + ("b",) * 15 + ("tiny",) * 5,
            labels=labels,
            probabilities=probabilities,
            validation_labels=("NK",) * 30,
            validation_probabilities=np.tile([0.6, 0.3, 0.1], (30, 1)),
        )
        (row,) = report.prediction_sets_table(compare([record])).to_numpy().tolist()
        # sets are B cell and NK: right for 10 + 15 of 40 cells; of a half of a, of all of b; five cells are too few
        assert row == ["head", "62%", "50% (a)", "2.00", "0%", "30"]

    def test_groups_and_repeats_are_said(self, make_record):
        records = [
            make_record(name, repeat=i, groups=(donor,) * 40, group_key="donor", split_kind="group")
            for i, donor in enumerate("abc")
            for name in ("head", "lora")
        ]
        text = report.report_markdown(compare(records))
        assert "3 repeat(s). Split by group, whole groups held out (donor):" in text
        assert "(mean over the groups of the macro-F1 of their own cells), 95 % interval" in text
        assert "Of these fitted models on new groups (donor; 3 tested): " in text
        assert "Of the macro-F1 difference: Student's t over groups, with the noise of training;" in text

    def test_fewer_than_three_groups_are_numbers_alone(self, make_record):
        records = [make_record(n, groups=("a",) * 40, group_key="x", split_kind="group") for n in ("head", "lora")]
        text = report.report_markdown(compare(records))
        assert "Only one group of x has 10 test cells or more, which says nothing about other groups" in text
        assert "Too few groups were tested for any test or interval." in text
        assert "It leads" not in text
        assert "better" not in text

    def test_what_the_checks_found_stands_above_the_tables(self, make_record):
        finding = Finding("shared-group", "warning", "donor a is on both sides", "It matters.", "Hold donors out.")
        text = report.report_markdown(compare([make_record(findings=(finding,))]))
        places = [text.index(part) for part in ("## Checks", "## Reading it", "## Leaderboard")]
        assert places == sorted(places)

    def test_the_small_checkpoint_is_called_what_it_is(self, make_record):
        text = report.report_markdown(compare([make_record("lora", parameters={"checkpoint": "mini"})]))
        assert "`mini` is a small model for demonstration, not the official scGPT weights" in text

    def test_a_single_strategy_is_read_with_its_interval_alone(self, make_record):
        text = report.reading(compare([make_record()]))
        assert re.fullmatch(
            r"Only head was evaluated: there is nothing to choose from\. Highest macro-F1: head, 0\.\d{4}, 95 % "
            r"interval 0\.\d{3} to [01]\.\d{3}\.",
            text,
        )

    def test_the_numbers_of_the_reading_are_those_of_the_comparison(self, comparison):
        text, best = report.reading(comparison), comparison.best
        assert text.startswith(comparison.verdict)
        for test in comparison.tests:
            if best in (test.first, test.second):
                other = test.second if test.first == best else test.first
                lead = test.difference if test.first == best else -test.difference
                assert f"{other} by {lead:+.4f}" in text

    def test_undefined_numbers_are_na(self, make_record):
        record = make_record()
        metrics = {**record.metrics, "silhouette": None, "coverage_99": None}
        comparison = compare([make_record(metrics=metrics)])
        assert comparison.table()["Silhouette"].tolist() == ["NA"]
        assert report.calibration_table(comparison)["covers (99 %)"].tolist() == ["NA"]

    def test_the_f1_of_a_class_is_its_mean_over_the_repeats_that_test_it(self, make_record):
        first = make_record(labels=("B cell",) * 20 + ("T cell",) * 20)
        second = make_record(repeat=1)
        table = report.class_metrics_table(compare([first, second])).set_index("Class")
        scores = [f1_score(r.labels, r.predicted, labels=["NK"], average=None, zero_division=0) for r in (second,)]
        assert table.loc["NK", "head"] == f"{scores[0][0]:.3f}"
        assert table.loc["NK", "Test cells"] == str(second.labels.count("NK"))

    def test_a_pipe_in_a_cell_does_not_break_the_table(self):
        table = pd.DataFrame({"Strategy": ["a|b"], "x": ["1"]})
        assert report.markdown_table(table).splitlines() == ["| Strategy | x |", "| --- | --- |", "| a\\|b | 1 |"]
