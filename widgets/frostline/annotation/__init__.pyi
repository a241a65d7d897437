from .models import Model

__all__ = ["Model"]
