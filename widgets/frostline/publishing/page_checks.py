"""What a page shows, held to its source and to its artifacts: code, parameters, tables, numbers in sentences.

Plain functions as in `run_checks`, which applies them. Nothing here imports what it judges: a table of the page is
held to the table with the same headings in report.md, and `frostline check` holds that file to the predictions.
"""

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
LEADERBOARD = {"strategy", "macro-f1", "accuracy"}
"""Headings that make a table a leaderboard."""
INJECTED = "injected-parameters"
LONG_NUMBER = re.compile(r"\d+\.\d{4,}")
ESCAPED = re.compile(r"\\([^\w\s])")
Row = tuple[str, ...]


def check_code(source: dict[str, Any], executed: dict[str, Any]) -> Iterator[str]:
    """Check that the code which was executed is that of the source, papermill's parameters aside."""
    wanted = [code_of(cell) for cell in code_cells(source)]
    found = [cell for cell in code_cells(executed) if INJECTED not in cell.get("metadata", {}).get("tags", ())]
    for number, (cell, code) in enumerate(zip(found, wanted, strict=False), start=1):
        if code_of(cell) != code:
            yield f"code cell {number} is not that of the source: {first_difference(code_of(cell), code)!r}"
    if len(found) != len(wanted):
        yield f"has {len(found)} code cells, the source has {len(wanted)}"
    given = executed.get("metadata", {}).get("papermill", {}).get("parameters", {})
    for cell in code_cells(executed):
        if INJECTED in cell.get("metadata", {}).get("tags", ()) and assigned(code_of(cell)) != given:
            yield "the cell of its parameters does not assign the parameters that papermill was given, and only these"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Code cells that hold code."""
    return [cell for cell in notebook.get("cells", []) if cell.get("cell_type") == "code" and code_of(cell)]


def code_of(cell: dict[str, Any]) -> str:
    """Source of a cell without blank space around it."""
    return "".join(cell.get("source", "")).strip()


def first_difference(found: str, wanted: str) -> str:
    """First line that is another one."""
    pairs = zip(found.splitlines(), [*wanted.splitlines(), *[""] * len(found)], strict=False)
    return next((line for line, other in pairs if line != other), "lines are missing")[:120]


def assigned(code: str) -> dict[str, Any] | None:
    """Constants that code assigns to names; None when it does anything else."""
    try:
        found = {}
        for node in ast.parse(code).body:
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
                return None
            found[node.targets[0].id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError):
        return None
    return found


def check_tables(notebook: dict[str, Any], folder: Path) -> Iterator[str]:
    """Check that tables which the report holds as well, and long numbers in sentences, are those of the report."""
    report = folder / "report.md"
    if not report.is_file():
        return
    text = report.read_text(encoding="utf-8", errors="replace")
    known = tables_in_markdown(text)
    for heading, *rows in tables_in_pages(notebook):
        if heading not in known and set(map(str.lower, heading)) >= LEADERBOARD:
            yield f"shows a leaderboard with columns that the one of report.md has not: {', '.join(heading)}"
        for row in rows:
            if heading in known and not any(is_row(row, other) for other in known[heading]):
                yield f"shows a table row that is not in report.md: {' | '.join(row)[:160]}"
    numbers = set(LONG_NUMBER.findall(text))
    for said in sentences(notebook):
        for number in sorted(set(LONG_NUMBER.findall(said)) - numbers):
            yield f"shows the number {number}, which is not in report.md"


def is_row(row: Row, other: Row) -> bool:
    """Whether they are the same; pandas cuts long texts off."""
    pairs = zip(row, other, strict=False)
    return len(row) == len(other) and all(
        a == b or (len(a) > 20 and a.endswith("...") and b.startswith(a[:-3])) for a, b in pairs
    )


def tables_in_markdown(text: str) -> dict[Row, list[Row]]:
    """Headings -> rows of every table."""
    found: dict[Row, list[Row]] = {}
    rows: list[Row] | None = None
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("|"):
            rows = None
        elif rows is None and following.startswith("| ---"):
            rows = found.setdefault(markdown_row(line), [])
        elif rows is not None and not line.startswith("| ---"):
            rows.append(markdown_row(line))
    return found


def markdown_row(line: str) -> Row:
    """Cells of a row, as text."""
    cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
    return tuple(" ".join(ESCAPED.sub(r"\1", cell).split()) for cell in cells)


class Tables(HTMLParser):
    """Collects the rows of all tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, a row or a cell."""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self.cell = True
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        self.cell = self.cell and tag not in ("td", "th", "tr", "table")

    def handle_data(self, data: str) -> None:
        """Take the text of a cell."""
        if self.cell:
            self.tables[-1][-1][-1] += data


def tables_in_pages(notebook: dict[str, Any]) -> Iterator[list[Row]]:
    """Rows of every table of the outputs and of the widgets, the headings first."""
    for text in html_of(notebook):
        parser = Tables()
        parser.feed(text)
        for table in parser.tables:
            rows = [tuple(" ".join(cell.split()) for cell in row) for row in table if row]
            if rows:
                yield rows


def html_of(notebook: dict[str, Any]) -> Iterator[str]:
    """HTML of outputs, and of widgets, which hold it in their state."""
    for data in data_of(notebook):
        if "text/html" in data:
            yield "".join(data["text/html"])
    states = notebook.get("metadata", {}).get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in states.values():
        value = model.get("state", {}).get("value")
        if isinstance(value, str) and "<table" in value:
            yield value


def sentences(notebook: dict[str, Any]) -> Iterator[str]:
    """Markdown that was displayed, and comparisons that were printed."""
    for data in data_of(notebook):
        plain = "".join(data.get("text/plain", ""))
        if "text/markdown" in data:
            yield "".join(data["text/markdown"])
        elif plain.startswith("Comparison of "):
            yield plain


def data_of(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What every output displays, by kind."""
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            if isinstance(output.get("data"), dict):
                yield output["data"]


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook that is there; an empty one when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
