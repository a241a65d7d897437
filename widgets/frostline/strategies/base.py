"""What every strategy does: the contract, saving and loading.

To add a strategy, write one file beside this one and add its class to the list in `__init__.py`.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Setting, bounded, learned, settings
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.errors import DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Workload:
    """Cells that go through an encoder while a strategy is fitted and predicts, at most.

    One that goes through half of the blocks is half a cell.
    """

    encoded: int = 0
    """Cells that are encoded only."""
    trained: int = 0
    """Cells that are encoded and whose gradients are computed, each once for every epoch."""
    genes: int | None = None
    """Genes that it reads; None for all that the encoder knows."""


@dataclass(frozen=True)
class Outcome:
    """What a fitted strategy makes of some cells."""

    features: NDArray[np.floating]
    """(n_cells, d) representation that it classifies from, as `embed` returns it."""
    scores: NDArray[np.float64]
    """(n_cells, n_classes) whose softmax is the probabilities: logits where it has any, else their logarithms."""
    probabilities: NDArray[np.float64]
    """(n_cells, n_classes) in the order of the strategy's classes; rows sum to 1."""


@bounded
class Strategy(ABC):
    """One way to annotate cells: hyper-parameters as fields, what is learned with a trailing underscore.

    A strategy says how it fits (`_fit`), what it classifies from (`_features`) and how (`_classify`), and how many
    numbers that are (`_sizes`); here it is timed, and refused before it is fitted.
    """

    noun: ClassVar[str] = "strategy"
    name: ClassVar[str]
    title: ClassVar[str]
    """A few words for tables and panels."""
    trains: ClassVar[str]
    """What the labels decide, in a few words."""
    reference: ClassVar[str]
    """The paper to cite, and the address of its DOI."""
    expensive: ClassVar[bool] = False
    """Trains so much that nobody should start it unasked."""
    stops_early: ClassVar[bool] = False
    """Chooses on validation cells when to stop; other strategies do not look at them."""
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
    aside_: float = learned(0.0)
    """Seconds of fitting in which something was done that is charged to another stage."""
    embed_peak_: int | None = learned(None)
    """Peak memory, in bytes, of the embedding that strategies share, whoever computed it; None without one."""
    embed_device_peak_: int | None = learned(None)
    """That of a GPU; None where it was not computed on one."""

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build the strategy with a profile's training lengths and a checkpoint, where it has any."""
        return cls()

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
    def search(self) -> str:
        """What is tried to choose hyper-parameters or the moment to stop, in a few words."""
        return "nothing is searched"

    @property
    def chosen(self) -> dict[str, float]:
        """Hyper-parameters that fitting chose, by name."""
        self._must_be_fitted()
        return self._chosen()

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
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

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Learn from training cells and choose on validation cells; test cells are not looked at."""
        self._start()
        started = time.perf_counter()
        self._fit(dataset, split, monitor or Monitor())
        self.seconds_["fit"] = time.perf_counter() - started - self.aside_
        self._learn(classes=trained_names(dataset, split))
        return self

    def predict_proba(
        self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor | None = None
    ) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities in the order of `classes_`; rows sum to 1."""
        self._must_be_fitted()
        features, seconds = self._charged(dataset, cells, monitor)
        started = time.perf_counter()
        probabilities = self._classify(features)
        self.seconds_["predict"] = seconds + time.perf_counter() - started
        return probabilities

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) representation that the strategy classifies from."""
        self._must_be_fitted()
        return self._mapped(self._features(dataset, cells))

    def outcome(self, dataset: Dataset, cells: NDArray[np.integer]) -> Outcome:
        """Representation, scores and probabilities of some cells; an encoder reads them once, if at all.

        Examples
        --------
        >>> import frostline
        >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
        >>> cut = frostline.split(pbmc)
        >>> found = frostline.strategies.PcaLogistic().fit(pbmc, cut).outcome(pbmc, cut.test[:4])
        >>> found.features.shape, found.scores.shape, found.probabilities.shape
        ((4, 50), (4, 10), (4, 10))
        """
        self._must_be_fitted()
        features = self._features(dataset, cells)
        probabilities = self._classify(features)
        return Outcome(self._mapped(features), self._scores(features, probabilities), probabilities)

    def cost(self) -> Cost:
        """What fitting and predicting took, as if this strategy had been run alone."""
        saved_bytes = sum(map(len, self._files().values()))
        return Cost(dict(self.seconds_), *self._sizes(), saved_bytes=saved_bytes)

    @abstractmethod
    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        """Learn, with `_learn`: `genes_` and what `_features` and `_classify` need."""

    @abstractmethod
    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> Any:
        """What it classifies from, a row a cell."""

    @abstractmethod
    def _classify(self, features: Any) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""

    def _scores(self, features: Any, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the softmax of is the probabilities: their logarithms, where the strategy has no logits."""
        scores: NDArray[np.float64] = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))  # all are finite
        return scores

    @abstractmethod
    def _sizes(self) -> tuple[int, int]:
        """Numbers that the labels decided, and those with all that lies below."""

    def _mapped(self, features: Any) -> NDArray[np.floating]:
        """Turn features into the table that `embed` returns."""
        mapped: NDArray[np.floating] = features
        return mapped

    def _charged(
        self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor | None = None
    ) -> tuple[Any, float]:
        """Features and the seconds they cost, now or earlier; an encoder asks the monitor between batches."""
        started = time.perf_counter()
        return self._features(dataset, cells), time.perf_counter() - started

    def _chosen(self) -> dict[str, float]:
        """Hyper-parameters that fitting chose, by name; none where nothing is searched."""
        return {}

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `_arrays` returned."""

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Hyper-parameters: what each may be, its unit, and what its docstring says of it.

        Examples
        --------
        >>> from frostline.strategies import Lora
        >>> rank = Lora.settings()["rank"]
        >>> str(rank), rank.meaning
        ('a whole number from 1 to 1,024 (dimensions)', 'Rank of each update.')
        """
        return settings(cls)

    @property
    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters, by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.init}

    def _learn(self, **state: Any) -> None:
        """Set learned state on a frozen dataclass; the names get their trailing underscore."""
        for key, value in state.items():
            object.__setattr__(self, f"{key}_", value)

    def _start(self) -> None:
        """Forget the classes and the seconds of an earlier fit."""
        self._learn(classes=(), aside=0.0, seconds=dict.fromkeys(("load", "embed", "fit", "predict"), 0.0))

    def _charge(self, stage: str, seconds: float, started: float) -> None:
        """Charge a stage with seconds; the time since `started` is not fitting."""
        self.seconds_[stage] += seconds
        self._learn(aside=self.aside_ + time.perf_counter() - started)

    def _files(self) -> dict[str, bytes]:
        """What `save` writes, by file name."""
        self._must_be_fitted()
        content = {
            "strategy": type(self).name,
            "parameters": self.parameters,
            "classes": self.classes_,
            "genes": self.genes_,
        }
        text = json.dumps(content, indent=1) + "\n"
        return {"strategy.json": text.encode(), **self.weight_files()}

    def weight_files(self) -> dict[str, bytes]:
        """All that was learned, as safetensors, by file name."""
        self._must_be_fitted()
        return {WEIGHTS: as_safetensors(self._arrays())}

    @classmethod
    def _arrays_of(cls, files: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
        """What `_arrays` returned, from what `weight_files` made of it."""
        from safetensors.numpy import load

        return load(files[WEIGHTS])

    def save(self, folder: Path) -> None:
        """Write a fitted strategy: strategy.json and its weights as safetensors."""
        files = self._files()
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; predictions are the same."""
        content = json.loads((folder / "strategy.json").read_text(encoding="utf-8"))
        if content["strategy"] != cls.name:
            raise FrostlineError(f"{folder} holds a {content['strategy']!r}, not a {cls.name!r}")
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        return cls.restored(content["parameters"], content["classes"], content["genes"], files)

    @classmethod
    def restored(
        cls, parameters: Mapping[str, Any], classes: Sequence[str], genes: Sequence[str], files: Mapping[str, bytes]
    ) -> Self:
        """Rebuild a fitted strategy; predictions are the same.

        Parameters
        ----------
        parameters, classes, genes
            Hyper-parameters, also as JSON has them; what was fitted.
        files
            What `weight_files` returned.
        """
        given: dict[str, Any] = {
            k: tuple(value) if isinstance(value, list) else value for k, value in parameters.items()
        }
        strategy = cls(**given)
        strategy._start()
        strategy._learn(classes=tuple(classes), genes=tuple(genes))
        strategy._restore(cls._arrays_of(files))
        return strategy

    def _must_be_fitted(self) -> None:
        if not self.classes_:
            raise FrostlineError(f"strategy {self.name!r} is not fitted; call fit(dataset, split) first")


def as_safetensors(arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    """Content of a safetensors file."""
    from safetensors.numpy import save

    return save({key: np.ascontiguousarray(array) for key, array in arrays.items()}, metadata)


def trained_classes(split: Split, dataset: Dataset | None = None) -> int:
    """Classes that have training cells; of a split alone also those that have validation cells only."""
    if dataset is not None:
        return len(trained_names(dataset, split))
    return len(split.classes) - len(getattr(split, "untrained", ()))


def trained_names(dataset: Dataset, split: Split) -> tuple[str, ...]:
    """Classes of the training cells, sorted."""
    return tuple(np.unique(dataset.labels[split.train]).tolist())
