"""Checkpoints in the official layout: args.json, vocab.json and weights, loaded strictly or not at all.

Every tensor of the encoder must be matched in name and shape. The three namings of the attention's input
projection that official code has written (in_proj, Wqkv, _impl.Wqkv) hold the same rows - queries, keys,
values - and are all accepted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.encoder.catalogue import CHECKPOINTS, CheckpointSpec, cache_folder
from frostline.encoder.layouts import MOST_ARGS, other_layout, read_config, read_vocabulary
from frostline.encoder.layouts import SPECIAL_TOKENS as SPECIAL_TOKENS
from frostline.encoder.weight_files import look_into, read_json, read_weights
from frostline.errors import CheckpointError, unknown
from frostline.escaping import one_line
from frostline.hashes import file_sha256
from frostline.plain_files import expanded

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.encoder.model import Encoder, EncoderConfig

WEIGHTS = ("model.safetensors", "best_model.pt")
ORIGIN = "origin.json"
OTHER_WEIGHTS = (".bin", ".ckpt", ".pth", ".pt", ".safetensors", ".h5", ".msgpack")
RECORD = "sha256.json"
CORPUS_GENES = "corpus_genes.csv"
"""What pre-training cells express, gene by gene; the official checkpoints do not have it."""
IGNORED = ("decoder.", "mvc_decoder.", "flag_encoder.", "cls_decoder.")
"""Tensors of pre-training and classification heads: not part of the encoder."""
FLOATS, DENSE = ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64"), "torch.strided"
MOST_BYTES = 2**32
"""Of a weights file."""
MOST_NAMES = 20
"""Tensors of one fault that are named."""


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors in a weights file."""

    matched: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.matched)} encoder tensors matched"
        return text + (f"; ignored: {', '.join(self.ignored)}" if self.ignored else "")


