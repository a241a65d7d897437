from .grids import Grid
from .results import SweepResult
from .sweeping import sweep

__all__ = ["Grid", "SweepResult", "sweep"]
