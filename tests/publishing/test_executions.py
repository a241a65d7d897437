"""Executions: kernels wherever they run, processes that are ended at work, two that would write one notebook."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import nbformat
import psutil
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from papermill.engines import Engine, papermill_engines

import frostline
from frostline import scratch
from frostline.errors import FrostlineError
from frostline.publishing import executions, kernels

PARAMETERS = 'PROFILE: str = "quickstart"\nOUTPUT_DIR: str = "artifacts/tiny"'
PROGRAM = "from frostline.cli import main; main()"
SLOW = """\
import os, time
open("kernel.tmp", "w").write(str(os.getpid()))
os.rename("kernel.tmp", "kernel")
time.sleep(90)
"""


@pytest.fixture
def tiny(here, write_notebook):
    """Write notebooks/NAME.ipynb with further cells."""

    def write(*cells: str, name: str = "tiny", parameters: str = PARAMETERS) -> Path:
        return write_notebook(Path(f"notebooks/{name}.ipynb"), parameters, *cells)

    return write


@pytest.fixture
def own_temporary_folder(monkeypatch, tmp_path_factory) -> Path:
    """A folder for temporary files, of this process and of those that it starts."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def run(notebook: Path, output: str = "out.ipynb"):
    """Execute a notebook and return what its last cell printed."""
    executions.execute(notebook, Path(output), show_progress=False)
    return nbformat.read(output, 4).cells[-1].outputs[0]["text"].strip()


class InThisProcess(Engine):
    """Executes cells without a kernel, with names of the test, and stops without a word before one that is `stop`."""

    names: ClassVar[dict[str, object]] = {}

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        for index, cell in enumerate(nb_man.nb.cells):
            if cell.source == "stop":
                return
            nb_man.cell_start(cell, index)
            if cell.cell_type == "code":
                exec(cell.source, dict(cls.names))
                cell.execution_count = index
            nb_man.cell_complete(cell, index)


@pytest.fixture
def without_kernel(monkeypatch) -> type[InThisProcess]:
    """Notebooks are executed in this process."""
    monkeypatch.setitem(papermill_engines._engines, kernels.ENGINE, InThisProcess)
    return InThisProcess


# ---- files


def counts_in(notebook: Path) -> list[int]:
    return [cell.execution_count for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]


