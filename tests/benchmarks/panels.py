"""How long a reader of the panels waits: for the panel, for a click, and for the kernel while a large map is drawn.

    python tests/benchmarks/panels.py

Imports are warm, as in a notebook that has loaded its data. "Kernel held" is the longest time for which the main
thread of the kernel did not get its turn, so the longest that another cell or click would have waited.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

import numpy as np

import frostline
from frostline.evaluation.metrics import prediction_metrics
from frostline.panels import AnnotationPanel, ResultPanel
from frostline.records import Cost, Record


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def held(until: Callable[[], bool]) -> float:
    """Longest time between two turns of this thread that asks for one every 5 ms."""
    longest, last = 0.0, time.perf_counter()
    while not until():
        time.sleep(0.005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def many_cells(n: int) -> frostline.Comparison:
    rng = np.random.default_rng(0)
    classes = tuple(f"type {i:02d}" for i in range(12))
    labels = rng.choice(classes, size=n)
    records = []
    for name in ("frozen_probe", "pca_logistic"):
        logits = rng.normal(size=(n, 12)) + 2 * (labels[:, None] == np.array(classes))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        records.append(
            Record(
                strategy=name, parameters={}, dataset="many", label_key="type", profile="full", seed=0, repeat=0,
                fingerprint="f", test_fingerprint="t", sizes={"train": 1, "validation": 1, "test": n, "genes": 1},
                classes=classes, cells=tuple(map(str, range(n))), labels=tuple(labels.tolist()),
                probabilities=probabilities, metrics=prediction_metrics(labels.tolist(), probabilities, classes),
                cost=Cost({"fit": 1.0}, 1, 1), umap=rng.normal(size=(n, 2)),
            )
        )  # fmt: skip
    return frostline.compare(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000, help="cells of the large map")
    cells = parser.parse_args().cells
    pbmc = frostline.load_dataset("pbmc68k-reduced")
    AnnotationPanel(pbmc, strategies=["majority"]).close()  # warm

    made: list[AnnotationPanel] = []
    print(f"panel made: {seconds(lambda: made.append(AnnotationPanel(pbmc, strategies=['majority']))):.3f} s")
    (panel,) = made
    panel.settle()
    row = panel.runner.plan._rows["head"]
    seed = panel.runner.plan.controls.seed
    clicks = {
        "tick a strategy": lambda: setattr(row.box, "value", not row.box.value),
        "another seed": lambda: setattr(seed, "value", seed.value + 1),
        "another label column": lambda: setattr(panel.data._label, "value", "louvain"),
    }
    for name, click in clicks.items():
        print(f"answer to: {name}: {1000 * seconds(click):.0f} ms")
        panel.settle()
    panel.close()

    comparison = many_cells(cells)
    comparison.leaderboard()
    results = ResultPanel()
    drawing = threading.Thread(target=lambda: results.settle())
    print(f"map of {cells:,} cells, asked for: {1000 * seconds(lambda: show(results, comparison)):.0f} ms")
    drawing.start()
    started = time.perf_counter()
    longest = held(lambda: not drawing.is_alive())
    assert results.map is not None
    print(f"drawn in {time.perf_counter() - started:.1f} s; kernel held {1000 * longest:.0f} ms at most")


def show(panel: ResultPanel, comparison: frostline.Comparison) -> None:
    """Draw the maps alone."""
    panel._quiet = True
    panel.unobserve_all("comparison")
    panel.set_trait("comparison", comparison)
    for control in (panel._left, panel._right):
        control.options = list(comparison.strategies)
    panel._left.value, panel._right.value = comparison.strategies
    panel._quiet = False
    panel._draw("Maps")


if __name__ == "__main__":
    main()
