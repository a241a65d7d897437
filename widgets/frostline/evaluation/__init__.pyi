from . import checks
from .checks import review
from .evaluations import evaluate, evaluate_all, label_efficiency, leave_one_class_out
from .inspecting import inspect
from .inspection import Inspection

__all__ = [
    "Inspection",
    "checks",
    "evaluate",
    "evaluate_all",
    "inspect",
    "label_efficiency",
    "leave_one_class_out",
    "review",
]
