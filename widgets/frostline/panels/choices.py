"""A list of what there is to choose from: what was given, what has a name, what the notebook made, or a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from frostline.cells.catalogue import DATASETS
from frostline.cells.datasets import Dataset
from frostline.cells.previews import anndatas, path_problem
from frostline.panels.base import at_most, status
from frostline.panels.files import PathBox, is_h5ad
from frostline.plain_files import expanded

NOTHING, GIVEN, PATH = "nothing", "given", "path"


@dataclass(frozen=True)
class Offer:
    """What may be chosen."""

    name: str
    """What the list is called."""
    tooltip: str
    made: Callable[[dict[str, Any]], Mapping[str, str]]
    """From a notebook's variables to those of this kind, each with the text that the list shows."""
    given: Callable[[Any], str]
    """What the list calls an object that the panel was given."""
    path: tuple[str, str, str, str]
    """Text in the list for a path, name of its field, an example, tooltip."""
    problem: Callable[[str], str]
    """What is wrong with a path; empty when it may be chosen."""
    wanted: Callable[[Path], bool]
    """What may be chosen in the list of folders and files."""
    registered: tuple[str, ...] = ()


def offer_of_cells(name: str, tooltip: str, of_path: str) -> Offer:
    """AnnDatas of a notebook, registered data sets, and files.

    Parameters
    ----------
    name, tooltip
        Of the list.
    of_path
        Tooltip of the field for a file.
    """
    return Offer(
        name,
        tooltip,
        lambda names: {key: f"{key} ({each.n_obs:,} x {each.n_vars:,})" for key, each in anndatas(names).items()},
        lambda given: f"{given.name} (given)" if isinstance(given, Dataset) else "the AnnData that was given",
        ("A file (.h5ad) ...", "File", "folder/cells.h5ad", of_path),
        path_problem,
        is_h5ad,
        tuple(DATASETS),
    )


class Choice(widgets.VBox):  # type: ignore[misc]
    """One of several things, or a path.

    Parameters
    ----------
    offer
        What may be chosen.
    given
        What is chosen at first: an object, a registered name or a path.
    names
        A notebook's variables; None for those of the running notebook.
    changed
        Called when something else is chosen.
    """

    def __init__(self, offer: Offer, given: Any, names: Mapping[str, Any] | None, changed: Callable[[], None]) -> None:
        self._offer, self._given, self._names, self._changed = offer, given, names, changed
        self._objects: dict[str, Any] = {}
        self._quiet = False
        self._list = widgets.Dropdown(description=offer.name, tooltip=offer.tooltip, layout=at_most(420))
        self._look = widgets.Button(
            description="Look again", tooltip=f"Look for what the notebook has made meanwhile ({offer.name.lower()})",
            layout=widgets.Layout(width="auto"),
        )  # fmt: skip
        _, field, example, tooltip = offer.path
        self._path = PathBox(field, example, tooltip, offer.wanted)
        self._hint = widgets.HTML()
        row = widgets.HBox([self._list, self._look, self._path], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self._hint])
        self._refresh()
        self._list.observe(lambda _: self._tell(), "value")
        self._path.observe(lambda _: self._tell(), "value")
        self._look.on_click(lambda _: self._refresh())

    @property
    def problem(self) -> str:
        """Why nothing is chosen yet; empty when something is."""
        if self._list.value == NOTHING:
            return f"Choose from the list {self._offer.name}."
        return self._offer.problem(self._path.value) if self.is_path else ""

    @property
    def value(self) -> Any:
        """What is chosen; None when nothing is."""
        if self.problem:
            return None
        return expanded(self._path.value) if self.is_path else self._objects[self._list.value]

    @property
    def said(self) -> str:
        """What is chosen, in a few words."""
        kind, _, name = str(self._list.value).partition(" ")
        if kind == PATH:
            return str(self._path.value)
        return self._offer.given(self._given) if kind == GIVEN else name

    @property
    def is_path(self) -> bool:
        """Whether a path is to be typed."""
        return bool(self._list.value == PATH)

    @property
    def variable(self) -> str | None:
        """Name of the notebook's variable that is chosen; None of what has another name."""
        kind, _, name = str(self._list.value).partition(" ")
        return name if kind == "notebook" else None

    def lock(self, *, locked: bool) -> None:
        """Let nothing else be chosen, or anything again."""
        self._list.disabled = self._look.disabled = locked
        self._path.lock(locked=locked)

    def _tell(self) -> None:
        if self._quiet:
            return
        self._show_path()
        self._changed()

    def _show_path(self) -> None:
        self._path.layout.display = None if self.is_path else "none"
        problem = self._offer.problem(self._path.value) if self.is_path else ""
        self._hint.value = status(problem) if problem else ""

    def _refresh(self) -> None:
        """Fill the list; what was chosen stays chosen while it is there."""
        names = self._names if self._names is not None else notebook_names()
        offer, given, before = self._offer, self._given, self._list.value
        is_object = given is not None and not isinstance(given, str | Path)
        options, objects = [("Choose ...", NOTHING)], {}
        if is_object:
            options.append((offer.given(given), GIVEN))
            objects[GIVEN] = given
        for name in offer.registered:
            options.append((name, f"registered {name}"))
            objects[f"registered {name}"] = name
        for name, text in offer.made(dict(names)).items():
            if names[name] is not given:
                options.append((text, f"notebook {name}"))
                objects[f"notebook {name}"] = names[name]
        options.append((offer.path[0], PATH))
        same = before in objects and before in self._objects and objects[before] is self._objects[before]
        self._quiet, self._objects = True, objects
        self._list.options = options
        if before is None:
            self._list.value = self._first(is_object)
        else:
            self._list.value = before if before in [value for _, value in options] else NOTHING
        self._quiet = False
        self._show_path()
        if before is not None and not same and before not in (NOTHING, PATH):
            self._changed()

    def _first(self, is_object: bool) -> str:
        """What is chosen at first."""
        if self._given is None:
            return NOTHING
        if is_object:
            return GIVEN
        if str(self._given) in self._offer.registered and not isinstance(self._given, Path):
            return f"registered {self._given}"
        self._path.type(str(self._given))
        return PATH


def notebook_names() -> Mapping[str, Any]:
    """Variables of the running notebook; none outside."""
    from IPython import get_ipython

    shell = get_ipython()
    return {} if shell is None else shell.user_ns
