"""The strategies by what they have in common, and what their tests compute with other means."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from frostline.strategies import STRATEGIES
from frostline.strategies.encoder import EncoderStrategy
from frostline.strategies.tuning import EncoderTuning

NAMES = list(STRATEGIES)
ON_ENCODER = [name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderStrategy)]
THROUGH_ENCODER = [name for name, kind in STRATEGIES.items() if issubclass(kind, EncoderTuning)]
ON_FROZEN = ["frozen_probe", "head"]
IN_EPOCHS = ["head", *THROUGH_ENCODER]


def corrupted(matrix: sparse.csr_matrix, rows: np.ndarray) -> sparse.csr_matrix:
    """Other values, in other genes, for some cells."""
    changed = matrix.tolil(copy=True)
    rng = np.random.default_rng(0)
    for row in rows:
        changed[row] = rng.permutation(rng.lognormal(0, 1, matrix.shape[1]) * (rng.random(matrix.shape[1]) < 0.4))
    return changed.tocsr().astype(np.float32)


def held_out_loss(model, features, labels, folds) -> float:
    """Mean log loss of held-out cells whose class the other folds know; a fold after the other, with scikit-learn."""
    losses = []
    for fold in np.unique(folds):
        rows, held_out = folds != fold, folds == fold
        known = held_out & np.isin(labels, labels[rows])
        model.fit(features[rows], labels[rows])
        probabilities = pd.DataFrame(model.predict_proba(features[known]), columns=model.classes_)
        losses += [-np.log(row[label]) for (_, row), label in zip(probabilities.iterrows(), labels[known], strict=True)]
    return float(np.mean(losses))
