"""The data sets that frostline knows.

To add one, add a DatasetSpec to `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.cells.reading import read_h5ad
from frostline.errors import DatasetError
from frostline.scratch import scratch_folder

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class DatasetSpec:
    """One known data set and how it is to be read."""

    name: str
    load: Callable[[], AnnData]
    label_key: str
    description: str
    layer: str | None = None
    """`raw`, a key of `layers`, or None for X."""
    values: str | None = None
    """What the values are, one of `frostline.cells.values.NAMES`; None to find it out."""
    group_key: str | None = None
    notes: tuple[str, ...] = ()
    """What must be said wherever results on it are shown."""
    derived_labels: bool = False
    """Whether the labels were derived from expression, as a note says."""
    cached: Callable[[], Path] | None = None
    """Where it is once it has been downloaded; None for one that is installed."""

    @property
    def is_here(self) -> bool:
        """Whether it loads without a network."""
        return self.cached is None or self.cached().is_file()


def _pbmc68k_reduced() -> AnnData:
    import scanpy as sc

    return sc.datasets.pbmc68k_reduced()


def _pbmc3k_file() -> Path:
    import scanpy as sc

    return Path(sc.settings.datasetdir) / "pbmc3k_processed.h5ad"


def _pbmc3k() -> AnnData:
    import scanpy as sc

    cached = _pbmc3k_file()
    try:
        if not cached.is_file():
            _download_pbmc3k(cached)
        return sc.datasets.pbmc3k_processed()
    except OSError as error:  # URLError is one
        raise DatasetError(
            f"data set 'pbmc3k' is not cached at {cached} and could not be downloaded ({error}). "
            "Without a network use 'pbmc68k-reduced', which is installed with scanpy, or the path of an .h5ad file."
        ) from error


def _download_pbmc3k(cached: Path) -> None:
    """Put the file in place when it is whole; scanpy writes it there from the first byte on, for others to find."""
    import scanpy as sc

    usual = sc.settings.datasetdir
    usual.mkdir(parents=True, exist_ok=True)
    with scratch_folder(usual) as folder:
        sc.settings.datasetdir = folder
        try:
            sc.datasets.pbmc3k_processed()
        finally:
            sc.settings.datasetdir = usual
        (folder / cached.name).replace(cached)


def _pancreas() -> AnnData:
    return read_h5ad(Path(__file__).parents[1] / "data" / "datasets" / "pancreas_baron_human_175.h5ad")


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="pbmc68k-reduced",
            load=_pbmc68k_reduced,
            label_key="bulk_labels",
            layer="raw",
            description="700 blood cells x 765 genes (10x, donor A), 10 cell types; installed with scanpy",
            notes=(
                "The labels were given by correlation with purified populations' expression, "
                "which favours methods close to PCA.",
            ),
            derived_labels=True,
        ),
        DatasetSpec(
            name="pbmc3k",
            load=_pbmc3k,
            label_key="louvain",
            layer="raw",
            description="2,638 blood cells x 13,714 genes (10x), 8 cell types; downloaded by scanpy",
            notes=("The labels are clusters of the same matrix, which favours methods close to PCA.",),
            derived_labels=True,
            cached=_pbmc3k_file,
        ),
        DatasetSpec(
            name="pancreas",
            load=_pancreas,
            label_key="cell_type",
            group_key="donor",
            description="175 pancreas cells x 12,474 genes (inDrop, 4 donors), 5 cell types; installed with frostline",
            notes=("inDrop, four donors; 5 types x 35 cells, balanced by selection.",),
        ),
    )
}
