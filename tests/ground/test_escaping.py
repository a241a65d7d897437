"""Text of the user's in each of the languages that frostline writes."""

from __future__ import annotations

import ast
import html
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import frostline
from frostline.escaping import (
    MANY,
    first_unwritable,
    for_address,
    for_code,
    for_figure,
    for_figures,
    for_file_name,
    for_html,
    for_markdown,
    for_terminal,
    html_table,
    one_line,
)

HOSTILE = "<img src=x onerror=alert(1)>\n# Big | $\\frac{$ `code` [link](x) **bold** _it_ &lt; ../x"
SIGNS = st.text("ab1 \t\n\\`*_{}[]()<>#+-.!|~$&^:=%@/'\";,é\u202e\x1b\0", max_size=30)
TEXTS = SIGNS | st.text(max_size=30)
SOURCES = sorted(Path(frostline.__file__).parent.rglob("*.py"))
ESCAPES = re.compile(
    r"import html\b|from html import|html\.escape|markupsafe|quoteattr|saxutils|urllib\.parse"
    r"|\.replace\(\s*[\"'](?:\\\\?)?[|$<>&`*#\[\]\"][\"']"
)


@given(TEXTS)
def test_html_comes_back_as_the_text_that_it_was_without_what_cannot_be_seen(text):
    assert html.unescape(for_html(text)) == for_terminal(text)
    assert not set("<>\"'") & set(for_html(text))


@given(TEXTS)
def test_a_terminal_gets_lines_and_nothing_that_moves_its_cursor(text):
    shown = for_terminal(text)
    assert len(shown) == len(text)
    assert not {c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs"}} - set("\n\t\u200c\u200d")
    assert one_line(text) == " ".join(shown.replace("\u2028", " ").replace("\u2029", " ").split())


def parsers():
    """CommonMark with tables, and all that MyST can be set to read, as Jupyter Book might be."""
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    extensions = {"amsmath", "attrs_inline", "attrs_block", "colon_fence", "deflist", "dollarmath", "fieldlist"}
    extensions |= {"html_admonition", "html_image", "strikethrough", "substitution", "tasklist"}
    myst = create_md_parser(MdParserConfig(enable_extensions=extensions), RendererHTML)
    return MarkdownIt("commonmark").enable("table"), myst


PARSERS = parsers()
LITERAL = {"text", "text_special", "code_inline"}


def said(tokens):
    """Text of the tokens, which must be nothing but text."""
    inside = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inside} <= LITERAL
    return "".join(child.content for child in inside)


@pytest.mark.parametrize("write", [for_markdown, for_code])
@pytest.mark.parametrize("parser", PARSERS, ids=["commonmark", "myst"])
class TestMarkdown:
    @given(text=TEXTS)
    def test_a_paragraph_draws_the_text_and_nothing_else(self, parser, write, text):
        tokens = parser.parse(f"{write(text)}\n")
        kinds = [token.type for token in tokens if token.type != "front_matter"]
        assert kinds == (["paragraph_open", "inline", "paragraph_close"] if one_line(text) else [])
        assert said(tokens) == one_line(text)

    @given(text=TEXTS, other=TEXTS)
    def test_a_table_keeps_its_cells(self, parser, write, text, other):
        rows = f"| x | {write(text)} | {write(other)} |\n| --- | --- | --- |\n| y | {write(other)} | {write(text)} |\n"
        cells = [token for token in parser.parse(rows) if token.type == "inline"]
        wanted = ["x", one_line(text), one_line(other), "y", one_line(other), one_line(text)]
        assert [said([cell]) for cell in cells] == wanted

    @given(text=TEXTS, other=TEXTS)
    def test_a_heading_and_a_list_hold_it_between_other_words(self, parser, write, text, other):
        title, _, item = f"## Of {write(text)}: {write(other)}\n\n- {write(text)}".partition("\n\n")
        tokens = parser.parse(f"{title}\n\n{item}\n")
        assert [token.tag for token in tokens if token.type.endswith("_open")][:2] == ["h2", "ul"]
        first, *rest = [token for token in tokens if token.type == "inline"]
        assert said([first]) == f"Of {one_line(text)}: {one_line(other)}".rstrip()
        assert said(rest) == one_line(text)


