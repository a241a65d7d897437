"""A trained head on the frozen encoder; its features are computed once, not once an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Epochs, bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.classes import class_numbers, softmax
from frostline.monitor import Monitor
from frostline.strategies.base import trained_names
from frostline.strategies.encoder import InEpochs, known_genes, rows_to_train_on

if TYPE_CHECKING:
    from frostline.encoder.model import Head


@bounded
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

    epochs: Epochs = 60
    patience: Epochs = 8

    head_: Head = learned()

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        import torch

        from frostline.encoder.devices import device_of, made_with, seeded
        from frostline.encoder.model import Head
        from frostline.encoder.training import train_classifier

        place = device_of(self.device)
        opened, classes = self._open(), trained_names(dataset, split)
        self._learn(genes=known_genes(dataset, opened))
        rows_of = rows_to_train_on(dataset, split)
        states = {
            part: torch.from_numpy(self._frozen(dataset, rows, monitor.part(0.4 * i, 0.4 * (i + 1)))).to(place)
            for i, (part, rows) in enumerate(rows_of.items())
        }
        targets = {part: class_numbers(dataset.labels[rows], classes) for part, rows in rows_of.items()}
        with seeded(split.training_seed, place) as draws:
            head = made_with(draws, lambda: Head(opened.config.d_model, len(classes), self.dropout)).to(place)
            history = train_classifier(
                head,
                lambda part, rows: (states[part][torch.from_numpy(rows).to(place)],),
                head,
                targets,
                self.schedule(split.training_seed),
                draws=draws,
                monitor=monitor.part(0.8, 1.0),
            )
        self._learn(head=head, history=history)

    def _classify(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return head_probabilities(self.head_, features)

    def _scores(self, features: NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return head_logits(self.head_, features)

    def _sizes(self) -> tuple[int, int]:
        """The head is trainable, the encoder is not."""
        trainable = sum(p.numel() for p in self.head_.parameters())
        return trainable, trainable + self.encoder_parameters_

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {**self._encoder_arrays(), **head_arrays(self.head_)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        from frostline.encoder.devices import device_of

        opened = self._restore_encoder(arrays)
        head = head_from_arrays(arrays, opened.config.d_model, len(self.classes_))
        self._learn(head=head.to(device_of(self.device)))


def head_probabilities(head: Head, states: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of the head's logits, in double precision so that rows sum to 1."""
    return softmax(head_logits(head, states))


def head_logits(head: Head, states: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n_cells, n_classes) logits of a head."""
    import torch

    from frostline.encoder.devices import place_of, to_host

    with torch.inference_mode():
        logits = to_host(head.eval()(torch.from_numpy(states).to(place_of(head))))
    return logits.astype(np.float64)


def head_arrays(head: Head) -> dict[str, NDArray[Any]]:
    """Weights of a head, by name."""
    from frostline.encoder.devices import to_host

    return {f"head.{name}": to_host(tensor) for name, tensor in head.state_dict().items()}


def head_from_arrays(arrays: Mapping[str, NDArray[Any]], d_model: int, n_classes: int) -> Head:
    """Rebuild a head from `head_arrays`."""
    import torch

    from frostline.encoder.devices import made_with
    from frostline.encoder.model import Head

    head = made_with(torch.Generator(), lambda: Head(d_model, n_classes))  # torch's own stream stays where it is
    state = {
        name.removeprefix("head."): torch.from_numpy(array.copy())
        for name, array in arrays.items()
        if name.startswith("head.")
    }
    head.load_state_dict(state, strict=True)
    return head.eval()
