"""Dropout in the frozen encoder or before the adapters while these train: does it help, and what does it cost?

    python tests/benchmarks/dropout.py [encoder_dropout | lora_dropout] [--kang KANG] [--seeds 3] [--jobs 16] [--table]

The numbers of book/decisions/0012-dropout-of-adapters.md. Every training is one line of a JSON-lines file; what is in
the file is not trained again, so a run that was stopped goes on. Both values train on the same splits with the same
seeds, so that their difference is one of pairs.

Data: pancreas and pbmc68k-reduced, which ship; KANG, the muscat cells of Kang et al. 2018 as an h5ad (counts, obs
`cluster_id`, `sample_id`; not shipped). Of large ones CELLS cells are drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tuning_settings import data_sets, read, run

import frostline
from frostline.comparison.report import markdown_table
from frostline.profiles import get_profile

CELLS = 400
"""Cells of a data set, at most."""
SHARES = {"encoder_dropout": (0.0, 0.2), "lora_dropout": (0.0, 0.05)}
"""Of values that are dropped: none; and as much as in scGPT's training, or as adapters had."""
KEYS = ["field", "strategy", "profile", "set_name", "seed", "share"]


@dataclass(frozen=True)
class Training:
    """One training, on a split that depends on neither strategy nor share."""

    field: str
    strategy: str
    profile: str
    set_name: str
    seed: int
    share: float


def trainings(field: str, names: list[str], seeds: int, strategies: list[str]) -> Iterator[Training]:
    """List trainings, the long ones first: they would otherwise be waited for at the end."""
    for profile in ("full", "quickstart"):
        for seed in range(seeds):
            for name in names:
                for strategy in strategies:
                    for share in SHARES[field]:
                        yield Training(field, strategy, profile, name, seed, share)


def train(training: Training, kang: Path | None, device: str) -> dict[str, Any]:
    """Train and test; returns what a line of the file holds."""
    dataset = next(each for each in data_sets(kang) if each.name == training.set_name)
    profile = replace(get_profile(training.profile), max_cells=CELLS)
    cut = frostline.split(dataset, seed=0, profile=profile, repeat=training.seed)
    (strategy,) = frostline.strategies.build([training.strategy], profile=profile, device=device)
    started = time.process_time()
    record = frostline.evaluate(replace(strategy, **{training.field: training.share}), dataset, cut)
    return {
        **asdict(training),
        "device": device,
        "cells": dict(record.sizes),
        "macro_f1": record.metrics["macro_f1"],
        "accuracy": record.metrics["accuracy"],
        "epochs": len(record.history),
        "seconds": time.process_time() - started,
        "peak_memory": record.cost.peak_memory,
    }


def table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a strategy, profile and set: macro-F1 of each share, and how their difference moves between seeds."""
    rows = []
    for key, part in pd.DataFrame(lines).groupby(KEYS[:4], sort=False):
        shares = SHARES[key[0]]
        wide = part.pivot(index="seed", columns="share", values=["macro_f1", "seconds", "epochs"]).dropna()
        none, some = shares
        gain = wide["macro_f1"][none] - wide["macro_f1"][some]
        rows.append(
            {
                **dict(zip(KEYS[:4], key, strict=True)),
                "seeds": len(wide),
                **{f"macro-F1 at {share:g}": f"{wide['macro_f1'][share].mean():.3f}" for share in shares},
                "difference": f"{gain.mean():+.3f}",
                "of each seed": ", ".join(f"{value:+.3f}" for value in gain),
                "epochs": " / ".join(f"{wide['epochs'][share].mean():.0f}" for share in shares),
                "seconds": " / ".join(f"{wide['seconds'][share].mean():.0f}" for share in shares),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("field", choices=SHARES, nargs="?", default="encoder_dropout")
    parser.add_argument("--kang", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--strategies", nargs="+", default=["lora"])
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side, in processes of one thread")
    parser.add_argument("--only", default="", help="those with this in what describes them, as in Training(...)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("artifacts/dropout.jsonl"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    done = {tuple(line[key] for key in KEYS) for line in read(given.out)}
    names = [each.name for each in data_sets(given.kang)]
    todo = [
        training
        for training in trainings(given.field, names, given.seeds, given.strategies)
        if given.only in repr(training) and tuple(asdict(training).values()) not in done
    ]
    if not given.table:
        run(todo, train, given.out, given.jobs, given.kang, given.device)
    print(markdown_table(table(read(given.out))))


if __name__ == "__main__":
    main()
