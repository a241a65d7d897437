from . import checks
from .checks import check
from .evaluations import evaluate, evaluate_all, label_efficiency, leave_one_class_out

__all__ = ["check", "checks", "evaluate", "evaluate_all", "label_efficiency", "leave_one_class_out"]
