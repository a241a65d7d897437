"""Text of the user's in each of the languages that frostline writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.escaping import for_figure, for_file_name, for_html, for_markdown, one_line

HOSTILE = "<img src=x onerror=alert(1)>\n# Big | $\\frac{$ `code` [link](x) **bold** _it_ &lt; ../x"


@given(st.text())
def test_html_comes_back_as_the_text_that_it_was(text):
    import html

    assert html.unescape(for_html(text)) == html.unescape(html.unescape(for_html(text))) or "&" in text
    assert html.unescape(for_html(text)) == text
    assert not set("<>\"'") & set(for_html(text))


@given(st.text())
def test_markdown_draws_the_text_and_nothing_else(text):
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(f"{for_markdown(text)}\n")
    kinds = [token.type for token in tokens]
    assert kinds == (["paragraph_open", "inline", "paragraph_close"] if one_line(text) else [])
    for token in tokens:
        for child in token.children or ():
            assert child.type in {"text", "text_special"}
    assert "".join(child.content for token in tokens for child in token.children or ()) == one_line(text)


@given(st.text())
def test_matplotlib_measures_every_text_without_taking_it_for_a_formula(text):
    from matplotlib.cbook import is_math_text

    shown = for_figure(text)
    assert not is_math_text(shown)
    assert not shown.startswith("_")


@given(st.text(), st.text())
def test_names_of_files_are_plain_and_different_for_different_texts(one, other):
    for text in (one, other):
        name = for_file_name(text)
        assert 0 < len(name.encode()) < 120
        assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
        assert name not in {".", ".."}
        assert not name.startswith(".")
    assert (for_file_name(one) == for_file_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["B cell", "CD4+ T cell", "NK", "CD8+/CD45RA+ Naive Cytotoxic", "T cell, naive"])
def test_common_names_stay_as_they_are(name):
    assert for_markdown(name) == for_figure(name) == for_html(name) == name


def test_a_hostile_name_is_text_everywhere():
    assert "<" not in for_html(HOSTILE)
    assert "\n" not in for_markdown(HOSTILE)
    assert "/" not in for_file_name(HOSTILE)
