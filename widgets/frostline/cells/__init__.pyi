from . import genes
from .datasets import Dataset, load_dataset
from .joining import join_datasets
from .partitions import Split
from .queries import load_cells
from .splits import split

__all__ = ["Dataset", "Split", "genes", "join_datasets", "load_cells", "load_dataset", "split"]
