"""What comes in: a labelled data set, its genes, values and groups, and the split of its cells.

Everything is checked where it enters, so that a `Dataset` holds log-normalised values of named genes and cells.
Add a registered data set in `catalogue.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
