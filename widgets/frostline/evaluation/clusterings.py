"""Check of where labels come from: whether they are a function of a clustering of the same cells."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.cells.catalogue import DATASETS
from frostline.cells.columns import columns_of
from frostline.cells.datasets import Dataset
from frostline.cells.groups import group_columns
from frostline.evaluation.cases import Case, Check, covers
from frostline.evaluation.maps import igraph_draws_from
from frostline.records import Finding
from frostline.threads import one_blas_thread

SAME_CLUSTERING = 0.9
"""Adjusted Rand index from which labels count as made from a clustering."""
FUNCTION_OF = 0.97
"""Homogeneity of the labels given a clustering in obs (1 - H(label | cluster) / H(label)) from which they count as a
function of it: clusters that were named have 1, less what was changed by hand. Labels that were not made from it stay
below: on pbmc68k-reduced 0.71 given its louvain, on pancreas 0.95 given Leiden."""
GIVEN_BACK = 0.9
"""Homogeneity of the labels given Leiden on the same matrix from which that is noted. Labels made of Leiden clusters of
another run (scaled or not, resolutions 0.3 to 1) reach 0.93 to 0.99 on pbmc68k-reduced, 0.84 to 0.95 on pancreas, 0.90
to 0.98 on Kang, 0.79 to 0.93 on pbmc3k. Labels that were made otherwise: bulk_labels of pbmc68k-reduced 0.71, its
louvain 0.87, cell types of Kang 0.82 and of pbmc3k 0.83, but those of pancreas 0.95: distinct types are given back
however they were found. So it is a note of what was measured, and no proof of where the labels come from."""
MIN_CELLS = 50
"""Fewer cells are not clustered."""
_MOST = 2_000  # cells that are clustered
_GENES = 2_000  # of the largest variance
_NEIGHBOURS = 15
_RESOLUTIONS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_CELLS_A_CLUSTER = 5  # on average; smaller clusters hold one label by chance
_NAMED = re.compile(r"leiden|louvain|cluster|phenograph|kmeans|k_means|(snn|rna|sct)_res", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:c|cl|clust|cluster)?[-_ ]?(\d+)(?:\.0)?", re.IGNORECASE)


def homogeneity(labels: NDArray[np.str_], clusters: NDArray[Any]) -> float:
    """How far the cluster of a cell decides its label: 1 - H(label | cluster) / H(label), 0 to 1.

    Rosenberg and Hirschberg 2007 (EMNLP-CoNLL).

    Examples
    --------
    >>> homogeneity(np.array(["T", "T", "T", "B"]), np.array(["0", "0", "1", "2"]))
    1.0
    """
    from sklearn.metrics import homogeneity_score

    return float(homogeneity_score(labels, clusters))


def _labels_from_clusters(case: Case) -> Iterator[Finding]:
    dataset, key = case.dataset, case.dataset.label_key
    same = _matching_clusterings(dataset)
    if same:
        yield _clustered(f"The labels {key!r} equal a clustering of the cells, or follow from it: {', '.join(same)}")
    elif _NAMED.search(key):
        yield _clustered(f"The label column {key!r} is named after a clustering")
    elif derived := _derived(dataset):
        name, notes = derived
        yield _clustered(f"The labels {key!r} of {name} were derived from expression", "note", *notes)
    else:
        yield from _given_back(dataset)


def _derived(dataset: Dataset) -> tuple[str, tuple[str, ...]] | None:
    for name in dataset.sets or (dataset.name,):
        spec = DATASETS.get(name)
        if spec and spec.derived_labels and spec.label_key == dataset.label_key:
            return name, spec.notes
    return None


def _clustered(title: str, severity: str = "warning", *notes: str) -> Finding:
    return Finding(
        "labels-from-clusters",
        severity,
        title,
        " ".join(notes)
        or "Labels that were made from the clusters of the same matrix can be read off its principal components, which "
        "favours PCA-based strategies and makes all scores optimistic.",
        "Say so beside the results; labels that come from sorting, from surface proteins or from experts who did not "
        "see the clusters are a fairer test.",
    )


def _matching_clusterings(dataset: Dataset) -> list[str]:
    """Columns of obs that hold a clustering which decides the labels, the closest first, with what was measured."""
    from sklearn.metrics import adjusted_rand_score

    found = {}
    for column in _clusterings(dataset):
        values = columns_of(dataset.obs)[column]
        known = values.notna().to_numpy()
        if not covers(known, dataset.labels):
            continue
        labels, clusters = dataset.labels[known], values[known].astype(str).to_numpy(dtype=str)
        index = float(adjusted_rand_score(labels, clusters))
        if index >= SAME_CLUSTERING:
            found[f"{column!r} (adjusted Rand index {index:.2f})"] = index
        elif len(np.unique(clusters)) <= len(clusters) / _CELLS_A_CLUSTER:
            share = homogeneity(labels, clusters)
            if share >= FUNCTION_OF:
                found[f"{column!r} (homogeneity {share:.2f} in {len(np.unique(clusters))} clusters)"] = index
    return sorted(found, key=lambda text: -found[text])


def _clusterings(dataset: Dataset) -> Iterator[str]:
    """Columns of obs that look like a clustering, by name or by values such as 0, 1, 2 ..."""
    others = {dataset.label_key, dataset.group_key, *group_columns(dataset)}
    for column, found in columns_of(dataset.obs).items():
        if column in others:
            continue
        values = found.dropna()
        if 2 <= values.nunique() <= len(values) / 2 and (_NAMED.search(column) or _numbered(values)):
            yield column


def _numbered(values: Any) -> bool:
    """Whether these are three numbers or more from 0 or 1 on, each in use."""
    matched = [_NUMBERED.fullmatch(str(value)) for value in values.unique()]
    numbers = sorted(int(found[1]) for found in matched if found)
    if len(numbers) < len(matched) or len(numbers) < 3:
        return False
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _given_back(dataset: Dataset) -> Iterator[Finding]:
    """Cluster the cells of each data set as is usual, and see whether the clusters decide the labels."""
    for name in dataset.sets or (dataset.name,):
        rows, partitions = _leiden_of(dataset, name)
        labels = dataset.labels[rows]
        if len(np.unique(labels)) < 2:
            continue
        measured = [(homogeneity(labels, found), len(np.unique(found))) for found in partitions]
        share, n = max(measured, default=(0.0, 0))
        if share >= GIVEN_BACK:
            yield Finding(
                "labels-from-clusters",
                "note",
                f"Leiden on the same matrix gives back the labels {dataset.label_key!r} of {name} (homogeneity "
                f"{share:.2f} in {n} clusters)",
                "Either they were made from such clusters, which favours PCA-based strategies and makes all scores "
                "optimistic, or the classes are so distinct that any method finds them. The numbers cannot tell which.",
                "Say where the labels come from; if they are named clusters, say so beside the results.",
            )


def _leiden_of(dataset: Dataset, name: str) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """A sample of the rows of a set, and its clusters at several resolutions; computed once, whatever the labels."""
    key = ("leiden", name)
    if key not in dataset.cache:
        rows = np.arange(len(dataset))
        if dataset.origin is not None:
            rows = np.flatnonzero(dataset.origin == name)
        if len(rows) > _MOST:
            rows = np.sort(np.random.default_rng(0).choice(rows, _MOST, replace=False))
        dataset.cache[key] = rows, leiden(dataset.matrix[rows])
    found: tuple[NDArray[np.int64], list[NDArray[np.int64]]] = dataset.cache[key]
    return found


def leiden(matrix: Any) -> list[NDArray[np.int64]]:
    """Cluster cells at several resolutions, on principal components of genes as they are and scaled; seeded.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) CSR of log-normalised values.

    Returns
    -------
    list of ndarray
        (n_cells,) numbers of clusters, one array a resolution and kind of components; empty for few cells.

    Examples
    --------
    >>> from frostline.cells.datasets import load_dataset
    >>> pancreas = load_dataset("pancreas")
    >>> max(round(homogeneity(pancreas.labels, found), 2) for found in leiden(pancreas.matrix))
    0.95
    """
    if matrix.shape[0] < MIN_CELLS:
        return []
    found = []
    for components in _components(matrix):
        graph, weights = _neighbour_graph(components)
        for resolution in _RESOLUTIONS:
            with igraph_draws_from(random.Random(0)):
                parts = graph.community_leiden(
                    objective_function="modularity", weights=weights, resolution=resolution, n_iterations=2
                )
            if len(parts) <= matrix.shape[0] / _CELLS_A_CLUSTER:
                found.append(np.asarray(parts.membership, dtype=np.int64))
    return found


def _components(matrix: Any) -> Iterator[NDArray[np.floating]]:
    from sklearn.decomposition import PCA

    mean = np.asarray(matrix.mean(axis=0)).ravel()
    variance = np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel() - mean**2
    values = matrix[:, np.sort(np.argsort(-variance, kind="stable")[:_GENES])].toarray()
    spread = values.std(axis=0)
    scaled = np.clip((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1), -10, 10)
    for space, n in ((values, 30), (scaled, 50)):
        n = min(n, min(space.shape) - 1)
        if n >= 2:
            with one_blas_thread():
                components = PCA(n, svd_solver="randomized", random_state=0).fit_transform(space)
            yield components


def _neighbour_graph(components: NDArray[np.floating]) -> tuple[Any, list[float]]:
    """Graph of nearest neighbours, weighted by the share of the neighbours that two cells have in common."""
    import igraph
    from scipy import sparse
    from sklearn.neighbors import kneighbors_graph

    nearest = kneighbors_graph(components, min(_NEIGHBOURS, len(components) - 1))
    nearest = nearest.maximum(nearest.T)
    common = sparse.triu((nearest @ nearest).multiply(nearest > 0), 1).tocoo()
    weights = common.data / np.clip(2 * _NEIGHBOURS - common.data, 1, None)
    return igraph.Graph(n=len(components), edges=np.column_stack([common.row, common.col])), weights.tolist()


CHECKS: tuple[Check, ...] = (_labels_from_clusters,)
