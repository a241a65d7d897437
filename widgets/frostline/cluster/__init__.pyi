from .atlases import annotate, embed
from .connections import Workers, connected

__all__ = ["Workers", "annotate", "connected", "embed"]
