from .connections import Workers, connected

__all__ = ["Workers", "connected"]
