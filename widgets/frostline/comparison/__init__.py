"""Records of the same splits become a Comparison: intervals, tests, a verdict, tables, text and figures.

What is computed (`likeness`, `significance`, `verdicts`, `comparisons`) never draws; what is shown (`tables`,
`report`, `figures`) never computes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
