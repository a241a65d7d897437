"""Full fine-tuning: every weight of the encoder and a head; the upper bound of what thawing can give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from frostline.cells.datasets import Dataset
from frostline.cells.splits import Split
from frostline.strategies.base import trained_classes
from frostline.strategies.head import head_parameters
from frostline.strategies.tuning import EncoderTuning

if TYPE_CHECKING:
    from frostline.encoder.model import Encoder


@dataclass(frozen=True)
class FullTuning(EncoderTuning):
    """All weights of the encoder, and a LayerNorm + linear head, trained as scGPT's own tutorial does.

    Learning rate 1e-4 (Cui et al. 2024, 10.1038/s41592-024-02201-0) after one epoch of linear warm-up,
    gradients clipped to norm 1, early stopping. What is saved is the whole encoder.

    Examples
    --------
    >>> FullTuning().learning_rate, FullTuning.expensive
    (0.0001, True)
    """

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning"
    trains: ClassVar[str] = "every weight of the encoder, and a head"
    expensive: ClassVar[bool] = True
    profile_key: ClassVar[str] = "full"

    epochs: int = 16
    """Longest training; it stops early on the validation loss."""
    learning_rate: float = 1e-4
    """Of AdamW, once warmed up."""
    warmup_epochs: int = 1
    """Epochs over which the learning rate rises linearly from zero."""

    def planned_parameters(self, split: Split, dataset: Dataset | None = None) -> int:
        """All of the encoder, and the head."""
        from frostline.encoder.checkpoints import load_checkpoint

        config = load_checkpoint(self.checkpoint).config
        return config.n_parameters + head_parameters(config.d_model, trained_classes(split))

    def _thawed(self, encoder: Encoder) -> Encoder:
        encoder.requires_grad_(True)
        return encoder
