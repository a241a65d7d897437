"""LoRA: low-rank matrices inside every block of the encoder, and a head, trained together.

Adapters come from PEFT (Hu et al., 2022, arXiv:2106.09685).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from frostline.datasets import Dataset
from frostline.errors import FrostlineError
from frostline.monitor import Monitor
from frostline.profiles import Profile
from frostline.records import Cost
from frostline.splits import Split
from frostline.strategies.base import learned
from frostline.strategies.encoder import EncoderStrategy, class_numbers, rows_to_train_on
from frostline.strategies.head import head_arrays, head_from_arrays, head_parameters, head_probabilities

if TYPE_CHECKING:
    from torch import nn

    from frostline.model import Encoder, Head
    from frostline.tokens import Tokens

TARGETS = ("linear1", "linear2", "q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Lora(EncoderStrategy):
    """Rank-limited updates of each block's feed-forward layers, and a LayerNorm + linear head.

    Examples
    --------
    >>> Lora(targets=("q_proj", "v_proj")).rank
    4
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA tuning"
    trains: ClassVar[str] = "low-rank matrices in every block of the encoder, and a head"

    rank: int = 4
    """Rank of each update."""
    alpha: int = 8
    """The update is scaled by alpha / rank."""
    lora_dropout: float = 0.05
    """Dropout on the input of the low-rank matrices."""
    targets: tuple[str, ...] = ("linear1", "linear2")
    """Layers of each block: linear1, linear2 (feed-forward), q_proj, k_proj, v_proj, out_proj (attention)."""
    epochs: int = 8
    """Longest training; it stops early on the validation loss."""
    batch_size: int = 32
    """Cells in one training step."""
    learning_rate: float = 2e-3
    """Of AdamW."""
    dropout: float = 0.1
    """Between LayerNorm and linear layer of the head."""
    patience: int = 4
    """Epochs without a lower validation loss before training stops."""

    module_: nn.ModuleDict = learned()

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [target for target in self.targets if target not in TARGETS]
        if wrong or not self.targets:
            raise FrostlineError(f"LoRA targets {wrong or 'none'}; known: {', '.join(TARGETS)}")

    @classmethod
    def from_profile(cls, profile: Profile, checkpoint: str) -> Self:
        """Build it with the profile's epochs, batch size and learning rate."""
        return cls(
            checkpoint=checkpoint,
            epochs=profile.lora_epochs,
            batch_size=profile.batch_size,
            learning_rate=profile.lora_lr,
        )

    def planned_parameters(self, split: Split) -> int:
        """Both low-rank matrices of every target in every block, and the head."""
        from frostline.checkpoints import load_checkpoint

        config = load_checkpoint(self.checkpoint).config
        widths = {
            target: config.d_model + (config.d_hid if target.startswith("linear") else config.d_model)
            for target in self.targets
        }
        adapters = config.n_layers * self.rank * sum(widths.values())
        return adapters + head_parameters(config.d_model, len(split.classes))

    @property
    def _encoder(self) -> Encoder:
        encoder: Encoder = self.module_["encoder"]  # type: ignore[assignment]
        return encoder

    @property
    def _head(self) -> Head:
        head: Head = self.module_["head"]  # type: ignore[assignment]
        return head

    def fit(self, dataset: Dataset, split: Split, monitor: Monitor | None = None) -> Self:
        """Put adapters into the encoder, train them and the head on tokens."""
        import torch

        from frostline.model import Head
        from frostline.training import TrainingPlan, train_classifier

        opened = self._open()
        classes = tuple(np.unique(dataset.labels[split.train]).tolist())
        self._learn(genes=split.genes, classes=classes)
        started = time.perf_counter()
        rows_of = rows_to_train_on(dataset, split)
        tokens = {part: self._tokens(dataset, rows) for part, rows in rows_of.items()}
        targets = {part: class_numbers(dataset.labels[rows], classes) for part, rows in rows_of.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(split.training_seed)
            encoder = self._adapted(opened.encoder())
            head = Head(opened.config.d_model, len(classes), self.dropout)
            self._learn(module=torch.nn.ModuleDict({"encoder": encoder, "head": head}))
            plan = TrainingPlan(
                self.epochs, self.batch_size, self.learning_rate, split.training_seed, patience=self.patience
            )
            history = train_classifier(
                self.module_,
                lambda part, rows: self._logits(tokens[part].take(rows)),
                targets,
                plan,
                lengths=tokens["train"].lengths,
                monitor=monitor,
            )
        self._learn(history=history)
        self.seconds_["fit"] = time.perf_counter() - started
        return self

    def _adapted(self, encoder: Encoder) -> Encoder:
        """Inject PEFT's layers; afterwards only they require a gradient."""
        from peft import LoraConfig, inject_adapter_in_model

        names = "|".join(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.lora_dropout,
            # a pattern over whole names: the value encoder has a linear1 and a linear2 of its own
            target_modules=rf"transformer_encoder\.layers\.\d+\.(self_attn\.)?({names})",
        )
        adapted: Encoder = inject_adapter_in_model(config, encoder)  # type: ignore[assignment]
        return adapted

    def _tokens(self, dataset: Dataset, cells: NDArray[np.integer]) -> Tokens:
        from frostline.embedding import tokenize_cells

        return tokenize_cells(
            dataset, cells, self.genes_, self.opened_, seed=self.token_seed, max_length=self.max_length
        )

    def _logits(self, tokens: Tokens) -> Any:
        from frostline.embedding import pad_tokens

        return self._head(self._encoder.cls_states(*pad_tokens(tokens, self._encoder.config)))

    def _states(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float32]:
        """Un-normalised `<cls>` states of the adapted encoder, (n_cells, d)."""
        from frostline.embedding import encode

        self._must_be_fitted()
        return encode(self._encoder.eval(), self._tokens(dataset, cells))

    def embed(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.floating]:
        """(n_cells, d) L2-normalised `<cls>` states of the adapted encoder."""
        from frostline.embedding import normalise

        return normalise(self._states(dataset, cells))

    def predict_proba(self, dataset: Dataset, cells: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n_cells, n_classes) probabilities."""
        self._must_be_fitted()
        started = time.perf_counter()
        probabilities = head_probabilities(self._head, self._states(dataset, cells))
        self.seconds_["predict"] = time.perf_counter() - started
        return probabilities

    def cost(self) -> Cost:
        """Adapters and head are trainable, the encoder below them is not."""
        self._must_be_fitted()
        trainable = sum(p.numel() for p in self.module_.parameters() if p.requires_grad)
        return Cost(dict(self.seconds_), trainable, trainable + self.encoder_parameters_)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        adapters = {
            f"adapter.{name}": parameter.detach().numpy()
            for name, parameter in self._encoder.named_parameters()
            if parameter.requires_grad
        }
        return {**self._encoder_arrays(), **adapters, **head_arrays(self._head)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        import torch

        opened = self._restore_encoder(arrays)
        encoder = self._adapted(opened.encoder())
        wanted = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
        saved = {name.removeprefix("adapter."): a for name, a in arrays.items() if name.startswith("adapter.")}
        if set(wanted) != set(saved):
            raise FrostlineError("the saved adapters do not match the strategy's targets")
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(torch.from_numpy(saved[name].copy()))
        head = head_from_arrays(arrays, opened.config.d_model, len(self.classes_))
        self._learn(module=torch.nn.ModuleDict({"encoder": encoder.eval(), "head": head}))
