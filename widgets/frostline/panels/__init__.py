"""Panels for JupyterLab: thin widgets over the functions of the package."""

from frostline.panels.annotate import AnnotatePanel
from frostline.panels.annotation import AnnotationPanel
from frostline.panels.cellmap import CellMap
from frostline.panels.data import DataPanel
from frostline.panels.labelled import LabelledPanel
from frostline.panels.progress import ProgressBar
from frostline.panels.results import ResultPanel
from frostline.panels.run import RunPanel
from frostline.panels.sweeps import SweepPanel

__all__ = [
    "AnnotatePanel",
    "AnnotationPanel",
    "CellMap",
    "DataPanel",
    "LabelledPanel",
    "ProgressBar",
    "ResultPanel",
    "RunPanel",
    "SweepPanel",
]
