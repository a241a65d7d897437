"""Clients of Dask: what is started and stopped, what a batch system is asked for, what is refused by name."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from types import SimpleNamespace

import dask
import psutil
import pytest
from batch_job import ASKED, SCRIPT
from distributed import Client

from frostline.cluster import connections
from frostline.cluster.connections import Workers, cluster_of, connected, gpu_of, refuse_missing
from frostline.errors import Cancelled, FrostlineError
from frostline.monitor import Monitor


def square(x: int) -> tuple[int, int]:
    return x * x, os.getpid()


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "slurm.yml"
    path.write_text(ASKED, encoding="utf-8")
    return path


@pytest.fixture
def no_jobs(monkeypatch):
    """Nothing is sent to a batch system; says what would have been asked for."""
    numbers = []
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.scale", lambda self, n: numbers.append(n))  # 0 when it is closed
    return numbers


@pytest.mark.slow
def test_processes_of_their_own_do_the_work(client):
    found = client.gather(client.map(square, range(8), pure=False))
    assert [value for value, _ in found] == [0, 1, 4, 9, 16, 25, 36, 49]
    assert os.getpid() not in {pid for _, pid in found}


@pytest.mark.slow
def test_a_running_scheduler_is_used_and_left_running(client):
    address = client.scheduler.address
    with connected(Workers(scheduler=address)) as other:
        assert other.submit(square, 3).result()[0] == 9
    assert client.submit(square, 4).result()[0] == 16


@pytest.mark.slow
def test_a_gpu_is_asked_for_where_workers_declare_one_and_may_be_used(client):
    assert gpu_of(client) == gpu_of(client, "cuda") == {"GPU": 1.0}
    assert gpu_of(client, "cpu") == {}
    assert client.submit(square, 5, resources=gpu_of(client)).result(timeout=20)[0] == 25


@pytest.mark.parametrize("seen", [True, False])
def test_one_process_is_started_where_a_gpu_computes_unless_a_number_is_asked_for(monkeypatch, seen):
    monkeypatch.setattr("torch.cuda.is_available", lambda: seen)
    assert [Workers().suited(device).number for device in ("auto", "cpu")] == [1 if seen else None, None]
    asked = [Workers(number=3), Workers(scheduler="tcp://there:1"), Workers(cluster="slurm")]
    assert [workers.suited("auto") for workers in asked] == asked


@pytest.mark.slow
def test_what_was_started_is_stopped(monkeypatch):
    """Also where the work fails inside, here for workers of another version."""
    monkeypatch.setattr(connections, "__version__", "0.0.1")
    before = set(psutil.Process().children(recursive=True))
    said = r"has frostline .*, and this is 0\.0\.1: install the same"
    with pytest.raises(FrostlineError, match=said), connected(Workers(number=1, memory="1GB")):
        pytest.fail("such workers were accepted")
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=10)
    assert [process.cmdline() for process in alive if "resource_tracker" not in " ".join(process.cmdline())] == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ModuleNotFoundError("No module named 'frostline'"), r"worker b cannot import frostline \(No module named"),
        ("0.0.1", r"worker b has frostline 0\.0\.1, and this is"),
        (OSError("connection reset"), None),  # it was killed just now, and is started again
    ],
)
def test_workers_with_other_code_are_refused_and_those_that_have_ended_are_not(answer, said):
    answers = {"a": connections.__version__, "b": answer}
    client = SimpleNamespace(run=lambda _, *, on_error: answers)
    with nullcontext() if said is None else pytest.raises(FrostlineError, match=said):
        connections._refuse_other_version(client)


@pytest.mark.slow
def test_processes_that_end_before_they_compute_are_an_error_with_a_remedy(tmp_path):
    (tmp_path / "ended.py").write_text("import os\nos._exit(1)\n", encoding="utf-8")
    said = r"1 process\(es\) of 1GB could not be started .*: the same command tries it again.*--memory"
    with (
        dask.config.set({"distributed.worker.preload": [str(tmp_path / "ended.py")]}),
        pytest.raises(FrostlineError, match=said),
    ):
        cluster_of(Workers(number=1, memory="1GB"))


@pytest.mark.slow
def test_processes_that_were_started_do_not_hear_ctrl_c(client):
    """A terminal sends it to all of them; a worker that was just starting printed where it was interrupted."""
    blocked = client.submit(lambda: signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), pure=False)
    assert blocked.result(timeout=20)


@pytest.mark.parametrize("moment", ["whole", "closed"])
def test_a_cluster_is_whole_and_is_closed_when_ctrl_c_comes_meanwhile(monkeypatch, moment):
    """Half of one could not be closed."""
    said = []

    def becomes(what):
        if what == moment:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        said.append(what)

    def started(_):
        becomes("whole")
        return closing(SimpleNamespace(close=lambda: becomes("closed")))

    client = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": {"one": {}}}, run=lambda *_, **__: {})
    monkeypatch.setattr(connections, "cluster_of", started)
    monkeypatch.setattr(connections, "_client", lambda _: nullcontext(client))
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), connected():
            assert moment == "closed"
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert said == ["whole", "closed"]


def test_slurm_is_asked_for_what_the_file_says(asked, no_jobs):
    with cluster_of(Workers(number=3, cluster="slurm", config=asked)) as cluster:
        script = cluster.job_script()
        assert script.replace(cluster.scheduler_address, "ADDRESS") == SCRIPT
    assert no_jobs == [3, 0]


def test_the_file_may_be_laid_out_as_that_of_dask_jobqueue(tmp_path, no_jobs):
    path = tmp_path / "jobqueue.yaml"
    path.write_text("jobqueue: {slurm: {queue: short, cores: 1, memory: 4GB}, pbs: {queue: long}}", encoding="utf-8")
    with cluster_of(Workers(number=1, cluster="slurm", config=path)) as cluster:
        assert "#SBATCH -p short" in cluster.job_script()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read as YAML"),
        ("cores: [", "cannot be read as YAML"),
        ("- cores", "holds no arguments for slurm"),
        ("jobqueue: {pbs: {cores: 1}}", "holds no arguments for slurm"),
        ("queue: short", "slurm cannot be asked for workers with .*slurm.yml: You must specify how much cores"),
        ("{cores: 1, memory: 4GB, colour: red}", "slurm.yml: .*colour"),
    ],
)
def test_files_that_ask_for_nothing_are_refused_by_name(tmp_path, no_jobs, content, said):
    path = tmp_path / "slurm.yml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(FrostlineError, match=said):
        cluster_of(Workers(number=1, cluster="slurm", config=path))
    assert no_jobs == []


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (Workers(memory="much"), "'much' is no amount: write 4GB"),
        (Workers(cluster="slurm"), "--workers 8"),
        (
            Workers(number=1, cluster="slurm", memory="2GB"),
            r"workers of slurm would not heed --memory: leave it out, and say it where jobs are described",
        ),
        (Workers(number=1, cluster="slurm", resources={"GPU": 1}), "would not heed resources"),
        (Workers(number=1, cluster="cloud"), "unknown cluster 'cloud'; known: local, slurm, pbs"),
    ],
)
def test_bad_numbers_and_names_are_refused(workers, said):
    with pytest.raises(FrostlineError, match=said):
        cluster_of(workers)


def test_a_file_for_no_batch_system_is_refused(asked):
    with pytest.raises(FrostlineError, match="name it too, such as --cluster slurm"):
        cluster_of(Workers(config=asked))


@pytest.mark.parametrize("address", ["somewhere", "http://127.0.0.1:1", "tcp://127.0.0.1:9"])
def test_an_address_without_a_scheduler_is_refused_by_name(address, monkeypatch):
    monkeypatch.setattr(connections, "REACH", 0.5)
    with (
        pytest.raises(FrostlineError, match=f"no scheduler of Dask answers at {address!r}"),
        connected(Workers(scheduler=address)),
    ):
        pytest.fail("there is none")
    made = {each.status for each in gc.get_objects() if isinstance(each, Client)}
    assert made <= {
        "closed",
        "running",
    }  # closed by the garbage collector while another one starts, it would wait for ever


def test_a_server_that_speaks_of_something_else_is_refused_in_time(monkeypatch):
    monkeypatch.setattr(connections, "REACH", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        address = "tcp://127.0.0.1:{1}".format(*server.getsockname())
        with (
            pytest.raises(FrostlineError, match=f"no scheduler of Dask answers at {address!r}"),
            connected(Workers(scheduler=address)),
        ):
            pytest.fail("there is none")


def test_a_scheduler_and_a_batch_system_are_one_too_many():
    with (
        pytest.raises(FrostlineError, match="give one of them"),
        connected(Workers(scheduler="tcp://127.0.0.1:9", cluster="slurm")),
    ):
        pytest.fail("which?")


def test_workers_of_a_scheduler_that_runs_are_asked_for_nothing(asked):
    """What is given otherwise had no effect, and nothing said so."""
    given = {"number": 8, "memory": "2GB", "config": asked}
    said = (
        "tcp://127.0.0.1:9 would not heed --workers, --memory, --cluster-config: leave it out, and say it where workers"
    )
    with pytest.raises(FrostlineError, match=said), connected(Workers(scheduler="tcp://127.0.0.1:9", **given)):
        pytest.fail("they were not heeded")


def test_waiting_for_workers_can_be_cancelled(asked, no_jobs):
    """A job may wait in a queue for hours."""
    said, monitor = [], Monitor(lambda *words: said.append(words), lambda: len(said) > 1)
    with pytest.raises(Cancelled), connected(Workers(number=3, cluster="slurm", config=asked), monitor):
        pytest.fail("no worker can have come")
    assert said[0] == (0.0, "waiting for 3 workers of slurm")


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue", "zarr"])
def test_without_the_extra_the_line_that_installs_it_is_said(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FrostlineError, match=rf"needs {package}, not installed.*: pip install 'frostline\[cluster\]'"):
        refuse_missing()


@pytest.mark.slow
def test_batch_systems_are_imported_in_any_thread_and_leave_the_interrupt_alone():
    """Importing dask-jobqueue makes SIGINT an exit without a word, with code 0."""
    code = """
import signal, threading
from frostline.cluster.connections import _batch_systems
said = []
threading.excepthook = said.append
thread = threading.Thread(target=_batch_systems)
signal.signal(signal.SIGINT, signal.default_int_handler)
thread.start()
thread.join()
import dask_jobqueue
print(said, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[] True\n", done.stderr


@pytest.mark.parametrize("number", [0, -2])
def test_no_workers_are_refused_when_they_are_asked_for(number):
    with pytest.raises(FrostlineError, match=f"{number} workers: at least one is needed"):
        Workers(number=number)
