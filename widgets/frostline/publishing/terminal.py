"""What a terminal shows: how far the work is, the verdict, a leaderboard that fits."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.escaping import one_line

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from frostline.annotation.models import Model

WIDTH = 100
"""Characters that results fit into, whatever the terminal."""
COLUMNS = (
    "Strategy",
    "Macro-F1",
    "95 % interval",
    "Accuracy",
    "ECE",
    "Seconds",
    "Trained parameters",
    "Peak MB",
    "GPU MB",
)
"""Of the leaderboard; report.csv has all."""
INTERVAL = 60.0
"""Seconds after which a log says that the same work goes on."""
OnProgress = Callable[[float | None, str], None]
"""Is called with how much of the work is done, None if that is not known, and what is being done."""


@contextmanager
def progress(names: Sequence[str]) -> Iterator[dict[str, OnProgress]]:
    """Show how far pieces of work are on stderr, one line each; plain lines now and then where it is no terminal.

    Examples
    --------
    >>> with progress(["embed"]) as bars:
    ...     bars["embed"](0.5, "batch 3 of 6")
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield {name: _Log(name) for name in names}
        return
    with _bars(console) as bars:
        yield {name: _line(bars, name) for name in names}


def _bars(console: object) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    words = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        TextColumn("{task.description}", markup=False, table_column=words),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,  # type: ignore[arg-type]
        expand=True,
    )


def _line(bars: Progress, name: str) -> OnProgress:
    task = bars.add_task("starting", name=one_line(name), total=None)

    def show(fraction: float | None, words: str) -> None:
        bars.update(
            task, total=None if fraction is None else 1.0, completed=fraction or 0.0, description=one_line(words)
        )

    return show


class _Log:
    """Plain lines: when other work begins, and after a while that it goes on; numbers make no other work."""

    def __init__(self, name: str) -> None:
        self._name = one_line(name)
        self._work = ""
        self._last = 0.0

    def __call__(self, fraction: float | None, words: str) -> None:
        work, now = re.sub(r"\d[\d,.]*", "", words.partition(":")[0]), time.monotonic()
        if work == self._work and now - self._last < INTERVAL:
            return
        self._work, self._last = work, now
        share = "" if fraction is None else f" ({fraction:.0%})"
        print(f"{self._name}: {one_line(words)}{share}", file=sys.stderr, flush=True)


def result_lines(folder: Path) -> list[str]:
    """Say what a run found: the verdict first, then the leaderboard; of a study of clusters, how they agree.

    Parameters
    ----------
    folder
        Artifacts that have passed their check.
    """
    from frostline.artifacts import kinds
    from frostline.artifacts.manifests import read_manifest

    kind = kinds.of(read_manifest(folder).studies)
    sentences, table = kind.said(kind.read(folder))
    lines = [line for text in sentences for line in textwrap.wrap(one_line(text), WIDTH)]
    return lines if table is None else [*lines, "", *leaderboard_lines(table)]


def model_lines(model: Model, folder: Path, typed: Path) -> list[str]:
    """Say what was kept: the verdict, the model and what it states of itself, its folder, what to do next.

    Parameters
    ----------
    model
        What was saved.
    folder
        Where, links followed.
    typed
        The same, as whoever reads it has written it.
    """
    from frostline.annotation.models import LOST

    card = model.card
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    kept = f"Kept: {model.strategy.name}, fitted on {card['dataset']['cells']:,} cells of {card['dataset']['name']}."
    found = model.calibration
    texts = [card["verdict"], kept, found.certificate.sentence, *filter(None, [found.why_none_unknown]), *card["notes"]]
    if model.reference is None:
        texts.append(LOST)
    lines = [line for text in texts for line in textwrap.wrap(one_line(text), WIDTH)]
    command = f"frostline annotate {shlex.quote(str(typed))} QUERY.h5ad -o OUT.h5ad"
    return [*lines, "", f"model  {folder} ({size:.1f} MB)", f"next   {command}"]


def leaderboard_lines(table: pd.DataFrame, width: int = WIDTH) -> list[str]:
    """Leaderboard as lines of at most so many characters; a name that is too long for that loses its middle."""
    columns = [[name, *map(str, table[name])] for name in COLUMNS if name in table]
    widths = [max(map(len, column)) for column in columns[1:]]
    room = width - sum(widths) - 2 * len(widths)
    names = [columns[0][0], *_shortened([one_line(name) for name in columns[0][1:]], room)]
    first = max(map(_cells, names))
    return [
        "  ".join([name + " " * (first - _cells(name)), *(cell.rjust(n) for cell, n in zip(row, widths, strict=True))])
        for name, *row in zip(names, *columns[1:], strict=True)
    ]


def _cells(text: str) -> int:
    """Columns that a text takes: some characters take two, some none."""
    from rich.cells import cell_len

    return cell_len(text)


def _shortened(names: Sequence[str], room: int) -> list[str]:
    """Names in at most so many columns, each another one."""
    shown: list[str] = []
    for name in names:
        mark = ".."
        short = name
        while _cells(short) > room or short in shown:
            short = _without_middle(name, room, mark)
            mark = f".{len(shown)}."
        shown.append(short)
    return shown


def _without_middle(name: str, room: int, mark: str) -> str:
    head, tail = "", ""
    for left, right in zip(name, reversed(name), strict=True):
        if _cells(head + left + mark + tail) > room:
            break
        head += left
        if _cells(head + mark + right + tail) > room:
            break
        tail = right + tail
    return head + mark + tail