def test_two_at_once_are_written_where_they_belong_after_two_in_another_folder(tiny, here, monkeypatch, without_kernel):
    """papermill keeps one folder for all executions, and hands the one of earlier to that which ends last."""
    for folder in (here / "earlier", here / "now"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        begun, joined, over = threading.Event(), threading.Event(), threading.Event()
        monkeypatch.setattr(without_kernel, "names", {"begun": begun, "joined": joined, "over": over})
        first = tiny("begun.set()", "assert joined.wait(30)", name="first")
        second = tiny("joined.set()", "assert over.wait(30)", "1 + 1", name="second")
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(executions.execute, first, Path("out/first.ipynb"), show_progress=False)
            assert begun.wait(30)
            two = pool.submit(executions.execute, second, Path("out/second.ipynb"), show_progress=False)
            one.exception()
            over.set()
            assert (one.exception(), two.exception()) == (None, None)
    assert Path.cwd() == here / "now"
    assert counts_in(Path("out/first.ipynb")) == [1, 2, 3]
    assert counts_in(Path("out/second.ipynb")) == [1, 2, 3, 4]
    for folder in ("earlier", "now"):
        assert sorted(path.name for path in (here / folder / "out").iterdir()) == ["first.ipynb", "second.ipynb"]


def test_cell_that_was_not_executed_is_named_and_the_draft_is_kept(tiny, here, without_kernel):
    executions.execute(tiny("1 + 1"), Path("out.ipynb"), show_progress=False)
    before = Path("out.ipynb").read_bytes()
    with pytest.raises(FrostlineError, match=r"with an incomplete notebook: cell 4 was .*\(see out\.failed\.ipynb\)"):
        executions.execute(tiny("1 + 1", "stop", "2 + 2"), Path("out.ipynb"), show_progress=False)
    assert Path("out.ipynb").read_bytes() == before
    assert counts_in(Path("out.failed.ipynb")) == [1, 2, None, None]


def test_a_draft_that_was_cut_short_is_not_kept(tiny, here, without_kernel):
    """As by a full disk: the same command would be refused."""
    executions.execute(tiny("1 + 1"), Path("out.ipynb"), show_progress=False)
    Path("cut.ipynb").write_bytes(Path("out.ipynb").read_bytes()[:-9])
    for name in ("cut", "out"):
        executions._keep(Path(f"{name}.ipynb"), Path(f"{name}.failed.ipynb"))
    assert [path.name for path in here.glob("*.failed.ipynb")] == ["out.failed.ipynb"]


def test_braces_in_a_path_are_of_its_name(tiny, here, without_kernel):
    executions.execute(tiny("1 + 1", name="tiny {a}"), Path("of {mine}/out {0}.ipynb"), show_progress=False)
    assert nbformat.read("of {mine}/out {0}.ipynb", 4).metadata["papermill"]["input_path"] == "tiny {a}.ipynb"


# ---- kernels

PRINT_PYTHON = "import sys, frostline\nprint(sys.executable, frostline.__file__)"


def rename_kernel(notebook: Path, **spec: str) -> Path:
    content = nbformat.read(notebook, 4)
    content.metadata["kernelspec"] = spec
    nbformat.write(content, notebook)
    return notebook


@pytest.mark.parametrize("name", ["python3", "my-env"])
def test_notebook_runs_with_this_python_whatever_kernels_are_installed(tiny, here, monkeypatch, name):
    """One of the same name that belongs to another environment, or none of that name."""
    spec = {"argv": ["/no/such/python", "-f", "{connection_file}"], "display_name": "x", "language": "python"}
    (here / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    (here / "jupyter" / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(here / "jupyter"))
    notebook = rename_kernel(tiny(PRINT_PYTHON), name=name, language="python", display_name="x")
    assert run(notebook) == f"{sys.executable} {frostline.__file__}"


def test_kernel_of_another_language_that_is_missing_is_said_in_one_line():
    said = executions._said(NoSuchKernel("ir"), {}, executions.TIMEOUT)
    assert said == "to start: no kernel 'ir' is installed; jupyter kernelspec list shows those that are"


def test_long_temporary_folder_is_no_hindrance(tiny, own_temporary_folder, monkeypatch):
    """The path of a socket has at most 107 characters."""
    long = own_temporary_folder / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert run(tiny("import tempfile\nprint(tempfile.gettempdir())")) == str(long)
    assert list(long.iterdir()) == []


def test_sockets_are_in_the_temporary_folder_where_that_is_short(own_temporary_folder):
    with kernels.sockets() as config:
        (folder,) = own_temporary_folder.iterdir()
        assert config["KernelManager"] == {
            "transport": "ipc",
            "ip": f"{folder}/kernel",
            "connection_file": f"{folder}/kernel.json",
        }
    assert list(own_temporary_folder.iterdir()) == []


@pytest.mark.usefixtures("quick_kernels")
def test_kernel_is_spoken_to_over_ports_where_no_socket_can_be_made(tiny, own_temporary_folder, monkeypatch):
    def refuse(path):
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(kernels, "_try_socket", refuse)
    assert run(tiny("print(PROFILE)")) == "quickstart"
    assert list(own_temporary_folder.iterdir()) == []


def test_folders_of_sockets_that_earlier_versions_left_are_cleared(own_temporary_folder):
    kept = own_temporary_folder / "frostline-12345678"
    dead, alive = own_temporary_folder / "frostline-abcdefgh", own_temporary_folder / "frostline-alive___"
    for folder in (kept, dead, alive):
        folder.mkdir()
    (kept / "thesis.txt").write_text("years of work")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.bind(str(dead / "kernel-1"))
        two.bind(str(alive / "kernel-1"))
        two.listen()
        one.close()
        for folder in (kept, dead, alive):
            os.utime(folder, (0, 0))
        with kernels.sockets():
            pass
        assert {path.name for path in own_temporary_folder.iterdir()} == {kept.name, alive.name}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"PROFILE": "full", "STRATEGIES": ["head", "lora"]}, r"--profile quickstart, fewer .*STRATEGIES=head\), or a"),
        ({"PROFILE": "quickstart", "DATASET": "mine.h5ad"}, "take fewer cells .*, or a machine with more memory"),
        ({}, "want of memory: take or a machine|want of memory: take a machine with more memory"),
    ],
)
def test_dead_kernel_is_said_with_remedies_that_the_notebook_has(parameters, said):
    assert re.search(said, kernels.want_of_memory(parameters))


