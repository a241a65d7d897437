from . import clusters, labelled
from .archive import load_comparison
from .checking import check, declared
from .exports import Run, begin, export, save, save_annotation, save_clusters

__all__ = [
    "Run",
    "begin",
    "check",
    "clusters",
    "declared",
    "export",
    "labelled",
    "load_comparison",
    "save",
    "save_annotation",
    "save_clusters",
]
