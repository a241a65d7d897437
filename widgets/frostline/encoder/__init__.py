"""scGPT: the model, its tokens, its checkpoints and where they are fetched, and embeddings of cells.

Nothing here knows of labels or strategies. Add a checkpoint in `checkpoints.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
