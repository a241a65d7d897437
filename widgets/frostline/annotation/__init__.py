"""A comparison becomes a model that is kept, and the model labels cells that nobody has labelled.

`adapt` fits and calibrates, a folder keeps it, `annotate` labels a query and says what is unknown, and why.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
