"""Notebooks with parameters: find one, read and check its parameters, execute it through papermill.

A notebook is executed under a temporary name and moved into place on success.
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frostline.book.inputs import inputs_of, sha256
from frostline.errors import FrostlineError, unknown

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
TIMEOUT = 4 * 3_600
"""Seconds that a run may take, unless told otherwise."""


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
        >>> Parameter("STRATEGIES", "list[str]", [], "").parse("head, lora")
        ['head', 'lora']
        """
        try:
            if self.kind.startswith("list["):
                kind = self.kind.removeprefix("list[").removesuffix("]")
                return [_value(kind, part.strip()) for part in text.split(",") if part.strip()]
            return _value(self.kind, text)
        except (ValueError, KeyError):
            raise FrostlineError(f"parameter {self.name} is of type {self.kind}; got {text!r}") from None


def _value(kind: str, text: str) -> Any:
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    return {"str": str, "int": int, "float": float}[kind](text)


def find_notebook(name: str | Path) -> Path:
    """Find a tutorial by name (in notebooks/) or path.

    Raises
    ------
    FrostlineError
        There is none; lists those that there are.
    """
    for path in (Path(name), Path("notebooks") / f"{name}.ipynb"):
        if path.suffix == ".ipynb" and path.is_file():
            return path
    known = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
    raise unknown("notebook", str(name), known or ["none in notebooks/ here"], remedy="A path to an .ipynb works too")


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook from its cell tagged `parameters`.

    Raises
    ------
    FrostlineError
        The file is no notebook, or has no such cell.
    """
    import papermill

    _read(notebook)
    try:
        declared = papermill.inspect_notebook(str(notebook))
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


def _read(path: Path) -> Any:
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


@dataclass(frozen=True)
class Execution:
    """One notebook that ran to its end."""

    notebook: Path
    """Source."""
    output: Path
    """Executed notebook."""
    parameters: dict[str, Any]
    """All of them, defaults included."""
    started: datetime
    seconds: float
    source_sha256: str
    """Of the source as it was executed."""
    inputs: dict[str, Any]
    """Hashes of what else the run read, see `frostline.book.inputs`."""

    @property
    def artifacts_folder(self) -> Path:
        """Where the notebook put its artifacts."""
        return Path(str(self.parameters["OUTPUT_DIR"]))


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    show_progress: bool | dict[str, Any] = True,
    timeout: float | None = None,
) -> Execution:
    """Execute a notebook through papermill, in the current folder.

    Parameters
    ----------
    notebook
        Source; not changed.
    output
        The executed notebook, replaced only on success. After a failure the notebook as far as it came is
        beside it, under the name `NAME.failed.ipynb`.
    parameters
        Values, or text that the annotations of the parameters cell turn into values.
    show_progress
        Whether to draw a bar, or settings of it, as papermill's `progress_bar`.
    timeout
        Seconds that the whole run may take; `TIMEOUT` if None.

    Raises
    ------
    FrostlineError
        An unknown parameter (before anything runs), a cell that raised, or the time was over.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    typed = typed_parameters(notebook, parameters or {})
    values = {name: spec.default for name, spec in notebook_parameters(notebook).items()} | typed
    output.parent.mkdir(parents=True, exist_ok=True)
    running = output.with_name(f".{output.stem}.{os.getpid()}.running.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    source, inputs = sha256(notebook), inputs_of(values, Path())
    started, clock = datetime.now(UTC), time.perf_counter()
    deadline = clock + (TIMEOUT if timeout is None else timeout)
    try:
        with tempfile.TemporaryDirectory(prefix="frostline-", ignore_cleanup_errors=True) as sockets:
            papermill.execute_notebook(
                str(notebook),
                str(running),
                typed,
                progress_bar=show_progress,
                timeout_func=lambda _: max(1, round(deadline - time.perf_counter())),
                config=_kernel_config(sockets),
            )
        _finish(running, output)
    except (papermill.exceptions.PapermillExecutionError, DeadKernelError, CellTimeoutError, FrostlineError) as error:
        os.replace(running, failed)
        raise FrostlineError(f"{notebook.name} failed {_said(error)} (see {failed})") from error
    finally:
        running.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    return Execution(notebook, output, values, started, time.perf_counter() - clock, source, inputs)


def _kernel_config(sockets: str) -> Any:
    """Talk to the kernel over sockets in a folder of its own, so that kernels started at once never share a port."""
    from traitlets.config import Config

    if sys.platform == "win32":
        return Config()
    return Config({"KernelManager": {"transport": "ipc", "ip": str(Path(sockets) / "kernel")}})


def _said(error: Exception) -> str:
    """What went wrong, in a line."""
    if hasattr(error, "ename"):
        return f"in cell {error.exec_count}: {error.ename}: {error.evalue}"  # type: ignore[attr-defined]
    return "with " + " ".join(str(error).split("\n")[0].split())


def _finish(running: Path, output: Path) -> None:
    """Refuse error outputs that papermill let pass, name the real output, move into place."""
    import nbformat

    executed = _read(running)
    outputs = [item for cell in executed.cells for item in cell.get("outputs", ())]
    for model in executed.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        outputs += model["state"].get("outputs", ())  # of Output widgets
    for item in outputs:
        if item["output_type"] == "error":
            raise FrostlineError(f"an error output: {item['ename']}: {item['evalue']}")
    executed.metadata["papermill"]["output_path"] = output.name
    executed.metadata["papermill"]["input_path"] = Path(executed.metadata["papermill"]["input_path"]).name
    nbformat.write(executed, running)  # type: ignore[no-untyped-call]
    os.replace(running, output)
