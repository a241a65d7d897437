"""Notebooks executed in this process, which takes no kernel and no second start of Python."""

from __future__ import annotations

import ast
import contextlib
import io
import threading
from typing import ClassVar
from unittest import mock

import nbformat
from IPython.core.formatters import DisplayFormatter
from papermill.engines import Engine

ONE_AT_A_TIME = threading.Lock()
"""Two tutorials that are executed at once share this process's output."""


class InThisProcess(Engine):
    """Executes a notebook's cells one after the other, without a kernel; what they print is their output."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        names: dict[str, object] = {"__name__": "__main__"}
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code":
                with ONE_AT_A_TIME:
                    cell.outputs = cls.outputs_of(cell.source, f"cell {index}", names)
                cell.execution_count = index + 1
            nb_man.cell_complete(cell, index)
        nb_man.nb.metadata["language_info"] = {"name": "python"}

    @classmethod
    def outputs_of(cls, source: str, name: str, names: dict[str, object]) -> list[nbformat.NotebookNode]:
        """Execute a cell."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(source, name, "exec"), names)
        return [nbformat.v4.new_output("stream", name="stdout", text=said.getvalue())]


class WithPictures(InThisProcess):
    """Keeps what cells display too, in the formats that a kernel would send, and what they write to stderr.

    What panels change later on is not followed.
    """

    shown: ClassVar[list[nbformat.NotebookNode]] = []
    """By the cell that is being executed: notebooks import `display` in their first cell."""

    @classmethod
    def display(cls, *values: object) -> None:
        """In the place of IPython's."""
        for value in values:
            data, metadata = DisplayFormatter().format(value)
            cls.shown.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata))

    @classmethod
    def outputs_of(cls, source: str, name: str, names: dict[str, object]) -> list[nbformat.NotebookNode]:
        """Execute a cell."""
        cls.shown.clear()
        body, last = ast.parse(source).body, None
        if body and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            last = compile(ast.Expression(body.pop().value), name, "eval")
        said, warned = io.StringIO(), io.StringIO()
        with (
            mock.patch("IPython.display.display", cls.display),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(warned),
        ):
            exec(compile(ast.Module(body, []), name, "exec"), names)
            value = None if last is None else eval(last, names)
            if value is not None:
                cls.display(value)
        streams = [("stdout", said.getvalue()), ("stderr", warned.getvalue())]
        return [nbformat.v4.new_output("stream", name=kind, text=text) for kind, text in streams if text] + cls.shown
