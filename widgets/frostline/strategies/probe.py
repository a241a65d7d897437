"""Standardised logistic regression with C from inner cross-validation: the same probe on every embedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.classes import softmax
from frostline.monitor import Monitor
from frostline.strategies.base import Strategy
from frostline.strategies.selection import Features, choose, cross_validated, inner_folds
from frostline.threads import one_blas_thread


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on features of mean 0 and variance 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.array(["B", "T"] * 20)
    >>> features = rng.normal(size=(40, 3)) + 2 * (labels == "T")[:, None]
    >>> probe = LinearProbe.fit(features, labels, np.arange(40) // 8, Monitor())
    >>> probe.predict_proba(features).shape, probe.n_parameters
    ((40, 2), 4)
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    """(n_classes, d), one row for two classes as in scikit-learn."""
    intercepts: NDArray[np.float64]
    c: float
    """Inverse regularisation strength."""

    GRID: ClassVar[tuple[float, ...]] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    FOLDS: ClassVar[int] = 5

    @classmethod
    def fit(
        cls,
        features: NDArray[np.floating],
        labels: NDArray[np.str_],
        folds: NDArray[np.int64],
        monitor: Monitor,
        refit: Features | None = None,
    ) -> Self:
        """Choose C on the folds by held-out log loss, then fit on all cells.

        Parameters
        ----------
        features, labels, folds
            (n, d), (n,), (n,) of the training cells; folds as from `inner_folds`. Mean and scale are fitted
            again beside every fold.
        refit
            How to fit the features beside a fold, for those that were fitted on all training cells.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        features = np.asarray(features, dtype=np.float64)

        def candidates(rows: NDArray[np.intp], held_out: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
            x, unseen = refit(rows, held_out) if refit else (features[rows], features[held_out])
            with one_blas_thread():  # many small products: more threads would only wait for each other
                scaler = StandardScaler().fit(x)
                x, unseen = scaler.transform(x), scaler.transform(unseen)
                # from the last solution it is a short way to the next, less regularised one
                model = LogisticRegression(max_iter=10_000, warm_start=True)
                for c in cls.GRID:
                    yield model.set_params(C=c).fit(x, labels[rows]).predict_proba(unseen)

        c = choose(cls.GRID, labels, folds, candidates, monitor.part(0.0, 0.9))
        monitor.step(0.9, f"logistic regression, C = {c:g}")
        scaler = StandardScaler().fit(features)
        with one_blas_thread():
            model = LogisticRegression(C=c, max_iter=10_000).fit(scaler.transform(features), labels)
        # row-major, as a saved copy is: the memory order decides the last bit of a matrix product
        return cls(scaler.mean_, scaler.scale_, np.ascontiguousarray(model.coef_), model.intercept_, c)

    def predict_proba(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Softmax of the scores; for two classes that is their logistic form."""
        return softmax(self.scores(features))

    def scores(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, n_classes) decision function; of two classes that of the first is zero."""
        scores: NDArray[np.float64] = (features - self.mean) / self.scale @ self.coefficients.T + self.intercepts
        return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores

    @property
    def n_parameters(self) -> int:
        """Coefficients and intercepts."""
        return int(self.coefficients.size + self.intercepts.size)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, for saving."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
            "c": np.array(self.c),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild what `arrays` returned."""
        fields = {key: arrays[key] for key in ("mean", "scale", "coefficients", "intercepts")}
        return cls(**fields, c=float(arrays["c"].item()))


@bounded
class OnProbe(Strategy):
    """A strategy whose only supervised part is a linear probe."""

    on_embedding: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("sklearn.linear_model",)

    probe_: LinearProbe = learned()

    @property
    def search(self) -> str:
        """Every C, and the folds."""
        return cross_validated("C", LinearProbe.GRID, LinearProbe.FOLDS)

    def _chosen(self) -> dict[str, float]:
        return {"C": self.probe_.c}

    def _classify(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        return self.probe_.predict_proba(features)

    def _scores(self, features: NDArray[np.floating], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.probe_.scores(features)

    def _fit_probe(
        self,
        features: NDArray[np.floating],
        dataset: Dataset,
        split: Split,
        monitor: Monitor,
        refit: Features | None = None,
    ) -> None:
        folds = inner_folds(dataset, split, LinearProbe.FOLDS)
        self._learn(probe=LinearProbe.fit(features, dataset.labels[split.train], folds, monitor, refit))

    def _sizes(self) -> tuple[int, int]:
        return self.probe_.n_parameters, self.probe_.n_parameters

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return self.probe_.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._learn(probe=LinearProbe.from_arrays(arrays))


def probe_parameters(n_features: int, n_classes: int) -> int:
    """Coefficients and intercepts of a logistic regression: one row for two classes, else one a class."""
    rows = 1 if n_classes == 2 else n_classes
    return rows * (n_features + 1)
