"""From a comparison to a model that is kept: the winner, fitted on all labelled cells and calibrated on unseen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.annotation.certificates import certify
from frostline.annotation.crossfitting import CrossFitted
from frostline.annotation.hierarchies import Hierarchy
from frostline.annotation.models import Calibration
from frostline.evaluation.calibration import fit_temperature, scale

if TYPE_CHECKING:
    from frostline.annotation.novelty import Centroids

LEAST_TEMPERATURE = 1.0
"""Below it a strategy would be made surer than it is, on the strength of few cells without an error."""


def calibrate(found: CrossFitted, centroids: Centroids, *, target: float = 0.95, alpha: float = 0.05) -> Calibration:
    """Say what the confidence of a model means, from cells that fits without them predicted.

    Parameters
    ----------
    found
        What `cross_fit` returned for the strategy of the model.
    centroids
        Classes in the representation of the model itself, as `centroids_of` gives them.
    target
        Accuracy that is promised for what is answered.
    alpha
        Share of known cells that may be called unknown.
    """
    temperature = max(LEAST_TEMPERATURE, fit_temperature(found.probabilities, found.columns) or LEAST_TEMPERATURE)
    scaled = scale(found.probabilities, temperature)
    right = np.asarray(scaled.argmax(axis=1) == found.columns)
    return Calibration(
        temperature=temperature,
        certificate=certify(scaled.max(axis=1), right, target=target, groups=found.groups),
        energies=found.energies,
        distances=found.distances,
        centroids=centroids,
        hierarchy=Hierarchy.learn(scaled, found.labels, found.classes),
        alpha=alpha,
    )
