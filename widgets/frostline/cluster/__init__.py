"""The same work on many processes or machines: Dask starts them, hands out the parts, and takes in what failed.

Needs the extra `frostline[cluster]`, which is imported when a cluster is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
