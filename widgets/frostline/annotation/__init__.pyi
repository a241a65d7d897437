from .adapting import adapt, keep
from .folders import load_model
from .models import Model

__all__ = ["Model", "adapt", "keep", "load_model"]
