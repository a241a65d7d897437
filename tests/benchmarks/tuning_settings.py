"""Which settings LoRA is best trained with: genes, rate, steps and patience over three data sets and three seeds.

    python tests/benchmarks/tuning_settings.py [--kang FILE] [--seeds N] [--jobs N] [--out FILE] [--table] [--only TEXT]

trains LoRA once for every number of genes and every learning rate, longer than any setting asks for, and tests it
whenever the validation loss is lower than before; a seed is a split, and of the weights and batches. Epochs, steps and
patience only say where such a training stops and which weights it keeps, so that all their settings are read off one
training. Lines of JSON are written as trainings end; those that are in the file are not trained again. `--table` reads
the file and prints the tables of book/decisions/0010-tuning-settings.md.

The data sets are pancreas (by donor), pbmc68k-reduced and, where its file is given, the Kang cells of muscat
(`cluster_id`, `sample_id`; not shipped). Of large ones CELLS cells are drawn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

import frostline
from frostline.comparison.report import markdown_table
from frostline.evaluation.metrics import accuracy, macro_f1
from frostline.monitor import Monitor
from frostline.profiles import get_profile
from frostline.strategies import Lora
from frostline.strategies.base import trained_names
from frostline.strategies.encoder import known_genes

T = TypeVar("T")
CELLS = 400
"""Cells of a data set, at most."""
ALL = 100_000
"""Genes: more than any vocabulary has."""
GENES = (500, 2_000, ALL)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
GENES_OF_RATES, RATE_OF_GENES = 500, 1e-3
"""What the other factor is held at."""
LENGTHS = ((8, 100), (20, 200), (30, 300))
"""(epochs, min_steps): trainings stop after as many epochs, or as many steps where these are more."""
PATIENCES = (2, 4, 8)
LENGTH, PATIENCE = (20, 200), 4
"""What the other factors are held at."""


@dataclass(frozen=True)
class Training:
    """One long training."""

    set_name: str
    seed: int
    genes: int
    rate: float

    @property
    def key(self) -> tuple[Any, ...]:
        return self.set_name, self.seed, self.genes, self.rate


def data_sets(kang: Path | None) -> Iterator[frostline.Dataset]:
    """Load the sets that are there."""
    yield frostline.load_dataset("pancreas")
    yield frostline.load_dataset("pbmc68k-reduced")
    if kang is not None:
        yield frostline.load_dataset(kang, "cluster_id", group_key="sample_id", name="kang")


def trainings(name: str, n_known: int, seed: int) -> Iterator[Training]:
    """List trainings, the cheap ones first; numbers of genes above those known are one and the same."""
    for rate in RATES:
        yield Training(name, seed, GENES_OF_RATES, rate)
    for genes in sorted({min(genes, n_known) for genes in GENES} - {GENES_OF_RATES}):
        yield Training(name, seed, genes, RATE_OF_GENES)


def train(training: Training, kang: Path | None) -> dict[str, Any]:
    """Train, testing at every lower validation loss; what a line of the file holds."""
    dataset = next(each for each in data_sets(kang) if each.name == training.set_name)
    profile = replace(get_profile("full"), max_cells=CELLS)
    cut = frostline.split(dataset, seed=0, profile=profile, repeat=training.seed)
    epochs, min_steps = LENGTHS[-1]
    lora = replace(
        Lora.from_profile(profile, "mini"),
        n_genes=training.genes,
        learning_rate=training.rate,
        epochs=epochs,
        min_steps=min_steps,
        patience=max(PATIENCES),
    )
    losses: list[float] = []
    tested: dict[int, dict[str, float | None]] = {}
    seconds: list[float] = []
    testing, started = 0.0, time.process_time()

    def epoch(entry: Mapping[str, float]) -> None:
        nonlocal testing
        seconds.append(time.process_time() - started - testing)
        loss = entry["validation_loss"]
        if not losses or loss < min(losses):
            before = time.process_time()
            tested[len(losses)] = test(lora, dataset, cut)
            testing += time.process_time() - before
        losses.append(loss)

    lora.fit(dataset, cut, Monitor(epoch=epoch))
    return {
        **vars(training),
        "cells": cut.sizes,
        "known": len(known_genes(dataset, frostline.load_checkpoint("mini"))),
        "validation_losses": losses,
        "tested": tested,
        "seconds": seconds,
    }


def test(lora: Lora, dataset: frostline.Dataset, cut: frostline.Split) -> dict[str, float | None]:
    """Score test cells by the weights of this moment."""
    lora._learn(classes=trained_names(dataset, cut))  # it is in the middle of its training
    found = lora.predict_proba(dataset, cut.test)
    predicted = np.array(lora.classes_)[found.argmax(axis=1)]
    labels = dataset.labels[cut.test]
    return {"macro_f1": macro_f1(labels, predicted), "accuracy": accuracy(labels, predicted)}


def stopped(line: Mapping[str, Any], length: tuple[int, int], patience: int) -> tuple[int, int]:
    """Epochs that a setting would have trained for, and the epoch whose weights it would have kept."""
    schedule = (
        Lora(epochs=length[0], min_steps=length[1], patience=patience).schedule(0).for_cells(line["cells"]["train"])
    )
    best, kept = math.inf, 0
    for i, loss in enumerate(line["validation_losses"][: schedule.epochs]):
        if loss < best:
            best, kept = loss, i
        if i - kept >= schedule.patience:
            return i + 1, kept
    return min(schedule.epochs, len(line["validation_losses"])), kept


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """One factor at a time; the others as they are held."""
    held = {"genes": GENES_OF_RATES, "rate": RATE_OF_GENES, "length": LENGTH, "patience": PATIENCE}
    for factor, values in {"genes": GENES, "rate": RATES, "length": LENGTHS, "patience": PATIENCES}.items():
        for value in values:
            yield factor, {**held, factor: value}


def table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean over seeds of the macro-F1 of every set and setting, and the processor seconds of training."""
    rows = []
    for factor, setting in settings():
        for name in dict.fromkeys(line["set_name"] for line in lines):
            rows += [
                {
                    "factor": factor,
                    "value": _written(setting[factor]),
                    "set": name,
                    "seed": line["seed"],
                    **outcome(line, setting["length"], setting["patience"]),
                }
                for line in lines
                if line["set_name"] == name
                and line["rate"] == setting["rate"]
                and line["genes"] == min(setting["genes"], line["known"])
            ]
    return pd.DataFrame(rows)


