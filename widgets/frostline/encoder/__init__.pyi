from . import embedding, vocabulary
from .checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from .downloads import download
from .embedding import embed
from .vocabulary import overlap

__all__ = [
    "Checkpoint",
    "download",
    "embed",
    "embedding",
    "load_checkpoint",
    "overlap",
    "save_checkpoint",
    "vocabulary",
]
