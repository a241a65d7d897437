from .adapting import adapt, keep
from .annotating import Annotation, annotate
from .curation import Suspects, suspects
from .folders import load_model, save_model
from .models import Model

__all__ = ["Annotation", "Model", "Suspects", "adapt", "annotate", "keep", "load_model", "save_model", "suspects"]
