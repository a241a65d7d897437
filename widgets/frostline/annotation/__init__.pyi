from .curation import Suspects, suspects
from .models import Model

__all__ = ["Model", "Suspects", "suspects"]
