"""Panels for JupyterLab: thin widgets over the functions of the package."""

from frostline.panels.annotation import AnnotationPanel

__all__ = ["AnnotationPanel"]
