"""Labels and probabilities by the position of their class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def class_numbers(labels: Iterable[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Position of every label among the classes.

    Raises
    ------
    KeyError
        A label is none of the classes.

    Examples
    --------
    >>> class_numbers(["T", "B"], ["B", "T"]).tolist()
    [1, 0]
    """
    position = {name: i for i, name in enumerate(classes)}
    return np.array([position[label] for label in labels], dtype=np.int64)


def over_all_classes(
    probabilities: NDArray[np.float64], known: Sequence[str], classes: Sequence[str]
) -> NDArray[np.float64]:
    """Columns for all classes; one that is not known has probability 0.

    Examples
    --------
    >>> over_all_classes(np.array([[0.25, 0.75]]), ["B", "T"], ["B", "NK", "T"]).tolist()
    [[0.25, 0.0, 0.75]]
    """
    out = np.zeros((len(probabilities), len(classes)))
    out[:, class_numbers(known, classes)] = probabilities
    return out


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponentials of each row over their sum, without overflow; -inf gives 0.

    In place of scipy's, whose `scipy.special` takes 5 MB where cells are labelled.

    Examples
    --------
    >>> softmax(np.array([[0.0, np.log(3.0)], [1000.0, -np.inf]])).round(3).tolist()
    [[0.25, 0.75], [1.0, 0.0]]
    """
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
