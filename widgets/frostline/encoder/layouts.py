"""The official layout of a checkpoint: what args.json and vocab.json must say; and the layouts that resemble it.

Every number of args.json is bounded, so that an encoder is only ever planned in a size that there could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frostline.bounds import shown
from frostline.encoder.weight_files import read_json
from frostline.errors import CheckpointError

if TYPE_CHECKING:
    from frostline.encoder.model import EncoderConfig

SPECIAL_TOKENS = ("<pad>", "<cls>", "<eoc>")
MOST_ARGS, MOST_VOCABULARY = 2**20, 2**22
"""Bytes of args.json and vocab.json; the official ones have 2,000 and 1.3 million."""


class _Args(BaseModel):
    """What args.json must say; it holds much more that only pre-training needs."""

    model_config = ConfigDict(strict=True, extra="ignore")

    embsize: Annotated[int, Field(gt=0, le=8_192)]
    nheads: Annotated[int, Field(gt=0, le=256)]
    d_hid: Annotated[int, Field(gt=0, le=32_768)]
    nlayers: Annotated[int, Field(gt=0, le=64)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    pad_token: str
    pad_value: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
    input_emb_style: Literal["continuous"] = "continuous"


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read vocab.json: the tokens, and their ids 0..V-1.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong with it.
    """
    vocabulary = read_json(path, MOST_VOCABULARY)
    if not all(type(token_id) is int for token_id in vocabulary.values()):
        raise CheckpointError(f"{path}: every id must be an integer")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CheckpointError(f"{path}: the ids must be 0..{len(vocabulary) - 1}, each exactly once")
    absent = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if absent:
        raise CheckpointError(f"{path} lacks the special token(s) {', '.join(absent)}")
    return vocabulary


def read_config(path: Path, vocabulary: Mapping[str, int]) -> EncoderConfig:
    """Read args.json: the dimensions of the encoder.

    Raises
    ------
    CheckpointError
        Names the file, and every entry that is missing or cannot be.
    """
    from frostline.encoder.model import EncoderConfig

    try:
        args = _Args.model_validate(read_json(path, MOST_ARGS))
    except ValidationError as error:
        absent = [str(e["loc"][0]) for e in error.errors() if e["type"] == "missing"]
        wrong = [f"{e['loc'][0]} {shown(e['input'])}: {e['msg']}" for e in error.errors() if e["type"] != "missing"]
        lacks = [f"lacks {', '.join(absent)}"] if absent else []
        raise CheckpointError(f"{path} " + "; ".join([*lacks, *wrong])) from None
    if args.pad_token not in vocabulary:
        raise CheckpointError(f"{path}: pad_token {shown(args.pad_token)} is not in vocab.json")
    try:
        return EncoderConfig(
            n_tokens=len(vocabulary),
            d_model=args.embsize,
            n_heads=args.nheads,
            d_hid=args.d_hid,
            n_layers=args.nlayers,
            dropout=args.dropout,
            pad_id=vocabulary[args.pad_token],
            cls_id=vocabulary["<cls>"],
            pad_value=args.pad_value,
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def other_layout(folder: Path) -> str:
    """Name the layout of a folder that is not the official one, and say what to do; empty where none is known."""
    if not (folder / "config.json").is_file():
        return ""
    config = read_json(folder / "config.json", MOST_ARGS)
    if {"nhead", "vocab_size"} <= set(config):
        return (
            ". This is the layout of tdc/scGPT: without its vocabulary, which token is which gene would be a guess, "
            "and its value encoder is another. Fetch the official files: frostline checkpoints download whole-human"
        )
    kind: Any = config.get("model_type")
    if kind == "bert":
        return (
            ". This is the layout of Geneformer (a BERT of the transformers library), which is no scGPT: put its "
            "embeddings into adata.obsm and use the strategy probe_obsm:KEY"
        )
    named = f" (model_type {shown(kind)})" if isinstance(kind, str) else ""
    return f". This is a layout of the transformers library{named}, and not that of the official scGPT files"
