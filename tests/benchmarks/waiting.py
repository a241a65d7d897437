"""How long training takes whose threads spin or sleep while they wait, alone and beside a busy program.

    python tests/benchmarks/waiting.py [--epochs 1] [--rounds 3]

LoRA from `mini` on pbmc68k-reduced, each time in a new process with as many threads as cores. Threads spin as torch has
it where torch is imported before frostline, which otherwise asks OpenMP to let them sleep. Others are processes that
compute all the time. The numbers of book/decisions/0015-threads-that-wait.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys

import pandas as pd

from frostline.comparison.report import markdown_table

TRAIN = """
import dataclasses, json, time
import {first}
import frostline
pbmc = frostline.load_dataset("pbmc68k-reduced")
cut = frostline.split(pbmc, seed=42, profile="quickstart")
(lora,) = frostline.strategies.build(["lora"], profile="quickstart")
lora = dataclasses.replace(lora, epochs={epochs}, min_steps=0)
lora.ensure_applicable(pbmc, cut)
started, used = time.perf_counter(), time.process_time()
lora.fit(pbmc, cut)
print(json.dumps([time.perf_counter() - started, time.process_time() - used]))
"""
FIRST = {"spin": "torch", "sleep": "frostline"}


def trained(waiting: str, epochs: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor of one training."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    code = TRAIN.format(first=FIRST[waiting], epochs=epochs)
    found = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    seconds, processor = json.loads(found.stdout.splitlines()[-1])
    return seconds, processor


def compute() -> None:
    """Keep one core busy."""
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.pop("OMP_WAIT_POLICY", None)  # which the import above has set for processes that it starts
    rows = []
    for n_others in (0, 1, os.cpu_count() or 1):
        others = [multiprocessing.get_context("spawn").Process(target=compute, daemon=True) for _ in range(n_others)]
        for other in others:
            other.start()
        rounds = [{waiting: trained(waiting, given.epochs) for waiting in FIRST} for _ in range(given.rounds)]
        for other in others:
            other.kill()
        for waiting in FIRST:
            seconds, processor = map(statistics.median, zip(*(each[waiting] for each in rounds), strict=True))
            ratio = statistics.median(each[waiting][0] / each["spin"][0] for each in rounds)
            rows.append([n_others, waiting, f"{seconds:.1f}", f"{processor:.1f}", f"{ratio:.2f}"])
    columns = ["others", "threads that wait", "seconds", "of the processor", "times the seconds of spinning"]
    print(markdown_table(pd.DataFrame(rows, columns=columns)))


if __name__ == "__main__":
    main()