@dataclass(frozen=True)
class Checkpoint:
    """A folder of args.json, vocab.json and weights whose encoder can be built."""

    name: str
    folder: Path
    config: EncoderConfig
    vocabulary: Mapping[str, int] = field(repr=False)
    weights_sha256: str = field(repr=False)

    @property
    def label(self) -> str:
        """What stands for it in records: its name, or that of its folder and its hash, so that a folder may move."""
        return self.name if self.name in CHECKPOINTS else f"{self.folder.resolve().name}-{self.weights_sha256[:8]}"

    def encoder(self) -> Encoder:
        """Build the encoder and load its weights strictly; it carries a `load_report`.

        Raises
        ------
        CheckpointError
            A tensor of the encoder is missing, has another shape, or is not one of scGPT's.
        """
        import torch

        from frostline.encoder.model import Encoder

        with torch.device("meta"):  # shapes without storage: the tensors of the file are taken as they are
            model = Encoder(self.config)
        state, report = match_tensors(read_weights(_weights_file(self.folder)), model)
        model.load_state_dict(state, strict=True, assign=True)
        model.load_report = report  # type: ignore[assignment]
        model.source = f"checkpoint {self.name!r}"
        return model.eval()


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Open a checkpoint by its name or its folder.

    Parameters
    ----------
    name
        A name of `CHECKPOINTS`, or a folder with args.json, vocab.json and model.safetensors or
        best_model.pt (the official layout).

    Raises
    ------
    CheckpointError
        The name is unknown, a file is missing, unreadable or not what was downloaded, or the vocabulary is not a
        permutation of 0..V-1.

    Examples
    --------
    >>> load_checkpoint("mini").config.d_model
    128
    """
    folder = find_folder(name)
    missing = [file for file in ("args.json", "vocab.json") if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(f"checkpoint folder {folder} lacks {', '.join(missing)}{other_layout(folder)}")
    files = [folder / "args.json", folder / "vocab.json", _weights_file(folder)]
    stamp = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _open(str(name), folder, stamp)


@functools.lru_cache(maxsize=4)
def _open(name: str, folder: Path, _stamp: tuple[tuple[int, int], ...]) -> Checkpoint:
    """Read a folder; again only when a file of it has changed."""
    vocabulary = read_vocabulary(folder / "vocab.json")
    config = read_config(folder / "args.json", vocabulary)
    weights = _weights_file(folder)
    _refuse_absurd_size(weights, config)
    look_into(weights)
    files = [weights, folder / "vocab.json", folder / "args.json"]
    digests, recorded = {file.name: file_sha256(file) for file in files}, read_record(folder)
    for file in files:
        if recorded.get(file.name, digests[file.name]) != digests[file.name]:
            remedy = (
                f"repair it with: frostline checkpoints download {name}"
                if name in CHECKPOINTS
                else f"put the downloaded file back, or remove {folder / RECORD} if the change is meant"
            )
            raise CheckpointError(f"{file} is not what was downloaded (its sha256 differs); {remedy}")
    return Checkpoint(name, folder, config, vocabulary, digests[weights.name])


def _refuse_absurd_size(weights: Path, config: EncoderConfig) -> None:
    """Say so before gigabytes are read: heads that are ignored may be as large as the encoder, and numbers double."""
    size, most = weights.stat().st_size, min(MOST_BYTES, 16 * config.n_parameters + 2**26)
    if size > most:
        raise CheckpointError(
            f"{weights} has {size:,} bytes; an encoder as args.json and vocab.json describe it has "
            f"{config.n_parameters:,} parameters, and its file at most {most:,} bytes"
        )


def find_folder(name: str | Path) -> Path:
    """Return the folder of a checkpoint, by name or as given.

    Raises
    ------
    CheckpointError
        The name is unknown, or has not been downloaded.
    """
    refuse_unknown_checkpoint(name)
    spec = CHECKPOINTS.get(str(name))
    if spec is None:
        return expanded(name)
    folder = spec.folder or cache_folder() / spec.name
    if not folder.is_dir():
        raise CheckpointError(
            f"checkpoint {spec.name!r} is not downloaded ({spec.megabytes} MB): run "
            f"frostline checkpoints download {spec.name}. {spec.offline_way}"
        )
    return folder


def spec_of(name: str | Path) -> CheckpointSpec | None:
    """Return what is registered under a name, or of the weights that a folder holds; None where nothing is.

    Examples
    --------
    >>> spec_of(find_folder("mini")).name
    'mini'
    """
    if str(name) in CHECKPOINTS:
        return CHECKPOINTS[str(name)]
    digest = load_checkpoint(name).weights_sha256
    return next((spec for spec in CHECKPOINTS.values() if digest in _known_weights(spec)), None)


def _known_weights(spec: CheckpointSpec) -> set[str]:
    """Each sha256 that a registered checkpoint's weights are known to have, publicly or as they were downloaded."""
    known = {pin.sha256 for file, pin in spec.pins.items() if file in WEIGHTS}
    if spec.folder is not None:
        return known | {load_checkpoint(spec.name).weights_sha256}
    record = read_record(cache_folder() / spec.name)
    return known | {record[file] for file in WEIGHTS if file in record}


