from .adapting import adapt, keep
from .curation import Suspects, suspects
from .folders import load_model
from .models import Model

__all__ = ["Model", "Suspects", "adapt", "keep", "load_model", "suspects"]
