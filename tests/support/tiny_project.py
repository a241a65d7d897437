"""A project of tiny tutorials: their cells and their table of contents."""

PARAMETERS = """\
PROFILE: str = "quickstart"  # how much of the data
SEED: int = 42  # of the run
SHARE: float = 0.5  # of the cells
QUICK: bool = True  # or thorough
STRATEGIES: list[str] = ["pca_logistic", "head"]  # what to compare
OUTPUT_DIR: str = "artifacts/tiny"  # where the artifacts go
PLAIN = 3
BUDGETS: list[int] = [5]  # cells per class
"""
SAVE_RECORDS = """\
from pathlib import Path

import anndata
import numpy as np

import frostline
from frostline import artifacts
from frostline.comparison.comparisons import compare
from frostline.records import load_records

settings = frostline.RunSettings(seed=SEED, output_dir=OUTPUT_DIR)
run = artifacts.begin(settings, tutorial="tiny")
adata = anndata.AnnData(np.eye(160, 500, dtype=np.float32))
adata.obs["cell_type"] = ["B cell", "T cell"] * 80
dataset = frostline.load_dataset(adata, "cell_type", name="hand-made")
comparison = compare(load_records(Path("records.jsonl")))
comparison
"""
SAVE_ARTIFACTS = """\
folder = artifacts.save(run, comparison, dataset)
print(OUTPUT_DIR, artifacts.check(folder))
"""
TOC = """\
format: jb-book
root: index
chapters:
  - file: published/tiny
  - file: published/broken
    sections:
      - file: published/gone
"""