def outcome(line: Mapping[str, Any], length: tuple[int, int], patience: int) -> dict[str, float]:
    """Score and seconds that a setting would have had."""
    epochs, kept = stopped(line, length, patience)
    return {**line["tested"][str(kept)], "epochs": epochs, "seconds": line["seconds"][epochs - 1]}


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]} epochs, {value[1]} steps"
    return "all known" if value == ALL else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def summary(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One line a setting, one column a set, of means over the seeds that all settings share; as text."""
    tried = rows.groupby(["factor", "set"])["value"].transform("nunique")
    shared = rows[rows.groupby(["factor", "set", "seed"])["value"].transform("nunique") == tried]
    wide = shared.pivot_table(index=["factor", "value"], columns="set", values=column, sort=False)
    wide = wide.assign(mean=wide.mean(axis=1, skipna=False))
    digits = 3 if column == "macro_f1" else 0
    return wide.map(lambda number: "NA" if np.isnan(number) else f"{number:.{digits}f}").reset_index()


def run(todo: Sequence[T], train: Callable[..., dict[str, Any]], out: Path, jobs: int, *given: Any) -> None:
    """Train in so many processes of one thread each; a line of the file as soon as a training ends."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the new processes
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(train, training, *given): training for training in todo}
        for done, future in enumerate(as_completed(started), start=1):
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(future.result()) + "\n")
            print(f"{done} of {len(todo)}: {started[future]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kang", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side, in processes of one thread")
    parser.add_argument("--out", type=Path, default=Path("artifacts/tuning_settings.jsonl"))
    parser.add_argument("--only", default="", help="those with this in what describes them, as in Training(...)")
    parser.add_argument("--table", action="store_true", help="train nothing")
    chosen = parser.parse_args()
    if not chosen.table:
        done = {tuple(line[key] for key in ("set_name", "seed", "genes", "rate")) for line in read(chosen.out)}
        todo = [
            training
            for training in wanted(chosen.kang, chosen.seeds)
            if chosen.only in repr(training) and training.key not in done
        ]
        run(todo, train, chosen.out, chosen.jobs, chosen.kang)
    rows = table(read(chosen.out))
    for column in ("macro_f1", "seconds", "epochs"):
        print(f"\n{column}\n\n{markdown_table(summary(rows, column))}")


def wanted(kang: Path | None, seeds: int) -> Iterator[Training]:
    """List all trainings, the long ones first: they would otherwise be waited for at the end."""
    checkpoint = frostline.load_checkpoint("mini")
    known = {each.name: len(known_genes(each, checkpoint)) for each in data_sets(kang)}
    each = (training for seed in range(seeds) for name, n in known.items() for training in trainings(name, n, seed))
    yield from sorted(each, key=lambda training: -training.genes)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


if __name__ == "__main__":
    main()
