"""Metrics, None where undefined: never 0 for a number that does not exist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def accuracy(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Share of cells predicted right; None without cells.

    Examples
    --------
    >>> accuracy(["B", "T"], ["B", "B"])
    0.5
    """
    if len(labels) == 0:
        return None
    return float(np.mean(np.asarray(labels) == np.asarray(predicted)))


def macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean F1 over the classes that have a test cell; None without cells.

    A class without a test cell has no F1 and does not enter the mean; predictions of it still lower the
    recall of the others. For a class with test cells F1 is always defined.

    Examples
    --------
    >>> macro_f1(["B", "T"], ["B", "B"])
    0.3333333333333333
    """
    from sklearn.metrics import f1_score

    if len(labels) == 0:
        return None
    present = sorted(set(labels))
    return float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0))


def silhouette(embedding: NDArray[np.floating], labels: Sequence[str]) -> float | None:
    """Mean silhouette width of the true labels in an embedding (Euclidean), -1 to 1.

    None with fewer than two classes, or when every cell is a class of its own.

    Examples
    --------
    >>> silhouette(np.array([[0.0], [0.1], [5.0], [5.1]]), ["B", "B", "T", "T"]) > 0.9
    True
    >>> silhouette(np.zeros((2, 1)), ["B", "T"]) is None
    True
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(set(labels)) < len(labels):
        return None
    return float(silhouette_score(embedding, list(labels)))
