"""Notebooks executed in this process, which takes no kernel and no second start of Python."""

from __future__ import annotations

import contextlib
import io
import threading

import nbformat
from papermill.engines import Engine

ONE_AT_A_TIME = threading.Lock()
"""Two tutorials that are executed at once share this process's output."""


class InThisProcess(Engine):
    """Executes a notebook's cells one after the other, without a kernel."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        names: dict[str, object] = {"__name__": "__main__"}
        for index, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code":
                said = io.StringIO()
                with ONE_AT_A_TIME, contextlib.redirect_stdout(said):
                    exec(compile(cell.source, f"cell {index}", "exec"), names)
                cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=said.getvalue())]
                cell.execution_count = index + 1
            nb_man.cell_complete(cell, index)
        nb_man.nb.metadata["language_info"] = {"name": "python"}
