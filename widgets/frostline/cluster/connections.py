"""Dask clients: of processes on this machine, of a scheduler that runs already, or of jobs of a batch system."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline import __version__
from frostline.errors import FrostlineError, unknown
from frostline.monitor import Monitor
from frostline.plain_files import expanded

if TYPE_CHECKING:
    from distributed import Client

EXTRA = "pip install 'frostline[cluster]'"
SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
}
"""Batch systems and the classes of dask-jobqueue for them."""
MEMORY = "4GB"
"""Limit of a process on this machine, where none is asked for."""
REACH = 10.0
"""Seconds to reach a scheduler."""
LOOK = 0.1  # seconds between two looks at what has arrived

# A worker that nears its limit is ended and started again: what it holds is small and its results are on disk. Paused,
# it could wait for ever for memory that torch and the encoder keep.
_MEMORY = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}


@dataclass(frozen=True)
class Workers:
    """Which workers do the work.

    Examples
    --------
    >>> Workers(number=2, memory="2GB").where
    '2 processes on this machine'
    """

    number: int | None = None
    """How many, which a batch system is asked for; if None one a core of this machine, or one if its GPU computes."""
    memory: str | None = None
    """Limit of each on this machine, 4GB if None; one that nears it is ended and started again."""
    scheduler: str | None = None
    """Address of a scheduler that runs already, such as tcp://10.0.0.1:8786."""
    cluster: str = "local"
    """local, or one of `SYSTEMS`."""
    config: Path | None = None
    """YAML file with the arguments of that class of dask-jobqueue; its own configuration where there is none."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What each worker on this machine declares, such as GPU: 1."""

    def __post_init__(self) -> None:
        if self.number is not None and self.number < 1:
            raise FrostlineError(f"{self.number} workers: at least one is needed")

    @property
    def where(self) -> str:
        """In words."""
        if self.scheduler is not None:
            return f"the workers of {self.scheduler}"
        if self.cluster != "local":
            return f"{self.number} workers of {self.cluster}"
        return f"{self.number or cores()} processes on this machine"

    def suited(self, device: str) -> Workers:
        """One process where a GPU of this machine computes and no number is asked for: several would share its memory.

        Parameters
        ----------
        device
            cpu, cuda, mps or auto.

        Examples
        --------
        >>> Workers().suited("cpu").where == Workers().where
        True
        """
        if device == "cpu" or self.number is not None or self.scheduler is not None or self.cluster != "local":
            return self
        from frostline.encoder.devices import device_of

        return self if device_of(device).type == "cpu" else replace(self, number=1)


