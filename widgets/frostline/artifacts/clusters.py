"""Clusters in an embedding: how they agree with the labels, their marker genes, and what such a study leaves.

scanpy does the work, in the notebook; here its answer is taken out of the AnnData, written, drawn and checked.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.artifacts.manifests import Manifest
from frostline.artifacts.pictures import redrawn_problems, rendered
from frostline.cells.datasets import Dataset
from frostline.comparison.drawing import DPI, scatter_kinds
from frostline.comparison.lettering import Legend
from frostline.comparison.report import markdown_table
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import ArtifactError, DatasetError
from frostline.escaping import for_markdown
from frostline.hashes import file_sha256
from frostline.settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STUDY = "clusters"
"""The study that is of an embedding alone."""
EMBEDDING, CELLS, MARKERS, PICTURE, REPORT = (
    "embedding.npy",
    "cells.csv",
    "markers.csv",
    "embedding_umap.png",
    "report.md",
)
FILES = (EMBEDDING, CELLS, MARKERS, PICTURE, REPORT)
"""What a study of clusters leaves, the manifest aside."""
COLUMNS = {
    "cells": ("cell", "label", "cluster", "umap_1", "umap_2"),
    "markers": ("cluster", "rank", "gene", "score", "log_fold_change", "p_adjusted"),
}
TEXT = ("cell", "label", "gene")
"""Columns in which NA or an empty text is a name, and 01 is not 1."""
N_MARKERS = 10
UNIT = 1e-4
"""How far the norm of a row of the embedding may be from 1."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """An embedding of labelled cells, its clusters and their marker genes."""

    embedding: NDArray[np.float32]
    """(n_cells, d), rows of norm 1."""
    cells: pd.DataFrame
    """Columns cell, label, cluster, umap_1, umap_2."""
    markers: pd.DataFrame
    """Columns cluster, rank, gene, score, log_fold_change, p_adjusted; the best first in each cluster."""

    @property
    def agreement(self) -> dict[str, float]:
        """Adjusted Rand index and normalised mutual information of clusters and labels."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        pair = self.cells["label"], self.cells["cluster"].astype(str)
        return {"ARI": float(adjusted_rand_score(*pair)), "NMI": float(normalized_mutual_info_score(*pair))}

    def table(self) -> pd.DataFrame:
        """Cells of every label (rows) in every cluster (columns)."""
        import pandas as pd

        return pd.crosstab(self.cells["label"], self.cells["cluster"])

    def marker_table(self, n: int = 3) -> pd.DataFrame:
        """The first marker genes of every cluster, as text."""
        shown = self.markers[self.markers["rank"] <= n].rename(
            columns={"log_fold_change": "log2 fold change", "p_adjusted": "adjusted p"}
        )
        for column, layout in (("score", "{:.1f}"), ("log2 fold change", "{:.2f}"), ("adjusted p", "{:.1e}")):
            shown[column] = shown[column].map(layout.format)
        return shown.set_index(["cluster", "rank"])


def annotated(dataset: Dataset, cells: Sequence[int] | NDArray[np.integer] | None = None) -> AnnData:
    """Build an AnnData for scanpy: log-normalised values in X, labels in obs["label"].

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> annotated(load_dataset("pbmc68k-reduced"), range(20)).shape
    (20, 765)
    """
    import anndata
    import pandas as pd

    rows = np.arange(len(dataset)) if cells is None else np.sort(np.asarray(cells))
    obs = pd.DataFrame({"label": pd.Categorical(dataset.labels[rows])}, index=dataset.cells[rows].tolist())
    matrix = dataset.expression(rows, list(dataset.genes))
    return anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(dataset.genes)))


