"""The report of an annotation: text and HTML in which names are names, and values that a file holds."""

from __future__ import annotations

import dataclasses

import anndata
import numpy as np
import pytest
from kept_models import islet_model, islets

from frostline.annotation import refitting
from frostline.annotation.reports import Report


@pytest.fixture(scope="module")
def facts():
    query = islets().adata[:30].copy()
    islet_model().annotate(query)
    return query.uns["frostline"]


def test_it_says_what_was_found_and_decided(facts):
    text = str(Report(facts))
    for words in (
        "cells: 30 of AnnData",
        "pca_logistic, fitted on islets",
        "counts (whole numbers up to",
        "2,000 of the model's 2,000 are among the query's 2,000, with 100.0 % of the query's counts (",
        "as kept: the query has what the model reads",
        "At a confidence of",
        "far from training",
        "labels:",
    ):
        assert words in text


def test_labels_are_counted(facts):
    labels = Report(facts).labels
    assert labels["cells"].sum() == 30
    assert labels["share"].sum() == pytest.approx(1)


def test_names_of_the_user_stay_text(facts):
    hostile = "<img src=x onerror=alert(1)>\x1b[2J"
    facts = {
        **facts,
        "labels": [hostile, *facts["labels"][1:]],
        "query": {**facts["query"], "name": hostile, "notes": [hostile]},
        "genes": {**facts["genes"], "lost": 1, "lost_names": [hostile]},
    }
    report = Report(facts)
    assert "<img" not in report._repr_html_()
    assert "&lt;img" in report._repr_html_()
    assert "\x1b" not in str(report)


def test_the_entry_of_uns_comes_back_from_a_file(facts, tmp_path):
    adata = anndata.AnnData(np.ones((2, 2), dtype=np.float32), uns={"frostline": facts})
    adata.write_h5ad(tmp_path / "x.h5ad")
    read = anndata.read_h5ad(tmp_path / "x.h5ad").uns["frostline"]
    assert str(Report(read)) == str(Report(facts))


def test_a_class_that_a_refit_lost_is_said_and_the_error_is_open(monkeypatch, tmp_path):
    """Two of the reference cells of a class express enough of the shared genes: too few to be split."""
    model, query = islet_model(), islets().adata[:, ::2].copy()
    lost = model.classes[0]
    cut = refitting._cut

    def without(*args, **options):
        found = cut(*args, **options)
        rows = np.flatnonzero(found.labels != lost)
        return found.part(np.append(rows, np.flatnonzero(found.labels == lost)[:2]))

    monkeypatch.setattr(refitting, "_cut", without)
    report = model.annotate(query).report
    assert lost not in report.facts["classes"]
    assert f"It cannot answer {lost} (2 reference cells left)" in str(report)
    assert report.facts["certificate"]["holds"] == "not known"
    assert f"no cell of {lost} can be answered rightly, and none was counted" in str(report)
    query.write_h5ad(tmp_path / "x.h5ad")
    assert str(Report(anndata.read_h5ad(tmp_path / "x.h5ad").uns["frostline"])) == str(report)


def test_it_is_said_where_no_cell_can_be_called_unknown(facts):
    assert "a labelled cell would be called so with a probability of 0.05" in str(Report(facts))
    model, query = islet_model(), islets().adata[:30].copy()
    strict = dataclasses.replace(model, calibration=dataclasses.replace(model.calibration, alpha=0.01))
    text = str(strict.annotate(query))
    assert "unknown: No cell can be called unknown: beside 175 labelled cells" in text
    assert "a labelled cell would be called so" not in text


def test_an_error_that_is_not_certified_or_not_tested_is_said(facts):
    open_ = {**facts, "certificate": {**facts["certificate"], "holds": "not known"}}
    assert "Whether that holds for this query is not known" in str(Report(open_))
    no = {**facts, "certificate": {**facts["certificate"], "holds": "no"}}
    assert "For this query that does not hold" in str(Report(no))
    again = {**open_, "fit": {**facts["fit"], "done": "calibrated again", "why": ["so"], "accuracy": 0.5}}
    again["fit"] |= {"reference_cells": 9, "counted": 9}
    assert "For this query that is an upper bound" in str(Report(again))
    assert "errors are counted" not in str(Report(again))
    again["fit"] |= {"counted": 5}
    assert "errors are counted on 5 of them" in str(Report(again))
