"""Runs: what one prints about itself is read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import nbformat
import pytest
from nbformat import v4

from frostline import runs

RUN = "0123456789abcdef" * 2
STARTED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def executed(*printed: str, kind: str = "stream", name: str = "stdout"):
    cells = [v4.new_markdown_cell("# Title")]
    for text in printed:
        output = v4.new_output(
            kind, **({"name": name, "text": text} if kind == "stream" else {"data": {"text/plain": text}})
        )
        cells.append(v4.new_code_cell("begin()", outputs=[output]))
    return v4.new_notebook(cells=cells)


def line(run: str = RUN, folder: str = "artifacts/first") -> str:
    return runs.line_of(run, "cell_type_annotation", STARTED, folder)


def test_the_line_says_run_tutorial_time_and_folder():
    assert line() == f"run {RUN} of cell_type_annotation, 2025-01-02 03:04:05 UTC; files go to artifacts/first"


def test_ids_differ_and_are_read_again():
    first, second = runs.new_run(), runs.new_run()
    assert first != second
    for run in (first, second):
        assert runs.run_of(executed("something\n" + line(run) + "\nmore\n")) == run


def test_a_notebook_is_read_as_node_and_as_json_with_its_lines_apart():
    notebook = executed(f"loaded\n{line()}\n")
    assert runs.run_of(notebook) == RUN
    assert runs.run_of(json.loads(nbformat.writes(notebook))) == RUN


def test_the_last_of_several_counts():
    assert runs.run_of(executed(line("f" * 32), line())) == RUN


@pytest.mark.parametrize(
    "notebook",
    [
        {},
        {"cells": [{"cell_type": "code"}]},
        executed("nothing of the kind"),
        executed(f"see {line()}"),
        executed(line("f" * 31)),
        executed(line(), name="stderr"),
        executed(line(), kind="display_data"),
    ],
)
def test_what_is_no_such_line_is_no_run(notebook):
    assert runs.run_of(notebook) is None


def test_a_folder_with_a_line_break_prints_one_line():
    assert "\n" not in line(folder="a\nrun " + "f" * 32 + " of x; files go to y")
    assert runs.run_of(executed(line(folder="a\nb"))) == RUN


def test_a_line_that_came_in_parts_is_read():
    output = [v4.new_output("stream", name="stdout", text=part) for part in (line()[:20], line()[20:], "\n")]
    assert runs.run_of(v4.new_notebook(cells=[v4.new_code_cell("begin()", outputs=output)])) == RUN
