"""Atlases in parts: by a plain loop over the parts, by one worker and by two.

Each is 5,000 made-up cells again and again, so that one of any size is written block by block.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Made = Callable[[int, int], Any]
"""Makes so many cells that express so many genes."""

BLOCK = 5_000
SHORT, DEEP = 60, 250
"""Genes that a cell expresses: few for what depends on the number of cells alone, and as many as many cells do."""
WAYS: dict[str, dict[str, Any]] = {
    "plain loop": {},
    "by default": {},
    "--workers 1": {"number": 1},
    "1 worker": {"number": 1, "memory": "3GB"},  # a limit of memory makes it a process of its own
    "2 workers": {"number": 2, "memory": "3GB"},
}
"""What is asked of workers; nothing also where it is this process that computes."""


def _jobs(what: str, *ways: str) -> Iterator[Job]:
    sizes = {20_000: ("2 workers",), 100_000: ways, 200_000: ("2 workers",)}
    return ({"what": what, "cells": n, "genes": SHORT, "how": how} for n, those in sizes.items() for how in those)


PLAN: list[Job] = [
    *_jobs("embed", "plain loop", "1 worker", "2 workers"),
    *_jobs("annotate", *3 * tuple(WAYS)),
    *({"what": what, "cells": 4_096, "genes": DEEP, "how": "plain loop"} for what in ("embed", "tokens")),
]


def write(path: Path, n: int, depth: int, made: Made) -> None:
    """Write an atlas of so many cells, the same 5,000 again and again, block by block."""
    import h5py
    import numpy as np
    import pandas as pd
    from anndata.io import write_elem

    block = made(min(BLOCK, n), depth)
    block[:1].write_h5ad(path)
    with h5py.File(path, "r+") as file:
        for name in ("obs", "X"):
            del file[name]
        write_elem(file, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n, block.n_vars)})
        for name, values in (("data", block.X.data), ("indices", block.X.indices.astype(np.int32))):
            array = group.create_dataset(name, shape=(n * depth,), dtype=values.dtype, chunks=(min(65_536, n * depth),))
            for start in range(0, n * depth, len(values)):
                array[start : start + len(values)] = values[: n * depth - start]
        group.create_dataset("indptr", data=np.arange(n + 1, dtype=np.int64) * depth)


def atlas_of(job: Job, made: Made) -> Path:
    """The atlas of a job."""
    path = Path(os.environ["FROSTLINE_BENCH"]) / f"atlas-{job['cells']}-{job['genes']}.h5ad"
    return _there(path, write, job["cells"], job["genes"], made)


def model_of(job: Job, made: Made) -> Path:
    """A kept model of the baseline on 600 of such cells."""
    return _there(Path(os.environ["FROSTLINE_BENCH"]) / f"model-{job['genes']}", keep, job["genes"], made)


def keep(folder: Path, depth: int, made: Made) -> None:
    """Fit a model and save it."""
    import frostline

    frostline.adapt(made(600, depth), "kind", strategies=["pca_logistic"]).save(folder)


def _there(path: Path, make: Callable[..., None], *arguments: Any) -> Path:
    """A path at which another process has made something, if it was not there, so that this one has no memory of it."""
    if not path.exists():
        process = multiprocessing.get_context("spawn").Process(target=make, args=(path, *arguments))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{path} was not made")
    return path


class Peak(threading.Thread):
    """Highest resident memory of this process and of any worker, read twenty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.worker = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        import psutil

        own = psutil.Process()
        while not self._over.wait(0.05):
            self.own = max(self.own, own.memory_info().rss)
            for process in own.children(recursive=True):
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        self.worker = max(self.worker, process.memory_info().rss)
                except psutil.Error:
                    continue

    def end(self) -> None:
        """Stop looking."""
        self._over.set()
        self.join()


class Stretch:
    """From the first word of cells per second, when there are workers, to the last."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def __call__(self, _fraction: float, words: str) -> None:
        """Hear what is said of the progress."""
        if "cells/s" in words:
            self.last = time.perf_counter()
            self.first = self.first or self.last


@contextlib.contextmanager
def plain(stretch: Stretch) -> Iterator[None]:
    """Compute the same parts one after the other in this process instead of sending them to workers."""
    from unittest import mock

    from frostline.cluster import atlases
    from frostline.cluster.works import compute, kept

    def loop(job: Any, unfinished: Any, missing: Any, _reach: object, _monitor: object) -> None:
        sha256 = kept(job.work, unfinished)
        for part in missing:
            stretch(0.0, "cells/s")
            compute(unfinished, job.source, sha256, part)
        stretch(0.0, "cells/s")

    with mock.patch.object(atlases, "_computed", loop):
        yield


def measure(job: Job, made: Made) -> list[Job]:
    """Do a job once in this process, which does nothing else."""
    from unittest import mock

    import numpy as np

    from frostline.cluster import atlases
    from frostline.cluster.connections import Workers
    from frostline.monitor import Monitor

    atlas, asked, stretch, peak = atlas_of(job, made), WAYS[job["how"]], Stretch(), Peak()
    options: Job = {"workers": Workers(**asked) if asked else None, "monitor": Monitor(stretch)}
    work = functools.partial(atlases.embed, atlas)
    if job["what"] == "annotate":
        work = functools.partial(atlases.annotate, model_of(job, made), atlas)
    with tempfile.TemporaryDirectory(dir=atlas.parent) as folder, contextlib.ExitStack() as stack:
        if job["how"] == "plain loop":
            stack.enter_context(plain(stretch))
        if job["what"] == "tokens":  # all but the encoder
            states = lambda _, tokens, **__: np.ones((len(tokens), 128), dtype=np.float32)  # noqa: E731
            stack.enter_context(mock.patch("frostline.encoder.embedding.encode", states))
        peak.start()
        started, used = time.perf_counter(), processor()
        work(Path(folder) / "out.zarr", **options)
        seconds, cpu = time.perf_counter() - started, processor() - used
        peak.end()
    found = {"seconds": seconds, "computing": stretch.last - stretch.first, "cpu": cpu, "own_mb": peak.own / 1e6}
    return [{**job, **found, "worker_mb": peak.worker / 1e6 if "memory" in asked else None}]


def processor() -> float:
    """Seconds of the processor of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
