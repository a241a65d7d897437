"""Panels for JupyterLab: thin widgets over the functions of the package."""

from frostline.panels.annotation import AnnotationPanel
from frostline.panels.progress import ProgressBar

__all__ = ["AnnotationPanel", "ProgressBar"]
