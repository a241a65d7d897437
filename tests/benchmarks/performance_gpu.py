"""What an encoder does on a GPU: from values to states, the parts of that, training, and an atlas through a worker.

Weights are random; one size is that of `mini`, the other that of scGPT's whole-human. Cells are those that
`performance.py` makes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import performance_cluster
import performance_peers

Job = dict[str, Any]
GENES, RUNS = 250, 3
SIZES = {"mini": 20_000, "whole-human": 20_000}
"""Encoders by size, and the cells that each embeds."""
TRAINED, BATCH, EPOCHS = 1_000, 32, 5
ATLAS = 100_000
PLAN: list[Job] = [
    {"what": "embed", "device": "cuda"},
    {"what": "tokens", "size": "whole-human", "cells": SIZES["whole-human"], "genes": GENES, "runs": RUNS},
    *(
        {"what": what, "size": size, "cells": cells, "genes": GENES, "precision": precision, "runs": RUNS}
        for size, cells in SIZES.items()
        for what in ("encoder", "embedding")
        for precision in ("fp32", "bf16")
    ),
    {"what": "atlas", "size": "whole-human", "cells": ATLAS, "genes": GENES, "precision": "bf16", "runs": 1},
]

TRAINING: list[Job] = [
    {"what": "lora", "device": "cuda"},
    *(
        {"what": "epochs", "size": size, "cells": TRAINED, "genes": GENES, "precision": precision, "runs": 2, **how}
        for size in SIZES
        for precision in ("fp32", "bf16")
        for how in ({"epochs": 1}, {"epochs": EPOCHS}, {"epochs": EPOCHS, "graphs": False, "runs": 1})
    ),
]
"""The last of each without CUDA graphs."""


def refused() -> str:
    """Why nothing can be measured here; empty where it can."""
    import torch

    return "" if torch.cuda.is_available() else f"torch {torch.__version__} sees no GPU"


def measure(job: Job, made: Callable[[int, int], Any]) -> list[Job]:
    """Time a job, with the memory of the GPU above that of before."""
    if job["what"] in performance_peers.ROUNDS:
        return performance_peers.measure(job)
    from frostline.encoder.devices import device_of, device_peak

    device = device_of(job.get("device", "cuda"))
    seconds, processor, peaks, computing = [], [], [], []
    for work in WORKS[job["what"]](job, made, device.type):
        with device_peak(device) as peak:
            started, used = time.perf_counter(), time.process_time()
            found = work()
            seconds.append(time.perf_counter() - started)
            processor.append(time.process_time() - used)
        if isinstance(found, float):
            computing.append(found)
        if peak.bytes is not None:
            peaks.append(peak.bytes / 1e6)
    more = {"computing": computing[1:]} if computing else {}
    most = None if computing else max(peaks[1:], default=None)  # a worker is another process
    return [{**job, "seconds": seconds[1:], "cpu": processor[1:], "peak_mb": most, "gpu": _name(), **more}]


def _name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _checkpoint(size: str) -> str | Path:
    return performance_peers.checkpoint(Path(os.environ["FROSTLINE_BENCH"])) if size == "whole-human" else "mini"


Works = Iterator[Callable[[], object]]
"""One that is not counted, and those that are."""


def _embedding(job: Job, made: Callable[[int, int], Any], device: str) -> Works:
    """`frostline.embed`: values to states."""
    import frostline

    adata, how = made(job["cells"], job["genes"]), {"device": device, "precision": job["precision"]}
    work = functools.partial(frostline.embed, adata, checkpoint=_checkpoint(job["size"]), **how)
    return iter([work] * (1 + job["runs"]))


def _tokens(job: Job, made: Callable[[int, int], Any], _device: str) -> Works:
    """Values to tokens, which is the work of one core."""
    import frostline

    adata, opened = made(job["cells"], job["genes"]), frostline.load_checkpoint(_checkpoint(job["size"]))
    return iter([functools.partial(performance_peers.tokens_of, adata, opened)] * (1 + job["runs"]))


def _encoder(job: Job, made: Callable[[int, int], Any], device: str) -> Works:
    """Tokens to states."""
    import frostline
    from frostline.encoder.embedding import encode

    opened = frostline.load_checkpoint(_checkpoint(job["size"]))
    tokens = performance_peers.tokens_of(made(job["cells"], job["genes"]), opened)
    encoder = opened.encoder().to(device)
    return iter([functools.partial(encode, encoder, tokens, precision=job["precision"])] * (1 + job["runs"]))


def _epochs(job: Job, made: Callable[[int, int], Any], device: str) -> Works:
    """LoRA: three quarters of the cells train, the others validate."""
    import numpy as np

    import frostline
    from frostline.encoder import graphs

    graphs.MOST = graphs.MOST if job.get("graphs", True) else 0
    dataset = frostline.load_dataset(made(job["cells"], job["genes"]), "kind")
    order, n = np.arange(job["cells"]), job["cells"] * 3 // 4
    cut = dataclasses.replace(frostline.split(dataset, seed=0), train=order[:n], validation=order[n:], test=order[n:])
    how = {"checkpoint": str(_checkpoint(job["size"])), "device": device, "precision": job["precision"]}
    (strategy,) = frostline.strategies.build(["lora"], **how)
    sizes = {"epochs": job["epochs"], "patience": job["epochs"], "min_steps": 0, "batch_size": BATCH}
    unfitted = dataclasses.replace(strategy, n_genes=dataset.matrix.shape[1], **sizes)
    return (functools.partial(dataclasses.replace(unfitted).fit, dataset, cut) for _ in range(1 + job["runs"]))


def _atlas(job: Job, made: Callable[[int, int], Any], device: str) -> Works:
    """`frostline embed` of a file by one worker that declares a GPU; of these seconds, those in which it computed."""
    from frostline.cluster import atlases
    from frostline.cluster.connections import Workers
    from frostline.monitor import Monitor

    workers = Workers(number=1, memory="30GB", resources={"GPU": 1})
    how = {"checkpoint": _checkpoint(job["size"]), "device": device, "precision": job["precision"], "workers": workers}

    def embedded(path: Path) -> float:
        stretch = performance_cluster.Stretch()
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            atlases.embed(path, Path(folder) / "out.zarr", monitor=Monitor(stretch), **how)
        return stretch.last - stretch.first

    few, whole = (performance_cluster.atlas_of({**job, "cells": n}, made) for n in (2_048, job["cells"]))
    return iter([functools.partial(embedded, path) for path in (few, *[whole] * job["runs"])])


WORKS = {"tokens": _tokens, "encoder": _encoder, "embedding": _embedding, "epochs": _epochs, "atlas": _atlas}