def refuse_unknown_checkpoint(name: str | Path) -> None:
    """Refuse what is neither a registered name, downloaded or not, nor a folder.

    Raises
    ------
    CheckpointError
        Lists the registered names.
    """
    if str(name) in CHECKPOINTS or (str(name) and _is_folder(expanded(name))):
        return
    remedy = "A folder with args.json, vocab.json and weights works too"
    raise CheckpointError(str(unknown("checkpoint", _named(name), CHECKPOINTS, remedy=remedy)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or may not be looked at
        return False


def _named(name: str | Path) -> str:
    text = one_line(name)
    return text if len(text) <= 200 else f"{text[:200]}..."


def read_record(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file as recorded when it was downloaded; empty for other folders."""
    path = folder / RECORD
    return {str(name): str(value) for name, value in read_json(path, MOST_ARGS).items()} if path.is_file() else {}


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_WEIGHTS)
    found = f"; {', '.join(others[:5])} is of another layout" if others else ""
    raise CheckpointError(f"checkpoint folder {folder} holds no weights ({' or '.join(WEIGHTS)}){found}")


def match_tensors(state: Mapping[str, Tensor], model: Encoder) -> tuple[dict[str, Tensor], LoadReport]:
    """Rename a file's tensors to the encoder's names and hold them to its shapes.

    Raises
    ------
    CheckpointError
        Lists missing, unexpected and mis-shaped tensors, and those that are not finite numbers.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found: dict[str, Tensor] = {}
    matched, ignored, unexpected = [], [], []
    for key, tensor in state.items():
        if key.startswith(IGNORED):
            ignored.append(key)
            continue
        parts = _split_projection(key, tensor)
        if any(name not in wanted or name in found for name in parts):
            unexpected.append(key)
            continue
        found.update(parts)
        matched.append(key)
    missing = [name for name in wanted if name not in found]
    misshapen = [
        f"{name} is {tuple(tensor.shape)}, not {wanted[name]}"
        for name, tensor in found.items()
        if tuple(tensor.shape) != wanted[name]
    ]
    dtypes = [name for name, tensor in found.items() if str(tensor.dtype) not in FLOATS or str(tensor.layout) != DENSE]
    _refuse({"missing": missing, "unexpected": unexpected, "mis-shaped": misshapen, "not finite numbers": dtypes})
    # the same tensor when it is float32; in full where one number stands for many
    state32 = {name: tensor.float().contiguous() for name, tensor in found.items()}
    _refuse({"not finite numbers": [name for name, tensor in state32.items() if not _finite(tensor)]})
    return state32, LoadReport(tuple(matched), tuple(ignored))


def _finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; the extremes say so, NaN being both, and take no memory as a mask does."""
    return not tensor.numel() or all(bool(end.isfinite()) for end in tensor.aminmax())


def _refuse(problems: Mapping[str, list[str]]) -> None:
    """Tell the names of tensors by what is wrong with them, not more than anybody reads."""
    lines = []
    for kind, names in problems.items():
        shown = [one_line(name[:200]) for name in names[:MOST_NAMES]]
        more = [f"and {len(names) - MOST_NAMES:,} more"] if len(names) > MOST_NAMES else []
        lines += [f"{kind}: {', '.join([*shown, *more])}"] if names else []
    if lines:
        raise CheckpointError("the weights do not match the encoder; " + "; ".join(lines))


def _split_projection(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """Three tensors from a joint attention projection (rows: q, k, v); any other tensor as it is."""
    name = key.replace("self_attn._impl.", "self_attn.").replace("self_attn.Wqkv.", "self_attn.in_proj_")
    if "self_attn.in_proj_" not in name:
        return {name: tensor}
    if not tensor.ndim or tensor.shape[0] % 3:
        return {key: tensor}
    return {
        name.replace("in_proj_", f"{letter}_proj."): part for letter, part in zip("qkv", tensor.chunk(3), strict=True)
    }


def official_state(model: Encoder) -> dict[str, Tensor]:
    """Return the encoder's weights under the names of the released files (`self_attn.Wqkv`)."""
    import torch

    state = dict(model.state_dict())
    for i in range(model.config.n_layers):
        prefix = f"transformer_encoder.layers.{i}.self_attn."
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{prefix}{letter}_proj.{kind}") for letter in "qkv"]
            state[f"{prefix}Wqkv.{kind}"] = torch.cat(parts)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def save_checkpoint(
    folder: Path, model: Encoder, vocabulary: Mapping[str, int], *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write an encoder in the official layout, its weights as safetensors.

    Parameters
    ----------
    folder
        Made if it does not exist.
    model, vocabulary
        The encoder and its token -> id mapping.
    extra
        Further entries of args.json (corpus, seed, ...).
    """
    from safetensors.torch import save_file

    from frostline.encoder.tokens import MAX_LENGTH, N_BINS

    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    args = {
        "embsize": config.d_model,
        "nheads": config.n_heads,
        "d_hid": config.d_hid,
        "nlayers": config.n_layers,
        "n_layers_cls": 3,
        "dropout": config.dropout,
        "pad_token": "<pad>",
        "pad_value": int(config.pad_value),
        "mask_value": -1,
        "n_bins": N_BINS,
        "input_style": "binned",
        "input_emb_style": "continuous",
        "max_seq_len": MAX_LENGTH,
        "fast_transformer": True,
        **(extra or {}),
    }
    (folder / "args.json").write_text(json.dumps(args, indent=1) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(dict(vocabulary), indent=0) + "\n", encoding="utf-8")
    save_file(official_state(model), folder / WEIGHTS[0])
    (folder / WEIGHTS[0]).chmod(0o644)  # safetensors writes for the owner alone
