"""How long principal components take by one thread and by as many as cores, alone and beside a busy program.

    python tests/benchmarks/decompositions.py [--rounds 3]

Made-up cells, a tenth of whose values are not zero; each time in a new process. The other program computes all the
time and belongs to another session, as a browser beside a notebook does: Linux divides the processor by sessions. The
numbers of book/decisions/0018-one-thread-decomposes.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

import pandas as pd

from frostline.comparison.report import markdown_table

SIZES = ((100, 2_000), (300, 2_000), (1_000, 2_000), (7_500, 2_000))
"""Cells and genes; of more cells than genes the eigenvectors of the covariance are taken."""
THREADS = {"one": 4_096, "all": 0}
"""Genes from which several threads decompose."""
DECOMPOSE = """
import sys, time
from scipy import sparse
from frostline.strategies import components
cells, genes, components.LARGE = map(int, sys.argv[1:])
values = sparse.random(cells, genes, density=0.1, format="csr", dtype="f4", random_state=0)
components._principal(values[:60], 5)  # what is imported
started = time.perf_counter()
components._principal(values, 50)
print(time.perf_counter() - started)
"""


def seconds(cells: int, genes: int, threads: str) -> float:
    """Seconds by the clock of one decomposition."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", DECOMPOSE, str(cells), str(genes), str(THREADS[threads])]
    found = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for cells, genes in SIZES:
        row = [f"{cells:,}"]
        for busy in (False, True):
            other = (
                subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) if busy else None
            )
            try:
                each = [{name: seconds(cells, genes, name) for name in THREADS} for _ in range(given.rounds)]
            finally:
                if other:
                    other.kill()
                    other.wait()
            row += [f"{statistics.median(found[name] for found in each):.2f}" for name in THREADS]
        rows.append(row)
    columns = ["cells", "alone, one thread", "alone, all threads", "beside another, one", "beside another, all"]
    print(markdown_table(pd.DataFrame(rows, columns=columns)))


if __name__ == "__main__":
    main()
