"""Notebooks with parameters: find one, read and check its parameters.

The tutorials come with the package; a notebook of the same name in `notebooks/` of the current folder goes first.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import FrostlineError, unknown
from frostline.lists import list_of
from frostline.plain_files import expanded, is_system_file
from frostline.publishing.inputs import TUTORIALS

FOLDER = Path("notebooks")
"""Of the current folder, for notebooks that are given by name."""


@dataclass(frozen=True)
class Parameter:
    """One variable of a notebook's parameters cell."""

    name: str
    kind: str
    """str, int, float, bool, or list of one of these, such as list[str]."""
    default: Any
    help: str

    def parse(self, text: str) -> Any:
        """Turn text of the command line into a value of the annotated type.

        Raises
        ------
        FrostlineError
            The text is no such value.

        Examples
        --------
        >>> Parameter("SEED", "int", 42, "").parse("7")
        7
        >>> Parameter("STRATEGIES", "list[str]", [], "").parse('["head", "lora"]')
        ['head', 'lora']
        """
        try:
            if self.kind.startswith("list["):
                kind = self.kind.removeprefix("list[").removesuffix("]")
                return [_value(kind, part) for part in list_of(text)]
            return _value(self.kind, text)
        except (ValueError, KeyError):
            raise FrostlineError(f"parameter {self.name} is of type {self.kind}; got {text!r}") from None


def _value(kind: str, text: str) -> Any:
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    return {"str": str, "int": int, "float": float}[kind](text)


def known_notebooks() -> dict[str, Path]:
    """Notebooks that can be given by name: those of `notebooks/` here, then those that come with frostline.

    Examples
    --------
    >>> "cell_type_annotation" in known_notebooks()
    True
    """
    paths = [path for folder in (FOLDER, packaged_folder()) for path in sorted(folder.glob("*.ipynb"))]
    paths = [path for path in paths if not is_system_file(path)]
    return {path.stem: path for path in reversed(paths)}


def packaged_folder() -> Path:
    """Where the tutorials are that come with frostline: in the package, or beside it in a clone of the repository."""
    clone = TUTORIALS.parents[3] / FOLDER
    return clone if clone.is_dir() and not TUTORIALS.is_dir() else TUTORIALS


def find_notebook(name: str | Path) -> Path:
    """Find a notebook by its path or name.

    Raises
    ------
    FrostlineError
        There is none; lists those that there are.

    Examples
    --------
    >>> find_notebook("cell_type_annotation").name
    'cell_type_annotation.ipynb'
    """
    known = known_notebooks()
    path = expanded(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    if str(name) not in known:
        raise unknown("notebook", str(name), sorted(known), remedy="A path to an .ipynb works too")
    return known[str(name)]


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook from its cell tagged `parameters`.

    Raises
    ------
    FrostlineError
        The file is no notebook, or has no such cell.
    """
    import papermill

    content = read_notebook(notebook)  # papermill changes the current folder of all threads to read a path
    try:
        declared = papermill.inspect_notebook(content)
    except (ValueError, KeyError) as error:  # no kernel is named, or a language that papermill does not read
        raise FrostlineError(f"the parameters of {notebook} cannot be read: {error}") from error
    found = {name: _parameter(name, spec) for name, spec in declared.items()}
    if not found:
        raise FrostlineError(f"{notebook} has no cell tagged 'parameters' with assignments")
    return found


def _parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    default, kind = _literal(spec["default"]), spec["inferred_type_name"]
    if kind in (None, "", "None"):  # no annotation: the type of the default
        first = next(iter(default), "") if isinstance(default, list) else None
        kind = type(default).__name__ if first is None else f"list[{type(first).__name__}]"
    return Parameter(name, kind, default, (spec["help"] or "").strip())


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def read_notebook(path: Path) -> Any:
    """Read a notebook, whatever its version.

    Raises
    ------
    FrostlineError
        It cannot be read.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except Exception as error:  # nbformat, json and validation have errors of their own
        raise FrostlineError(f"{path} cannot be read as a notebook: {error}") from error


def typed_parameters(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Hold parameters to a notebook's own; text is parsed by the annotated type.

    Raises
    ------
    FrostlineError
        A name is unknown (papermill itself would only log that), or text is no value of the type.
    """
    known = notebook_parameters(notebook)
    for name in given:
        if name not in known:
            raise unknown("parameter", name, known, remedy=f"They are declared in {notebook}")
    return {name: known[name].parse(value) if isinstance(value, str) else value for name, value in given.items()}
