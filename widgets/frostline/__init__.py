"""How deep do I have to thaw a single-cell foundation model: the fair comparison.

Five nouns - Dataset, Split, Strategy, Record, Comparison - and the verbs `split`, `evaluate`, `compare`.

Examples
--------
>>> import frostline
>>> pbmc = frostline.load_dataset("pbmc68k-reduced")
>>> cut = frostline.split(pbmc, seed=42)
>>> records = [frostline.evaluate(s, pbmc, cut) for s in frostline.strategies.build(["pca_logistic"])]
>>> frostline.compare(records).best
'pca_logistic'
"""

import os

import lazy_loader

# Read by OpenMP when torch is imported: its threads sleep while they wait for each other. Threads that spin, as they
# otherwise do, make training take up to four times as long beside other busy programs (book/decisions/0015).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