@pytest.mark.parametrize("text", ["see https://a.example/x", "www.a.example", "mail a@b.example", "@somebody"])
def test_no_address_becomes_a_link(text):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("gfm-like").render(for_markdown(text))
    assert shown == f"<p>{text}</p>\n"


@given(TEXTS)
def test_matplotlib_measures_every_text_without_taking_it_for_a_formula(text):
    from matplotlib.cbook import is_math_text

    shown = for_figure(text)
    assert not is_math_text(shown)
    assert shown
    assert not shown.startswith("_")
    assert len(shown.replace("\\$", "$")) <= 61


NAMES = TEXTS | st.sampled_from(["", "a", "a\n", "a #1", "x" * 61, "x" * 62])


@given(st.lists(NAMES, max_size=8))
def test_names_stay_as_many_in_a_figure(names):
    assert len(set(for_figures(names))) == len(names)


@given(TEXTS, TEXTS)
def test_names_of_files_are_plain_and_different_for_different_texts(one, other):
    for text in (one, other, f"con.{one}", "nul"):
        name = for_file_name(text)
        assert 0 < len(name.encode()) < 120
        assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")
        assert not name.startswith(".")
        assert name.lower().split(".")[0] not in {"con", "nul"}
    assert (for_file_name(one) == for_file_name(other)) == (one == other)


@given(TEXTS)
def test_an_address_is_the_path_again_when_it_is_read(text):
    shown = for_address(text)
    assert unquote(shown) == text
    assert not set("<>\"'?#& ") & set(shown)


@pytest.mark.parametrize(
    "name",
    [
        *("B cell", "CD4+ T cell", "NK", "CD8+/CD45RA+ Naive Cytotoxic", "T cell, naive", "T_reg", "probe_obsm:X_pca"),
        *("cell (naive)", "p < 0.001", "T & B", "50 %", "0.5", "CD4-positive, alpha-beta T cell", "Th17!", "a=b"),
    ],
)
def test_common_names_stay_as_they_are(name):
    assert for_markdown(name) == for_figure(name) == html.unescape(for_html(name)) == for_terminal(name) == name


def test_a_hostile_name_is_text_everywhere():
    assert "<" not in for_html(HOSTILE)
    assert "\n" not in for_markdown(HOSTILE)
    assert "/" not in for_file_name(HOSTILE)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x\udfff"])
def test_what_no_file_can_hold_is_found(bad):
    assert first_unwritable(["a", bad, "b"]) == bad
    assert first_unwritable(iter([*"a" * MANY, "b", bad])) == bad
    assert first_unwritable(["a", "\U0001f9ec", "\x1b"]) is None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_else_in_the_package_escapes(path):
    """Who needs to escape for a language asks the module that knows it."""
    text = path.read_text(encoding="utf-8")
    ast.parse(text)
    if path.name not in ("escaping.py", "files.py", "workflows.py"):  # a link is read; a dollar of Nextflow
        assert ESCAPES.findall(text) == []


def test_the_rule_would_notice_an_escape_of_its_own():
    for line in ("import html", "from html import escape", "markupsafe.escape(x)", 'x.replace("|", "\\\\|")'):
        assert ESCAPES.search(line), line


def test_in_a_table_an_interval_stays_in_one_line_and_a_sentence_gets_room():
    from bs4 import BeautifulSoup

    said = "Undecided: lora leads head by 0.226 (0.020 to 0.433); 0.688 or more would have shown."
    table = pd.DataFrame({"Pair": ["1 to 1 <b>"], "Interval": ["-0.433 to +0.020"], "Meaning": [said]})
    pair, interval, meaning = BeautifulSoup(html_table(table), "html.parser").find_all("td")
    assert (interval.text, interval.get("class")) == ("-0.433\xa0to\xa0+0.020", None)
    assert (meaning.text, meaning["class"]) == (said, ["frostline-sentence"])
    assert (pair.text, pair.get("class")) == ("1 to 1 <b>", None)