@contextmanager
def connected(workers: Workers | None = None, monitor: Monitor | None = None) -> Iterator[Client]:
    """Give a client of Dask with at least one worker, and close what was opened for it.

    A scheduler that ran already goes on; a cluster that was started is stopped. A script that calls this has to guard
    its own work with ``if __name__ == "__main__":``, since each process reads it again.

    Parameters
    ----------
    workers
        Which; processes on this machine if None.
    monitor
        Says what is waited for, and is asked meanwhile whether to stop with `Cancelled`.

    Raises
    ------
    FrostlineError
        Dask is not installed; there is no scheduler at the address; the file of the batch system cannot be read; the
        workers have another version of frostline.

    Examples
    --------
    >>> with connected(Workers(number=1, memory="1GB")) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    with connecting(workers, monitor) as reach, reach() as client:
        yield client


@contextmanager
def connecting(
    workers: Workers | None = None, monitor: Monitor | None = None
) -> Iterator[Callable[[], AbstractContextManager[Client]]]:
    """Give what gives the client of `connected`, when it is called; what was started ends while something else is done.

    Parameters
    ----------
    workers, monitor
        As for `connected`.

    Raises
    ------
    FrostlineError
        As `connected`, when the client is asked for.

    Examples
    --------
    >>> with connecting(Workers(number=1, memory="1GB")) as reach:
    ...     with reach() as client:
    ...         client.submit(sum, [1, 2]).result()
    3
    """
    workers, monitor = workers or Workers(), monitor or Monitor()
    refuse_missing()
    stack = ExitStack()
    with ThreadPoolExecutor(1, "frostline-workers") as thread:

        @contextmanager
        def reach() -> Iterator[Client]:
            thread.submit(_deaf).result()  # before anything is started, so that all of it is in this one thread
            with _client(thread.submit(_place, workers, stack).result()) as client:
                while not client.scheduler_info(n_workers=-1)["workers"]:
                    monitor.step(0.0, f"waiting for {workers.where}")
                    time.sleep(LOOK)
                _refuse_other_version(client)
                yield client
            thread.submit(stack.close)

        try:
            yield reach
        finally:
            _waited_for(thread.submit(stack.close))


def _waited_for(end: Future[None]) -> None:
    """Wait, also where that is interrupted: what is half started or half closed cannot be closed when Python ends."""
    try:
        wait([end])
    except BaseException:
        wait([end])
        raise


def _deaf() -> None:
    """Let this thread, and processes that it starts, not hear Ctrl-C: a terminal sends it to all, and one is enough."""
    from multiprocessing import resource_tracker

    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # whoever starts it hears Ctrl-C again
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _place(workers: Workers, stack: ExitStack) -> Any:
    """What a client is connected to: an address, or a cluster that is started here and closed with the stack."""
    from distributed.utils import silence_logging_cmgr

    if workers.scheduler is None:
        return stack.enter_context(cluster_of(workers))
    if workers.cluster != "local":
        raise FrostlineError(f"a scheduler ({workers.scheduler}) and a cluster ({workers.cluster}): give one of them")
    _refuse_unused(workers, "workers are started", number="--workers", memory="--memory", config="--cluster-config")
    stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # of a scheduler that is gone it would print tracebacks
    return workers.scheduler


def _refuse_unused(workers: Workers, where: str, **options: str) -> None:
    """Refuse what the workers that are asked for would not heed."""
    unused = [option for name, option in {**options, "resources": "resources"}.items() if getattr(workers, name)]
    if unused:
        raise FrostlineError(
            f"{workers.where} would not heed {', '.join(unused)}: leave it out, and say it where {where}"
        )


def refuse_missing() -> None:
    """Refuse to go on without Dask, which is not imported for that: it takes half a second, and may not be needed.

    Raises
    ------
    FrostlineError
        Holds the line that installs it.
    """
    missing = [name for name in ("distributed", "dask_jobqueue", "zarr") if find_spec(name) is None]
    if missing:
        raise FrostlineError(f"work on a cluster needs {' and '.join(missing)}, not installed here: {EXTRA}")


def _batch_systems() -> Any:
    """Import dask-jobqueue, which makes every Ctrl-C a quiet success, and cannot do so beside the main thread."""
    from unittest import mock

    with mock.patch("signal.signal"):
        import dask_jobqueue
    return dask_jobqueue


def _client(place: Any) -> Client:
    """Connect to a cluster, or to a scheduler at an address."""
    from distributed import Client

    if not isinstance(place, str):
        return Client(place)  # type: ignore[no-untyped-call]
    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop that runs, as in a notebook
            thread.submit(asyncio.run, _greeted(place)).result()
        return Client(place, timeout=REACH)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise FrostlineError(
            f"no scheduler of Dask answers at {place!r} ({str(error) or 'silence'}): give the address that "
            "`dask scheduler` prints, such as tcp://10.0.0.1:8786, from a machine that reaches it"
        ) from error


async def _greeted(address: str) -> None:
    """Reach a server of Dask once: a client that reaches none may wait for ever when it is thrown away."""
    from distributed.comm.core import connect
    from distributed.security import Security

    security = Security()  # type: ignore[no-untyped-call]
    arguments = security.get_connection_args("client")  # type: ignore[no-untyped-call]
    async with asyncio.timeout(REACH):  # connect() itself waits for ever for a server that accepts and says nothing
        comm = await connect(address, REACH, **arguments)  # type: ignore[no-untyped-call]
    comm.abort()


def cluster_of(workers: Workers) -> Any:
    """Start a cluster that is not there yet, without a client.

    Returns
    -------
    distributed.LocalCluster or dask_jobqueue.JobQueueCluster
        A context that stops it. `job_script()` of one of a batch system is what each job runs.

    Raises
    ------
    FrostlineError
        The batch system is unknown or its file cannot be read; a number or limit is out of bounds.
    """
    refuse_missing()
    return _processes(workers) if workers.cluster == "local" else _jobs(workers)


def _processes(workers: Workers) -> Any:
    import dask
    from dask.utils import parse_bytes
    from distributed import LocalCluster

    if workers.config is not None:
        raise FrostlineError(f"{workers.config} is for a batch system: name it too, such as --cluster slurm")
    memory, number = workers.memory or MEMORY, workers.number or cores()
    try:
        limit = parse_bytes(memory)
    except ValueError as error:
        raise FrostlineError(f"memory {memory!r} is no amount: write 4GB or 800MB") from error
    try:
        with dask.config.set(_MEMORY):
            return LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=number,
                threads_per_worker=1,
                processes=True,
                memory_limit=limit,
                resources=dict(workers.resources),
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,  # what matters of it is said by the work itself
            )
    except RuntimeError as error:  # one was killed, or ran out of memory, before it could compute
        raise FrostlineError(
            f"{number} process(es) of {memory} could not be started ({error}): the same command tries it "
            "again; if they end each time, ask for fewer (--workers) with more memory (--memory)"
        ) from error


def cores() -> int:
    """Processors of this machine that this process may use.

    Examples
    --------
    >>> cores() >= 1
    True
    """
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def _jobs(workers: Workers) -> Any:
    from distributed.core import Status

    dask_jobqueue = _batch_systems()
    if workers.cluster not in SYSTEMS:
        raise unknown("cluster", workers.cluster, ("local", *SYSTEMS))
    if workers.number is None:
        raise FrostlineError(f"how many workers is {workers.cluster} to be asked for? Say so: --workers 8")
    _refuse_unused(workers, "jobs are described (--cluster-config)", memory="--memory")
    arguments = {} if workers.config is None else _arguments(workers.config, workers.cluster)
    options = {"dashboard_address": ":0", **arguments.pop("scheduler_options", {})}  # 8787 may be another one's
    kind = getattr(dask_jobqueue, SYSTEMS[workers.cluster])
    cluster = kind.__new__(kind)
    try:
        cluster.__init__(scheduler_options=options, **arguments)
    except (TypeError, ValueError) as error:
        cluster.status = Status.closed  # half made, it would warn that nobody has closed it
        where = workers.config or "dask's own configuration (give a file: --cluster-config FILE)"
        raise FrostlineError(f"{workers.cluster} cannot be asked for workers with {where}: {error}") from error
    try:
        cluster.scale(workers.number)
    except BaseException:
        cluster.close()
        raise
    return cluster


def _arguments(path: Path, system: str) -> dict[str, Any]:
    """Arguments of a class of dask-jobqueue; the file may also be laid out as its own jobqueue.yaml."""
    import yaml

    try:
        found = yaml.safe_load(expanded(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FrostlineError(f"{path} cannot be read as YAML: {error}") from error
    if isinstance(found, dict) and "jobqueue" in found:
        found = (found["jobqueue"] or {}).get(system)
    if not isinstance(found, dict) or not found:
        raise FrostlineError(
            f"{path} holds no arguments for {system}: write names and values, such as `cores: 8` and `memory: 32GB`"
        )
    return {str(name).replace("-", "_"): value for name, value in found.items()}


def _refuse_other_version(client: Client) -> None:
    """Refuse workers that would compute with other code; one that ends meanwhile is asked nothing."""
    try:
        found = client.run(_version, on_error="return")
    except OSError as error:
        raise FrostlineError(f"the scheduler is gone ({error}): the same command goes on") from error
    for address, said in found.items():
        if isinstance(said, OSError) or said == __version__:
            continue
        if isinstance(said, Exception):  # whatever a worker without frostline answers
            raise FrostlineError(
                f"worker {address} cannot import frostline ({said}): install version {__version__} where workers run"
            ) from said
        raise FrostlineError(
            f"worker {address} has frostline {said}, and this is {__version__}: install the same where workers run"
        )


def _version() -> str:
    return __version__


def threads_of(client: Client, remedy: str) -> int:
    """Threads of all workers together; 0 while none is there.

    Parameters
    ----------
    client
        With workers.
    remedy
        What helps where all have ended for want of memory, in the options of the command that asked for them.

    Raises
    ------
    FrostlineError
        None will come any more: workers that were started for this client have ended, and are not started again.

    Examples
    --------
    >>> with connected(Workers(number=1, memory="1GB")) as client:
    ...     threads_of(client, "give them more")
    1
    """
    if client.cluster is not None and not client.cluster.workers:  # one that ends while it starts is not started again
        raise FrostlineError(f"all workers have ended, most often for want of memory: {remedy}")
    return sum(client.nthreads().values())  # type: ignore[no-untyped-call]


def gpu_of(client: Client, device: str = "auto") -> dict[str, float]:
    """Resources that a task which may compute on a GPU has to ask for: one, where workers declare them.

    Parameters
    ----------
    client
        With at least one worker.
    device
        cpu, cuda, mps or auto; cpu asks for none.

    Returns
    -------
    dict
        For `resources` of `client.submit`.
    """
    declared = [each["resources"] for each in client.scheduler_info(n_workers=-1)["workers"].values()]
    return {"GPU": 1.0} if device != "cpu" and any(each.get("GPU", 0) > 0 for each in declared) else {}
