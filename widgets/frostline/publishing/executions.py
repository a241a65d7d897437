"""Execute a notebook through papermill: under a temporary name, moved into place on success.

What a killed execution left is cleared by the next one. Two never write one notebook at once, and what an execution
answers for is what its own run wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from frostline import scratch
from frostline.artifacts import exports, runs
from frostline.errors import ArtifactError, FrostlineError
from frostline.escaping import for_file_name, one_line
from frostline.hashes import file_sha256
from frostline.publishing.inputs import WRITTEN, inputs_of
from frostline.publishing.notebooks import notebook_parameters, read_notebook, typed_parameters
from frostline.publishing.page_checks import WIDGET_STATE
from frostline.publishing.run_checks import check_cells
from frostline.publishing.terminal import OnProgress, progress

EXECUTED = Path("artifacts")
"""Where executed notebooks go whose OUTPUT_DIR is the notebook's own."""
TIMEOUT = 7 * 24 * 3_600
"""Seconds that a run may take, by default: a week, so that one which hangs comes to an end."""
OTHER_MACHINE = 3_600
"""Seconds after which what a process of another machine has not touched is taken for left behind."""


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
    """Hashes of what else the run read, see `frostline.publishing.inputs`."""
    run: str | None = None
    """Id that the notebook printed, see `frostline.artifacts.runs`; None if it never began a run."""

    @property
    def artifacts_folder(self) -> Path:
        """Where the notebook put its artifacts."""
        return Path(str(self.parameters[WRITTEN]))


def default_output(notebook: Path, parameters: Mapping[str, Any]) -> Path:
    """Where an executed notebook goes: `artifacts/NAME.ipynb`, or beside an OUTPUT_DIR of its own, under its name.

    Parameters
    ----------
    notebook
        Source.
    parameters
        Those that are given, typed.
    """
    declared = notebook_parameters(notebook)[WRITTEN].default if WRITTEN in parameters else None
    if declared is None or Path(str(parameters[WRITTEN])) == Path(str(declared)):
        return EXECUTED / notebook.name
    folder = Path(str(parameters[WRITTEN]))
    if folder.name in ("", ".."):
        folder = folder.resolve()
    return folder.with_name(f"{folder.name}.ipynb")


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    show_progress: bool = True,
    on_progress: OnProgress | None = None,
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
        Whether to say on stderr what the notebook is at.
    on_progress
        Receives how far the work is and what is being done, in the place of a progress bar.
    timeout
        Seconds that the whole run may take; `TIMEOUT` if None.

    Raises
    ------
    FrostlineError
        Before anything runs: an unknown parameter, no place for the output, or a file there that is no executed
        notebook, or another process that is at work on it. Later: a cell that raised, a kernel that did not start
        or died, or the time was over.
    """
    typed = typed_parameters(notebook, parameters or {})
    values = {name: spec.default for name, spec in notebook_parameters(notebook).items()} | typed
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    _refuse_foreign(notebook, output, failed)
    if WRITTEN in values:
        _refuse_inside(output, Path(str(values[WRITTEN])))
    timeout = TIMEOUT if timeout is None else timeout
    with contextlib.ExitStack() as stack:
        if on_progress is None:
            on_progress = stack.enter_context(progress([notebook.stem]))[notebook.stem] if show_progress else _silent
        running = stack.enter_context(_claimed(output))
        if WRITTEN in values:
            scratch.clear(Path(str(values[WRITTEN])).resolve().parent)
        source, inputs = file_sha256(notebook), inputs_of(values, Path())
        started, clock = datetime.now(UTC), time.perf_counter()
        try:
            _run(notebook, running, typed, on_progress, clock + timeout)
            run = _finish(running, output, values)
        except _failures() as error:
            _keep(running, failed)
            where = f" (see {failed})" if failed.is_file() else ""
            raise FrostlineError(f"{notebook.name} failed {_said(error, values, timeout)}{where}") from error
    failed.unlink(missing_ok=True)
    return Execution(notebook, output, values, started, time.perf_counter() - clock, source, inputs, run)


def _silent(_fraction: float | None, _words: str) -> None:
    """Tell nobody."""


def _refuse_foreign(notebook: Path, output: Path, failed: Path) -> None:
    """Refuse to replace what no execution has written."""
    if output.suffix != ".ipynb":
        raise FrostlineError(f"-o {output}: the name of an executed notebook ends in .ipynb")
    for path in (output, failed):
        if path.is_dir() or (path.exists() and not _is_executed(path)):
            raise FrostlineError(f"{path} is no executed notebook, and would be replaced; name another one with -o")
    if output.exists() and output.samefile(notebook):
        raise FrostlineError(f"{output} is the notebook to be executed; name another one with -o")


def _refuse_inside(output: Path, folder: Path) -> None:
    """Refuse an executed notebook in the folder that its run replaces whole."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise FrostlineError(
            f"-o {output} lies in {WRITTEN} {folder}, which the run replaces whole; name a path outside of it with -o, "
            "or leave -o out"
        )


def _is_executed(path: Path) -> bool:
    try:
        return "papermill" in read_notebook(path).metadata
    except FrostlineError:
        return False