def collect(adata: AnnData, *, embedding: str = "X_scGPT", clusters: str = "leiden", n: int = N_MARKERS) -> Clusters:
    """Take embedding, clusters, UMAP and marker genes out of an AnnData that scanpy has worked on.

    Parameters
    ----------
    adata
        With obs["label"], obs[clusters], obsm[embedding], obsm["X_umap"] and uns["rank_genes_groups"].
    embedding
        Key of obsm: an embedding by a checkpoint, with rows of norm 1.
    clusters
        Column of obs: numbers, as scanpy gives them.
    n
        Marker genes kept for each cluster.

    Raises
    ------
    DatasetError
        One of them is missing, or is of something else; names the step that makes it.
    """
    import pandas as pd
    import scanpy as sc

    neighbors = "" if "neighbors" in adata.uns else f"sc.pp.neighbors(adata, use_rep={embedding!r}); "
    rank = f"sc.tl.rank_genes_groups(adata, {clusters!r})"
    leiden = f"sc.tl.leiden(adata, flavor='igraph', directed=False, n_iterations=2, key_added={clusters!r})"
    steps = {
        f"obsm[{embedding!r}]": (embedding in adata.obsm, f"frostline.embed(adata, key_added={embedding!r})"),
        "obsm['X_umap']": ("X_umap" in adata.obsm, f"{neighbors}sc.tl.umap(adata)"),
        f"obs[{clusters!r}]": (clusters in adata.obs, f"{neighbors}{leiden}"),
        "uns['rank_genes_groups']": ("rank_genes_groups" in adata.uns, rank),
    }
    for name, (there, step) in steps.items():
        if not there:
            raise DatasetError(f"the AnnData has no {name}; run {step} first")
    coordinates = np.asarray(adata.obsm[embedding], dtype=np.float32)
    if not _is_unit(coordinates):
        raise DatasetError(
            f"obsm[{embedding!r}] has rows that are not all finite and of norm 1, as those of a checkpoint's embedding "
            "are; make one (frostline.embed(adata, key_added='X_scGPT')), cluster in it: embedding='X_scGPT'"
        )
    numbers = _numbers(adata.obs[clusters], clusters, rank)
    groups = adata.uns["rank_genes_groups"]["names"].dtype.names
    if set(groups) != set(adata.obs[clusters].astype(str)):
        raise DatasetError(
            f"uns['rank_genes_groups'] is of the groups {', '.join(groups[:5])}, and not of the clusters in "
            f"obs[{clusters!r}]; run {rank} first"
        )
    umap = np.asarray(adata.obsm["X_umap"], dtype=float)
    cells = pd.DataFrame(
        {
            "cell": adata.obs_names.astype(str),
            "label": adata.obs["label"].astype(str).to_numpy(),
            "cluster": numbers,
            "umap_1": umap[:, 0],
            "umap_2": umap[:, 1],
        }
    )
    found = sc.get.rank_genes_groups_df(adata, None).rename(
        columns={"names": "gene", "scores": "score", "logfoldchanges": "log_fold_change", "pvals_adj": "p_adjusted"}
    )
    found["cluster"] = (found["group"] if "group" in found else pd.Series(groups[0], found.index)).astype(int)
    found = found.sort_values(["cluster", "score"], ascending=[True, False], kind="stable")
    found["rank"] = found.groupby("cluster").cumcount() + 1
    markers = found[found["rank"] <= n][list(COLUMNS["markers"])].reset_index(drop=True)
    return Clusters(coordinates, cells, markers)


def _is_unit(embedding: NDArray[np.float32]) -> bool:
    """Whether all rows are finite and of norm 1."""
    return bool((abs(np.linalg.norm(embedding, axis=1) - 1) <= UNIT).all())  # a norm that is NaN is not


def _numbers(column: pd.Series[Any], key: str, rank: str) -> NDArray[np.int64]:
    """Clusters as whole numbers, refused with the line that makes them so."""
    if column.isna().any():
        line = f"adata = adata[adata.obs[{key!r}].notna()].copy(); {rank}"
        raise DatasetError(f"obs[{key!r}] names no cluster for {column.isna().sum():,} cells; run {line} first")
    texts = column.astype(str)
    named = next((text for text in texts.unique() if not re.fullmatch(r"\d+", text)), None)
    if named is not None:
        line = f"adata.obs[{key!r}] = adata.obs[{key!r}].astype('category').cat.codes.astype(str).astype('category')"
        raise DatasetError(f"obs[{key!r}] holds {named!r}, and clusters are numbered here; run {line}; {rank} first")
    numbers: NDArray[np.int64] = texts.astype(int).to_numpy()
    return numbers


