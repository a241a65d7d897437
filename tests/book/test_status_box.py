"""The status box as text, and the refusal to build."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from docutils.parsers.rst import DirectiveError
from hostile import Read
from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from published_project import NAME, SOURCE, executed_notebook, manifest_of, markdown_cell
from sphinx.errors import ExtensionError
from tiny_tutorial import BROKEN

from frostline.book import drawing, status_box, status_page, strategy_parameters
from frostline.book.drawing import draw
from frostline.book.self_hosted import outside_assets
from frostline.escaping import one_line
from frostline.publishing import states
from frostline.publishing.run_manifests import RunManifest
from frostline.publishing.states import Failure, State
from frostline.strategies import STRATEGIES, parameter_table


def passed(root: Path, **changes: object) -> State:
    return State(NAME, "passed", manifest=RunManifest.model_validate(manifest_of(root) | changes))


def test_box_shows_what_the_manifest_says(root: Path) -> None:
    box = BeautifulSoup(status_box.render_box(passed(root)), "html.parser")
    shown = {dd["data-field"]: dd.get_text() for dd in box.find_all("dd")}
    assert shown == {
        "ended": "2026-11-22 10:11",
        "mode": "static executed tutorial",
        "profile": "quickstart",
        "artifact_check": "passed: 4 files, 24 numbers recomputed",
        "source_notebook": "notebooks/cell_type_annotation.ipynb",
        "dataset": "pbmc68k-reduced",
        "checkpoint": "mini",
        "seed": "42",
        "seconds": "61.2 s",
        "frostline": "0.1.0",
        "versions": "torch 2.13.0, scanpy 1.11.5, python 3.11.7",
    }
    assert "not connected to a kernel" in box.get_text()
    assert "Draft" not in box.get_text()


def test_page_that_is_not_passed_is_marked_as_a_draft_with_the_reason(root: Path) -> None:
    problem = f"{SOURCE}: stale: the source notebook has changed since; run it again"
    state = dataclasses.replace(passed(root), result="stale", problems=(problem,))
    box = BeautifulSoup(status_box.render_box(state), "html.parser")
    assert box.select_one(".frostline-draft strong").get_text() == "Draft."
    assert box.select_one('dd[data-field="artifact_check"]').get_text() == (
        "stale: the source notebook has changed since; run it again "
        "(earlier run: passed, 4 files, 24 numbers recomputed)"
    )


def test_failure_of_the_last_attempt_is_said_without_paths_of_the_machine(root: Path) -> None:
    folder = root / "book" / "published"
    states.write_failure(folder, NAME, f"{root.resolve()}/x.h5ad and /tmp/abc/y.h5ad cannot be read", root)
    state = states.state_of(folder, NAME, root)
    assert (state.result, state.is_draft) == ("failed", True)
    assert state.artifact_check.startswith(
        "failed: ./x.h5ad and (path)/y.h5ad cannot be read (earlier run: passed, 4 files"
    )
    assert state.manifest.seed == 42


def test_tutorial_that_was_never_run_is_listed_and_has_a_stand_in(tmp_path: Path) -> None:
    (state,) = states.states_of(tmp_path, ["mine"], tmp_path)
    assert (state.result, state.artifact_check) == ("not run", "not run")
    assert "It has not been run yet" in status_box.render_stub(state, "Ours")
    row = BeautifulSoup(status_page.render_table([state]), "html.parser").select_one("tbody tr")
    assert [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])][:3] == [
        "mine draft",
        "not run",
        "never",
    ]


def test_tutorial_with_dots_in_its_name_is_one(tmp_path: Path) -> None:
    (tmp_path / "mine.v2").mkdir()
    for name in ("mine.v2.ipynb", "mine.v2.run.json", "mine.v2.failed.json", "mine.v2.md", "left.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    assert [state.name for state in states.states_of(tmp_path, ["mine.v2"], tmp_path)] == ["mine.v2", "left"]


def test_figure_without_words_for_who_does_not_see_it_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "a.png").touch()
    env = SimpleNamespace(srcdir=tmp_path, docname="index", note_reread=lambda: None)
    state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))

    def drawn(**options: str) -> str:
        words = [["a.png"], options, [], 1, 0, "", state, SimpleNamespace(reporter=None)]
        (node,) = status_page.TutorialFigure("tutorial-figure", *words).run()
        return node.astext()

    with pytest.raises(DirectiveError) as refused:
        drawn()
    assert refused.value.msg == "tutorial-figure a.png: say what the picture shows in a line `:alt: ...` below it"
    assert 'alt="Two islands"' in drawn(alt="Two islands")


def test_link_to_a_tutorial_that_was_not_run_leads_to_its_stand_in(tmp_path: Path) -> None:
    (state,) = states.states_of(tmp_path, ["mine"], tmp_path)
    (tmp_path / "mine.md").write_text(status_box.render_stub(state, "Ours"))
    (tmp_path / "other.md").write_text("# A page")
    text = "[Mine](mine.ipynb), [another](another.ipynb), [other](other.ipynb), [how](../book/protocol.md#tests)"
    linked = "[Mine](mine.md), [another](another.ipynb), [other](other.ipynb), [how](../protocol.md#tests)"
    assert status_box.link_pages(text, tmp_path, "book") == linked


def test_stand_in_has_the_title_of_the_source_notebook(root: Path) -> None:
    (root / SOURCE).write_text('{"cells": []}')
    assert status_box.source_title(root / SOURCE) == NAME
    (root / SOURCE).write_text(json.dumps(executed_notebook()))
    assert status_box.source_title(root / SOURCE) == "Four ways to name a cell"
    assert status_box.source_title(root / "gone.ipynb") == "gone"


def test_table_of_all_tutorials_shows_every_column(root: Path) -> None:
    table = BeautifulSoup(status_page.render_table([passed(root)], up="../"), "html.parser")
    text = " ".join(table.select_one("tbody").get_text(" ").split())
    assert table.select_one("tbody th a").get_text() == NAME
    for value in ("source notebook", "passed: 4 files, 24 numbers recomputed", "2026-11-22 10:11", "61.2 s"):
        assert value in text
    for value in ("static executed tutorial", "quickstart", "data set pbmc68k-reduced", "checkpoint mini", "seed 42"):
        assert value in text
    assert {a["href"] for a in table.find_all("a")} == {f"../published/{NAME}.html", f"../{SOURCE}"}
    assert "draft" not in text


def test_last_run_is_converted_to_utc(root: Path) -> None:
    state = passed(root, ended="2026-11-23T00:30:00+02:00")
    for html in (status_box.render_box(state), status_page.render_table([state])):
        (time,) = BeautifulSoup(html, "html.parser").find_all("time")
        assert (time["datetime"], time.get_text()) == ("2026-11-23T00:30:00+02:00", "2026-11-22 22:30")


def test_text_of_the_manifest_and_of_file_names_stays_text(root: Path) -> None:
    hostile = {key: f"{key} {BROKEN}" for key in ("mode", "profile", "dataset", "checkpoint", "source_notebook")}
    hostile |= {"artifacts": {f"file {BROKEN}": "0" * 64}, "versions": {"frostline": BROKEN, "torch": BROKEN}}
    state = dataclasses.replace(passed(root, **hostile), name=f"name {BROKEN}")
    for html in (status_box.render_box(state), status_page.render_table([state])):
        read = Read(html)
        assert {what[:2] for what in read.active} == {("a", "href"), ("a", "")}
        assert not read.tags & {"img", "script"}
        assert "\n\n" not in html
        assert not set("\x1b\u202e") & set(html)
        assert all(read.shows(one_line(hostile[key])) for key in ("mode", "profile", "dataset", "checkpoint"))


def test_no_template_lets_a_value_through_unescaped() -> None:
    folder = Path(drawing.__file__).with_name("templates")
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert len(texts) == 5
    assert [name for name, text in texts.items() if re.search(r"\bsafe\b|autoescape", text)] == []


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'caption' is undefined"):
        draw("figure.html", address="a.png", alt="A")


def test_what_the_strategies_say_between_backticks_is_code() -> None:
    table = BeautifulSoup(strategy_parameters.render_parameters(STRATEGIES["lora"]), "html.parser")
    meanings = dict(parameter_table("lora")["meaning"])
    shown = {row.th.get_text(): row.find_all("td")[-1] for row in table.select("tbody tr")}
    assert {name: cell.get_text() for name, cell in shown.items()} == {
        name: text.replace("`", "") for name, text in meanings.items()
    }
    assert "".join(code.get_text() for code in table.select("td code"))


def test_a_record_of_a_failure_that_cannot_be_read_is_a_failure(root: Path) -> None:
    for text in ("{", '{"said": "x", "ended": "yesterday"}'):
        (root / "book" / "published" / f"{NAME}.failed.json").write_text(text)
        state = states.state_of(root / "book" / "published", NAME, root)
        assert (state.result, state.failure) == ("failed", Failure(said="the record of the failure cannot be read"))


def test_a_failure_of_several_lines_stays_text_on_the_page_of_a_tutorial_without_a_run() -> None:
    """A blank line would end the HTML in Markdown, and what follows would be read as Markdown."""
    said = f"ValueError: {BROKEN}\n\n# Big\n\n<img src=x onerror=alert(1)>"
    state = State("mine", "failed", failure=Failure(said=said, ended="2026-11-23T00:30:00+00:00"))
    page = status_box.render_stub(state, "Mine")
    kinds = [token.type for token in MarkdownIt("commonmark").parse(page.removeprefix(status_box.STUB))]
    assert kinds == ["heading_open", "inline", "heading_close", "html_block"]
    text = BeautifulSoup(page, "html.parser")
    assert text.find_all(["img", "script", "a", "h1"]) == []
    assert one_line(said) in one_line(text.get_text())


def test_box_is_one_block_of_raw_html(root: Path) -> None:
    assert "\n\n" not in status_box.render_box(passed(root))


def test_box_stands_between_the_title_and_the_text(root: Path) -> None:
    notebook = executed_notebook()
    notebook["cells"].insert(0, markdown_cell("No title yet"))
    changed = json.loads(status_box.inject_box(json.dumps(notebook), passed(root)))
    title, box, text = changed["cells"][1]["source"].split("\n\n")
    assert title == "# Four ways to name a cell"
    assert box.startswith('<section class="frostline-status"')
    assert text == "Who it is for."
    assert changed["cells"][2] == notebook["cells"][2]


def test_an_address_leads_to_the_file_whatever_it_is_called(root: Path) -> None:
    state = passed(root, artifacts={'a "b" #1?.png': "0" * 64})
    links = BeautifulSoup(status_box.render_box(state), "html.parser").select("li a")
    assert [tag["href"] for tag in links] == [
        f"{NAME}/a%20%22b%22%20%231%3F.png",
        f"{NAME}.ipynb",
        f"{NAME}.run.json",
    ]
    assert links[0].get_text() == 'a "b" #1?.png'


def test_the_title_of_a_notebook_without_one_is_its_name(tmp_path: Path) -> None:
    assert status_box.source_title(tmp_path / "my_*notebook*.ipynb") == "my\\_\\*notebook\\*"


def test_a_fit_project_may_be_built(root: Path) -> None:
    status_box.check_published(root / "book" / "published", {f"published/{NAME}", "index"}, root)


def test_error_names_the_file_and_what_is_wrong(root: Path) -> None:
    (root / "book" / "published" / NAME / "report.csv").write_text("edited")
    with pytest.raises(ExtensionError, match=rf"published/{NAME}/report\.csv: altered"):
        status_box.check_published(root / "book" / "published", set(), root)


def test_page_that_was_never_run_may_be_drawn_and_not_be_released(tmp_path: Path) -> None:
    status_box.check_published(tmp_path, {f"published/{NAME}"}, tmp_path)
    with pytest.raises(ExtensionError, match=rf"cannot be released:\n  published/{NAME}: not run"):
        status_box.check_published(tmp_path, {f"published/{NAME}"}, tmp_path, release=True)


def test_stale_page_may_be_drawn_and_not_be_released(root: Path) -> None:
    (root / SOURCE).write_text("{}")
    status_box.check_published(root / "book" / "published", set(), root)
    with pytest.raises(ExtensionError, match=rf"released:\n  {SOURCE}: stale: the source notebook"):
        status_box.check_published(root / "book" / "published", set(), root, release=True)


@pytest.mark.parametrize("file", ["stray.ipynb", "stray.run.json", "stray.md"])
def test_stray_file_among_the_published(root: Path, file: str) -> None:
    (root / "book" / "published" / file).write_text("{}")
    with pytest.raises(ExtensionError, match=r"published/stray\.(run\.json|md)"):
        status_box.check_published(root / "book" / "published", set(), root)


def test_copy_that_differs_from_the_manifest(root: Path) -> None:
    published = root / "book" / "published"
    (published / NAME / "report.md").write_text("edited after the checks")
    with pytest.raises(ExtensionError, match=r"report\.md changed while the site"):
        status_box.copy_run(published, NAME, root, root / "site")


def test_outside_assets_are_found_and_links_are_not() -> None:
    html = (
        '<script src="https://cdn.example/a.js"></script><img src="//example.org/a.png">'
        '<link href="http://example.org/a.css"><a href="https://example.org">link</a><img src="a.png">'
    )
    assert outside_assets(html) == [
        "https://cdn.example/a.js",
        "//example.org/a.png",
        "http://example.org/a.css",
    ]
    assert outside_assets("<p>no data</p><IMG\nSRC = //example.org/b.png>") == ["//example.org/b.png"]
    assert outside_assets('<LINK rel="icon" href="https://example.org/c.ico">') == ["https://example.org/c.ico"]
