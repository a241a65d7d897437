"""papermill run -> checked artifacts -> page in the book. Knows no panel and no strategy.

A page is placed only when the artifacts of its run pass their check.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frostline import scratch
from frostline.artifacts import checking, exports
from frostline.errors import ArtifactError, FrostlineError
from frostline.hashes import file_sha256
from frostline.plain_files import entries
from frostline.publishing.executions import Execution, default_output, execute, refuse_other_run
from frostline.publishing.notebooks import read_notebook
from frostline.publishing.run_checks import check_cells
from frostline.publishing.run_manifests import seal
from frostline.publishing.states import ALTERED, RELEASE, State, refusal, states_of, write_failure
from frostline.publishing.terminal import OnProgress, progress
from frostline.publishing.tutorials import PUBLISHED, Publication, declared_tutorials, prepare, unfit

SITE = Path("build") / "site"
MODE = "static executed tutorial"
MOST_JOBS = 2
UNCHANGED = "same source, parameters, data, code and packages; --force runs it again"


@dataclass(frozen=True)
class Outcome:
    """What became of one tutorial."""

    name: str
    result: str
    """published, unchanged or failed."""
    seconds: float = 0.0
    said: str = ""
    """Why it failed and where the notebook is, or why it did not run."""
    output: Path | None = None
    """Executed notebook; None after a failure."""
    artifacts: Path | None = None
    """Folder of the artifacts; None after a failure."""


def publish_all(
    notebooks: Sequence[Path],
    parameters: Mapping[str, Any],
    *,
    force: bool = False,
    jobs: int = MOST_JOBS,
    timeout: float | None = None,
    show_progress: bool = True,
) -> list[Outcome]:
    """Execute tutorials and place their pages; a failure does not keep the others from theirs.

    Parameters
    ----------
    notebooks
        Sources; one that cannot be read is a failure like any other.
    parameters
        For every one of them; text is turned into values by the annotations of the parameters cell.
    force
        Also run what is unchanged.
    jobs
        How many run at once, two at most.
    timeout
        Seconds that each may take.

    Returns
    -------
    list
        One outcome each, in the order of `notebooks`.

    Raises
    ------
    FrostlineError
        A parameter is wrong, or two tutorials would write the same folder; nothing has run.
    """
    prepared = [_prepare(notebook, parameters) for notebook in notebooks]
    fit = [item for item in prepared if isinstance(item, Publication)]
    for first, second in itertools.combinations(fit, 2):
        folders = {Path(item.values["OUTPUT_DIR"]).resolve() for item in (first, second)}
        if first.name == second.name or len(folders) == 1:
            raise FrostlineError(
                f"{first.notebook} and {second.notebook} would both write {first.values['OUTPUT_DIR']}; "
                "give them names and an OUTPUT_DIR of their own"
            )
    workers = max(1, min(jobs, MOST_JOBS, len(fit)))
    names = [item.name for item in fit] if show_progress else []
    stopped = threading.Event()
    with _shared_cores(workers), progress(names) as lines, ThreadPoolExecutor(workers) as pool:
        running = [
            item
            if isinstance(item, Outcome)
            else pool.submit(_publish_one, item, force, timeout, lines.get(item.name, _silent), stopped)
            for item in prepared
        ]
        try:
            return [item if isinstance(item, Outcome) else item.result() for item in running]
        except BaseException:
            stopped.set()
            _stop([item for item in running if isinstance(item, Future)])
            raise


def _silent(_fraction: float | None, _words: str) -> None:
    """Tell nobody."""


def _stop(running: Sequence[Future[Outcome]]) -> None:
    """End what this process has started, since a kernel does not hear of an interrupt by itself."""
    import psutil

    for future in running:
        future.cancel()
    while wait(running, timeout=0.2).not_done:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()


@contextmanager
def _shared_cores(workers: int) -> Iterator[None]:
    """Give each of several kernels its share of the cores: threads of two that want all of them wait for each other."""
    names = [name for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name not in os.environ]
    if workers > 1:
        os.environ.update(dict.fromkeys(names, str(max(1, (os.cpu_count() or 1) // workers))))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _prepare(notebook: Path, parameters: Mapping[str, Any]) -> Publication | Outcome:
    """Prepare one of several; a notebook that is broken fails alone, a wrong parameter stops them all."""
    problem = unfit(notebook)
    return prepare(notebook, parameters) if problem is None else _failed(notebook.stem, problem, 0.0)


def _publish_one(
    item: Publication, force: bool, timeout: float | None, on_progress: OnProgress, stopped: threading.Event
) -> Outcome:
    output, folder = default_output(item.notebook, item.parameters), Path(item.values["OUTPUT_DIR"])
    if not force and item.is_unchanged:
        on_progress(1.0, "unchanged")
        kept = PUBLISHED / f"{item.name}.ipynb"  # another run may have put other results where this one wrote
        return Outcome(item.name, "unchanged", said=UNCHANGED, output=kept, artifacts=PUBLISHED / item.name)
    from jupyter_core.utils import ensure_event_loop

    clock, loop = time.perf_counter(), ensure_event_loop()
    try:
        done = execute(item.notebook, output, item.parameters, on_progress=on_progress, timeout=timeout)
        place(done)
    except Exception as error:  # one tutorial's failure, of whatever kind, must not take the others along
        if stopped.is_set():  # it did not fail by itself
            raise
        on_progress(1.0, "failed")
        return _failed(item.name, error, time.perf_counter() - clock)
    finally:
        loop.close()  # it is this thread's own, and would stay open when the thread ends
    on_progress(1.0, "published")
    return Outcome(item.name, "published", done.seconds, output=output, artifacts=folder)


def _failed(name: str, error: Exception, seconds: float) -> Outcome:
    said = str(error) if isinstance(error, FrostlineError) else f"{type(error).__name__}: {error}"
    write_failure(PUBLISHED, name, said, Path())
    return Outcome(name, "failed", seconds, said)


def publish(
    notebook: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    output: Path,
    show_progress: bool = True,
    timeout: float | None = None,
) -> Execution:
    """Execute a notebook, check its artifacts, and place the page under book/published.

    Raises
    ------
    FrostlineError
        The notebook failed, or a parameter is an absolute path.
    ArtifactError
        The artifacts fail their check; whatever was published before stays.
    """
    item = prepare(notebook, parameters or {})
    execution = execute(item.notebook, output, item.parameters, show_progress=show_progress, timeout=timeout)
    place(execution)
    return execution


def place(execution: Execution) -> None:
    """Put an executed notebook, its run manifest and its artifacts into the book.

    Raises
    ------
    FrostlineError
        A cell of the notebook was not executed, or holds an error.
    ArtifactError
        The artifacts fail their check, or are not of this run.
    """
    folder, name = execution.artifacts_folder, execution.notebook.stem
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: {checking.check(folder)}; nothing was published")
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    _clear_old()
    with scratch.scratch_folder(PUBLISHED) as staging:
        shutil.copytree(folder, staging / name)
        # looked at where nothing else writes
        result = checking.check(staging / name)
        if not result.passed:
            raise ArtifactError(f"{folder} {result}; nothing was published (see {execution.output})")
        refuse_other_run(folder, execution.run, staging / name)
        shutil.copyfile(execution.output, staging / f"{name}.ipynb")
        for problem in check_cells(read_notebook(staging / f"{name}.ipynb")):
            raise FrostlineError(f"{execution.output}: {problem}; nothing was published")
        manifest = json.loads((staging / name / exports.MANIFEST).read_text(encoding="utf-8"))
        content = _run_manifest(execution, result, manifest, staging)
        (staging / f"{name}.run.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if (PUBLISHED / name).exists():
            os.replace(PUBLISHED / name, staging / "earlier")
        for item in (name, f"{name}.ipynb", f"{name}.run.json"):
            os.replace(staging / item, PUBLISHED / item)
        (PUBLISHED / f"{name}.failed.json").unlink(missing_ok=True)


def _clear_old() -> None:
    """Remove folders that killed processes of earlier versions left behind; placing takes seconds."""
    for path in PUBLISHED.glob(".placing-*"):
        if time.time() - path.stat().st_mtime > 3_600 and scratch.is_own(path):
            shutil.rmtree(path, ignore_errors=True)


def _run_manifest(
    execution: Execution, result: checking.CheckResult, manifest: Mapping[str, Any], staging: Path
) -> dict[str, Any]:
    """What the status box of the page says, and the hashes that hold the page to it."""
    name = execution.notebook.stem
    files = {file.name: file_sha256(file) for file in entries(staging / name)}
    content = {
        "tutorial": name,
        "source_notebook": execution.notebook.as_posix(),
        "source_sha256": execution.source_sha256,
        "executed_sha256": file_sha256(staging / f"{name}.ipynb"),
        "mode": MODE,
        "profile": execution.parameters["PROFILE"],
        "parameters": execution.parameters,
        "dataset": manifest["dataset"]["name"],
        "checkpoint": ", ".join(manifest["checkpoints"]) or "none",
        "seed": manifest["seed"],
        "started": execution.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(execution.seconds, 1),
        "artifact_check": {"result": "passed", "files": result.files, "numbers": result.numbers},
        "artifacts": files,
        "versions": manifest["versions"],
        "inputs": execution.inputs,
    }
    return content | {"manifest_sha256": seal(content)}


def recomputed_states() -> list[State]:
    """Where every tutorial of the book stands, the artifacts of each opened and recomputed again.

    Raises
    ------
    FrostlineError
        There is no table of contents here.
    """
    return [_recomputed(state) for state in states_of(PUBLISHED, declared_tutorials(), Path())]


def _recomputed(state: State) -> State:
    if not state.manifest:
        return state
    result, said = checking.check(PUBLISHED / state.name), state.manifest.artifact_check
    problems = [f"{state.name}/{problem}" for problem in result.problems]
    if not problems and (result.files, result.numbers) != (said.files, said.numbers):
        problems = [f"{state.name}.run.json: says {said.files} files and {said.numbers} numbers; found {result}"]
    return State(state.name, ALTERED, tuple(problems)) if problems else state


def build_book(*, release: bool = False) -> Path:
    """Build the book with all warnings as errors.

    Parameters
    ----------
    release
        Refuse while one page is stale, failed or not run; otherwise such pages are marked as drafts.

    Returns
    -------
    Path
        The site's folder.

    Raises
    ------
    FrostlineError
        jupyter-book is not installed, there is no book or no published tutorial here, a page cannot be
        published, or the build failed.
    """
    known = declared_tutorials()
    if not list(PUBLISHED.glob("*.run.json")):
        raise FrostlineError(f"{PUBLISHED} holds no executed tutorial; run: frostline publish {shlex.join(known[:1])}")
    program = Path(sys.executable).with_name("jupyter-book")
    if not program.is_file():
        raise FrostlineError("jupyter-book is not installed; pip install 'frostline[book]'")
    refused = refusal(recomputed_states(), release=release)
    if refused:
        raise FrostlineError(refused)
    # A page of an earlier build whose tutorial is gone must not stay on the site.
    shutil.rmtree(SITE, ignore_errors=True)
    options = ["--config", "_config.yml", "--path-output", str(SITE), "-W", "-n", "--keep-going", "--all"]
    environment = {**os.environ, RELEASE: "1" if release else "0"}
    outcome = subprocess.run(
        [program, "build", "book", *options], capture_output=True, text=True, check=False, env=environment
    )
    if outcome.returncode:
        raise FrostlineError("the book was not built:\n" + _last_lines(outcome.stdout + outcome.stderr))
    return SITE / "_build" / "html"


def _last_lines(text: str, n: int = 30) -> str:
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-n:])
