"""Metrics, None where undefined: never 0 for a number that does not exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.classes import class_numbers
from frostline.evaluation import calibration, prediction_sets

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 15
"""Of a cell, for the purity of its neighbourhood."""
PREDICTED = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "mcc",
    "kappa",
    "auroc",
    "log_loss",
    "brier",
    "ece",
    "aurc",
)
"""Metrics that follow from the predictions of the test cells."""
CHOSEN = (
    "temperature",
    "log_loss_scaled",
    "brier_scaled",
    "ece_scaled",
    "threshold_95",
    "coverage_95",
    "accuracy_95",
    "threshold_99",
    "coverage_99",
    "accuracy_99",
    "set_limit",
    "set_coverage",
    "set_size",
    "set_singles",
)
"""Those that also need the predictions of the validation cells."""
REPRESENTED = ("silhouette", "knn_purity")
"""Those of the representation that a strategy classifies from."""
METRICS = (*PREDICTED, *CHOSEN, *REPRESENTED)


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


def class_table(labels: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and support of every class; NA where undefined.

    Precision is undefined for a class that is never predicted, recall and F1 for a class without a test cell.

    Examples
    --------
    >>> class_table(["B", "T"], ["B", "B"], ["B", "NK", "T"])["precision"].tolist()
    [0.5, <NA>, <NA>]
    """
    import pandas as pd

    truth, said = np.asarray(labels, dtype=object), np.asarray(predicted, dtype=object)
    rows = []
    for name in classes:
        support, claimed = int((truth == name).sum()), int((said == name).sum())
        hits = int(((truth == name) & (said == name)).sum())
        rows.append(
            {
                "class": name,
                "support": support,
                "precision": hits / claimed if claimed else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (support + claimed) if support else None,
            }
        )
    return pd.DataFrame(rows).astype(dict.fromkeys(("precision", "recall", "f1"), "Float64"))