# ---- what panels announce


@pytest.mark.usefixtures("quick_kernels")
def test_progress_tells_what_a_panel_announces_and_the_heading_before(tiny):
    cell = (
        "import ipywidgets as widgets\nfrom IPython.display import display\nfrom frostline.panels import ProgressBar\n"
        "bar = ProgressBar('All')\ndisplay(bar)\nbar(0.25, 'lora: epoch 2 of 8 <&>')\n"
        "of_one = widgets.FloatProgress(value=0.5, max=1.0, tooltip='lora: 50%')\nof_one.value = 0.75\n"
        'silent = widgets.HTML(\'<span role="status" aria-live="polite"></span>\')\n'
        "bar(1.0, 'done')"
    )
    heard: list[tuple[float | None, str]] = []
    notebook = tiny(cell)
    executions.execute(notebook, Path("out.ipynb"), on_progress=lambda fraction, words: heard.append((fraction, words)))
    assert heard[0] == (None, "A small tutorial")
    assert (0.25, "lora: epoch 2 of 8 <&>") in heard
    assert heard[-1] == (1.0, "done")
    assert all(words and fraction not in (0.5, 0.75) for fraction, words in heard)


# ---- ended at work


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(file: Path) -> str:
    deadline = time.perf_counter() + 90
    while not file.exists() and time.perf_counter() < deadline:
        time.sleep(0.05)
    return file.read_text()


def ends(pid: int) -> bool:
    deadline = time.perf_counter() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.perf_counter() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.usefixtures("heard_interrupts")
def test_ended_run_takes_its_kernel_along_and_leaves_what_was_there(
    tiny, here, own_temporary_folder, save_artifacts, bytes_of
):
    save_artifacts(Path("artifacts/tiny"))
    nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {}}), "artifacts/slow.ipynb")
    tiny(SLOW, name="slow")
    before = bytes_of(here)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with start("slow") as running:
            kernel = int(wait_for(here / "kernel"))
            running.send_signal(number)
            _, said = running.communicate(timeout=60)
        assert running.returncode == code, said
        assert "Traceback" not in said
        assert ends(kernel)
        (here / "kernel").unlink()
        if number != signal.SIGKILL:
            assert bytes_of(here) == before
            assert list(own_temporary_folder.iterdir()) == []
    assert len(list((here / "artifacts").glob(".frostline-*"))) == 1
    run(tiny("print(1)", name="quick"), "artifacts/quick.ipynb")
    (here / "artifacts" / "quick.ipynb").unlink()
    (here / "notebooks" / "quick.ipynb").unlink()
    assert bytes_of(here) == before
    assert list(own_temporary_folder.iterdir()) == []


def test_notebook_under_work_of_an_earlier_version_is_cleared(tiny, here):
    Path("artifacts").mkdir()
    for name in (f".a.{2**22 + 1}.running.ipynb", f".b.{os.getpid()}.running.ipynb", ".c.running.ipynb"):
        Path("artifacts", name).touch()
    with executions._claimed(Path("artifacts/tiny.ipynb")):
        left = {path.name for path in Path("artifacts").iterdir() if ".frostline-" not in path.name}
    assert left == {f".b.{os.getpid()}.running.ipynb", ".c.running.ipynb"}


@pytest.mark.parametrize("way", ["remove", "another -o", "wait"])
def test_what_another_machine_left_under_work_is_in_the_way_until_the_remedy_is_followed(here, way):
    """Whether its process is gone cannot be seen from here."""
    output = here / "artifacts" / "it's tiny.ipynb"
    output.parent.mkdir()
    with executions._claimed(output) as running:
        name = re.sub(r"(?<=frostline-)[0-9a-f]{8}", "0" * 8, running.name)
    left = output.with_name(name)
    left.touch()
    with (
        pytest.raises(FrostlineError, match=r"wait for it, or give this run .* or -o of its own") as refused,
        _own(output),
    ):
        pass
    if way == "remove":
        Path(str(refused.value).partition("If it is gone, remove ")[2]).unlink()
    elif way == "wait":
        os.utime(left, (0, time.time() - executions.OTHER_MACHINE - 1))  # it has not written for long
    with _own(output.with_name("mine.ipynb") if way == "another -o" else output) as running:
        assert running.is_file()


