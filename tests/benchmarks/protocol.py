"""How long the whole protocol takes in the quickstart profile: 3 repeats, 4 strategies, calibration, label efficiency.

    python tests/benchmarks/protocol.py [DATASET]

prints the seconds of each part, the share of each strategy, and the leaderboard.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import frostline
from frostline import report


def main(dataset_name: str = "pbmc68k-reduced") -> None:
    settings = frostline.RunSettings(dataset=dataset_name, repeats=3, budgets=[5, 10, 20, 50])
    spent: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal clock
        spent[part], clock = time.perf_counter() - clock, time.perf_counter()

    dataset = settings.load()
    splits = settings.splits(dataset)
    strategies = settings.build()
    lap("load and split")
    by_strategy: dict[str, float] = defaultdict(float)
    records, last = [], time.perf_counter()
    for record in frostline.evaluate_all(strategies, dataset, splits):
        records.append(record)
        by_strategy[record.strategy] += time.perf_counter() - last
        last = time.perf_counter()
    lap("evaluate, 3 repeats")
    records += frostline.label_efficiency(strategies, dataset, splits, budgets=settings.budgets)
    lap("label efficiency, 4 budgets x 3 repeats")
    comparison = frostline.compare(records)
    report.report_markdown(comparison)
    lap("intervals, tests, report")
    print(comparison)
    for part, seconds in {**spent, "all": sum(spent.values())}.items():
        print(f"{seconds:7.1f} s  {part}")
    for name, seconds in by_strategy.items():
        print(f"{seconds:7.1f} s  {name}, evaluations")


if __name__ == "__main__":
    main(*sys.argv[1:])
