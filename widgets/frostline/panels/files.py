"""A field for a path: typed, pasted from JupyterLab, or found by looking through the folders."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import traitlets

from frostline.panels.base import at_most, note, status, wide
from frostline.plain_files import expanded

QUOTES = "\"'`\u201c\u201d\u2018\u2019"
IN_JUPYTER = re.compile(r"https?://[^/]+/(?:.*?/)?(?:lab/(?:workspaces/[^/]+/)?tree|doc/tree|files|tree)/([^?#]+)")
"""Addresses that JupyterLab gives its files: its links to share and to download."""
MOST_LISTED = 500
ABOVE = ".."


def typed_path(text: str) -> str:
    """Return the path that somebody means, as files are found from the notebook's folder.

    Blanks and quotes around it are dropped. JupyterLab's *Copy Path* is relative to the folder that JupyterLab was
    started in, which is one above the notebook: what is not found here is looked for there. Its links are read too.

    Parameters
    ----------
    text
        As it was typed or pasted.

    Examples
    --------
    >>> typed_path(' "cells/pancreas.h5ad" ')
    'cells/pancreas.h5ad'
    """
    text = text.strip().strip(QUOTES).strip()
    link = IN_JUPYTER.match(text)
    wanted = urllib.parse.unquote(link.group(1)) if link else text.removeprefix("RTC:")
    return _found_above(wanted) or text


def _found_above(text: str) -> str:
    """Return the path of what is there, seen from here or from a folder above; empty where nothing is."""
    if not text:
        return ""
    try:
        if expanded(text).exists():
            return text
        return next((str(base / text) for base in Path.cwd().parents if (base / text).exists()), "")
    except (OSError, ValueError):  # a name too long, or with a zero byte: whoever reads it will say so
        return ""


def is_h5ad(path: Path) -> bool:
    """Whether a path is offered as a file of cells.

    Examples
    --------
    >>> is_h5ad(Path("no/such.h5ad"))
    False
    """
    return path.suffix == ".h5ad" and path.is_file()


class PathBox(widgets.VBox):  # type: ignore[misc]
    """A field for a path, and a list to find it in.

    Parameters
    ----------
    description, placeholder, tooltip
        Of the field.
    wanted
        What may be chosen in the list; other folders are opened.

    Attributes
    ----------
    value
        The path, as files are found from the notebook's folder. To be observed.

    Examples
    --------
    >>> box = PathBox("File", "folder/cells.h5ad", "Path of an .h5ad file", is_h5ad)
    >>> box.type("  'cells.h5ad' ")
    >>> box.value
    'cells.h5ad'
    """

    value = traitlets.Unicode("")

    def __init__(self, description: str, placeholder: str, tooltip: str, wanted: Callable[[Path], bool]) -> None:
        self._wanted, self._folder = wanted, Path()
        self._text = widgets.Text(
            description=description, placeholder=placeholder, tooltip=tooltip, continuous_update=True,
            layout=at_most(420),
        )  # fmt: skip
        self._fold = widgets.ToggleButton(
            value=False, description="Browse", icon="folder-open", layout=wide(), tooltip="Look through the folders"
        )
        self._list = widgets.Select(
            description="In it", rows=8, layout=at_most(560), tooltip="Folders, and what can be chosen"
        )
        self._open = widgets.Button(description="Open", layout=wide(), tooltip="Choose it, or go into the folder")
        self._where = widgets.HTML()
        self._browser = widgets.VBox([self._where, self._list, widgets.HBox([self._open])])
        self._browser.layout.display = "none"
        self._read_as = widgets.HTML()
        row = widgets.HBox([self._text, self._fold], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self._read_as, self._browser], layout=at_most(560))
        self._text.observe(lambda _: self._take(), "value")
        self._fold.observe(lambda _: self._unfold(), "value")
        self._open.on_click(lambda _: self._go())

    def type(self, text: str) -> None:
        """Put a text into the field, as a person does."""
        self._text.value = text

    def lock(self, *, locked: bool) -> None:
        """Let nothing else be typed or chosen, or anything again."""
        for control in (self._text, self._fold, self._list, self._open):
            control.disabled = locked

    def _take(self) -> None:
        typed = self._text.value.strip()
        path = typed_path(typed)
        self._read_as.value = status(f"Read as {path}") if path != typed else ""
        self.value = path

    def _unfold(self) -> None:
        """Show the folder of what is typed; where there is none, the notebook's."""
        self._browser.layout.display = None if self._fold.value else "none"
        if self._fold.value:
            start = expanded(self.value).parent if self.value else Path()
            self._show(start if start.is_dir() else Path())

    def _show(self, folder: Path) -> None:
        """List a folder: what is above, folders, what can be chosen."""
        try:
            entries = sorted(path for path in folder.resolve().iterdir() if not path.name.startswith("."))
            chosen = [path for path in entries if self._wanted(path)]
            folders = [path for path in entries if path.is_dir() and path not in chosen]
        except OSError as error:
            self._where.value = note(f"{folder.resolve()} cannot be looked at: {error.strerror}", "stale")
            return
        self._folder = folder.resolve()
        options = [("Folder above", ABOVE), *((f"{path.name}/", path.name) for path in folders)]
        options += [(f"{path.name}{_size(path)}", path.name) for path in chosen]
        more = len(options) - MOST_LISTED
        left_out = f"; {more:,} more are not listed, type the path" if more > 0 else ""
        self._where.value = status(f"{self._folder}: {len(chosen)} to choose from{left_out}")
        self._list.options = options[:MOST_LISTED]
        self._list.value = next((path.name for path in (*chosen, *folders)), ABOVE)

    def _go(self) -> None:
        """Choose what is marked in the list, or open it."""
        target = self._folder.parent if self._list.value == ABOVE else self._folder / str(self._list.value)
        if self._list.value == ABOVE or not self._wanted(target):
            self._show(target)
            return
        here = Path.cwd().resolve()
        self.type(str(target.relative_to(here) if target.is_relative_to(here) else target))
        self._fold.value = False


def _size(path: Path) -> str:
    """Size of a file, for a reader; empty for a folder."""
    if path.is_dir():
        return "/"
    size = path.stat().st_size
    return f" ({size / 1e6:,.1f} MB)" if size >= 1e5 else f" ({size / 1e3:,.1f} kB)"
