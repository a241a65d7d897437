"""Adapters from PEFT: small matrices or vectors inside every block of the encoder, and a head, trained together.

One class, and a few lines for each configuration that is on the list of strategies.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Interval, MinLen, Unit
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator

from frostline.bounds import Dropped, Whole, bounded
from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import FrostlineError
from frostline.strategies.base import WEIGHTS, Workload, as_safetensors
from frostline.strategies.tuning import EncoderTuning, Passes

if TYPE_CHECKING:
    from frostline.encoder.model import Encoder, EncoderConfig
    from frostline.encoder.tokens import Tokens

Layer = Literal["linear1", "linear2", "q_proj", "k_proj", "v_proj", "out_proj"]
FEED_FORWARD: tuple[Layer, ...] = ("linear1", "linear2")
ATTENTION: tuple[Layer, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
TARGETS = (*FEED_FORWARD, *ATTENTION)
TRAINED, PEFT = "trained.", "base_model.model."
"""What the names of trained tensors begin with, here and in PEFT's files."""
LENGTHS = "lora_magnitude_vector"


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _each_once(names: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if len(set(names)) < len(names):
        raise ValueError("which names one of them twice")
    return names


Targets = Annotated[
    tuple[Layer, ...], MinLen(1), BeforeValidator(_listed), AfterValidator(_each_once), Unit("layers of each block")
]


@bounded
class Adapters(EncoderTuning):
    """PEFT's adapters on some layers of each block, and a LayerNorm + linear head; the rest stays frozen."""

    method: ClassVar[str]
    """lora, dora or ia3."""
    libraries: ClassVar[tuple[str, ...]] = ("peft",)
    profile_key: ClassVar[str] = "lora"

    targets: Targets = FEED_FORWARD
    """Layers of each block: linear1, linear2 (feed-forward), q_proj, k_proj, v_proj, out_proj (attention)."""
    encoder_dropout: Dropped = 0.0
    """Dropout in the frozen encoder while its adapters train; 0.2 in scGPT's own training, where all weights train."""
    layers: Annotated[Whole, Interval(ge=0, le=1_000), Unit("blocks")] = 0
    """Blocks that get adapters, counted from the last; 0 for all. With few, states below are computed once: faster."""

    @abstractmethod
    def _config(self, n_layers: int) -> Any:
        """PEFT's configuration, for an encoder of so many blocks."""

    @abstractmethod
    def _adapter_size(self, n_in: int, n_out: int, *, feed_forward: bool) -> int:
        """Parameters of the adapter on one layer."""

    def _thawed_parameters(self, config: EncoderConfig) -> int:
        """The adapters on every target in every block."""
        shapes = {"linear1": (config.d_model, config.d_hid), "linear2": (config.d_hid, config.d_model)}
        square = (config.d_model, config.d_model)
        block = sum(
            self._adapter_size(*shapes.get(target, square), feed_forward=target in FEED_FORWARD)
            for target in self.targets
        )
        return (self.layers or config.n_layers) * block

    def workload(self, split: Split) -> Workload:
        """Of few blocks, what is below them is computed once, and each epoch passes their share of the encoder."""
        whole = super().workload(split)
        if not self.layers:
            return whole
        share = self.layers / load_checkpoint(self.checkpoint).config.n_layers
        after = len(split.validation) + len(split.test)  # encoded when training is over
        once = (1 - share) * (len(split.train) + len(split.validation))
        encoded = after + round(share * (whole.encoded - after) + once)
        return replace(whole, encoded=encoded, trained=round(share * whole.trained))

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also more blocks than the encoder has."""
        n_layers = load_checkpoint(self.checkpoint).config.n_layers
        if self.layers > n_layers:
            raise FrostlineError(
                f"strategy {self.name!r}: layers is {self.layers:,}, and must be at most {n_layers:,} blocks, as many "
                f"as checkpoint {self.checkpoint!r} has; 0 takes all of them"
            )
        super().ensure_applicable(dataset, split)

    def _thawed(self, encoder: Encoder) -> Encoder:
        """Inject PEFT's layers; afterwards only they require a gradient."""
        from peft import inject_adapter_in_model

        from frostline.encoder.model import set_dropout

        set_dropout(encoder, 0.0)
        for block in encoder.transformer_encoder.layers[-self.layers :] if self.layers else [encoder]:
            set_dropout(block, self.encoder_dropout)
        config = self._config(encoder.config.n_layers)
        adapted: Encoder = inject_adapter_in_model(config, encoder)  # type: ignore[assignment]
        return adapted

    def _passes(self, tokens: Mapping[str, Tokens]) -> Passes:
        """Of few blocks the states below are computed once."""
        if not self.layers:
            return super()._passes(tokens)
        from frostline.encoder.lower_states import LowerStates

        lower = {part: LowerStates(self._encoder, each, self.layers, self.precision) for part, each in tokens.items()}
        upper = lower["train"].cls_states
        return lambda part, rows: lower[part].inputs(rows), lambda *batch: self._head(upper(*batch).float())

    def _pattern(self, names: tuple[Layer, ...], n_layers: int) -> str:
        # a pattern over whole names: the value encoder has a linear1 and a linear2 of its own
        blocks = "|".join(map(str, range(n_layers - self.layers, n_layers))) if self.layers else r"\d+"
        return rf"transformer_encoder\.layers\.({blocks})\.(self_attn\.)?({'|'.join(names)})"

    def weight_files(self) -> dict[str, bytes]:
        """The adapter as PEFT saves it, so that it can be put on the same encoder without frostline; and the head."""
        arrays = self._arrays()
        adapter = {_peft_name(name): array for name, array in arrays.items() if name.startswith(TRAINED)}
        rest = {name: array for name, array in arrays.items() if not name.startswith(TRAINED)}
        settings = self._config(self._encoder.config.n_layers).to_dict() | {"inference_mode": True}
        config = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        return {
            "adapter_config.json": config.encode(),
            "adapter_model.safetensors": as_safetensors(adapter, {"format": "pt"}),
            WEIGHTS: as_safetensors(rest),
        }

    @classmethod
    def _arrays_of(cls, files: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
        from safetensors.numpy import load

        adapter = load(files["adapter_model.safetensors"])
        return super()._arrays_of(files) | {_own_name(name): array for name, array in adapter.items()}


def _peft_name(name: str) -> str:
    """Name of a tensor in PEFT's files, where no adapter is named and DoRA's lengths are no module of their own."""
    return PEFT + name.removeprefix(TRAINED).replace(f"{LENGTHS}.default.weight", LENGTHS).replace(".default", "")


def _own_name(name: str) -> str:
    stem, dot, last = name.removeprefix(PEFT).rpartition(".")
    ending = {"weight": "default.weight", LENGTHS: f"{LENGTHS}.default.weight"}.get(last, f"{last}.default")
    return f"{TRAINED}{stem}{dot}{ending}"


@bounded
class Lora(Adapters):
    """LoRA on the feed-forward layers: rank-limited updates.

    Examples
    --------
    >>> Lora(targets=("q_proj", "v_proj")).rank
    4
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA tuning"
    trains: ClassVar[str] = "low-rank matrices in every block of the encoder, and a head"
    reference: ClassVar[str] = "Hu et al. 2022, https://doi.org/10.48550/arXiv.2106.09685"
    method: ClassVar[str] = "lora"

    rank: Annotated[Whole, Interval(ge=1, le=1_024), Unit("dimensions")] = 4
    """Rank of each update."""
    alpha: Annotated[Whole, Interval(ge=1, le=65_536), Unit("no unit")] = 8
    """The update is scaled by alpha / rank."""
    lora_dropout: Dropped = 0.05
    """Dropout on the input of the low-rank matrices."""

    def ensure_applicable(self, dataset: Dataset, split: Split) -> None:
        """Refuse also a rank that is not lower than what the weights can have."""
        config = load_checkpoint(self.checkpoint).config
        widest = min(config.d_model, config.d_hid) if set(self.targets) & set(FEED_FORWARD) else config.d_model
        if self.rank > widest:
            raise FrostlineError(
                f"strategy {self.name!r}: rank is {self.rank:,}, and must be at most {widest:,} dimensions, as many as "
                f"the layers of checkpoint {self.checkpoint!r} have"
            )
        super().ensure_applicable(dataset, split)

    def _config(self, n_layers: int) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self._pattern(self.targets, n_layers),
            use_dora=self.method == "dora",
        )

    def _adapter_size(self, n_in: int, n_out: int, *, feed_forward: bool) -> int:
        return self.rank * (n_in + n_out) + (n_out if self.method == "dora" else 0)


@bounded
class LoraAttention(Lora):
    """LoRA on the four projections of the attention, as LoRA's own paper places it.

    Examples
    --------
    >>> LoraAttention().targets
    ('q_proj', 'k_proj', 'v_proj', 'out_proj')
    """

    name: ClassVar[str] = "lora_attention"
    title: ClassVar[str] = "LoRA tuning of the attention"
    trains: ClassVar[str] = "low-rank matrices in the attention of every block, and a head"

    targets: Targets = ATTENTION


@bounded
class Dora(Lora):
    """DoRA: LoRA for the direction of each weight, and a trained length.

    Examples
    --------
    >>> Dora().targets
    ('linear1', 'linear2')
    """

    name: ClassVar[str] = "dora"
    title: ClassVar[str] = "DoRA tuning"
    trains: ClassVar[str] = "low-rank matrices and lengths of weights in every block of the encoder, and a head"
    reference: ClassVar[str] = "Liu et al. 2024, https://doi.org/10.48550/arXiv.2402.09353"
    method: ClassVar[str] = "dora"


@bounded
class Ia3(Adapters):
    """(IA)^3: factors for keys, values and inner feed-forward activations.

    Of feed-forward layers the inputs are scaled, of attention projections the outputs.

    Examples
    --------
    >>> Ia3().targets
    ('k_proj', 'v_proj', 'linear2')
    """

    name: ClassVar[str] = "ia3"
    title: ClassVar[str] = "(IA)^3 tuning"
    trains: ClassVar[str] = "one factor for each key, value and inner feed-forward channel, and a head"
    reference: ClassVar[str] = "Liu et al. 2022, https://doi.org/10.48550/arXiv.2205.05638"
    method: ClassVar[str] = "ia3"

    targets: Targets = ("k_proj", "v_proj", "linear2")

    def _config(self, n_layers: int) -> Any:
        from peft import IA3Config

        targets, inner = (self._pattern(names, n_layers) for names in (self.targets, FEED_FORWARD))
        return IA3Config(target_modules=targets, feedforward_modules=inner)

    def _adapter_size(self, n_in: int, n_out: int, *, feed_forward: bool) -> int:
        return n_in if feed_forward else n_out
