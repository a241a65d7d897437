"""frostline beside scDLKit and torch's own encoder layers: the same cells, weights and threads, in turns.

scDLKit is installed into an environment of its own that is thrown away, beside the torch that frostline uses. The
weights are random and have the shape of scGPT's whole-human model; all three read the same ones, and their states are
compared.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SCDLKIT = "0.1.6"
ROUNDS = {"embed": 3, "lora": 2}
CELLS = {"cpu": {"embed": 64, "lora": 12}, "cuda": {"embed": 700, "lora": 384}}
"""Of pbmc68k-reduced: for LoRA two thirds train and a third validates."""
BATCHES = {"cpu": (1, 2, 4, 8, 16), "cuda": (16, 32, 128, 256)}
"""Cells in a batch of scDLKit, of which the fastest on as many cells as the last is taken; 64 is its default."""
LORA_BATCH = {"cpu": 8, "cuda": 32}
Job = dict[str, Any]


def environment(folder: Path) -> tuple[list[str | Path], str]:
    """Python of the environment, which is made where there is none; or why there is none.

    Where scDLKit is installed already, as on a machine without a network, it is this one.
    """
    with contextlib.suppress(PackageNotFoundError):
        if version("scdlkit") == SCDLKIT:
            return [sys.executable], ""
    place = folder / "peers"
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        paths = [path for path in sys.path if path and Path(path).is_dir()]
        (Path(own) / "beside.pth").write_text("\n".join(paths) + "\n", "utf-8")
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"scdlkit=={SCDLKIT}"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return [python], f"scDLKit {SCDLKIT} could not be installed ({last})" if done.returncode else ""


def checkpoint(folder: Path) -> Path:
    """Random weights in the official layout, where scDLKit looks for whole-human."""
    import torch

    from frostline.cells.symbols import known_symbols
    from frostline.encoder.checkpoints import official_state, save_checkpoint
    from frostline.encoder.model import Encoder, EncoderConfig

    place = folder / "scdlkit" / "foundation" / "scgpt" / "whole-human"
    if place.exists():
        return place
    names = [*sorted(known_symbols()), *(f"gene {i}" for i in range(60_694))][:60_694]
    vocabulary = {name: i for i, name in enumerate([*names, "<pad>", "<cls>", "<eoc>"])}
    torch.manual_seed(0)
    config = EncoderConfig(60_697, 512, 8, 512, 12, pad_id=vocabulary["<pad>"], cls_id=vocabulary["<cls>"])
    encoder = Encoder(config)
    save_checkpoint(place, encoder, vocabulary)
    torch.save(official_state(encoder), place / "best_model.pt")
    return place


def measure(job: Job) -> list[Job]:
    """Time every contender in turns, and say how far their states are apart.

    Memory is that of the host, or of the GPU where one computes, above what was held before.
    """
    import scanpy as sc
    import torch

    from frostline.encoder.devices import device_of, device_peak
    from frostline.memory import peak_memory

    device = job.get("device", "cpu")
    n = CELLS[device][job["what"]]
    high_mark = peak_memory if device == "cpu" else functools.partial(device_peak, device_of(device))
    folder = Path(os.environ["FROSTLINE_BENCH"])
    os.environ["SCDLKIT_CACHE_DIR"] = str(folder / "scdlkit")
    place = checkpoint(folder)
    adata = sc.datasets.pbmc68k_reduced().raw.to_adata()[:n].copy()
    contenders = (embedders if job["what"] == "embed" else trainers)(adata, place, device)
    rate = product_rate() if device == "cpu" else None
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    peaks: dict[str, float | None] = {}
    states = {}
    for turn in range(ROUNDS[job["what"]] + 1):
        for name, work in contenders.items():
            if not turn and job["what"] == "lora" and name == "scDLKit" and device == "cpu":
                continue  # what it sets up is less than a second of more than a minute
            with high_mark() as peak:
                started, used = time.perf_counter(), time.process_time()
                states[name] = work()
                took, used = time.perf_counter() - started, time.process_time() - used
            if turn:  # the first sets up what later ones find
                seconds[name].append(took)
                processor[name].append(used)
                high = None if peak.bytes is None else peak.bytes / 1e6
                peaks[name] = high if peaks.get(name) is None or high is None else max(high, peaks[name])
    shared = {"cells": n, "gflops": rate, "scdlkit": SCDLKIT, "threads": torch.get_num_threads()}
    lines = [
        {**job, "name": name, "seconds": taken, "cpu": processor[name], "peak_mb": peaks[name], **shared}
        for name, taken in seconds.items()
    ]
    if job["what"] == "embed":
        lines += [{**job, "name": "tokens", "mean": mean_tokens(adata, place), **shared}]
        lines[0]["apart"] = apart(states)
    return lines


def embedders(adata: Any, place: Path, device: str) -> dict[str, Callable[[], Any]]:
    """What embeds the cells: from values to states, tokens included."""
    import numpy as np
    from scdlkit import Trainer
    from scdlkit.foundation import load_scgpt_model, prepare_scgpt_data

    import frostline
    from frostline.encoder.embedding import BATCH_TOKENS, batches_by_length, encode, normalise, pad_tokens

    model, stack, opened = load_scgpt_model(device=device), torch_stack(place, device), frostline.load_checkpoint(place)
    encoder = opened.encoder().to(device)  # opened once, as those of the others are

    def by_frostline(precision: str) -> Any:
        return normalise(encode(encoder, tokens_of(adata, opened), precision=precision))

    def by_scdlkit(batch: int, n: int | None = None) -> Any:
        data = prepare_scgpt_data(adata[:n], batch_size=batch, use_raw=False)
        return Trainer(model, "representation", batch_size=batch, device=device).predict_dataset(data.dataset)["latent"]

    def by_torch() -> Any:
        import torch

        tokens = tokens_of(adata, opened)
        states = np.empty((len(tokens), 512), dtype=np.float32)
        with torch.inference_mode():
            for rows in batches_by_length(tokens.lengths, BATCH_TOKENS[device]):
                ids, values = (each.to(device) for each in pad_tokens(tokens.take(rows), opened.config))
                states[rows] = stack(ids, values)[:, 0].cpu().numpy()
        return normalise(states)

    sizes = BATCHES[device]
    by_scdlkit(sizes[0], sizes[-1])  # sets up what later ones find
    best = min(sizes, key=lambda batch: timed(lambda: by_scdlkit(batch, sizes[-1])))
    return {
        "frostline": lambda: by_frostline("fp32"),
        "frostline, bf16": lambda: by_frostline("bf16"),
        "nn.TransformerEncoder": by_torch,
        f"scDLKit, {best} cells in a batch": lambda: by_scdlkit(best),
        "scDLKit, default (64)": lambda: by_scdlkit(64),
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def tokens_of(adata: Any, opened: Any) -> Any:
    import numpy as np
    from scipy import sparse

    from frostline.cells.genes import match_genes
    from frostline.encoder.tokens import tokenize

    ids = match_genes(list(adata.var_names), opened.vocabulary).ids
    return tokenize(sparse.csr_matrix(adata.X), np.asarray(ids, dtype=np.int32))


def mean_tokens(adata: Any, place: Path) -> float:
    """Tokens of a cell, `<cls>` included."""
    import frostline

    return float(tokens_of(adata, frostline.load_checkpoint(place)).lengths.mean() + 1)


def torch_stack(place: Path, device: str) -> Callable[[Any, Any], Any]:
    """The same encoder of torch's TransformerEncoder, which takes its fast path where it can."""
    import torch
    from torch import nn

    state = torch.load(place / "best_model.pt", weights_only=True)
    width = {"d_model": 512, "nhead": 8, "dim_feedforward": 512, "batch_first": True}
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(**width), 12, enable_nested_tensor=False).eval()
    stack.load_state_dict(
        {
            name.removeprefix("transformer_encoder.").replace("Wqkv.", "in_proj_"): tensor
            for name, tensor in state.items()
            if name.startswith("transformer_encoder.")
        }
    )
    from frostline.encoder.checkpoints import load_checkpoint

    opened = load_checkpoint(place)
    encoder, stack = opened.encoder().to(device), stack.to(device)

    def forward(ids: Any, values: Any) -> Any:
        x = encoder.encoder(ids) + encoder.value_encoder(values)
        padding = ids == opened.config.pad_id
        return stack(x, src_key_padding_mask=padding if bool(padding.any()) else None)

    return forward


