"""How `mini` is made: a corpus of cells, a recipe, the training run and the model card.

The result is a checkpoint that `frostline.encoder` loads as it loads the official ones.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
