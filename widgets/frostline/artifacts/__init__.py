"""What a run leaves in its folder, and the check of it.

A folder is replaced only as a whole and only where it holds what its manifest lists. Every number and picture in it
is derived again from the saved predictions by `check`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
