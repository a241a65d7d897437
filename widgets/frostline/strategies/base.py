"""What every strategy does: the contract, saving and loading, and the linear probe that two of them share.

To add a strategy, write one file beside this one and add its class to the list in `__init__.py`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset
from frostline.errors import FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost
from frostline.splits import Split


def learned(default: Any = MISSING) -> Any:
    """Declare a dataclass field that `fit` sets: no hyper-parameter, not compared, not printed."""
    return field(default=default, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Strategy(ABC):
    """One way to annotate cells: hyper-parameters as fields, what is learned with a trailing underscore."""

    name: ClassVar[str]
    title: ClassVar[str]
    """A few words for tables and panels."""
    trains: ClassVar[str]
    """What the labels decide, in a few words."""

    classes_: tuple[str, ...] = learned(())
    """Classes of the training cells, sorted."""
    genes_: tuple[str, ...] = learned(())
    """Genes that it reads."""
    history_: tuple[dict[str, float], ...] = learned(())
    """One entry an epoch; empty for strategies that do not train in epochs."""
    seconds_: dict[str, float] = learned()
    """Seconds of load, embed, fit and predict."""

    @classmethod
    @abstractmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build the strategy with a profile's training lengths and a checkpoint."""

    @abstractmethod
    def planned_parameters(self, split: Split) -> int:
        """Trainable parameters that fitting on this split will have."""

    def check(self, dataset: Dataset, split: Split) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse, before any training, what `fit` could not work on."""

    def notes(self, dataset: Dataset) -> tuple[str, ...]:
        """What must be said of this strategy's results on a data set."""
        return ()

    @abstractmethod
    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Learn from training cells and choose on validation cells; test cells are not looked at."""

    @abstractmethod
    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities in the order of `classes_`; rows sum to 1."""

    @abstractmethod
    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) representation that the strategy classifies from."""

    @abstractmethod
    def cost(self) -> Cost:
        """What fitting and predicting took, as if this strategy had been run alone."""

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `_arrays` returned."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters, by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.init}

    def _learn(self, **state: Any) -> None:
        """Set learned state on a frozen dataclass; the names get their trailing underscore."""
        for key, value in state.items():
            object.__setattr__(self, f"{key}_", value)

    def save(self, folder: Path) -> None:
        """Write a fitted strategy: strategy.json and weights.safetensors."""
        from safetensors.numpy import save_file

        self._must_be_fitted()
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "strategy": self.name,
            "parameters": self.parameters,
            "classes": self.classes_,
            "genes": self.genes_,
        }
        (folder / "strategy.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        arrays = {key: np.ascontiguousarray(array) for key, array in self._arrays().items()}
        save_file(arrays, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; predictions are the same."""
        from safetensors.numpy import load_file

        content = json.loads((folder / "strategy.json").read_text(encoding="utf-8"))
        if content["strategy"] != cls.name:
            raise FrostlineError(f"{folder} holds a {content['strategy']!r}, not a {cls.name!r}")
        parameters: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content["parameters"].items()
        }
        strategy = cls(**parameters)
        strategy._learn(classes=tuple(content["classes"]), genes=tuple(content["genes"]))
        strategy._restore(load_file(folder / "weights.safetensors"))
        return strategy

    def _must_be_fitted(self) -> None:
        if not self.classes_:
            raise FrostlineError(f"strategy {self.name!r} is not fitted; call fit(dataset, split) first")


@dataclass(frozen=True)
class LinearProbe:
    """Standardised logistic regression whose C was chosen on validation cells."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    """(n_classes, d), one row for two classes as in scikit-learn."""
    intercepts: NDArray[np.float64]
    c: float
    """Inverse regularisation strength."""

    GRID: ClassVar[tuple[float, ...]] = (0.001, 0.01, 0.1, 1.0, 10.0)

    @classmethod
    def fit(
        cls,
        features: Mapping[str, NDArray[np.floating]],
        labels: Mapping[str, NDArray[np.str_]],
        monitor: Monitor,
    ) -> Self:
        """Fit on `train` for every C of the grid, keep the lowest log loss on `validation`."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(np.asarray(features["train"], dtype=np.float64))
        scaled = {part: scaler.transform(np.asarray(x, dtype=np.float64)) for part, x in features.items()}
        best_loss, best_model = np.inf, None
        for i, c in enumerate(cls.GRID):
            monitor.step(i / len(cls.GRID), f"logistic regression, C = {c:g}")
            model = LogisticRegression(C=c, max_iter=10_000).fit(scaled["train"], labels["train"])
            loss = _log_loss(model.predict_proba(scaled["validation"]), model.classes_, labels["validation"])
            if loss < best_loss:
                best_loss, best_model = loss, model
        assert best_model is not None  # a log loss of clipped probabilities is finite
        # row-major, as a saved copy is: the memory order decides the last bit of a matrix product
        coefficients = np.ascontiguousarray(best_model.coef_)
        return cls(scaler.mean_, scaler.scale_, coefficients, best_model.intercept_, float(best_model.C))

    def predict_proba(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Softmax of the decision function; for two classes its logistic form."""
        from scipy.special import softmax

        scores = (features - self.mean) / self.scale @ self.coefficients.T + self.intercepts
        if scores.shape[1] == 1:
            scores = np.hstack([np.zeros_like(scores), scores])
        probabilities: NDArray[np.float64] = softmax(scores, axis=1)
        return probabilities

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


def probe_parameters(n_features: int, n_classes: int) -> int:
    """Coefficients and intercepts of a logistic regression: one row for two classes, else one a class."""
    rows = 1 if n_classes == 2 else n_classes
    return rows * (n_features + 1)


def _log_loss(probabilities: NDArray[np.float64], classes: Sequence[str], labels: NDArray[np.str_]) -> float:
    """Mean negative log probability of the true class; classes that training lacks are passed over."""
    column = {name: i for i, name in enumerate(classes)}
    known = np.array([label in column for label in labels])
    columns = np.array([column[label] for label in labels[known]], dtype=int)
    chosen = probabilities[np.flatnonzero(known), columns]
    return float(-np.log(np.clip(chosen, 1e-15, None)).mean()) if len(chosen) else 0.0
