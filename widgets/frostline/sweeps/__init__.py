"""Sweeps: many runs of one notebook, each with other parameters, and what they show together."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
