from .recipes import PretrainSettings
from .runs import pretrain

__all__ = ["PretrainSettings", "pretrain"]
