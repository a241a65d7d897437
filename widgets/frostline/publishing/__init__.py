"""From a notebook to a page: papermill runs it, its artifacts are checked, the book shows it.

`executions` runs one notebook, `publications` all tutorials that have changed; `states` and `run_checks` decide what
counts as published.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
