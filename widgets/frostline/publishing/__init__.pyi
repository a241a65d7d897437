from .executions import execute
from .publications import publish
from .starting import init

__all__ = ["execute", "init", "publish"]