def trainers(adata: Any, place: Path, device: str) -> dict[str, Callable[[], Any]]:
    """One epoch of LoRA of each, on the same cells, so many in a batch; in bf16 where `auto` is that."""
    import dataclasses

    import numpy as np
    from scdlkit import Trainer
    from scdlkit.foundation import load_scgpt_annotation_model, prepare_scgpt_data, split_scgpt_data

    import frostline
    from frostline.encoder.devices import device_of, precision_of

    batch = LORA_BATCH[device]
    adata.obs["kind"] = np.where(np.arange(adata.n_obs) % 2, "A", "B")
    data = prepare_scgpt_data(adata, batch_size=batch, use_raw=False, label_key="kind")
    parts = split_scgpt_data(data, val_size=1 / 3, test_size=0.0)

    def by_scdlkit() -> None:
        model = load_scgpt_annotation_model(num_classes=2, tuning_strategy="lora", device=device)
        Trainer(model, "classification", epochs=1, batch_size=batch, lr=1e-3, device=device).fit(parts.train, parts.val)

    dataset = frostline.load_dataset(adata, "kind")
    n_train = len(parts.train)
    order = np.arange(adata.n_obs)
    cut = dataclasses.replace(
        frostline.split(dataset, seed=0), train=order[:n_train], validation=order[n_train:], test=order[n_train:]
    )
    (strategy,) = frostline.strategies.build(["lora"], checkpoint=str(place), device=device)
    once = dataclasses.replace(strategy, epochs=1, min_steps=0, n_genes=6_000, batch_size=batch)
    fits = {"frostline": lambda: dataclasses.replace(once).fit(dataset, cut)}
    if precision_of("auto", device_of(device)) == "bf16":
        fits["frostline, bf16"] = lambda: dataclasses.replace(once, precision="bf16").fit(dataset, cut)
    return {**fits, "scDLKit": by_scdlkit}


def product_rate() -> float:
    """10^9 floating-point operations of the encoder's matrix products in a second of all threads, best of several."""
    import torch

    rows, inner, columns = 2_048, 512, 512
    a, b = torch.rand(rows, inner), torch.rand(inner, columns)

    def used() -> float:
        started = time.process_time()
        for _ in range(20):
            a @ b
        return time.process_time() - started

    best = min(used() for _ in range(15)) / torch.get_num_threads()
    return 20 * 2 * rows * inner * columns / best / 1e9


def apart(states: dict[str, Any]) -> dict[str, float]:
    """Smallest cosine of a cell's state to that of frostline, for each of the others.

    Their tokens are not the same: scDLKit draws among tied bins in another order.
    """
    own = states["frostline"]
    return {name: float((own * found).sum(axis=1).min()) for name, found in states.items() if name != "frostline"}
