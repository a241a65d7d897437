"""The cells of an own notebook that trains nothing: its records are those of records.jsonl."""

PARAMETERS = """\
PROFILE: str = "quickstart"  # how much of the data
DATASET: str = "pbmc68k-reduced"  # a name, or a path
LABEL_KEY: str = ""  # of the data set
CHECKPOINT: str = "mini"  # a name or a folder
STRATEGIES: list[str] = ["pca_logistic"]  # what to compare
SEED: int = 42  # of the run
TARGET: float = 0.9  # accuracy to promise
RESUME: bool = False  # take over
OUTPUT_DIR: str = "artifacts/own"  # where the artifacts go
"""
SAVE = """\
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np

import frostline
from frostline import artifacts
from frostline.comparison.comparisons import compare
from frostline.records import load_records

settings = frostline.RunSettings.from_notebook(globals())
run = artifacts.begin(settings, tutorial="own")
if DATASET.endswith(".h5ad"):
    settings.load()
adata = anndata.AnnData(np.eye(160, 500, dtype=np.float32))
adata.obs["cell_type"] = ["B cell", "T cell"] * 80
dataset = frostline.load_dataset(adata, "cell_type", name="hand-made")
records = [replace(each, seed=SEED) for each in load_records(Path("records.jsonl")) if each.strategy in STRATEGIES]
folder = artifacts.save(run, compare(records), dataset)
"""
