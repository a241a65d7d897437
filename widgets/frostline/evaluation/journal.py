"""Records on disk as soon as they are there, so that a kernel that dies takes no finished evaluation with it.

A folder of the cache for each data set and its splits; in it one file for each run, and in that one line for each
record. What is found there is taken over only where the strategy, its hyper-parameters, the weights of its
checkpoint or the embedding that it reads, the data, the split and the version of frostline are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from frostline.cells.datasets import Dataset
from frostline.cells.partitions import Split
from frostline.encoder.catalogue import cache_folder
from frostline.encoder.checkpoints import load_checkpoint
from frostline.errors import FrostlineError
from frostline.records import Record
from frostline.strategies import ProbeObsm, Strategy

KEPT = 20
"""Folders that are kept, those written to last."""


@dataclass(frozen=True)
class Journal:
    """What has been evaluated on the splits of a data set, by this run and by earlier ones.

    Examples
    --------
    >>> import frostline
    >>> pbmc = frostline.load_dataset("pbmc68k-reduced")
    >>> cut = frostline.split(pbmc)
    >>> journal = Journal.of(pbmc, [cut])
    >>> strategy = frostline.strategies.PcaLogistic()
    >>> journal.add(strategy, frostline.evaluate(strategy, pbmc, cut))
    >>> [record.strategy for record in Journal.of(pbmc, [cut]).finished([strategy])]
    ['pca_logistic']
    """

    folder: Path
    file: Path
    """Of this run."""
    dataset: Dataset = field(repr=False)
    earlier: Mapping[Path, int] = field(default_factory=dict, repr=False)
    """Files of other runs when this one began -> when they were last written to, in nanoseconds."""

    @classmethod
    def of(cls, dataset: Dataset, splits: Sequence[Split]) -> Journal:
        """Open the journal of these splits; nothing is written before the first record is there."""
        digest = hashlib.sha256(
            f"{version('frostline')}\n{dataset.name}\n{dataset.label_key}\n{dataset.group_key}\n".encode()
        )
        digest.update(dataset.fingerprint().encode())
        for cut in splits:
            genes = hashlib.sha256("\n".join(cut.genes).encode()).hexdigest()
            parts = (cut.fingerprint, cut.profile, cut.seed, cut.repeat, cut.kind, cut.group_key, cut.notes, genes)
            digest.update(f"{parts}\n".encode())
        folder = cache_folder("runs") / digest.hexdigest()[:32]
        earlier = {}
        for file in folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # another run has just forgotten it
                earlier[file] = file.stat().st_mtime_ns
        return cls(folder, folder / f"{uuid.uuid4().hex}.jsonl", dataset, earlier)

    def add(self, strategy: Strategy, record: Record) -> None:
        """Write a record to the disk.

        Raises
        ------
        OSError
            The disk is full, or the folder cannot be written to.
        """
        new = not self.folder.is_dir()
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"strategy": _key(strategy, self.dataset), "record": record.to_json()})
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # a full disk may have cut off the line before
            file.flush()
            os.fsync(file.fileno())
        os.utime(self.folder)  # a line more in a file that is there leaves the time of the folder as it was
        if new:
            self._forget_the_oldest()

    def finished(self, strategies: Sequence[Strategy]) -> list[Record]:
        """Records of these strategies, the latest where there are several of one repeat.

        Strategies that cannot run, since their checkpoint or embedding is not there, have none.
        """
        wanted = set()
        for strategy in strategies:
            with contextlib.suppress(FrostlineError):  # for whoever runs it to tell
                wanted.add(_key(strategy, self.dataset))
        found: dict[tuple[str, int], Record] = {}
        for file in sorted(self.folder.glob("*.jsonl"), key=_written_at):
            for line in _lines(file):
                try:
                    entry = json.loads(line)
                    if entry["strategy"] in wanted:
                        record = Record.from_json(entry["record"])
                        found[entry["strategy"], record.repeat] = record
                except (ValueError, KeyError, TypeError):  # cut off or damaged: evaluated again
                    continue
        return list(found.values())

    def close(self) -> None:
        """Forget what earlier runs left for these splits: all that is wanted of it is in the file of this one.

        What another kernel began, or has written to, since this run began stays: it may still be at work on it.
        """
        for file, written in self.earlier.items():
            with contextlib.suppress(FileNotFoundError):  # another run has forgotten it
                if self.file.is_file() and file.stat().st_mtime_ns == written:
                    file.unlink()

    def _forget_the_oldest(self) -> None:
        others = [folder for folder in self.folder.parent.iterdir() if folder != self.folder]  # clocks are set back
        for folder in sorted(others, key=_written_at)[: -(KEPT - 1)]:
            shutil.rmtree(folder, ignore_errors=True)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another run has just forgotten it
        return 0


def _key(strategy: Strategy, dataset: Dataset) -> str:
    """Of all that decides what a strategy makes of a split.

    Raises
    ------
    FrostlineError
        Its checkpoint or its embedding is not there.
    """
    checkpoint = getattr(strategy, "checkpoint", None)
    weights = load_checkpoint(checkpoint).weights_sha256 if checkpoint else None
    parameters = {name: value for name, value in strategy.parameters.items() if name != "checkpoint"}  # a path
    content = {"name": strategy.name, "parameters": parameters, "weights": weights}
    if isinstance(strategy, ProbeObsm):
        content["embedding"] = strategy.embedding_sha256(dataset)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
