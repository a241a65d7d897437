from . import figures, report
from .comparisons import Comparison, compare

__all__ = ["Comparison", "compare", "figures", "report"]
