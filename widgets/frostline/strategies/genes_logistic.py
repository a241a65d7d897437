"""Sparse logistic regression on the genes themselves, one class against the rest.

The baseline of Boiarsky et al. (2023, bioRxiv 10.1101/2023.10.19.563100), which matched or beat foundation
models there: liblinear's L1-penalised regression on log-normalised values, unscaled, C by cross-validation.
liblinear knows no multinomial loss. saga does, and starts warm along the grid, yet on thousands of cells and genes
it takes as long for every C and still has not converged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.classes import softmax
from frostline.monitor import Monitor
from frostline.strategies.base import Strategy, trained_classes
from frostline.strategies.probe import probe_parameters
from frostline.strategies.selection import choose, cross_validated, inner_folds, single_fold


@bounded
class GenesLogistic(Strategy):
    """L1-penalised logistic regression on log-normalised genes, one class against the rest.

    Probabilities are those of the single regressions divided by their sum. The values are not scaled further:
    log-normalised genes share one scale, and rare genes are not blown up to it.

    Of more than 3,000 training cells one fold only is held out to choose C, and the search goes from strong to weak
    regularisation no further than the second rise of its loss in a row.

    Examples
    --------
    >>> GenesLogistic().search
    'C of 0.03, 0.1, 0.3, 1, 3, 10, 30, 100 by cross-validation on training cells, at most 3 folds, 1 above 3,000 cells'
    """

    name: ClassVar[str] = "genes_logistic"
    title: ClassVar[str] = "L1 logistic regression on genes"
    trains: ClassVar[str] = "a sparse logistic regression on the genes themselves; no foundation model"
    reference: ClassVar[str] = "Boiarsky et al. 2023, https://doi.org/10.1101/2023.10.19.563100"
    on_embedding: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("sklearn.linear_model",)

    GRID: ClassVar[tuple[float, ...]] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    FOLDS: ClassVar[int] = 3
    MANY: ClassVar[int] = 3_000
    """Training cells above which one fold suffices to choose C."""
    TOLERANCE: ClassVar[float] = 1e-3
    """Of liblinear, between its own default of 0.01 and scikit-learn's of 0.0001."""

    coefficients_: NDArray[np.float64] = learned()
    """(n_classes, n_genes), most of them zero; one row for two classes."""
    intercepts_: NDArray[np.float64] = learned()
    c_: float = learned()

    @property
    def search(self) -> str:
        """Every C, and the folds."""
        return f"{cross_validated('C', self.GRID, self.FOLDS)}, 1 above {self.MANY:,} cells"

    def _chosen(self) -> dict[str, float]:
        return {"C": self.c_}

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Coefficients and intercepts, zeros included."""
        return probe_parameters(len(split.genes), trained_classes(split, dataset))

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        self._learn(genes=split.genes)
        values = self._features(dataset, split.train)
        labels, seed = dataset.labels[split.train], split.training_seed
        stop = Monitor(cancelled=monitor.cancelled)

        def candidates(rows: NDArray[np.intp], held_out: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
            for c in self.GRID:
                yield _probabilities(values[held_out], *_one_against_rest(values[rows], labels[rows], c, seed, stop))

        folds = inner_folds(dataset, split, self.FOLDS)
        if len(folds) > self.MANY:
            folds = single_fold(folds, self.FOLDS)
        c = choose(self.GRID, labels, folds, candidates, monitor.part(0.0, 0.8))
        coefficients, intercepts = _one_against_rest(values, labels, c, seed, monitor.part(0.8, 1.0))
        self._learn(coefficients=coefficients, intercepts=intercepts, c=c)

    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> Any:
        """(n_cells, n_genes) log-normalised values, sparse."""
        return dataset.expression(cells, self.genes_).astype(np.float64)

    def _mapped(self, features: Any) -> NDArray[np.floating]:
        mapped: NDArray[np.float64] = features.toarray()
        return mapped

    def _classify(self, features: Any) -> NDArray[np.float64]:
        return _probabilities(features, self.coefficients_, self.intercepts_)

    def _scores(self, features: Any, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return _log_shares(features, self.coefficients_, self.intercepts_)

    def _sizes(self) -> tuple[int, int]:
        """Coefficients and intercepts, zeros included."""
        trainable = int(self.coefficients_.size + self.intercepts_.size)
        return trainable, trainable

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"coefficients": self.coefficients_, "intercepts": self.intercepts_, "c": np.array(self.c_)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(coefficients=arrays["coefficients"], intercepts=arrays["intercepts"], c=float(arrays["c"].item()))


def _one_against_rest(
    values: Any, labels: NDArray[np.str_], c: float, seed: int, monitor: Monitor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (n_classes, n_genes) and intercepts; one row, of the second class, for two classes."""
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(labels)
    names = classes[1:] if len(classes) == 2 else classes
    # liblinear penalises the intercept, too; on a larger scale that hardly matters
    settings = {"C": c, "l1_ratio": 1.0, "solver": "liblinear", "intercept_scaling": 30.0, "max_iter": 10_000}
    models = []
    for i, name in enumerate(names):
        monitor.step(i / len(names), f"logistic regression, C = {c:g}, {name} against the rest")
        model = LogisticRegression(**settings, tol=GenesLogistic.TOLERANCE, random_state=seed)
        models.append(model.fit(values, labels == name))
    return np.concatenate([model.coef_ for model in models]), np.concatenate([model.intercept_ for model in models])


def _probabilities(
    values: Any, coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> NDArray[np.float64]:
    # the softmax of logarithms divides by the sum without underflow
    return softmax(_log_shares(values, coefficients, intercepts))


def _log_shares(values: Any, coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of what each single regression gives its class, (n_cells, n_classes)."""
    from scipy.special import log_expit

    scores = values @ coefficients.T + intercepts
    logarithms: NDArray[np.float64] = log_expit(np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores)
    return logarithms
