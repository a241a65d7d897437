from . import (
    annotation,
    artifacts,
    cells,
    cluster,
    comparison,
    encoder,
    errors,
    evaluation,
    panels,
    pretraining,
    publishing,
    records,
    strategies,
    sweeps,
)
from .annotation import Model, adapt, load_model, suspects
from .artifacts import clusters, load_comparison
from .cells import Dataset, Split, genes, join_datasets, load_dataset, split
from .comparison import Comparison, compare, figures, report
from .encoder import embed, embedding, load_checkpoint, vocabulary
from .evaluation import checks, evaluate, evaluate_all, inspect, label_efficiency, leave_one_class_out
from .monitor import Monitor
from .profiles import profile_table
from .records import Record
from .settings import RunSettings
from .sweeps import sweep

__version__: str
__all__ = [
    "Comparison",
    "Dataset",
    "Model",
    "Monitor",
    "Record",
    "RunSettings",
    "Split",
    "adapt",
    "annotation",
    "artifacts",
    "cells",
    "checks",
    "cluster",
    "clusters",
    "compare",
    "comparison",
    "embed",
    "embedding",
    "encoder",
    "errors",
    "evaluate",
    "evaluate_all",
    "evaluation",
    "figures",
    "genes",
    "inspect",
    "join_datasets",
    "label_efficiency",
    "leave_one_class_out",
    "load_checkpoint",
    "load_comparison",
    "load_dataset",
    "load_model",
    "panels",
    "pretraining",
    "profile_table",
    "publishing",
    "records",
    "report",
    "split",
    "strategies",
    "suspects",
    "sweep",
    "sweeps",
    "vocabulary",
]
