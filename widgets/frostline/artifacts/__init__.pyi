from . import annotations, clusters
from .archive import load_comparison
from .exports import Run, begin, check, declared, export, save, save_annotation, save_clusters

__all__ = [
    "Run",
    "annotations",
    "begin",
    "check",
    "clusters",
    "declared",
    "export",
    "load_comparison",
    "save",
    "save_annotation",
    "save_clusters",
]