def umap_figure(found: Clusters) -> Figure:
    """UMAP of the embedding twice: coloured by label, and by cluster."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), dpi=DPI, layout="constrained")
    pair = figure.subplots(1, 2)
    legends = [_draw(axes, found.cells, column) for axes, column in zip(pair, ("label", "cluster"), strict=True)]
    figure.set_size_inches(
        2 * max(5.2, *(legend.width for legend in legends)), 3.8 + max(legend.height for legend in legends)
    )
    return figure


def _draw(axes: Axes, cells: pd.DataFrame, column: str) -> Legend:
    size = float(np.clip(6_000 / len(cells), 2, 20))
    points, kinds = cells[["umap_1", "umap_2"]].to_numpy(), cells[column].to_numpy()
    scatter_kinds(axes, points, kinds, sorted(set(kinds)), size)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.set_title(f"by {column}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    legend = Legend.of(axes, points=7)
    legend.below(axes)
    return legend


def report_markdown(found: Clusters, name: str) -> str:
    """report.md: how many cells and clusters, how they agree with the labels, the first marker genes."""
    import pandas as pd

    sizes = found.cells["cluster"].value_counts().sort_index()
    genes = found.markers.groupby("cluster")["gene"].apply(lambda column: ", ".join(column[:5]))
    most = found.table().idxmax()
    rows = [(c, sizes[c], most[c], genes.get(c, "NA")) for c in sizes.index]
    table = pd.DataFrame(rows, columns=["Cluster", "Cells", "Most frequent label", "Marker genes"])
    agreement = ", ".join(f"{key} {value:.4f}" for key, value in found.agreement.items())
    return (
        f"# Clusters of {for_markdown(name)} in a frozen embedding\n\n"
        f"{len(found.cells)} cells, {found.embedding.shape[1]} dimensions, {len(sizes)} clusters.\n\n"
        f"Agreement of clusters and labels: {agreement}.\n\n{markdown_table(table)}\n"
    )


def write(folder: Path, found: Clusters, name: str) -> None:
    """Write all files of a study into a folder; the picture carries the sha256 of the table it was drawn from."""
    write_data(folder, found)
    source = file_sha256(folder / CELLS)
    (folder / PICTURE).write_bytes(_drawn(read(folder), source))
    (folder / REPORT).write_text(report_markdown(read(folder), name), encoding="utf-8")


def write_data(folder: Path, found: Clusters) -> None:
    """Write what cannot be made from the rest: embedding, cells and marker genes."""
    np.save(folder / EMBEDDING, found.embedding)
    _write_table(folder / CELLS, found.cells)
    _write_table(folder / MARKERS, found.markers)


def _drawn(found: Clusters, source: str) -> bytes:
    return rendered(lambda: umap_figure(found), PICTURE, source)


def facts(found: Clusters, settings: RunSettings) -> dict[str, Any]:
    """What the manifest says of a study beside the data set: with which checkpoint it was made."""
    used = load_checkpoint(settings.checkpoint)
    return {
        "parameters": settings.model_copy(update={"checkpoint": used.label}).model_dump(),
        "seed": settings.seed,
        "strategies": [],
        "repeats": [],
        "studies": [STUDY],
        "splits": {},
        "checkpoints": {used.label: used.weights_sha256},
    }


def _write_table(path: Path, table: pd.DataFrame) -> None:
    unquoted = any("\r" in str(text) for column in TEXT if column in table for text in table[column])
    table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC if unquoted else csv.QUOTE_MINIMAL)


def read(folder: Path) -> Clusters:
    """Read what `write` wrote.

    Raises
    ------
    ArtifactError
        A file is missing, damaged, or has other columns.
    """
    try:
        cells, markers = (_read_table(folder / name) for name in (CELLS, MARKERS))
        embedding = np.load(folder / EMBEDDING, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} holds no clusters that can be read: {error}") from error
    for file, table, columns in ((CELLS, cells, COLUMNS["cells"]), (MARKERS, markers, COLUMNS["markers"])):
        if tuple(table.columns) != columns:
            raise ArtifactError(f"{file}: columns are {list(table.columns)}, not {list(columns)}")
    return Clusters(embedding, cells, markers)


def _read_table(path: Path) -> pd.DataFrame:
    """Names stay as they are written: `NA` is a name, and so is `001`."""
    import pandas as pd

    columns = pd.read_csv(path, nrows=0).columns
    numbers = {column: [""] for column in columns if column not in TEXT}
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=numbers)


def problems(folder: Path, manifest: Manifest, draws: bool = False) -> tuple[int, list[str]]:
    """Hold the files of a study to each other and to its manifest.

    Parameters
    ----------
    folder, manifest
        What was written, and what it says of itself.
    draws
        Whether the picture is drawn again.

    Returns
    -------
    tuple
        How many reported numbers were recomputed, and a sentence for everything that is wrong.
    """
    try:
        found = read(folder)
    except ArtifactError as error:
        return 0, [str(error)]
    wrong = [*_embedding_problems(found, manifest), *_marker_problems(found)]
    wanted = report_markdown(found, manifest.dataset.name)
    if (folder / REPORT).read_text(encoding="utf-8", errors="replace") != wanted:
        wrong.append(f"{REPORT}: is not what {CELLS} and {MARKERS} give")
    if draws and not wrong:
        source = file_sha256(folder / CELLS)
        wrong += redrawn_problems(folder, [PICTURE], source, lambda _: _drawn(found, source))
    return len(found.agreement) + found.cells["cluster"].nunique(), wrong


def _embedding_problems(found: Clusters, manifest: Manifest) -> list[str]:
    wrong, cells = [], found.cells
    if found.embedding.ndim != 2 or len(found.embedding) != len(cells):
        return [f"{EMBEDDING}: has shape {found.embedding.shape} for {len(cells)} cells"]
    if not _is_unit(found.embedding):
        wrong.append(f"{EMBEDDING}: rows are not all finite and of norm 1")
    if cells["cell"].duplicated().any() or not 0 < len(cells) <= (manifest.dataset.cells or 0):
        wrong.append(f"{CELLS}: its cells are not some of the data set's {manifest.dataset.cells}, each once")
    if not np.isfinite(cells[["umap_1", "umap_2"]].to_numpy(dtype=float)).all():
        wrong.append(f"{CELLS}: a UMAP coordinate is missing")
    return wrong


def _marker_problems(found: Clusters) -> list[str]:
    wrong, markers = [], found.markers
    if set(markers["cluster"]) != set(found.cells["cluster"]):
        wrong.append(f"{MARKERS}: its clusters are not those of {CELLS}")
    for cluster, part in markers.groupby("cluster"):
        if part["rank"].tolist() != list(range(1, len(part) + 1)) or part["gene"].duplicated().any():
            wrong.append(f"{MARKERS}: cluster {cluster} has not each gene once, ranked from 1")
        if (part["score"].diff().dropna() > 0).any() or not part["p_adjusted"].between(0, 1).all():
            wrong.append(f"{MARKERS}: cluster {cluster} is not sorted by score, or a p-value is not between 0 and 1")
    return wrong


def described(found: Clusters) -> str:
    """Agreement in a line, for a notebook.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = pd.DataFrame({"label": ["B", "B", "T", "T"], "cluster": [0, 0, 1, 1]})
    >>> described(Clusters(np.eye(4, dtype=np.float32), cells, pd.DataFrame()))
    '2 clusters of 4 cells; agreement with the labels: ARI 1.0000, NMI 1.0000'
    """
    agreement = ", ".join(f"{key} {value:.4f}" for key, value in found.agreement.items())
    n = found.cells["cluster"].nunique()
    return f"{n} clusters of {len(found.cells)} cells; agreement with the labels: {agreement}"
