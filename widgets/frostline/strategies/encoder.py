"""What the strategies on an scGPT encoder share: the checkpoint, tokens, frozen states."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Interval, Unit
from numpy.typing import NDArray

from frostline.bounds import (
    Batch,
    Device,
    Dropped,
    Epochs,
    LongCells,
    MaxLength,
    Precision,
    Rate,
    Seed,
    Steps,
    TextOrPath,
    Whole,
    bounded,
    learned,
)
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.cells.variable_genes import by_variance, most_variable
from frostline.encoder.checkpoints import Checkpoint, load_checkpoint, spec_of
from frostline.encoder.tokens import MAX_LENGTH
from frostline.errors import CheckpointError, DatasetError, FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.strategies.base import Strategy, Workload, trained_classes

if TYPE_CHECKING:
    from frostline.encoder.model import EncoderConfig
    from frostline.encoder.training import TrainingSchedule

WarmUp = Annotated[Whole, Interval(ge=0, le=10_000), Unit("epochs")]

BLOCK_CELLS = 4_096
"""Cells whose values are looked at together."""

_tried: set[tuple[str, str, str]] = set()
"""Weights that have encoded a cell in this process, where and how precisely."""


@bounded
class EncoderStrategy(Strategy):
    """A strategy that starts from a pretrained encoder."""

    reference: ClassVar[str] = "Cui et al. 2024, https://doi.org/10.1038/s41592-024-02201-0"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "frostline.encoder.frozen", "frostline.encoder.training")

    checkpoint: Annotated[TextOrPath, Unit("name or folder")] = "mini"
    """A name of `CHECKPOINTS`, or a folder in the official layout."""
    token_seed: Seed = 0
    """Of the draws among tied value bins."""
    max_length: MaxLength = MAX_LENGTH
    """Longest sequence of genes, `<cls>` included; of a cell that expresses more, some are dropped."""
    long_cells: LongCells = "random"
    """Genes that are kept of such a cell: random ones, as in the official code, or those of the highest values."""
    device: Device = "auto"
    """Where the encoder computes; auto takes CUDA where there is one, else the CPU."""
    precision: Precision = "fp32"
    """Of matrix products; weights, LayerNorm and the loss stay in float32. auto is bf16 where that pays, else fp32."""

    opened_: Checkpoint = learned()
    encoder_parameters_: int = learned()
    earlier_: int = learned(0)
    """Cells whose frozen states an earlier run had computed."""

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it; nothing of the profile matters to it."""
        return cls(checkpoint=checkpoint)

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse an unknown or unfit checkpoint, no gene in its vocabulary, cells without a known gene."""
        from frostline.encoder.devices import device_of, precision_of
        from frostline.encoder.embedding import encode, token_blocks

        super().ensure_applicable(dataset, split)
        place = device_of(self.device)
        precision = precision_of(self.precision, place)
        opened = load_checkpoint(self.checkpoint)
        cells = np.concatenate([split.train, split.validation, split.test])
        genes = known_genes(dataset, opened)
        tokens = token_blocks(dataset, cells, genes, opened, **self._tokenised)
        # of two cells: weights that tell none apart are refused, and what torch sets up at its first use is not
        # charged to the strategy that happens to be first
        tried = (opened.weights_sha256, place.type, precision)
        if tried not in _tried:
            encode(opened.encoder().to(place), tokens.make(slice(0, 2)), precision=precision)
            _tried.add(tried)

    def _refuse_unread(self, dataset: Dataset, split: Split, setting: str) -> None:
        """Refuse cells that express none of the genes of the largest variance, where a setting limits their number."""
        from frostline.encoder.embedding import without_cells
        from frostline.encoder.token_readers import expressing
        from frostline.encoder.vocabulary import token_reader

        n, opened = getattr(self, setting), load_checkpoint(self.checkpoint)
        known = known_genes(dataset, opened)
        if len(known) <= n:
            return
        values_of, tokens = token_reader(dataset, known, opened)
        order = by_variance(values_of(split.train))
        read = np.zeros(len(tokens), dtype=bool)
        read[order[:n]] = True
        cells = np.concatenate([split.train, split.validation, split.test])
        blocks = [cells[start : start + BLOCK_CELLS] for start in range(0, len(cells), BLOCK_CELLS)]
        unread = np.concatenate([block[~expressing(values_of(block), read)] for block in blocks])
        if not len(unread):
            return
        enough = 1 + max(int(row.indices[row.data > 0].min()) for row in values_of(unread)[:, order])
        names = dataset.cells[unread]
        left = f", leave them out: `adata = {line}.copy()`" if (line := without_cells(names)) else ""
        raise DatasetError(
            f"{len(names):,} cell(s) express none of the {n:,} genes that strategy {self.name!r} reads, for example "
            f"{', '.join(names[:3])}; let it read more ({setting} = {enough} gives each of them one){left}, or leave "
            "this strategy out"
        )

    @contextlib.contextmanager
    def _of_few_genes(self, setting: str) -> Iterator[None]:
        """Say of cells that cannot be read which setting limits the genes."""
        try:
            yield
        except DatasetError as error:
            n = getattr(self, setting)
            few = f"; or let {self.name!r} read more genes than {setting} = {n:,}"
            raise DatasetError(f"{error}{few if len(self.genes_) >= n else ''}") from None

    def _start(self) -> None:
        """Decide what precision auto is here; a record and a saved strategy hold what was taken."""
        super()._start()
        if self.precision == "auto":
            from frostline.encoder.devices import device_of, precision_of

            object.__setattr__(self, "precision", precision_of("auto", device_of(self.device)))

    @property
    def _tokenised(self) -> dict[str, Any]:
        """How cells become tokens."""
        return {"seed": self.token_seed, "max_length": self.max_length, "long_cells": self.long_cells}

    def workload(self, split: Split) -> Workload:
        """Every cell of the split is encoded once."""
        return Workload(encoded=len(split.train) + len(split.validation) + len(split.test))

    def notes(self, dataset: Dataset) -> tuple[str, ...]:
        """What pre-training may have seen, which genes have other names there, what an earlier run had computed."""
        from frostline.encoder.vocabulary import mapping_note

        spec = spec_of(self.checkpoint)
        names = dataset.sets or (dataset.name,)
        notes = [spec.overlaps[name] for name in names if spec and name in spec.overlaps]
        notes += [note] if (note := mapping_note(dataset, load_checkpoint(self.checkpoint))) else []
        if self.earlier_:
            notes.append(
                f"Frozen states of {self.earlier_:,} cells were computed by an earlier run and read from disk; their "
                "seconds are those of then."
            )
        return tuple(notes)

    def on_genes(self, genes: Collection[str]) -> Self:
        """Return the same fitted strategy, which reads no other genes; a gene that is left out is no token of a cell.

        Parameters
        ----------
        genes
            Names; those that it does not read are passed over.
        """
        self._must_be_fitted()
        narrowed, kept = copy.copy(self), set(genes)
        narrowed._learn(genes=tuple(gene for gene in self.genes_ if gene in kept))
        return narrowed

    def _open(self) -> Checkpoint:
        """Open the checkpoint once, and count what it costs."""
        started = time.perf_counter()
        opened = load_checkpoint(self.checkpoint)
        n_parameters = sum(p.numel() for p in opened.encoder().parameters())
        self._learn(opened=opened, encoder_parameters=n_parameters)
        self._charge("load", time.perf_counter() - started, started)
        return opened

    def _frozen(self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor) -> NDArray[np.float32]:
        """Un-normalised frozen states, (n_cells, d), to fit on; charged as an embedding, computed now or earlier."""
        started = time.perf_counter()
        states, seconds = self._charged(dataset, cells, monitor)
        self._charge("embed", seconds, started)
        return states

    def _features(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float32]:
        """Un-normalised `<cls>` states, (n_cells, d)."""
        return self._charged(dataset, cells)[0]

    def _mapped(self, features: NDArray[np.float32]) -> NDArray[np.floating]:
        """L2-normalised."""
        from frostline.encoder.embedding import normalise

        return normalise(features)

    def _charged(
        self, dataset: Dataset, cells: NDArray[np.integer], monitor: Monitor | None = None
    ) -> tuple[NDArray[np.float32], float]:
        from frostline.encoder.frozen import frozen_states

        how: Mapping[str, Any] = {**self._tokenised, "device": self.device, "precision": self.precision}
        frozen = frozen_states(dataset, cells, self.genes_, self.opened_, monitor=monitor, **how)
        self._learn(embed_peak=frozen.peak, embed_device_peak=frozen.device_peak, earlier=frozen.earlier)
        return frozen.states, frozen.seconds

    def _encoder_arrays(self) -> dict[str, NDArray[Any]]:
        """Which weights the learned part belongs to."""
        return {"weights_sha256": np.frombuffer(bytes.fromhex(self.opened_.weights_sha256), dtype=np.uint8)}

    def _restore_encoder(self, arrays: Mapping[str, NDArray[Any]]) -> Checkpoint:
        """Open the checkpoint and refuse it when its weights are not those the strategy was fitted on."""
        opened = self._open()
        if arrays["weights_sha256"].tobytes().hex() != opened.weights_sha256:
            raise CheckpointError(
                f"strategy {self.name!r} was fitted on other weights than checkpoint {self.checkpoint!r} holds now"
            )
        return opened


@bounded
class InEpochs(EncoderStrategy):
    """A strategy that trains a head, and perhaps more, in epochs with early stopping."""

    stops_early: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch._dynamo",)  # what torch's optimizers load when they first step
    profile_key: ClassVar[str]
    """Prefix of its epochs and its learning rate in a profile: head, lora or full."""

    epochs: Epochs = 8
    """Longest training; it stops early on the validation loss."""
    batch_size: Batch = 32
    """Cells in one training step, at most; a twelfth of the training cells where that is fewer, and eight at least."""
    learning_rate: Rate = 2e-3
    """Of AdamW."""
    dropout: Dropped = 0.1
    """Between LayerNorm and linear layer of the head."""
    patience: Epochs = 4
    """Epochs without a lower validation loss before training stops."""
    min_steps: Steps = 100
    """Optimiser steps that training may take at least; more epochs where few cells train."""
    warmup_epochs: WarmUp = 0
    """Epochs over which the learning rate rises linearly from zero."""

    def __post_init__(self) -> None:
        if self.warmup_epochs > self.epochs:
            raise FrostlineError(
                f"strategy {self.name!r}: warmup_epochs is {self.warmup_epochs:,}, and must be at most epochs, which "
                f"is {self.epochs:,}: training would end before the learning rate is reached"
            )

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it with the profile's epochs, batch size, learning rate and steps."""
        return cls(
            checkpoint=checkpoint,
            epochs=getattr(profile, f"{cls.profile_key}_epochs"),
            batch_size=profile.batch_size,
            learning_rate=getattr(profile, f"{cls.profile_key}_lr"),
            min_steps=profile.min_steps,
        )

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """What is trained of the encoder; LayerNorm's gain and bias, the linear layer's weights and biases."""
        config = load_checkpoint(self.checkpoint).config
        return (
            self._thawed_parameters(config)
            + 2 * config.d_model
            + trained_classes(split, dataset) * (config.d_model + 1)
        )

    def _thawed_parameters(self, config: EncoderConfig) -> int:
        """Parameters that are trained inside the encoder."""
        return 0

    @property
    def search(self) -> str:
        """Epochs, and what ends them."""
        steps = f"(or {self.min_steps} steps, if more)"
        return f"at most {self.epochs} epochs {steps}, stopped early on the validation loss"

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also a split without validation cells of the trained classes."""
        super().ensure_applicable(dataset, split)
        rows_to_train_on(dataset, split)

    def schedule(self, seed: int) -> TrainingSchedule:
        """How long and how fast it trains."""
        from frostline.encoder.training import TrainingSchedule

        return TrainingSchedule(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            seed,
            patience=self.patience,
            warmup_epochs=self.warmup_epochs,
            min_steps=self.min_steps,
        )


def known_genes(dataset: Dataset, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Genes of a data set, by its own names, that a checkpoint's vocabulary holds by any.

    What the encoder reads depends on no other cell, and so not on the split: one embedding serves all repeats.
    """
    from frostline.encoder.vocabulary import overlap

    return overlap(dataset, checkpoint).matched


def variable_known_genes(
    dataset: Dataset, train: NDArray[np.integer], n: int, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """Of those genes the ones whose tokens, at most `n`, have the largest variance over the training cells."""
    from frostline.encoder.vocabulary import overlap, token_values

    values, tokens = token_values(dataset, train, known_genes(dataset, checkpoint), checkpoint)
    chosen = {tokens[i] for i in most_variable(values, n)}
    found = overlap(dataset, checkpoint).map
    return tuple(
        name
        for name, place in zip(found.names, found.places, strict=True)
        if place >= 0 and found.target[place] in chosen
    )


def rows_to_train_on(dataset: Dataset, split: Split) -> dict[str, NDArray[np.int64]]:
    """Rows that train and rows that validate; cells of classes that training lacks cannot do either."""
    known = np.unique(dataset.labels[split.train])
    validation = split.validation[np.isin(dataset.labels[split.validation], known)]
    if not len(validation):
        raise DatasetError(
            "no validation cell has a class that the training cells have; draw the split with "
            "frostline.split(dataset, kind='stratified')"
        )
    return {"train": split.train, "validation": validation}
