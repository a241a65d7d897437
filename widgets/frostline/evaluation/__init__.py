"""One strategy on one split becomes a Record: checks before training, fit, metrics, estimates of time.

`checks` finds what would make a comparison unfair; `metrics` and `calibration` compute every number of a record.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
