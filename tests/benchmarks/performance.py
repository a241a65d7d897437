"""How long frostline takes and what it holds in memory, by cells and by genes, and beside other software.

    python tests/benchmarks/performance.py [--only PART ...]

Every measurement is made in a process of its own, and kept as one line of performance.jsonl beside this file, with the
machine, the versions and the load at that time; book/performance.md, and the costs in book/howto/clusters.md, are
written from these lines (`--page` writes them and measures nothing). A part that is run again replaces its lines; what
is too large to be measured here is kept as a line that says so. No part begins after WHOLE minutes; it keeps the lines
that it had, and `--only` measures it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import performance_cluster
import performance_costs
import performance_gpu
import performance_page
import performance_peers

HERE = Path(__file__).parent
RESULTS = HERE / "performance.jsonl"
GENES = 6_000
"""Genes of the cells that are made, of those that `mini` knows."""
LIBRARIES = ("frostline", "torch", "numpy", "scipy", "scikit-learn", "scanpy", "anndata", "peft")
SIZES = (1_000, 10_000, 100_000)
DEPTHS = (100, 300, 600, 1_199)
"""Genes that a cell expresses; the last and `<cls>` are the longest sequence that scGPT reads."""
LONGEST = {"peers": 8, "amx": 8}
"""Minutes that a measurement of a part may take, by default MINUTES; one of more is ended, and its line says so."""
MINUTES = 5
WHOLE = 24
"""Minutes of a run; parts that have not begun by then keep the lines that they had."""
Job = dict[str, Any]

PLANS: dict[str, list[Job]] = {
    "embedding": [
        {"what": "embedding", "cells": n, "genes": 100, "runs": runs} for n, runs in zip(SIZES, (3, 2, 1), strict=True)
    ],
    "lora": [
        {"what": "lora", "cells": 1_000, "genes": 100, "runs": 3},
        {"what": "lora", "cells": 10_000, "genes": 100, "runs": 1},
        {"what": "lora", "cells": 100_000, "genes": 100, "left": "ten times the line above"},
    ],
    "pca_logistic": [
        {"what": "pca_logistic", "cells": 1_000, "genes": 300, "runs": 3},
        {"what": "pca_logistic", "cells": 10_000, "genes": 300, "runs": 1},
        {"what": "pca_logistic", "cells": 40_000, "genes": 300, "runs": 1},
        {"what": "pca_logistic", "cells": 100_000, "genes": 300, "left": "more than the half hour of the whole"},
    ],
    "annotate": [
        {"what": "annotate", "cells": n, "genes": 300, "runs": runs} for n, runs in zip(SIZES, (3, 3, 1), strict=True)
    ],
    "genes": [
        {"what": what, "cells": n, "genes": depth, "runs": 2}
        for what, n in (("embedding", 200), ("lora", 60))
        for depth in DEPTHS
    ],
    "cache": [{"what": "cache", "cells": 5_000, "genes": 300, "runs": 3}],
    "peers": [{"what": "embed"}, {"what": "lora"}],
    "amx": [{"what": "embed"}, {"what": "lora"}],
    "gpu": performance_gpu.PLAN,
    "gpu_training": performance_gpu.TRAINING,
    "cluster": performance_cluster.PLAN,
}


def made(n: int, depth: int) -> Any:
    """Cells of two types that express exactly so many genes, with the ties of counts."""
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    from frostline.cells.symbols import known_symbols
    from frostline.encoder.checkpoints import load_checkpoint

    rng = np.random.default_rng(0)
    known = load_checkpoint("mini").vocabulary
    names = [name for name in sorted(known_symbols()) if name in known][:GENES]
    step = GENES // depth
    columns = np.arange(depth) * step
    kinds = rng.integers(2, size=n)
    # a type prefers the lower or the upper half of each run of genes, more or less
    places = (rng.random((n, depth), dtype=np.float32) ** (1 + 0.3 * kinds[:, None]) * step).astype(np.int32)
    counts = rng.geometric(0.55, (n, depth)).astype(np.float32)
    matrix = sparse.csr_matrix(
        (counts.ravel(), (places + columns).astype(np.int32).ravel(), np.arange(n + 1) * depth), shape=(n, GENES)
    )
    obs = pd.DataFrame({"kind": np.array(["A", "B"])[kinds]}, index=[f"cell{i}" for i in range(n)])
    return AnnData(matrix, obs=obs, var=pd.DataFrame(index=names))


def embedding(job: Job) -> tuple[Callable[[], object], int]:
    """Frozen states of all cells by `mini`, with the tokens that they are made of."""
    import numpy as np

    import frostline
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.frozen import frozen_states

    dataset, opened = frostline.load_dataset(made(job["cells"], job["genes"]), "kind"), load_checkpoint("mini")
    frozen_states(dataset, np.arange(20), dataset.genes, opened)

    def work() -> object:
        for key in [key for key in dataset.cache if key[0] == "frozen_states"]:
            del dataset.cache[key]
        return frozen_states(dataset, np.arange(len(dataset)), dataset.genes, opened)

    # the states are held twice: those of the data set, and those that are returned
    return work, 2 * 4 * len(dataset) * opened.config.d_model


def lora(job: Job) -> tuple[Callable[[], object], int]:
    """One epoch of LoRA on `mini`, validation cells included, on all genes."""
    import dataclasses

    import frostline
    from frostline.profiles import get_profile

    dataset = frostline.load_dataset(made(job["cells"], job["genes"]), "kind")
    whole = dataclasses.replace(get_profile("full"), max_cells=job["cells"], max_genes=GENES)
    cut = frostline.split(dataset, seed=0, profile=whole)
    (strategy,) = frostline.strategies.build(["lora"])
    once = dataclasses.replace(strategy, epochs=1, min_steps=0, n_genes=GENES)
    dataclasses.replace(once).fit(dataset, cut.with_budget(dataset, 5))
    return lambda: dataclasses.replace(once).fit(dataset, cut), 0


def pca_logistic(job: Job) -> tuple[Callable[[], object], int]:
    """The baseline, its choice of genes and its inner cross-validation included."""
    import dataclasses

    import frostline
    from frostline.profiles import get_profile

    dataset = frostline.load_dataset(made(job["cells"], job["genes"]), "kind")
    whole = dataclasses.replace(get_profile("full"), max_cells=job["cells"])
    cut = frostline.split(dataset, seed=0, profile=whole)
    frostline.strategies.PcaLogistic().fit(dataset, cut.with_budget(dataset, 20))
    return lambda: frostline.strategies.PcaLogistic().fit(dataset, cut), 0


def annotate(job: Job) -> tuple[Callable[[], object], int]:
    """Labels of the cells of a file by a kept model of the baseline, read in chunks; nothing is written."""
    import frostline

    folder = Path(tempfile.mkdtemp(dir=os.environ["FROSTLINE_BENCH"]))
    model = frostline.adapt(made(600, job["genes"]), "kind", strategies=["pca_logistic"])
    made(job["cells"], job["genes"]).write_h5ad(folder / "cells.h5ad")
    made(50, job["genes"]).write_h5ad(folder / "few.h5ad")
    model.annotate(folder / "few.h5ad")
    return lambda: model.annotate(folder / "cells.h5ad"), 0


WORKS = {each.__name__: each for each in (embedding, lora, pca_logistic, annotate)}


def measure(job: Job) -> list[Job]:
    """Seconds of every run of a job, and the memory of the highest above what was held before, results aside."""
    from frostline.memory import peak_memory

    if job["part"] == "cluster":
        return performance_cluster.measure(job, made)
    if job["part"] in performance_page.ON_GPUS:
        return performance_gpu.measure(job, made)
    if job["what"] == "cache":
        return [cached(job)]
    work, result = WORKS[job["what"]](job)
    seconds, processor, peaks = [], [], []
    for _ in range(job["runs"]):
        with peak_memory() as peak:
            started, used = time.perf_counter(), time.process_time()
            kept = work()
            seconds.append(time.perf_counter() - started)
            processor.append(time.process_time() - used)
        del kept
        if peak.bytes is not None:
            peaks.append((peak.bytes - result) / 1e6)
    return [{**job, "seconds": seconds, "cpu": processor, "peak_mb": max(peaks, default=None)}]


def cached(job: Job) -> Job:
    """The same cells embedded, and then found on disk by data sets that were loaded again."""
    import numpy as np

    import frostline
    from frostline.encoder import caches
    from frostline.encoder.checkpoints import load_checkpoint
    from frostline.encoder.frozen import frozen_states

    os.environ[caches.LIMIT] = "1000"
    adata, opened = made(job["cells"], job["genes"]), load_checkpoint("mini")
    opened.encoder()

    def once() -> tuple[float, int]:
        dataset = frostline.load_dataset(adata, "kind")
        started = time.perf_counter()
        found = frozen_states(dataset, np.arange(len(dataset)), dataset.genes, opened)
        return time.perf_counter() - started, found.earlier

    first, earlier = once()
    again = [once() for _ in range(job["runs"])]
    assert earlier == 0, "the cache was not empty"
    assert all(found == job["cells"] for _, found in again), "states were computed again"
    return {**job, "first": first, "seconds": [seconds for seconds, _ in again], "bytes": caches.entries()[0][1]}


def about() -> Job:
    """Machine, versions and load."""
    import torch

    model = next(
        (line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory(),
        "system": f"{platform.system()} on {platform.machine()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.is_file() else []


def _memory() -> int | None:
    import psutil

    return round(psutil.virtual_memory().total / 1e9)


def measured(part: str, folder: Path) -> Iterator[Job]:
    """Lines of a part, each from a process of its own; about what, first."""
    yield {**about(), "part": part}
    for job in PLANS[part]:
        python: list[str | Path] = [sys.executable]
        refused = job.get("left", "")
        if part in ("peers", "amx") or (part in performance_page.ON_GPUS and job["what"] in performance_peers.ROUNDS):
            python, refused = performance_peers.environment(folder)
        if refused:
            yield {**job, "part": part, "left": refused}
            continue
        command = [*python, HERE / "performance.py", "--measure", json.dumps({**job, "part": part})]
        environment = {**os.environ, "FROSTLINE_BENCH": str(folder), "FROSTLINE_CACHE": str(folder / "cache")}
        environment["FROSTLINE_EMBEDDINGS_MB"] = "0"  # nothing is found on disk, but where that is measured
        minutes = LONGEST.get(part, MINUTES)
        found = output([*map(str, command)], environment, 60 * minutes)
        if found is None:
            yield {**job, "part": part, "left": f"ended after {minutes} minutes"}
            continue
        for line in found.splitlines():
            if line.startswith('{"'):
                print(line, flush=True)
                yield {**json.loads(line), "part": part, "load": about()["load"]}


def missing(part: str) -> str:
    """What a part needs of a machine that this one lacks; empty where it lacks nothing."""
    from frostline.encoder.devices import AMX, cpu_says

    if part in performance_page.ON_GPUS:
        return performance_gpu.refused()
    return "this processor has no AMX" if part == "amx" and not cpu_says("flags") >= AMX else ""


def output(command: list[str], environment: dict[str, str], seconds: float) -> str | None:
    """What a process prints; None if it was ended, with all that it had started, since it took too long."""
    import psutil

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            found = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            return None
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


def kept(parts: list[str]) -> list[Job]:
    """Lines that are there, but those of some parts."""
    lines = [json.loads(line) for line in _lines(RESULTS)]
    return [line for line in lines if line["part"] not in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--page", action="store_true", help="write the page from the lines that are there")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        job = asked.measure
        found = performance_peers.measure(job) if job["part"] in ("peers", "amx") else measure(job)
        print(*map(json.dumps, found), sep="\n")
        return
    started = time.monotonic()
    for part in [] if asked.page else asked.only:
        if cannot := missing(part):
            print(f"{part} is not measured: {cannot}; its lines stay as they are", flush=True)
            continue
        if time.monotonic() - started > 60 * WHOLE:
            print(f"{part} is not measured: {WHOLE} minutes are over; do it with --only {part}", flush=True)
            continue
        others, own = kept([part]), []
        with tempfile.TemporaryDirectory() as name:
            for line in measured(part, Path(name)):  # kept as they come: what is cut short was not in vain
                own.append(line)
                RESULTS.write_text("".join(f"{json.dumps(each)}\n" for each in [*others, *own]), "utf-8")
    performance_page.PAGE.write_text(performance_page.page(kept([])), "utf-8")
    guide = performance_costs.GUIDE
    guide.write_text(performance_costs.written(guide.read_text("utf-8"), performance_costs.costs(kept([]))), "utf-8")


if __name__ == "__main__":
    main()
