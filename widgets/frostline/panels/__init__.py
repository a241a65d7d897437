"""Panels for JupyterLab: thin widgets over the functions of the package."""

from frostline.panels.annotation import AnnotationPanel
from frostline.panels.data import DataPanel
from frostline.panels.progress import ProgressBar
from frostline.panels.results import ResultPanel
from frostline.panels.run import RunPanel

__all__ = ["AnnotationPanel", "DataPanel", "ProgressBar", "ResultPanel", "RunPanel"]
