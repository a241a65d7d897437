"""A trained head on the frozen encoder; its features are computed once, not once an epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.classes import class_numbers
from frostline.monitor import Monitor
from frostline.records import Cost
from frostline.strategies.base import learned, trained_classes
from frostline.strategies.encoder import InEpochs, known_genes, rows_to_train_on

if TYPE_CHECKING:
    from frostline.encoder.model import Head


@dataclass(frozen=True)
class HeadTuning(InEpochs):
    """LayerNorm, dropout and a linear layer, trained on frozen `<cls>` states with early stopping.

    Examples
    --------
    >>> HeadTuning(epochs=20).epochs
    20
    """

    name: ClassVar[str] = "head"
    title: ClassVar[str] = "Head-only tuning"
    trains: ClassVar[str] = "a LayerNorm and a linear head on the frozen encoder"
    on_embedding: ClassVar[bool] = True
    profile_key: ClassVar[str] = "head"

    epochs: int = 60
    """Longest training; it stops early on the validation loss."""
    patience: int = 8
    """Epochs without a lower validation loss before training stops."""

    head_: Head = learned()

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """LayerNorm's gain and bias, the linear layer's weights and biases."""
        from frostline.encoder.checkpoints import load_checkpoint

        return head_parameters(load_checkpoint(self.checkpoint).config.d_model, trained_classes(split))

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Compute frozen states once, then train the head on them."""
        import torch

        from frostline.encoder.model import Head
        from frostline.encoder.training import train_classifier

        monitor = monitor or Monitor()
        opened = self._open()
        classes = tuple(np.unique(dataset.labels[split.train]).tolist())
        self._learn(genes=known_genes(dataset, opened), classes=classes)
        rows_of = rows_to_train_on(dataset, split)
        states, embed_seconds = {}, 0.0
        for i, part in enumerate(rows_of):
            found, seconds = self._frozen(dataset, rows_of[part], monitor.part(0.4 * i, 0.4 * (i + 1)))
            states[part] = torch.from_numpy(found)
            embed_seconds += seconds
        started = time.perf_counter()
        targets = {part: class_numbers(dataset.labels[rows], classes) for part, rows in rows_of.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(split.training_seed)
            head = Head(opened.config.d_model, len(classes), self.dropout)
            history = train_classifier(
                head,
                lambda part, rows: head(states[part][torch.from_numpy(rows)]),
                targets,
                self.plan(split.training_seed),
                monitor=monitor.part(0.8, 1.0),
            )
        self._learn(head=head, history=history)
        self.seconds_.update(embed=embed_seconds, fit=time.perf_counter() - started)
        return self

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) L2-normalised frozen `<cls>` states."""
        from frostline.encoder.embedding import normalise

        self._must_be_fitted()
        return normalise(self._frozen(dataset, cells)[0])

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""
        self._must_be_fitted()
        states, seconds = self._frozen(dataset, cells)
        started = time.perf_counter()
        probabilities = head_probabilities(self.head_, states)
        self.seconds_["predict"] = seconds + time.perf_counter() - started
        return probabilities

    def cost(self) -> Cost:
        """The head is trainable, the encoder is not."""
        self._must_be_fitted()
        trainable = sum(p.numel() for p in self.head_.parameters())
        return self._cost(trainable, trainable + self.encoder_parameters_)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._encoder_arrays(), **head_arrays(self.head_)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        opened = self._restore_encoder(arrays)
        self._learn(head=head_from_arrays(arrays, opened.config.d_model, len(self.classes_)))


def head_parameters(d_model: int, n_classes: int) -> int:
    """Parameters of LayerNorm and linear layer."""
    return 2 * d_model + n_classes * (d_model + 1)


def head_probabilities(head: Head, states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of the head's logits, in double precision so that rows sum to 1."""
    import torch

    with torch.inference_mode():
        logits = head.eval()(torch.from_numpy(states)).double()
        probabilities: NDArray[np.float64] = torch.softmax(logits, dim=1).numpy()
    return probabilities


def head_arrays(head: Head) -> dict[str, NDArray[Any]]:
    """Weights of a head, by name."""
    return {f"head.{name}": tensor.detach().numpy() for name, tensor in head.state_dict().items()}


def head_from_arrays(arrays: Mapping[str, NDArray[Any]], d_model: int, n_classes: int) -> Head:
    """Rebuild a head from `head_arrays`."""
    import torch

    from frostline.encoder.model import Head

    head = Head(d_model, n_classes)
    state = {
        name.removeprefix("head."): torch.from_numpy(array.copy())
        for name, array in arrays.items()
        if name.startswith("head.")
    }
    head.load_state_dict(state, strict=True)
    return head.eval()
