"""Abbreviations explain themselves in a table's headings and below it."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from bs4 import BeautifulSoup

import frostline
from frostline import report
from frostline.comparison.glossary import TERMS, explained
from frostline.escaping import html_table


def read(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


@pytest.fixture(scope="module")
def comparison(make_record):
    return frostline.compare([make_record(name) for name in ("head", "lora")])


def test_every_abbreviation_of_the_leaderboard_has_its_meaning_as_title_and_below(comparison):
    found = read(comparison._repr_html_())
    titles = {mark.get_text(): mark["title"] for mark in found.select("th abbr")}
    assert {"Macro-F1", "AUROC", "ECE"} <= set(titles)
    below = {term.get_text(): term.find_next_sibling("dd").get_text() for term in found.select("details dl dt")}
    assert below.items() >= titles.items()
    assert found.select_one("details > summary").get_text().startswith("Macro-F1, AUROC, ECE")


def test_headings_read_as_before(comparison):
    for table in (report.calibration_table(comparison), report.class_metrics_table(comparison)):
        shown = read(report.shown(table)._repr_html_())
        assert [cell.get_text() for cell in shown.select("thead th")] == list(table)


def test_a_term_is_explained_where_it_is_a_word_of_its_own():
    html = explained(html_table(pd.DataFrame({"NECE": ["1"], "Macro-F1 difference": ["2"], "McNemar p (Holm)": ["3"]})))
    found = read(html)
    assert [mark.get_text() for mark in found.select("th abbr")] == ["Macro-F1", "McNemar"]
    assert [term.get_text() for term in found.select("dt")] == ["Macro-F1", "McNemar", "Holm"]


def test_na_is_explained_where_it_stands_and_a_plain_table_stays():
    plain = html_table(pd.DataFrame({"Cells": ["3"]}))
    assert explained(plain) == plain
    assert "undefined" in explained(html_table(pd.DataFrame({"Cells": ["NA"]})))


def test_no_name_of_the_data_becomes_markup():
    hostile = html_table(pd.DataFrame({'<b title="ECE">': ["<i>AUROC</i>"]}))
    found = read(explained(hostile))
    assert (found.select("b, i"), found.select("th")[0].get_text()) == ([], '<b title="ECE">')


def test_meanings_are_sentences_without_other_abbreviations():
    for term, meaning in TERMS.items():
        assert len(meaning) > 15
        assert not re.search(r"\b(?!F1|NA)[A-Z]{2,}\b", meaning.replace(term, "")), term
