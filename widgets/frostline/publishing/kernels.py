"""Kernels that execute notebooks: which Python, over which sockets, from which files, and what they say meanwhile.

Python notebooks run with the very interpreter that frostline runs with, whatever kernel of that name is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.iorw import papermill_io
from papermill.log import logger
from traitlets.config import Config

from frostline import scratch
from frostline.escaping import from_html, one_line
from frostline.publishing.terminal import OnProgress

ENGINE = "frostline"
"""Name of the engine that papermill is given."""
FILES = "frostline://"
"""What paths that papermill is given begin with, see `address`."""
WHOLE = "Progress"
"""What the tooltip of a bar begins with that is of the whole work; those of one part are called after the part."""
PROCESS = Path(__file__).with_name("kernel_process.py")
_STATUS = re.compile(r'<span role="status" aria-live="polite">(.*?)</', re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(\S.*)$", re.MULTILINE)
_OLD_FOLDER = "frostline-????????"
"""Of sockets, of before their names held the process."""


class OwnPython(AsyncKernelManager):
    """Starts kernels of this very interpreter, in which frostline is."""

    @cached_property
    def kernel_spec(self) -> KernelSpec:
        """What starts it, in the place of an installed kernel that may be missing or of another environment."""
        command = [sys.executable, str(PROCESS), "-f", "{connection_file}", "--log-level=50"]
        return KernelSpec(argv=command, display_name="Python 3", language="python", name="python3")


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Tells what the notebook's panels announce, and before the first of them under which heading the work is."""

    def __init__(self, *arguments: Any, on_progress: OnProgress, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._on_progress = on_progress
        self._said = ""
        self._fraction: float | None = None

    def execute_cell(self, cell: Any, cell_index: int, **settings: Any) -> Any:
        """Execute one cell."""
        if cell.cell_type == "markdown" and (found := _HEADING.findall(cell.source)):
            self._fraction = None
            self._tell(found[-1])
        return super().execute_cell(cell, cell_index, **settings)

    def handle_comm_msg(self, outs: Any, msg: Any, cell_index: int) -> None:
        """Note what a widget shows now."""
        super().handle_comm_msg(outs, msg, cell_index)
        state = self.widget_state.get(msg["content"]["comm_id"], {})
        changed = msg["content"]["data"].get("state", {})
        named = state.get("description") or str(state.get("tooltip")).startswith(WHOLE)
        if state.get("_model_name") == "FloatProgressModel" and named:
            self._fraction = state["value"] / state["max"] if state.get("max") else None
            self._tell(self._said)
        elif (found := _STATUS.search(str(changed.get("value", "")))) and (words := from_html(found[1])):
            self._tell(words)

    def _tell(self, words: str) -> None:
        self._said = one_line(words)
        self._on_progress(self._fraction, self._said)


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's own, with the client and the kernels of this module."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **settings: Any) -> Any:
        """Execute a notebook that papermill has prepared."""
        wanted = ("timeout_func", "config", "on_progress")
        options = {name: settings[name] for name in wanted}
        if nb_man.nb.metadata.get("kernelspec", {}).get("language", "python").lower() == "python":
            kernel_name, options["kernel_manager_class"] = "python3", OwnPython
        client = Client(
            nb_man, kernel_name=kernel_name, startup_timeout=settings["start_timeout"], log=logger, **options
        )
        return client.execute(env=settings["environment"])


papermill_engines.register(ENGINE, Engine)


class Files:
    """Reads and writes notebooks where their paths say.

    papermill's own way to a file is to change the current folder, which is that of all threads, to one that it keeps
    for all executions: of two at once, the first one to end gives the other one a folder of earlier, and what that
    writes from then on goes there.
    """

    def read(self, path: str) -> str:
        """Text of a notebook."""
        return Path(path.removeprefix(FILES)).read_text(encoding="utf-8")

    def write(self, text: str, path: str) -> None:
        """Write a notebook's text."""
        Path(path.removeprefix(FILES)).write_text(text, encoding="utf-8")

    def pretty_path(self, path: str) -> str:
        """Path as papermill logs it."""
        return path.removeprefix(FILES)


papermill_io.register(FILES, Files())


def address(path: Path) -> str:
    """What papermill is given for a path; it fills in what stands in braces.

    Examples
    --------
    >>> address(Path("artifacts/mine {1}.ipynb"))
    'frostline://artifacts/mine {{1}}.ipynb'
    """
    return FILES + str(path).replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def sockets() -> Iterator[Config]:
    """Make a folder for what a kernel and its client talk through, and configure them to use it.

    Kernels that start at once never share a port there, and nothing else of this machine can reach them. It is the
    first folder for temporary files in which a socket can be made: its path may be too long for one, or on a file
    system without them. Where there is none, they talk over ports.
    """
    for parent in _temporary_folders():
        with contextlib.ExitStack() as stack:
            try:
                _clear_old_sockets(parent)
                folder = stack.enter_context(scratch.scratch_folder(parent))
                _try_socket(folder / "kernel-99")
            except OSError:
                continue
            yield Config(
                {
                    "KernelManager": {
                        "transport": "ipc",
                        "ip": f"{folder}/kernel",
                        "connection_file": f"{folder}/kernel.json",
                    }
                }
            )
            return
    with scratch.scratch_folder(Path(tempfile.gettempdir())) as folder:
        yield Config({"KernelManager": {"connection_file": f"{folder}/kernel.json"}})


def _temporary_folders() -> list[Path]:
    """Where to try, the user's own choice first."""
    found = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    return list(dict.fromkeys(Path(name) for name in found if name)) if hasattr(socket, "AF_UNIX") else []


def _try_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    path.unlink()


def _clear_old_sockets(parent: Path) -> None:
    """Remove folders of sockets that earlier versions left behind when they were killed."""
    for folder in parent.glob(_OLD_FOLDER):
        with contextlib.suppress(OSError):
            old = time.time() - folder.lstat().st_mtime > 60
            if old and scratch.is_own(folder) and all(_is_dead(path) for path in folder.iterdir()):
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()


def _is_dead(path: Path) -> bool:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def want_of_memory(parameters: Mapping[str, Any]) -> str:
    """Say what a kernel that died most often lacked, and which of a notebook's parameters help.

    Examples
    --------
    >>> want_of_memory({"PROFILE": "full", "SEED": 1})
    'the kernel died, most often for want of memory: take --profile quickstart, or a machine with more memory'
    """
    strategies = parameters.get("STRATEGIES") or [""]
    helps = {
        "--profile quickstart": parameters.get("PROFILE") == "full",
        f"fewer strategies (-p STRATEGIES={strategies[0]})": len(strategies) > 1,
        "fewer cells (a DATASET of a part of them)": "DATASET" in parameters,
        "or a machine with more memory": True,
    }
    return f"the kernel died, most often for want of memory: take {', '.join(k for k, v in helps.items() if v)}"