@contextlib.contextmanager
def _claimed(output: Path) -> Iterator[Path]:
    """Make the notebook under work, beside its place; only one process at a time has one of a name."""
    ending = f".{for_file_name(output.stem)}.running.ipynb"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch.clear(output.parent)
        _clear_old(output.parent)
        running = scratch.scratch_path(output.parent, ending)
        for attempt in range(4):
            _refuse_other(output, ending, running)
            running.touch()
            try:  # two that begin at once see each other here, and both step back
                _refuse_other(output, ending, running)
                break
            except FrostlineError:
                running.unlink()
                if attempt == 3:
                    raise
                time.sleep(random.uniform(0.1, 0.5))
    except OSError as error:
        raise FrostlineError(f"{output} cannot be written: {error}; name another place with -o") from error
    try:
        yield running
    finally:
        running.unlink(missing_ok=True)


def _refuse_other(output: Path, ending: str, own: Path) -> None:
    for path in output.parent.glob(".frostline-*"):
        if scratch.ending_of(path) == ending and path != own and not scratch.is_abandoned(path):
            with contextlib.suppress(FileNotFoundError):
                since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                if scratch.is_of_this_machine(path) or time.time() - since.timestamp() < OTHER_MACHINE:
                    raise FrostlineError(
                        f"process {path.name.split('-')[2]} is writing {output} (last at {since:%H:%M:%S} UTC); "
                        f"wait for it, or give this run an OUTPUT_DIR or -o of its own. If it is gone, remove {path}"
                    )


def _clear_old(folder: Path) -> None:
    """Remove notebooks under work that killed processes left behind under the names of earlier versions."""
    for path in folder.glob(".*.running.ipynb"):
        found = re.fullmatch(r"\..+\.(\d+)\.running\.ipynb", path.name)
        if found and not psutil.pid_exists(int(found[1])) and scratch.is_own(path):
            path.unlink(missing_ok=True)


def _run(notebook: Path, running: Path, typed: Mapping[str, Any], on_progress: OnProgress, deadline: float) -> None:
    import papermill

    from frostline.publishing import kernels

    with kernels.sockets() as config:
        papermill.execute_notebook(
            kernels.address(notebook),
            kernels.address(running),
            dict(typed),
            engine_name=kernels.ENGINE,
            progress_bar=False,
            timeout_func=lambda _: max(1, round(deadline - time.perf_counter())),
            config=config,
            on_progress=on_progress,
            environment={**os.environ, runs.SOURCE: file_sha256(notebook)},
        )


def _failures() -> tuple[type[Exception], ...]:
    """What a notebook, its kernel or the place of its output can raise."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    return (
        PapermillExecutionError,
        DeadKernelError,
        CellTimeoutError,
        NoSuchKernel,
        RuntimeError,
        OSError,
        FrostlineError,
    )


def _keep(running: Path, failed: Path) -> None:
    """Keep the notebook as far as it came, unless it was cut short, as by a full disk: the next run would refuse it."""
    with contextlib.suppress(OSError):
        if _is_executed(running):
            os.replace(running, failed)


def _said(error: Exception, values: Mapping[str, Any], timeout: float) -> str:
    """What went wrong, in a line."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from frostline.publishing import kernels

    if isinstance(error, PapermillExecutionError):
        return f"in cell {error.exec_count}: {error.ename}: {error.evalue}"
    if isinstance(error, DeadKernelError):
        return f"with {kernels.want_of_memory(values)}"
    if isinstance(error, CellTimeoutError):
        return f"as it timed out: the whole run may take {timeout:g} s; --timeout SECONDS gives it more"
    if isinstance(error, NoSuchKernel):
        return f"to start: no kernel {error.name!r} is installed; jupyter kernelspec list shows those that are"
    said = one_line(str(error).strip().split("\n")[0]) or type(error).__name__
    if isinstance(error, RuntimeError) and "ernel" in said:
        return f"to start its kernel: {said}; try: python -m ipykernel_launcher --version"
    if isinstance(error, OSError):
        return f"with {type(error).__name__}: {said}"
    return f"with {said}"


def _finish(running: Path, output: Path, values: Mapping[str, Any]) -> str | None:
    """Refuse cells that were not executed or failed unnoticed, and artifacts of another run; move into place."""
    import nbformat

    executed = read_notebook(running)
    for problem in check_cells(executed):
        raise FrostlineError(f"an incomplete notebook: {problem}")
    outputs: list[Any] = []
    for model in executed.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {}).values():
        outputs += model["state"].get("outputs", ())  # of Output widgets
    for item in outputs:
        if item["output_type"] == "error":
            raise FrostlineError(f"an error output: {item['ename']}: {item['evalue']}")
    run = runs.run_of(executed)
    if run is not None:
        refuse_other_run(Path(str(values[WRITTEN])), run)
    executed.metadata["papermill"]["output_path"] = output.name
    executed.metadata["papermill"]["input_path"] = Path(executed.metadata["papermill"]["input_path"]).name
    nbformat.write(executed, running)  # type: ignore[no-untyped-call]
    os.replace(running, output)
    return run


def refuse_other_run(folder: Path, run: str | None, copied: Path | None = None) -> None:
    """Refuse artifacts that another run than this one wrote.

    Parameters
    ----------
    folder
        Where the run put its artifacts.
    run
        Id that its notebook printed.
    copied
        The same artifacts, where they are to be looked at instead.

    Raises
    ------
    ArtifactError
        The manifest names another run, or none; or there is no id to hold it to.
    """
    if run is None:
        raise ArtifactError(
            f"the notebook began no run, so that {folder} may be of any: call exports.begin in it, as tutorials do"
        )
    try:
        found = json.loads(((copied or folder) / exports.MANIFEST).read_text(encoding="utf-8")).get("run")
    except (OSError, ValueError):
        return  # the check of the folder says so
    if found != run:
        raise ArtifactError(f"{folder} holds artifacts of another run ({found or 'without an id'}), not of {run}")
