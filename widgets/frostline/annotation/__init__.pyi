from .adapting import adapt, keep
from .annotating import Annotation, annotate
from .folders import load_model
from .models import Model

__all__ = ["Annotation", "Model", "adapt", "annotate", "keep", "load_model"]