def _own(output):
    return executions._claimed(output)


# ---- where executed notebooks go


@pytest.mark.parametrize(
    ("folder", "output"),
    [
        ("artifacts/tiny", "artifacts/tiny.ipynb"),
        ("artifacts/tiny/", "artifacts/tiny.ipynb"),
        ("mine", "mine.ipynb"),
        ("runs/seed.7", "runs/seed.7.ipynb"),
        ("/data/of kang", "/data/of kang.ipynb"),
    ],
)
def test_notebook_goes_beside_a_folder_of_its_own(tiny, folder, output):
    assert executions.default_output(tiny(), {"OUTPUT_DIR": folder}) == Path(output)
    assert executions.default_output(tiny(), {}) == Path("artifacts/tiny.ipynb")


def test_notebook_beside_the_current_folder(tiny, here):
    assert executions.default_output(tiny(), {"OUTPUT_DIR": "."}) == here.with_name(f"{here.name}.ipynb")


def test_second_run_of_one_notebook_is_refused_and_others_are_not(tiny, here):
    output = Path("artifacts/B cells + T.ipynb")
    with executions._claimed(output) as running:
        assert scratch.is_abandoned(running) is False
        with pytest.raises(FrostlineError, match=rf"process {os.getpid()} is writing artifacts/B cells \+ T\.ipynb"):
            executions.execute(tiny("print(1)"), output, show_progress=False)
        for other in ("T", "a.B cells + T", "run.T", "T.ipynb"):
            with executions._claimed(Path(f"artifacts/{other}.ipynb")):
                pass
    with executions._claimed(Path("artifacts/b.a.ipynb")), executions._claimed(Path("artifacts/a.ipynb")):
        pass
    with executions._claimed(output):
        pass
    assert list(Path("artifacts").iterdir()) == []


OWN = {
    "text": lambda path: path.write_text("notes"),
    "notebook that was never executed": lambda path: nbformat.write(nbformat.v4.new_notebook(), path),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("name", ["mine.ipynb", "mine.failed.ipynb"])
def test_files_that_no_execution_wrote_are_not_replaced(tiny, here, bytes_of, kind, name):
    notebook = tiny("print(1)")
    OWN[kind](here / name)
    before = bytes_of(here)
    with pytest.raises(FrostlineError, match=f"{name} is no executed notebook, and would be replaced"):
        executions.execute(notebook, Path("mine.ipynb"), show_progress=False)
    assert bytes_of(here) == before
    assert (here / name).exists()
    executions._refuse_foreign(notebook, here / "another.ipynb", here / "another.failed.ipynb")


def test_notebook_in_the_folder_that_its_run_replaces_is_refused_before_anything_runs(tiny, here):
    notebook = tiny("1 / 0")
    for output in (Path("out/x.ipynb"), here / "out" / "deeper" / "x.ipynb"):
        with pytest.raises(FrostlineError, match=r"-o .*x\.ipynb lies in OUTPUT_DIR out, which the run replaces whole"):
            executions.execute(notebook, output, {"OUTPUT_DIR": "out"})
    assert not (here / "out").exists()


def test_place_that_cannot_be_written_is_said_before_anything_runs(tiny, here):
    (here / "taken").write_text("a file")
    for output, said in (("taken/out.ipynb", "cannot be written"), ("out.txt", "ends in .ipynb")):
        with pytest.raises(FrostlineError, match=said):
            executions.execute(tiny("print(1)"), Path(output), show_progress=False)
    with executions._claimed(here / "free" / "out.ipynb") as running:
        assert running.parent == here / "free"


@pytest.mark.usefixtures("quick_kernels")
def test_artifacts_of_another_run_are_no_result(tiny, here, save_artifacts):
    """The notebook says that it began a run, and the folder holds what another one wrote meanwhile."""
    save_artifacts(Path("artifacts/tiny"))
    line = f"run {'0' * 32} of tiny, 2026-01-01 00:00:00 UTC; files go to artifacts/tiny"
    with pytest.raises(FrostlineError, match="artifacts/tiny holds artifacts of another run"):
        executions.execute(tiny(f"print({line!r})"), Path("out.ipynb"), show_progress=False)
    assert [path.name for path in here.glob("out*")] == ["out.failed.ipynb"]
