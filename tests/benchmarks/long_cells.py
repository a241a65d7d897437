"""Which genes of a long cell are best kept: random ones or the highest, read by the frozen probe.

    python tests/benchmarks/long_cells.py [FILE LABEL_KEY] [--lengths 150 300 600 1200]

cuts the cells of a data set (pancreas by default; of large ones 800 cells) to each length in both ways, and prints the
macro-F1 of the frozen probe over four splits.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

import frostline
from frostline.evaluation.metrics import macro_f1
from frostline.profiles import get_profile
from frostline.strategies import FrozenProbe
from frostline.strategies.encoder import known_genes

CELLS, SPLITS = 800, 4


def score(dataset: frostline.Dataset, cut: frostline.Split, probe: FrozenProbe) -> float:
    """Macro-F1 on the test cells."""
    fitted = probe.fit(dataset, cut)
    predicted = np.array(fitted.classes_)[fitted.predict_proba(dataset, cut.test).argmax(axis=1)]
    found = macro_f1(dataset.labels[cut.test], predicted)
    assert found is not None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="pancreas")
    parser.add_argument("label_key", nargs="?")
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 300, 600, 1_200])
    chosen = parser.parse_args()
    dataset = frostline.load_dataset(chosen.source, chosen.label_key)
    known = known_genes(dataset, frostline.load_checkpoint("mini"))
    expressed = np.diff(dataset.expression(np.arange(len(dataset)), known).indptr)
    profile = replace(get_profile("full"), max_cells=CELLS)
    cuts = [frostline.split(dataset, seed=0, repeat=repeat, profile=profile) for repeat in range(SPLITS)]
    for length in chosen.lengths:
        print(f"{length:5,} tokens, {(expressed >= length).mean():.0%} of the cells are longer")
        for which in ("random", "highest"):
            scores = [score(dataset, cut, FrozenProbe(max_length=length, long_cells=which)) for cut in cuts]
            print(f"      {which:8} {np.mean(scores):.3f}  {np.round(scores, 3).tolist()}", flush=True)


if __name__ == "__main__":
    main()
