"""What a worker does with a part of an atlas: embed its cells, or label them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from frostline.annotation.labelling import Found, counted, watched_of, width_of
from frostline.annotation.outputs import names_of
from frostline.annotation.refitting import Reading
from frostline.cells.matrices import refuse_bad_values
from frostline.cells.queries import Query
from frostline.cells.streams import in_memory
from frostline.cluster.arrays import Array
from frostline.cluster.parts import CODES, SCRATCH, STORE, Unfinished, put
from frostline.cluster.sources import Source
from frostline.encoder.token_readers import TokenReader
from frostline.encoder.tokens import TOGETHER
from frostline.errors import FrostlineError
from frostline.memory import keep_freed
from frostline.strategies.encoder import EncoderStrategy

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

    from frostline.encoder.model import Encoder

WORK = "work.pickle"
CODE_TYPES = {"": "int32", "_second": "int32", "_set": "int32", "_reason": "int8"}
"""Of what is kept of each column of names until all parts are there."""


class Work(Protocol):
    """What is computed of each part, decided once for all of them."""

    @property
    def arrays(self) -> tuple[Array, ...]:
        """What is written, a row a cell."""

    @property
    def encodes(self) -> bool:
        """Whether an encoder computes it."""

    def compute(self, matrix: sparse.csr_matrix, names: pd.Index, start: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays by place, and facts, of some cells from a row on; the row begins a block."""


@dataclass(frozen=True)
class Embedding:
    """Embed cells with a frozen encoder, as `frostline.embed` does."""

    reader: TokenReader
    checkpoint: str
    weights: str
    """sha256 of its weights, which are read again where it is computed."""
    width: int
    genes: tuple[str, ...]
    key: str = "X_scGPT"
    device: str = "auto"
    precision: str = "fp32"

    @property
    def place(self) -> str:
        """Of the embedding."""
        return f"{STORE}/obsm/{self.key}"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """One array in obsm."""
        return (Array(self.place, "float32", self.width),)

    @property
    def encodes(self) -> bool:
        """It does."""
        return True

    def compute(self, matrix: sparse.csr_matrix, names: pd.Index, start: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Block by block; a cell that expresses no known gene has no embedding: NaN."""
        from frostline.encoder.devices import ahead, device_of
        from frostline.encoder.embedding import encode, normalise

        refuse_bad_values(matrix, self.genes, names)
        self.reader.refuse_others(matrix, f"rows {start:,} to {start + matrix.shape[0] - 1:,}")
        place = device_of(self.device)
        encoder = _encoder(self.checkpoint, self.weights).to(place)
        found = np.full((matrix.shape[0], self.width), np.nan, dtype=np.float32)
        readable = self.reader.expressing(matrix)
        starts = range(0, matrix.shape[0], TOGETHER)
        groups = (first + np.flatnonzero(readable[first : first + TOGETHER]) for first in starts)
        made = ((rows, self.reader.tokens(matrix[rows])) for rows in groups if len(rows))
        for rows, tokens in ahead(made, place):
            found[rows] = normalise(encode(encoder, tokens, precision=self.precision))
        return {self.place: found}, {"unreadable": int((~readable).sum()), "device": place.type}


@dataclass(frozen=True)
class Labelling:
    """Label cells with a kept model, as `frostline.annotation.annotate` does."""

    reading: Reading = field(repr=False)
    query: Query = field(repr=False)
    """Without names and values of cells."""
    n_cells: int
    key: str

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Two in obsm, two columns of numbers, and the places of names in four others."""
        embedding, probabilities = names_of(self.key)["obsm"]
        classes = len(self.reading.calibration.hierarchy.classes)
        return (
            Array(f"{STORE}/obsm/{embedding}", "float32", width_of(self.reading)),
            Array(f"{STORE}/obsm/{probabilities}", "float32", classes),
            Array(f"{STORE}/obs/{self.key}_confidence", "float64"),
            Array(f"{STORE}/obs/{self.key}_p_known", "float64"),
            *(Array(f"{CODES}/label{end}", kind) for end, kind in CODE_TYPES.items()),
        )

    @property
    def encodes(self) -> bool:
        """By the model's strategy."""
        return isinstance(self.reading.strategy, EncoderStrategy)

    def compute(self, matrix: sparse.csr_matrix, names: pd.Index, start: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Piece by piece."""
        watched = watched_of(self.n_cells) - start
        here = watched[(watched >= 0) & (watched < matrix.shape[0])]
        query = replace(self.query, obs_names=names, rows=in_memory(matrix))
        found = Found.of(self.reading, query, here, chunk=TOGETHER)
        tables = found.embedding.array(), found.probabilities.array()
        values = [*tables, found.confidence, found.p_known, *found.places.values()]
        facts = {
            "answers": [list(answer) for answer in found.answers],
            "counts": {end: list(counted(places).items()) for end, places in found.places.items()},
            "watch": {name: array.tolist() for name, array in found.watch.items()},
        }
        return dict(zip((array.place for array in self.arrays), values, strict=True)), facts


@functools.lru_cache(maxsize=1)
def _encoder(checkpoint: str, weights: str) -> Encoder:
    """Load an encoder, once in a process."""
    from frostline.encoder.checkpoints import load_checkpoint

    opened = load_checkpoint(checkpoint)
    if opened.weights_sha256 != weights:
        raise FrostlineError(f"checkpoint {checkpoint!r} holds other weights on this worker; copy it again")
    return opened.encoder()


def kept(work: Work, unfinished: Unfinished) -> str:
    """Write work where workers find it, and return its sha256, by which they know it is this client's."""
    import cloudpickle

    content = cloudpickle.dumps(work)
    put(content, unfinished.folder / WORK, unfinished.folder / SCRATCH)
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=1)
def _work(path: Path, sha256: str) -> Work:
    """Read work, once in a process; only what the client wrote for this run is unpickled."""
    import cloudpickle

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FrostlineError(f"{path} is not what this run wrote: is another one at work on the same output?")
    return cast(Work, cloudpickle.loads(content))


def compute(unfinished: Unfinished, source: Source, sha256: str, part: int) -> Mapping[str, Any]:
    """Compute a part and write it; runs on a worker, or, where no encoder computes it, in this process.

    Parameters
    ----------
    unfinished, source
        Where to write and what to read.
    sha256
        Of the work, as `kept` returned it.
    part
        Its number.

    Returns
    -------
    dict
        Facts of the part.

    Raises
    ------
    FrostlineError
        Cells that cannot be read, a damaged file, another run at work.
    OSError
        The disk is full.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        keep_freed()
    work = _work(unfinished.folder / WORK, sha256)
    if work.encodes:
        os.environ["FROSTLINE_EMBEDDINGS_MB"] = "0"  # what is computed is in the output; it is not kept twice
        _one_thread()
    start, stop = unfinished.plan.span(part)
    arrays, facts = work.compute(*source.read(start, stop), start)
    unfinished.write(part, arrays, facts)
    return facts


def _one_thread() -> None:
    """Each worker has its part of the processor."""
    import torch

    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
