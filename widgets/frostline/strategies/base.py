"""What every strategy does: the contract, saving and loading.

To add a strategy, write one file beside this one and add its class to the list in `__init__.py`.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Domain, domains, hold_fields
from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.errors import DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost


def learned(default: Any = MISSING) -> Any:
    """Declare a dataclass field that `fit` sets: no hyper-parameter, not compared, not printed."""
    return field(default=default, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Workload:
    """Cells that go through an encoder while a strategy is fitted and predicts, at most."""

    encoded: int = 0
    """Cells that are encoded only."""
    trained: int = 0
    """Cells that are encoded and whose gradients are computed, each once for every epoch."""
    genes: int | None = None
    """Genes that it reads; None for all that the encoder knows."""


@dataclass(frozen=True)
class Strategy(ABC):
    """One way to annotate cells: hyper-parameters as fields, what is learned with a trailing underscore."""

    name: ClassVar[str]
    title: ClassVar[str]
    """A few words for tables and panels."""
    trains: ClassVar[str]
    """What the labels decide, in a few words."""
    expensive: ClassVar[bool] = False
    """Trains so much that nobody should start it unasked."""
    on_embedding: ClassVar[bool] = False
    """Fits on an embedding or matrix that is computed once: cheap to fit again on fewer labels."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules that `check` imports, base classes' too: the first strategy to need one must not pay for all."""

    classes_: tuple[str, ...] = learned(())
    """Classes of the training cells, sorted."""
    genes_: tuple[str, ...] = learned(())
    """Genes that it reads."""
    history_: tuple[dict[str, float], ...] = learned(())
    """One entry an epoch; empty for strategies that do not train in epochs."""
    seconds_: dict[str, float] = learned()
    """Seconds of load, embed, fit and predict."""
    embed_peak_: int | None = learned(None)
    """Peak memory, in bytes, of the embedding that strategies share, whoever computed it; None without one."""

    def __post_init__(self) -> None:
        hold_fields(self, f"strategy {type(self).name!r}")

    @classmethod
    @abstractmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build the strategy with a profile's training lengths and a checkpoint."""

    @abstractmethod
    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """Trainable parameters that fitting on this split will have; some strategies must see the data set."""

    def workload(self, split: Split) -> Workload:
        """What the encoder has to do; nothing where there is none."""
        return Workload()

    def option(self, text: str) -> Self:
        """Return the strategy that `build` is asked for as `name:text`.

        Raises
        ------
        FrostlineError
            The strategy takes nothing after its name.
        """
        raise FrostlineError(f"strategy {self.name!r} takes nothing after its name; got '{self.name}:{text}'")

    @property
    def budget(self) -> str:
        """What is tried to choose hyper-parameters or the moment to stop, in a few words."""
        return "nothing is searched"

    @property
    def chosen(self) -> dict[str, float]:
        """Hyper-parameters that fitting chose, by name."""
        return {}

    def check(self, dataset: Dataset, split: Split) -> None:
        """Refuse, before any training, what `fit` could not work on; import what it needs."""
        for kind in type(self).__mro__:
            for name in vars(kind).get("libraries", ()):
                import_module(name)
        classes = np.unique(dataset.labels[split.train])
        if len(classes) < 2:
            seen = f"only {str(classes[0])!r}" if len(classes) else "no cell at all"
            raise DatasetError(
                f"the training cells have {seen} in {dataset.label_key!r}, and two classes are needed; draw the split "
                "with frostline.split(dataset, kind='stratified')"
            )

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

    @classmethod
    def settings(cls) -> dict[str, str]:
        """Hyper-parameters and what their docstrings say of them.

        Examples
        --------
        >>> from frostline.strategies import Lora
        >>> Lora.settings()["rank"]
        'Rank of each update.'
        """
        told: dict[str, str] = {}
        for kind in reversed(cls.__mro__):
            if kind.__module__.startswith("frostline."):
                told |= _docstrings(kind)
        return {spec.name: told.get(spec.name, "") for spec in fields(cls) if spec.init}

    @classmethod
    def domains(cls) -> dict[str, Domain]:
        """What each hyper-parameter may be, and its unit.

        Examples
        --------
        >>> from frostline.strategies import Lora
        >>> str(Lora.domains()["rank"])
        'a whole number from 1 to 1,024 (dimensions)'
        """
        return domains(cls)

    @property
    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters, by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.init}

    def _learn(self, **state: Any) -> None:
        """Set learned state on a frozen dataclass; the names get their trailing underscore."""
        for key, value in state.items():
            object.__setattr__(self, f"{key}_", value)

    @staticmethod
    def _no_seconds() -> dict[str, float]:
        return dict.fromkeys(("load", "embed", "fit", "predict"), 0.0)

    def _cost(self, trainable: int, total: int) -> Cost:
        """Cost with the seconds and the saved bytes that every strategy knows of itself."""
        saved_bytes = sum(map(len, self._files().values()))
        return Cost(dict(self.seconds_), trainable, total, saved_bytes=saved_bytes)

    def _files(self) -> dict[str, bytes]:
        """What `save` writes, by file name."""
        from safetensors.numpy import save

        self._must_be_fitted()
        content = {
            "strategy": type(self).name,
            "parameters": self.parameters,
            "classes": self.classes_,
            "genes": self.genes_,
        }
        arrays = {key: np.ascontiguousarray(array) for key, array in self._arrays().items()}
        text = json.dumps(content, indent=1) + "\n"
        return {"strategy.json": text.encode(), "weights.safetensors": save(arrays)}

    def save(self, folder: Path) -> None:
        """Write a fitted strategy: strategy.json and weights.safetensors."""
        files = self._files()
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)

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


def _docstrings(kind: type) -> dict[str, str]:
    """Docstrings under the fields of a class, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    return {
        node.target.id: inspect.cleandoc(str(after.value.value))
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def trained_classes(split: Split) -> int:
    """Classes of a split that have training cells."""
    return len(split.classes) - len(getattr(split, "untrained", ()))
