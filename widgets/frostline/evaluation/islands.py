"""Islands of a map: groups of cells with empty space between them, drawn nearer to each other where that is wide.

How far apart a UMAP puts islands means little, and the more of a picture is empty, the smaller is what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix

WIDEST = 1 / 16
"""Of an empty gap, in diagonals of the map that is drawn."""
SPACINGS = 4
"""No gap is narrowed to less than so many distances of a place to its nearest, which nine places in ten keep."""
MOST = 60
"""Gaps that are narrowed, the widest."""
ROUNDS = 8
CELLS = 4
"""Fewer of them have no islands."""


@dataclass(frozen=True)
class Islands:
    """Which island each cell is of, and how far each island is moved."""

    codes: NDArray[np.int64] = field(repr=False)
    """(n_cells,) -1 where a cell is on no map."""
    shifts: NDArray[np.float64]
    """(n_islands, 2), in units of the map."""

    @property
    def move(self) -> bool:
        """Whether any is moved."""
        return bool(self.shifts.any())

    def nearer(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n_cells, 2) places of the cells with the islands moved."""
        return np.asarray(points + np.vstack([self.shifts, [[0.0, 0.0]]])[self.codes], dtype=np.float64)


def islands_of(points: NDArray[np.floating]) -> Islands:
    """Find the islands of a map, and move them until no gap between them is wider than `WIDEST`.

    Islands are the parts that single linkage finds at this width. The two that are nearest to each other come first:
    the one with fewer cells is moved straight towards the other, and from then on both move as one. So islands keep
    their shape and size, none comes nearer to another than `WIDEST`, and none changes sides with its nearest one.

    Parameters
    ----------
    points
        (n_cells, 2), NaN where a cell is on no map.

    Returns
    -------
    Islands
        One island where no gap is wide.

    Examples
    --------
    >>> one = np.random.default_rng(0).normal(size=(50, 2))
    >>> len(islands_of(np.vstack([one, one + [100, 0]])).shifts)
    2
    """
    there = np.isfinite(points).all(axis=1)
    placed = np.asarray(points[there], dtype=np.float64)
    codes = np.where(there, 0, -1)
    shifts = np.zeros((1, 2))
    if len(placed) >= CELLS and np.ptp(placed, axis=0).any():
        codes[there], shifts = _moved(placed)
    return Islands(codes, shifts)


def narrowed(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n_cells, 2) places on a map whose wide gaps are drawn narrower.

    Examples
    --------
    >>> one = np.random.default_rng(0).normal(size=(50, 2))
    >>> bool(np.ptp(narrowed(np.vstack([one, one + [100, 0]]))[:, 0]) < 11)
    True
    """
    return islands_of(points).nearer(points)


def _moved(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Island of each point and how far it moves: the narrower the map becomes, the narrower may its gaps be."""
    from scipy.spatial import KDTree

    edges, lengths = _neighbours(points)
    tree = _spanning_tree(edges, lengths, len(points))
    places = np.unique(points, axis=0)  # cells may coincide, and islands without extent have no narrower gap to keep
    least = SPACINGS * np.quantile(KDTree(places).query(places, 2)[0][:, 1], 0.9)
    if len(tree.data) > MOST:
        least = max(least, np.sort(tree.data)[-MOST - 1])
    drawn = points
    for _ in range(ROUNDS):
        size = np.ptp(drawn, axis=0)
        widest = max(least, WIDEST * float(np.linalg.norm(size)))
        codes = _parts(tree, widest)
        shores = np.zeros(len(points), dtype=bool)
        shores[edges[lengths > widest].ravel()] = True
        shifts = _shifts([points[shores & (codes == i)] for i in range(codes.max() + 1)], np.bincount(codes), widest)
        drawn = points + shifts[codes]
        if np.allclose(np.ptp(drawn, axis=0), size, rtol=0.01):
            break
    return codes, shifts


def _neighbours(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of points whose Voronoi cells touch, and their distances; the shortest tree through all has no others."""
    from scipy.spatial import Delaunay

    corners = Delaunay(points, qhull_options="QJ Pp").simplices.astype(np.int64)  # QJ: points may coincide
    pairs = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    keys = np.unique(pairs[:, 0] * len(points) + pairs[:, 1])
    edges = np.column_stack([keys // len(points), keys % len(points)])
    return edges, np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)


def _spanning_tree(edges: NDArray[np.int64], lengths: NDArray[np.float64], n: int) -> coo_matrix:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    some = np.maximum(lengths, np.finfo(float).tiny)  # an edge of length 0 would be none
    return minimum_spanning_tree(coo_matrix((some, edges.T), shape=(n, n)).tocsr()).tocoo()


def _parts(tree: coo_matrix, widest: float) -> NDArray[np.int64]:
    """Part of each point when the longer edges of a tree are cut."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    kept = tree.data <= widest
    cut = coo_matrix((tree.data[kept], (tree.row[kept], tree.col[kept])), shape=tree.shape)
    return np.asarray(connected_components(cut, directed=False)[1], dtype=np.int64)


def _shifts(islands: list[NDArray[np.float64]], sizes: NDArray[np.int64], widest: float) -> NDArray[np.float64]:
    """(n_islands, 2) how far each island moves, from the points of their shores.

    A move is no longer than the narrowest gap exceeds `widest`, so that by the triangle inequality no gap becomes
    narrower than that.
    """
    n = len(islands)
    shifts, groups = np.zeros((n, 2)), np.arange(n)
    ways = np.zeros((n, n, 2))
    gaps = np.full((n, n), np.inf)

    def measure(i: Any, j: Any) -> None:
        way = _shortest_way(islands[i] + shifts[i], islands[j] + shifts[j])
        ways[i, j], ways[j, i] = way, -way
        gaps[i, j] = gaps[j, i] = np.hypot(*way)

    for i, j in zip(*np.triu_indices(n, 1), strict=True):
        measure(i, j)
    for _ in range(n - 1):
        i, j = np.unravel_index(np.argmin(np.where(groups[:, None] == groups, np.inf, gaps)), gaps.shape)
        if sizes[groups == groups[i]].sum() > sizes[groups == groups[j]].sum():
            i, j = j, i
        moved = groups == groups[i]
        if gaps[i, j] > widest:
            shifts[moved] += ways[i, j] * (1 - widest / gaps[i, j])
            for a in np.flatnonzero(moved):
                for b in np.flatnonzero(~moved):
                    measure(a, b)
        groups[moved] = groups[j]
    return shifts


def _shortest_way(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) from a point of one island to its nearest of another, where that is nearest of all."""
    from scipy.spatial import KDTree

    distances, nearest = KDTree(others).query(some)
    i = int(np.argmin(distances))
    return np.asarray(others[nearest[i]] - some[i])
