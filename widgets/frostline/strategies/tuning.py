"""Training through the encoder: some or all of its weights, and a head, on tokens, with early stopping."""

from __future__ import annotations

import hashlib
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from frostline.bounds import Genes, Memory, bounded, learned
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.classes import class_numbers
from frostline.errors import FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.strategies.base import Workload, trained_names
from frostline.strategies.encoder import InEpochs, rows_to_train_on, variable_known_genes
from frostline.strategies.head import head_arrays, head_from_arrays, head_logits, head_probabilities

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.encoder.model import Encoder, Head
    from frostline.encoder.tokens import Tokens

Passes: TypeAlias = "tuple[Callable[[str, NDArray[np.int64]], tuple[Tensor, ...]], Callable[..., Tensor]]"
"""Tensors of rows of a part, and logits of such tensors."""
KEPT = 3  # sets of states kept: a split has three parts


@bounded
class EncoderTuning(InEpochs):
    """A strategy that trains weights inside the encoder; which ones, `_thawed` decides."""

    n_genes: Genes = 1_000
    """Genes that it reads: of those that the encoder knows, the ones of the largest variance over training cells."""
    memory: Memory = "normal"
    """Of training: low keeps less of each block and computes it again, which takes a third longer."""

    module_: nn.ModuleDict = learned()
    states_: dict[bytes, tuple[NDArray[np.float32], float]] = learned()
    """States of the last sets of cells and the seconds they took, by what went into them."""

    @abstractmethod
    def _thawed(self, encoder: Encoder) -> Encoder:
        """Prepare the encoder so that exactly what is to be trained requires a gradient."""

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it with the profile's number of genes, too."""
        return replace(super().from_profile(profile, checkpoint), n_genes=profile.tuning_genes)

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also cells that express none of the genes that it reads."""
        super().ensure_applicable(dataset, split)
        self._refuse_unread(dataset, split, "n_genes")

    def workload(self, split: Split) -> Workload:
        """Every epoch trains on the training cells and encodes the validation cells."""
        epochs = self.schedule(split.training_seed).for_cells(len(split.train)).epochs
        encoded = (epochs + 1) * len(split.validation) + len(split.test)
        return Workload(encoded, epochs * len(split.train), self.n_genes)

    @property
    def _encoder(self) -> Encoder:
        encoder: Encoder = self.module_["encoder"]  # type: ignore[assignment]
        return encoder

    @property
    def _head(self) -> Head:
        head: Head = self.module_["head"]  # type: ignore[assignment]
        return head

    def _fit(self, dataset: Dataset, split: Split, monitor: Monitor) -> None:
        import torch

        from frostline.encoder.devices import device_of, made_with, seeded
        from frostline.encoder.model import Head
        from frostline.encoder.training import train_classifier

        place = device_of(self.device)
        opened, classes = self._open(), trained_names(dataset, split)
        self._learn(genes=variable_known_genes(dataset, split.train, self.n_genes, opened))
        rows_of = rows_to_train_on(dataset, split)
        tokens = {part: self._tokens(dataset, rows) for part, rows in rows_of.items()}
        targets = {part: class_numbers(dataset.labels[rows], classes) for part, rows in rows_of.items()}
        encoder = opened.encoder()
        with seeded(split.training_seed, place) as draws:
            encoder = made_with(draws, lambda: self._thawed(encoder))
            encoder.recompute = self.memory == "low"
            head = made_with(draws, lambda: Head(opened.config.d_model, len(classes), self.dropout))
            self._learn(module=torch.nn.ModuleDict({"encoder": encoder, "head": head}).to(place), states={})
            history = train_classifier(
                self.module_,
                *self._passes(tokens),
                targets,
                self.schedule(split.training_seed),
                lengths={part: each.lengths for part, each in tokens.items()},
                draws=draws,
                graphs=self.memory != "low",
                monitor=monitor,
            )
        self._learn(history=history)

    def _tokens(self, dataset: Dataset, cells: NDArray[np.integer]) -> Tokens:
        from frostline.encoder.embedding import tokenize_cells

        with self._of_few_genes("n_genes"):
            return tokenize_cells(dataset, cells, self.genes_, self.opened_, **self._tokenised)

    def _passes(self, tokens: Mapping[str, Tokens]) -> Passes:
        """What training asks for again and again: the inputs of rows of a part, and logits of these."""
        return lambda part, rows: self._inputs(tokens[part].take(rows)), self._logits

    def _inputs(self, tokens: Tokens) -> tuple[Tensor, ...]:
        from frostline.encoder.devices import move, place_of
        from frostline.encoder.embedding import pad_tokens
        from frostline.encoder.graphs import MULTIPLE

        place = place_of(self._encoder)
        return move(pad_tokens(tokens, self._encoder.config, MULTIPLE.get(place.type, 1)), place)

    def _logits(self, gene_ids: Tensor, values: Tensor) -> Tensor:
        from frostline.encoder.devices import autocast

        with autocast(gene_ids.device, self.precision):
            states = self._encoder.cls_states(gene_ids, values)
        logits: Tensor = self._head(states.float())
        return logits

    def _charged(
        self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor | None = None
    ) -> tuple[NDArray[np.float32], float]:
        """Un-normalised `<cls>` states of the trained encoder, (n_cells, d), and the seconds they took.

        The last ones are kept, so that cells that were predicted are not encoded again to be mapped.
        """
        from frostline.encoder.embedding import encode

        started = time.perf_counter()
        tokens = self._tokens(dataset, cells)
        key = self._key(tokens)
        if key not in self.states_:
            states = encode(self._encoder.eval(), tokens, precision=self.precision, monitor=monitor)
            self.states_[key] = states, time.perf_counter() - started
            while len(self.states_) > KEPT:
                del self.states_[next(iter(self.states_))]
        return self.states_[key]

    def _key(self, tokens: Tokens) -> bytes:
        """Of tokens and weights: states are kept only as long as neither changes."""
        from frostline.encoder.devices import to_host

        digest = hashlib.blake2b(digest_size=16)
        weights = map(to_host, self._encoder.parameters())
        for array in (tokens.lengths, tokens.gene_ids, tokens.bins, *weights):
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

    def _classify(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return head_probabilities(self._head, features)

    def _scores(self, features: NDArray[np.float32], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        return head_logits(self._head, features)

    def _sizes(self) -> tuple[int, int]:
        """What requires a gradient is trainable; the rest of the encoder is not."""
        sizes = [(p.numel(), p.requires_grad) for p in self.module_.parameters()]
        return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)

    def _trained(self, encoder: Encoder) -> dict[str, nn.Parameter]:
        return {f"trained.{name}": p for name, p in encoder.named_parameters() if p.requires_grad}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        from frostline.encoder.devices import to_host

        trained = {name: to_host(p) for name, p in self._trained(self._encoder).items()}
        return {**self._encoder_arrays(), **trained, **head_arrays(self._head)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        import torch

        from frostline.encoder.devices import device_of, made_with

        opened = self._restore_encoder(arrays)
        encoder = made_with(torch.Generator(), lambda: self._thawed(opened.encoder()))  # torch's own stream stays
        wanted = self._trained(encoder)
        if set(wanted) != {name for name in arrays if name.startswith("trained.")}:
            raise FrostlineError(f"the saved weights are not those that strategy {self.name!r} trains")
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(torch.from_numpy(arrays[name].copy()))
        head = head_from_arrays(arrays, opened.config.d_model, len(self.classes_))
        place = device_of(self.device)
        self._learn(module=torch.nn.ModuleDict({"encoder": encoder.eval(), "head": head}).to(place), states={})
