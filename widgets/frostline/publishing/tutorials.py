"""The tutorials of a book: those its table of contents declares, and what a notebook must have to be one.

A tutorial is declared by its line in `book/_toc.yml`: `published/NAME` is the page of `notebooks/NAME.ipynb`.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import FrostlineError
from frostline.plain_files import expanded
from frostline.publishing.notebooks import notebook_parameters, typed_parameters
from frostline.publishing.states import FOLDER, PASSED, state_of, tutorials_among

PUBLISHED = Path("book") / FOLDER
TOC = Path("book") / "_toc.yml"
NEEDED = ("PROFILE", "OUTPUT_DIR")
"""Parameters without which a notebook cannot be published."""


def declared_pages() -> list[str]:
    """Pages that the book's table of contents lists, as it names them.

    Raises
    ------
    FrostlineError
        There is no table of contents here, or it cannot be read.
    """
    import yaml

    try:
        toc = yaml.safe_load(TOC.read_text(encoding="utf-8"))
    except OSError:
        raise FrostlineError(
            f"there is no {TOC} here, and so no book to publish in: go to the folder of one, or make one with "
            "`frostline init our-studies` and go there. `frostline run NAME` needs no book"
        ) from None
    except yaml.YAMLError as error:
        raise FrostlineError(f"{TOC} cannot be read: {' '.join(str(error).split())}") from error
    return list(_documents(toc))


def declared_tutorials() -> list[str]:
    """Names of the tutorials that the book's table of contents lists, in its order.

    Raises
    ------
    FrostlineError
        As of `declared_pages`.
    """
    return tutorials_among(declared_pages())


def declared_notebooks() -> list[Path]:
    """Source notebooks of the declared tutorials, whether they exist or not.

    Raises
    ------
    FrostlineError
        None is declared.
    """
    names = declared_tutorials()
    if not names:
        raise FrostlineError(f"{TOC} declares no tutorial; add a line such as `- file: {FOLDER}/NAME`")
    return [Path("notebooks") / f"{name}.ipynb" for name in names]


def refuse_undeclared(notebooks: Sequence[Path]) -> None:
    """Refuse notebooks that would have no page.

    Raises
    ------
    FrostlineError
        One is missing in the table of contents.
    """
    known = declared_tutorials()
    for notebook in notebooks:
        if notebook.stem not in known:
            problem = _outside(notebook)
            if problem is not None:
                raise problem
            raise FrostlineError(f"{notebook} would have no page: {_line_to_add(notebook)}")


def _documents(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if key in {"file", "root"} and isinstance(item, str))
        value = list(value.values())
    if isinstance(value, list):
        yield from itertools.chain.from_iterable(map(_documents, value))


@dataclass(frozen=True)
class Publication:
    """One tutorial to be published, with its parameters."""

    notebook: Path
    """Relative to the project's folder."""
    parameters: dict[str, Any]
    """Those that are given, typed."""
    values: dict[str, Any]
    """All of them, defaults included."""

    @property
    def name(self) -> str:
        """Of the tutorial and its page."""
        return self.notebook.stem

    @property
    def is_unchanged(self) -> bool:
        """Whether the published page was made from the same source, parameters, data, code and packages."""
        state = state_of(PUBLISHED, self.name, Path())
        return (
            state.result == PASSED
            and state.manifest is not None
            and state.manifest.parameters == self.values
            and state.manifest.source_notebook == self.notebook.as_posix()
        )


def prepare(notebook: Path, parameters: Mapping[str, Any]) -> Publication:
    """Hold the parameters to the notebook's own, before anything runs.

    Raises
    ------
    FrostlineError
        A parameter is unknown, of another type or an absolute path; the notebook lies outside the project or
        lacks a parameter that a published tutorial needs.
    """
    problem = unfit(notebook)
    if problem is not None:
        raise problem
    typed = typed_parameters(notebook, parameters)
    values = {name: spec.default for name, spec in notebook_parameters(notebook).items()} | typed
    for name, value in typed.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and expanded(each).is_absolute():
                raise FrostlineError(
                    f"parameter {name} names a folder of this machine, {each}, which the page would show; "
                    "give it relative to the current folder"
                )
    return Publication(notebook.resolve().relative_to(Path.cwd().resolve()), typed, values)


def unfit(notebook: Path) -> FrostlineError | None:
    """Say why a notebook can have no page, whatever its parameters; None when it can."""
    try:
        known = notebook_parameters(notebook)
    except FrostlineError as error:
        return error
    for name in NEEDED:
        if name not in known or known[name].kind != "str":
            return FrostlineError(f"{notebook} has no parameter {name}: str, which a published tutorial needs")
    return _outside(notebook)


def _outside(notebook: Path) -> FrostlineError | None:
    here = Path.cwd().resolve()
    if notebook.resolve().is_relative_to(here):
        return None
    return FrostlineError(
        f"{notebook} lies outside {here}, where its page could not link to it: copy it "
        f"(mkdir -p notebooks && cp {shlex.quote(str(notebook))} notebooks/) and {_line_to_add(notebook)}"
    )


def _line_to_add(notebook: Path) -> str:
    page = f"{FOLDER}/{notebook.stem}"
    plain = re.fullmatch(r"[\w/.-]+( [\w/.-]+)*", page)  # what else YAML may read as something other than a text
    return f"add the line `- file: {page if plain else json.dumps(page, ensure_ascii=False)}` to {TOC}"
