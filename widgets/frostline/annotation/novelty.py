"""Unknown cells: how strange a cell is to a model, and how often a known cell would be as strange.

Two scores, both larger for stranger cells: the energy of what the model says (Liu et al. 2020, arXiv:2010.03759) and
the distance to the nearest class in the space from which it says so (Lee et al. 2018, arXiv:1807.03888). Each becomes a
conformal p-value on labelled cells that were scored by a model that had not seen them, distances included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.threads import one_blas_thread

BLOCK = 1024  # cells at a time, to bound the memory


@dataclass(frozen=True)
class Centroids:
    """Means of the classes and their common, shrunken covariance."""

    means: NDArray[np.float64] = field(repr=False)
    """(n_classes, d)."""
    whitening: NDArray[np.float64] = field(repr=False)
    """(d, at most d): in features times this, the classes are round and of variance 1."""

    @classmethod
    def fit(
        cls,
        features: NDArray[np.floating],
        labels: NDArray[np.str_],
        shrinkage: float = 0.1,
        leading: int | None = None,
    ) -> Self:
        """Learn them from labelled cells.

        Parameters
        ----------
        features
            (n, d) representation of the cells.
        labels
            (n,)
        shrinkage
            From 0 to 1: how far the covariance is drawn to a round one of the same variance.
        leading
            Features that are looked at, from the first one on; None for all.

        Examples
        --------
        >>> x = np.array([[0.0, 1], [0, -1], [2, 0], [-2, 0], [9, 1], [9, -1], [11, 0], [7, 0]])
        >>> found = Centroids.fit(x, np.repeat(["B", "T"], 4), shrinkage=0.0)
        >>> found.distances(np.array([[0.0, 0], [0, 2], [4, 0]])).round(3).tolist()
        [0.0, 2.828, 2.828]
        """
        x = np.asarray(features, dtype=np.float64)
        names, place = np.unique(labels, return_inverse=True)
        means = np.stack([x[place == i].mean(axis=0) for i in range(len(names))])
        within = (x - means[place])[:, :leading]
        covariance = within.T @ within / len(x)
        variance = float(np.trace(covariance)) / len(covariance)
        round_one = (variance or 1.0) * np.eye(len(covariance))
        covariance = (1 - shrinkage) * covariance + shrinkage * round_one if variance > 0 else round_one
        with one_blas_thread():
            values, vectors = np.linalg.eigh(covariance)
        kept = values > 1e-10 * values.max()
        # row-major, as a saved copy is: the memory order decides the last bit of a matrix product
        whitening = np.zeros((x.shape[1], int(kept.sum())))
        whitening[: len(values)] = vectors[:, kept] / np.sqrt(values[kept])
        return cls(means, whitening)

    def distances(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,) Mahalanobis distance of each cell to the nearest class."""
        centres, out = self.means @ self.whitening, np.empty(len(features))
        for start in range(0, len(features), BLOCK):
            part = np.asarray(features[start : start + BLOCK], dtype=np.float64) @ self.whitening
            out[start : start + BLOCK] = np.min([np.linalg.norm(part - centre, axis=1) for centre in centres], axis=0)
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, for saving."""
        return {"means": self.means, "whitening": self.whitening}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild what `arrays` returned."""
        return cls(arrays["means"], arrays["whitening"])


def energies(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Energy of each cell, larger for stranger ones: minus the logarithm of the summed exponentials of its logits.

    Logits say the same when a number is added to all of a cell, so their mean is taken out first.

    Parameters
    ----------
    scores
        (n, n_classes) logits, or logarithms of probabilities.

    Examples
    --------
    >>> energies(np.array([[4.0, -4.0], [0.0, 0.0]])).round(3).tolist()
    [-4.0, -0.693]
    """
    scores = np.asarray(scores, dtype=np.float64)
    found: NDArray[np.float64] = -np.logaddexp.reduce(scores - scores.mean(axis=1, keepdims=True), axis=1)
    return found


def conformal_p(calibration: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of known cells that are at least as strange, each new cell counted among them (Vovk et al. 2005).

    Parameters
    ----------
    calibration
        (m,) scores of known cells, each by a model that had not seen it.
    values
        (n,) scores of new cells.

    Examples
    --------
    >>> conformal_p(np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 9.0])).tolist()
    [1.0, 0.75, 0.25]
    """
    return (1.0 + _at_least(calibration, values)) / (len(calibration) + 1)


def _at_least(calibration: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many known cells have such a score or a larger one."""
    return len(calibration) - np.searchsorted(np.sort(calibration), values, side="left")


def p_known(
    calibration_energies: NDArray[np.floating],
    calibration_distances: NDArray[np.floating],
    energies: NDArray[np.floating],
    distances: NDArray[np.floating],
) -> NDArray[np.float64]:
    """How often a known cell would be as strange, by the stranger of its two scores.

    The smaller of two p-values is none; so it is ranked among the smaller ones of the known cells, which is. Known
    cells are counted without the new one, so that it errs to the side of known.

    Parameters
    ----------
    calibration_energies, calibration_distances
        (m,) of known cells.
    energies, distances
        (n,) of new cells.

    Examples
    --------
    >>> known = np.arange(19.0)
    >>> p_known(known, known[::-1], np.array([9.0, 30.0, 9.0]), np.array([9.0, 9.0, 30.0])).tolist()
    [1.0, 0.15, 0.15]
    """
    pairs = [(calibration_energies, energies), (calibration_distances, distances)]
    of_known = np.minimum(*(_at_least(known, known) for known, _ in pairs))
    of_new = 1 + np.minimum(*(_at_least(known, new) for known, new in pairs))
    as_strange = np.searchsorted(np.sort(of_known), of_new, side="right")
    return np.asarray((1.0 + as_strange) / (len(of_known) + 1))


def why_none_unknown(energies: NDArray[np.floating], distances: NDArray[np.floating], alpha: float) -> str:
    """Say why no cell can be called unknown, however strange it is; empty where one can.

    The strangest known cell by energy and the one by distance are as strange as any new one, which leaves a p of two or
    three in their number and one.

    Parameters
    ----------
    energies, distances
        (m,) of known cells.
    alpha
        Below which p must be.

    Examples
    --------
    >>> known = np.arange(40.0)
    >>> why_none_unknown(known, known[::-1], 0.05)
    'No cell can be called unknown: beside 40 labelled cells p is at least 0.073, and must be below 0.05. About 60 \
labelled cells would do, or a larger alpha.'
    >>> why_none_unknown(known, known[::-1], 0.1)
    ''
    """
    if alpha <= 0:
        return "No cell can be called unknown: alpha, the share of known cells that may be, is 0."
    strangest = np.array([np.inf])
    smallest = float(p_known(energies, distances, strangest, strangest)[0])
    if smallest < alpha:
        return ""
    return (
        f"No cell can be called unknown: beside {len(energies):,} labelled cells p is at least {smallest:.3f}, and "
        f"must be below {alpha:g}. About {floor(3 / alpha):,} labelled cells would do, or a larger alpha."
    )
