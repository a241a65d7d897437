"""Full fine-tuning: every weight of the encoder and a head; the upper bound of what thawing can give."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from frostline.bounds import Epochs, Rate, bounded
from frostline.strategies.encoder import WarmUp
from frostline.strategies.tuning import EncoderTuning

if TYPE_CHECKING:
    from frostline.encoder.model import Encoder, EncoderConfig


@bounded
class FullTuning(EncoderTuning):
    """All weights of the encoder, and a LayerNorm + linear head, trained as scGPT's own tutorial does.

    Learning rate 1e-4 after one epoch of linear warm-up,
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

    epochs: Epochs = 16
    learning_rate: Rate = 1e-4
    """Of AdamW, once warmed up."""
    warmup_epochs: WarmUp = 1

    def _thawed_parameters(self, config: EncoderConfig) -> int:
        return config.n_parameters

    def _thawed(self, encoder: Encoder) -> Encoder:
        encoder.requires_grad_(True)
        return encoder
