"""Islands of a map: found where the gaps are, moved together, never nearer than the width that is left."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist

from frostline.evaluation.islands import MOST, WIDEST, islands_of

SQUARE = np.stack(np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 1, 6)), axis=-1).reshape(-1, 2)
"""36 points a fifth apart."""


def gaps(points: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Least distance between each two islands."""
    parts = [points[codes == i] for i in range(codes.max() + 1)]
    return np.array([cdist(a, b).min() for i, a in enumerate(parts) for b in parts[:i]])


@pytest.fixture(params=range(4))
def scattered(request):
    """Islands of different sizes, far apart."""
    rng = np.random.default_rng(request.param)
    middles, sizes = rng.uniform(-40, 40, (8, 2)), rng.integers(1, 80, 8)
    return np.concatenate([middle + rng.normal(0, 1, (n, 2)) for middle, n in zip(middles, sizes, strict=True)])


def test_two_islands_keep_their_shapes_and_come_as_near_as_is_left_to_them():
    points = np.vstack([SQUARE, SQUARE[:30] + np.array([50, 0])])
    found = islands_of(points)
    assert found.codes.tolist() == [0] * 36 + [1] * 30
    assert found.shifts[0].tolist() == [0, 0]  # of more cells
    drawn = found.nearer(points)
    np.testing.assert_allclose(pdist(drawn[36:]), pdist(points[36:]))
    np.testing.assert_allclose(drawn[36:, 1], points[36:, 1])
    # Four times the .2 between neighbours, since a sixteenth of the diagonal is less
    assert gaps(drawn, found.codes)[0] == pytest.approx(0.8)


def test_dense_islands_come_as_near_as_a_sixteenth_of_the_diagonal():
    """Unit squares beside each other with a gap g: 16 g is the root of (2 + g)^2 + 1, so 255 g^2 - 4 g - 5 = 0."""
    line = np.linspace(0, 1, 41)  # four times its steps are less
    dense = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    points = np.vstack([dense, dense + np.array([50, 0])])
    found = islands_of(points)
    assert gaps(found.nearer(points), found.codes)[0] == pytest.approx((4 + np.sqrt(5_116)) / 510, rel=0.01)


def test_no_gap_is_narrowed_below_a_sixteenth_of_what_is_drawn(scattered):
    found = islands_of(scattered)
    assert len(found.shifts) > 1
    drawn = found.nearer(scattered)
    diagonal = np.linalg.norm(np.ptp(drawn, axis=0))
    assert gaps(drawn, found.codes).min() >= WIDEST * diagonal * 0.999
    assert diagonal < 0.8 * np.linalg.norm(np.ptp(scattered, axis=0))


def test_islands_are_those_of_single_linkage(scattered):
    found = islands_of(scattered)
    width = gaps(found.nearer(scattered), found.codes).min() * 1.0001
    # No gap of theirs is narrower on the map as it was computed, and none within them is wider
    wanted = fcluster(linkage(scattered, "single"), width, criterion="distance")
    pairs = set(zip(found.codes.tolist(), wanted.tolist(), strict=True))
    assert len(pairs) == len(set(wanted.tolist())) == len(found.shifts)


def test_more_distance_changes_nothing():
    near, far = (
        np.vstack([SQUARE, SQUARE + np.array([x, x / 2]), SQUARE[:9] - np.array([x, -x])]) for x in (30, 3_000)
    )
    drawn = [islands_of(points).nearer(points) for points in (near, far)]
    np.testing.assert_allclose(*(pdist(points) for points in drawn), rtol=0.02)


def test_one_island_stays_where_it_is_and_cells_without_a_place_have_none():
    points = np.vstack([SQUARE, [[np.nan, 1.0]]])
    found = islands_of(points)
    assert (found.codes.tolist(), found.move) == ([0] * 36 + [-1], False)
    drawn = found.nearer(points)
    np.testing.assert_array_equal(drawn[:36], SQUARE)
    assert np.isnan(drawn[36, 0])


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((9, 2)),
        np.array([[0.0, 0.0], [500.0, 0.0], [0.0, 1.0]]),
        np.column_stack([np.arange(12.0), np.arange(12.0)]),
        np.repeat([[0.0, 0.0], [5.0, 0.0], [90.0, 9.0]], 30, axis=0),
        np.full((4, 2), np.nan),
    ],
    ids=["equal", "three", "on a line", "three places", "nowhere"],
)
def test_odd_maps_have_places(points):
    drawn = islands_of(points).nearer(points)
    assert np.isfinite(drawn).tolist() == np.isfinite(points).tolist()


@pytest.mark.parametrize("n", [2, 3])
def test_cells_that_coincide_are_drawn_apart(n):
    """Islands of one place each came nearer and nearer, until all were one."""
    points = np.repeat(np.array([[0.0, 0.0], [5.0, 0.0], [90.0, 9.0]])[:n], 10, axis=0)
    np.testing.assert_array_equal(islands_of(points).nearer(points), points)


def test_of_many_cells_apart_only_the_widest_gaps_are_narrowed():
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(size=(1_000, 2)), rng.uniform(-500, 500, (90, 2))])
    assert 1 < len(islands_of(points).shifts) <= MOST + 1
