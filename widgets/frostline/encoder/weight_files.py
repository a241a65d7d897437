"""Weights files: looked at before they are read, so that no file of a stranger's takes the machine down.

A model.safetensors or a best_model.pt must hold a plain state dict of dense tensors, and no more bytes than its tensors
have numbers.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.bounds import shown
from frostline.encoder.torch_archives import Dense, describe
from frostline.errors import CheckpointError
from frostline.escaping import one_line

if TYPE_CHECKING:
    from torch import Tensor

MOST_HEADER = 2**20
"""Bytes of the header of a safetensors file; 40,000 in that of an official model."""


def read_json(path: Path, most: int) -> dict[str, Any]:
    """Read a JSON object of at most so many bytes, whose keys stand there once each.

    Raises
    ------
    CheckpointError
        The file is longer, is no JSON object, is nested too deep, or has a key twice.
    """
    try:
        size = path.stat().st_size
        if size > most:
            raise CheckpointError(f"{path} has {size:,} bytes, and such a file has at most {most:,}")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object whose keys stand there once each.

    Examples
    --------
    >>> parse_json(b'{"CD3D": 3, "CD3D": 4}', "vocab.json")
    Traceback (most recent call last):
        ...
    frostline.errors.CheckpointError: vocab.json holds the key 'CD3D' twice
    """
    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=lambda pairs: _once(pairs, name))
    except CheckpointError:
        raise
    except RecursionError:
        raise CheckpointError(f"{name} cannot be read as JSON: it is nested too deep") from None
    except ValueError as error:
        raise CheckpointError(f"{name} cannot be read as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{name} must hold a JSON object, not {type(parsed).__name__}")
    return parsed


def _once(pairs: list[tuple[str, Any]], name: str) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise CheckpointError(f"{name} holds the key {shown(twice)} twice")
    return made


def look_into(path: Path) -> None:
    """Refuse a weights file that is not what it should be, before any of its tensors is built.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong with it.
    """
    try:
        if path.suffix == ".safetensors":
            _look_into_safetensors(path)
            return
        content = describe(path)
    except Exception as error:  # each reader has exceptions of its own; the remedy is the same
        raise CheckpointError(f"{path} cannot be read as a weights file: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a plain state dict, not {type(content).__name__.strip('_').lower()}")
    others = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Dense))]
    if others:
        names = ", ".join(one_line(str(key)[:80]) for key in others[:5])
        raise CheckpointError(f"{path} must hold tensors only, a plain state dict; no tensor: {names}")


def _look_into_safetensors(path: Path) -> None:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MOST_HEADER, path.stat().st_size - 8):
            raise CheckpointError(f"its header is said to have {length:,} bytes")
        parse_json(file.read(length), "its header")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file, by name; memory is mapped where the file allows it.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong with it.
    """
    look_into(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # as above
        raise CheckpointError(f"{path} cannot be read as a weights file: {error}") from error
    return dict(state)