def macro_f1(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean F1 over the classes that have a test cell; None without cells.

    A class without a test cell has no F1 and does not enter the mean; predictions of it still lower the
    recall of the others. For a class with test cells F1 is always defined.

    Examples
    --------
    >>> macro_f1(["B", "T"], ["B", "B"])
    0.3333333333333333
    """
    if len(labels) == 0:
        return None
    return float(class_table(labels, predicted, sorted(set(labels)))["f1"].mean())


def weighted_f1(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean F1 over the classes that have a test cell, weighted by their test cells; None without cells.

    Examples
    --------
    >>> round(weighted_f1(["B", "B", "T"], ["B", "B", "B"]), 4)
    0.5333
    """
    if len(labels) == 0:
        return None
    table = class_table(labels, predicted, sorted(set(labels)))
    return float((table["f1"] * table["support"]).sum() / len(labels))


def balanced_accuracy(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Mean recall over the classes that have a test cell; None without cells.

    Examples
    --------
    >>> balanced_accuracy(["B", "B", "B", "T"], ["B", "B", "B", "B"])
    0.5
    """
    if len(labels) == 0:
        return None
    return float(class_table(labels, predicted, sorted(set(labels)))["recall"].mean())


def mcc(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Matthews' correlation for several classes (Gorodkin 2004); None when all true or all predicted are one class.

    Examples
    --------
    >>> mcc(["B", "T"], ["B", "T"]), mcc(["B", "T"], ["B", "B"]) is None
    (1.0, True)
    """
    from sklearn.metrics import matthews_corrcoef

    if len(set(labels)) < 2 or len(set(predicted)) < 2:
        return None
    return float(matthews_corrcoef(list(labels), list(predicted)))


def kappa(labels: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Cohen's kappa (1960); None when chance alone would agree always, and without cells.

    Examples
    --------
    >>> kappa(["B", "B", "T", "T"], ["B", "B", "T", "B"])
    0.5
    """
    from sklearn.metrics import cohen_kappa_score

    if not len(labels) or len({*labels, *predicted}) < 2:
        return None
    return float(cohen_kappa_score(list(labels), list(predicted)))


def class_auroc(
    labels: Sequence[str], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> list[float | None]:
    """One-vs-rest AUROC of every class from its probability; None without cells of the class or of others.

    Examples
    --------
    >>> class_auroc(["B", "T"], np.array([[0.9, 0.1], [0.2, 0.8]]), ["B", "T"])
    [1.0, 1.0]
    """
    truth = np.asarray(labels, dtype=object)
    return [separation(probabilities[:, i], truth == name) for i, name in enumerate(classes)]


def separation(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """AUROC of scores that should be larger for the positive cells; None when there is one kind of cell only.

    From the ranks (Mann and Whitney 1947), which is what scikit-learn gives, without its many checks of a call.

    Examples
    --------
    >>> separation(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    from scipy.stats import rankdata

    n = int(positive.sum())
    if not 0 < n < len(positive):
        return None
    above = rankdata(scores)[positive].sum() - n * (n + 1) / 2  # pairs won, ties by half
    return float(above / (n * (len(positive) - n)))


def false_positive_rate(
    scores: NDArray[np.floating], positive: NDArray[np.bool_], *, recall: float = 0.95
) -> float | None:
    """Share of the other cells at or above the highest threshold that finds this share of the positive ones.

    None when there is one kind of cell only.

    Examples
    --------
    >>> false_positive_rate(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.5
    """
    if positive.all() or not positive.any():
        return None
    found = np.sort(scores[positive])[::-1]
    limit = found[int(np.ceil(recall * len(found) - 1e-9)) - 1]
    return float((scores[~positive] >= limit).mean())


def silhouette(embedding: NDArray[np.floating], labels: Sequence[str]) -> float | None:
    """Mean silhouette width of the true labels in an embedding (Euclidean), -1 to 1.

    None with fewer than two classes, when every cell is a class of its own, or when all cells are in one place.

    Examples
    --------
    >>> silhouette(np.array([[0.0], [0.1], [5.0], [5.1]]), ["B", "B", "T", "T"]) > 0.9
    True
    >>> silhouette(np.zeros((2, 1)), ["B", "T"]) is None
    True
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(set(labels)) < len(labels) or _in_one_place(embedding):
        return None
    return float(silhouette_score(embedding, list(labels)))


def knn_purity(embedding: NDArray[np.floating], labels: Sequence[str]) -> float | None:
    """Mean share of the 15 nearest other test cells that have a cell's own label.

    None for fewer than two cells or classes, or when all cells are in one place.

    Examples
    --------
    >>> knn_purity(np.array([[0.0], [0.1], [5.0], [5.1]]), ["B", "B", "T", "T"])  # the three others of each
    0.3333333333333333
    """
    from sklearn.neighbors import NearestNeighbors

    if len(set(labels)) < 2 or _in_one_place(embedding):
        return None
    k = min(NEIGHBOURS, len(labels) - 1)
    nearest = NearestNeighbors(n_neighbors=k).fit(embedding).kneighbors(return_distance=False)
    truth = np.asarray(labels, dtype=object)
    return float((truth[nearest] == truth[:, None]).mean())


def _in_one_place(embedding: NDArray[np.floating]) -> bool:
    return bool((embedding == embedding[:1]).all())


def prediction_metrics(
    labels: Sequence[str], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, float | None]:
    """Metrics of `PREDICTED` from the probabilities of the test cells.

    Examples
    --------
    >>> found = prediction_metrics(["B", "T"], np.array([[0.9, 0.1], [0.2, 0.8]]), ["B", "T"])
    >>> found["macro_f1"], found["auroc"], round(found["brier"], 3)
    (1.0, 1.0, 0.05)
    """
    predicted = [classes[i] for i in probabilities.argmax(axis=1)]
    columns = class_numbers(labels, classes)
    areas = [area for area in class_auroc(labels, probabilities, classes) if area is not None]
    return {
        "accuracy": accuracy(labels, predicted),
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "macro_f1": macro_f1(labels, predicted),
        "weighted_f1": weighted_f1(labels, predicted),
        "mcc": mcc(labels, predicted),
        "kappa": kappa(labels, predicted),
        "auroc": float(np.mean(areas)) if areas else None,
        "log_loss": calibration.log_loss(probabilities, columns),
        "brier": calibration.brier(probabilities, columns),
        "ece": calibration.reliability(probabilities, columns).ece,
        "aurc": calibration.aurc(probabilities, columns),
    }


def chosen_metrics(
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    validation_labels: Sequence[str],
    validation_probabilities: NDArray[np.float64] | None,
    classes: Sequence[str],
    validation_groups: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """Metrics of `CHOSEN`: temperature, thresholds and sets from the validation cells, applied to the test cells.

    All None without validation cells. Validation cells of a class that training lacks are passed over in the
    choice of the temperature, which cannot help them.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> chosen_metrics(["B", "T"], p, ["B", "T"], p, ["B", "T"])["coverage_95"]
    1.0
    """
    found: dict[str, float | None] = dict.fromkeys(CHOSEN)
    if validation_probabilities is None or not len(validation_labels):
        return found
    test = probabilities, class_numbers(labels, classes)
    validation = validation_probabilities, class_numbers(validation_labels, classes)
    possible = validation[0][np.arange(len(validation[1])), validation[1]] > 0
    temperature = calibration.fit_temperature(validation[0][possible], validation[1][possible])
    if temperature is not None:
        scaled = calibration.scale(probabilities, temperature)
        found |= {
            "temperature": temperature,
            "log_loss_scaled": calibration.log_loss(scaled, test[1]),
            "brier_scaled": calibration.brier(scaled, test[1]),
            "ece_scaled": calibration.reliability(scaled, test[1]).ece,
        }
    for target in (95, 99):
        limit = calibration.threshold(validation, test, target / 100)
        found |= {
            f"threshold_{target}": limit.confidence,
            f"coverage_{target}": limit.coverage,
            f"accuracy_{target}": limit.accuracy,
        }
    limit_of_sets = prediction_sets.limit_of(*validation, validation_groups)
    if limit_of_sets is not None and len(labels):
        (sets,) = prediction_sets.coverage_by_group(*test, limit_of_sets)
        found |= {"set_limit": limit_of_sets, "set_coverage": sets.coverage}
        found |= {"set_size": sets.size, "set_singles": sets.singles}
    return found
