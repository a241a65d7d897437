"""How deep do I have to thaw a single-cell foundation model: the fair comparison.

Five nouns - Dataset, Split, Strategy, Record, Comparison - and the verbs `split`, `evaluate`, `compare`.

Examples
--------
>>> import frostline
>>> pbmc = frostline.load_dataset("pbmc68k-reduced")
>>> cut = frostline.split(pbmc, seed=42)
>>> records = [frostline.evaluate(s, pbmc, cut) for s in frostline.strategies.build(["pca_logistic"])]
>>> frostline.compare(records).best
'pca_logistic'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that holds it; resolved on first use so that `import frostline` stays light
_HOMES = {
    "Comparison": "comparison",
    "Record": "records",
    "RunSettings": "settings",
    "Dataset": "datasets",
    "Split": "splits",
    "compare": "comparison",
    "embed": "embedding",
    "evaluate": "evaluation",
    "evaluate_all": "evaluation",
    "label_efficiency": "evaluation",
    "leave_one_class_out": "evaluation",
    "join_datasets": "joining",
    "load_checkpoint": "checkpoints",
    "load_comparison": "archive",
    "load_dataset": "datasets",
    "profile_table": "profiles",
    "split": "splits",
}
_MODULES = (
    *("artifacts", "checks", "clusters", "embedding", "figures", "genes", "panels", "report", "strategies"),
    "vocabulary",
)

__all__ = [
    "Comparison",
    "Dataset",
    "Record",
    "RunSettings",
    "Split",
    "artifacts",
    "checks",
    "clusters",
    "compare",
    "embed",
    "embedding",
    "evaluate",
    "evaluate_all",
    "figures",
    "genes",
    "join_datasets",
    "label_efficiency",
    "leave_one_class_out",
    "load_checkpoint",
    "load_comparison",
    "load_dataset",
    "panels",
    "profile_table",
    "report",
    "split",
    "strategies",
    "vocabulary",
]

if TYPE_CHECKING:
    from frostline import artifacts, checks, clusters, embedding, figures, genes, panels, report, strategies, vocabulary
    from frostline.archive import load_comparison
    from frostline.checkpoints import load_checkpoint
    from frostline.comparison import Comparison, compare
    from frostline.datasets import Dataset, load_dataset
    from frostline.embedding import embed
    from frostline.evaluation import evaluate, evaluate_all, label_efficiency, leave_one_class_out
    from frostline.joining import join_datasets
    from frostline.profiles import profile_table
    from frostline.records import Record
    from frostline.settings import RunSettings
    from frostline.splits import Split, split


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"frostline.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"frostline.{name}")
    raise AttributeError(f"module 'frostline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
