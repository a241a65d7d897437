"""Fetching checkpoints of the official zoo: once, resumable, verified ever after.

Files arrive in a hidden folder beside their place, held to the sha256 and the size that are publicly known of them,
and are moved there together, when all of them are complete, load strictly, and have been converted to safetensors.
Several sources are tried in order. What an interrupted download left is resumed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from frostline.encoder.catalogue import CHECKPOINTS, FILES, CheckpointSpec, Pin, cache_folder
from frostline.encoder.checkpoints import (
    ORIGIN,
    RECORD,
    WEIGHTS,
    find_folder,
    load_checkpoint,
    official_state,
    read_record,
)
from frostline.encoder.layouts import MOST_ARGS
from frostline.encoder.sources import OutOfReach, Source, SourceFailed, offline, sources_of
from frostline.encoder.weight_files import read_json
from frostline.errors import CheckpointError, unknown
from frostline.escaping import one_line
from frostline.hashes import file_sha256
from frostline.monitor import Monitor


def download(name: str, *, monitor: Monitor | None = None) -> Path:
    """Download a checkpoint of the official zoo into the cache, unless it is there and intact.

    Parameters
    ----------
    name
        A name of `CHECKPOINTS`.
    monitor
        Receives the progress; asked whether to stop.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    CheckpointError
        The name is unknown, or no source gives the files: the message has each source's failure, and the offline way.

    Examples
    --------
    >>> download("mini").name
    'mini'
    """
    from filelock import FileLock

    if name not in CHECKPOINTS:
        raise CheckpointError(str(unknown("checkpoint", name, CHECKPOINTS)))
    spec = CHECKPOINTS[name]
    if spec.folder is not None:
        return spec.folder
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    monitor = monitor or Monitor()
    with FileLock(cache / f".{name}.lock"):  # whoever comes second finds the work done
        folder, partial = cache / name, cache / f".{name}.partial"
        damaged = verify(name) if folder.is_dir() else []
        if folder.is_dir() and not damaged:
            return folder
        if damaged:
            monitor.step(0.0, f"repairing: {'; '.join(damaged)}")
        partial.mkdir(exist_ok=True)
        _complete(_from_first_source(_Order(spec, folder, partial, monitor)), folder)
        shutil.rmtree(partial)
    return folder


def verify(name: str) -> list[str]:
    """Compare every file of a checkpoint with the sha256 recorded when it was downloaded, and with the public one.

    Returns
    -------
    list
        One sentence for each file that is missing or altered; empty when all is well.

    Raises
    ------
    CheckpointError
        The checkpoint is unknown or not downloaded.

    Examples
    --------
    >>> verify("mini")
    []
    """
    folder = find_folder(name)
    downloaded = name in CHECKPOINTS and CHECKPOINTS[name].folder is None
    if not (folder / RECORD).is_file():
        if downloaded:
            return [f"{RECORD}: missing"]
        load_checkpoint(name).encoder()  # nothing was recorded: it must at least load strictly
        return []
    pins = CHECKPOINTS[name].gates if downloaded else {}
    problems = [_problem(folder / file, digest, pins.get(file)) for file, digest in read_record(folder).items()]
    return [problem for problem in problems if problem]


def origin(name: str) -> dict[str, str]:
    """Where a downloaded checkpoint is from, which sources failed, why each file is trusted; empty for other folders.

    Examples
    --------
    >>> origin("mini")
    {}
    """
    path = find_folder(name) / ORIGIN
    if not path.is_file():
        return {}
    recorded = read_json(path, MOST_ARGS)
    files = recorded.pop("files", None)
    entries = recorded | (files if isinstance(files, dict) else {})
    return {one_line(key): one_line(text) for key, text in entries.items() if text}


def _problem(file: Path, recorded: str, pin: Pin | None) -> str:
    """What is wrong with a file, in a sentence; empty when nothing is."""
    if not file.is_file():
        return f"{file.name}: missing"
    found = file_sha256(file)
    if found != recorded:
        return f"{file.name}: altered (sha256 differs from the one recorded at download)"
    return (
        f"{file.name}: not the official file (sha256 differs from the public one)"
        if pin and pin.sha256 != found
        else ""
    )


@dataclass(frozen=True)
class _Order:
    """What is to be fetched, where to, and what is known of it."""

    spec: CheckpointSpec
    folder: Path
    """Where the checkpoint is to be, or is and is damaged."""
    partial: Path
    monitor: Monitor

    @cached_property
    def expected(self) -> dict[str, Pin]:
        """What each file must be: what is publicly known, else what was recorded when it was first fetched."""
        recorded = read_record(self.folder) if self.folder.is_dir() else {}
        first = {file: Pin(recorded[file], seen="recorded at the first download") for file in FILES if file in recorded}
        return first | self.spec.gates

    @cached_property
    def intact(self) -> list[str]:
        """Files that need not be fetched again."""
        there = [file for file in FILES if file in self.expected and (self.folder / file).is_file()]
        return [file for file in there if file_sha256(self.folder / file) == self.expected[file].sha256]


def _from_first_source(order: _Order) -> Path:
    """Make a whole folder from the first source that gives what is missing."""
    if len(order.intact) < len(FILES) and offline():
        raise CheckpointError(
            f"checkpoint {order.spec.name!r} cannot be downloaded while HF_HUB_OFFLINE is set; unset it and start "
            f"again. {order.spec.offline_way}"
        )
    failures: list[str] = []
    unreachable: set[str] = set()
    for source in sources_of(order.spec):
        if source.host in unreachable:
            continue
        try:
            return _from_source(source, order, failures)
        except SourceFailed as error:
            failures.append(f"{source.url} ({error})")
            if isinstance(error, OutOfReach):
                unreachable.add(source.host)
            order.monitor.step(0.0, f"{failures[-1]}; trying the next source")
    _remove_if_empty(order.partial)
    raise CheckpointError(
        f"checkpoint {order.spec.name!r} could not be downloaded: {'; '.join(failures)}. What has arrived is kept and "
        f"the next attempt goes on from there. {order.spec.offline_way}"
    )


def _from_source(source: Source, order: _Order, failures: list[str]) -> Path:
    """Fetch what is not intact, and make a whole folder of it and of what is."""
    arriving, ready = order.partial / source.slug, order.partial / "ready"
    arriving.mkdir(exist_ok=True)
    try:
        for file in FILES:
            if file not in order.intact:
                source.fetch(file, arriving, order.expected.get(file), order.monitor)
    finally:
        _remove_if_empty(arriving)
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    for file in FILES:
        _link((order.folder if file in order.intact else arriving) / file, ready / file)
    try:
        _convert(ready)
    except CheckpointError as error:
        shutil.rmtree(arriving, ignore_errors=True)  # resuming wrong files would not mend them
        shutil.rmtree(ready)
        raise SourceFailed(f"its files are no usable checkpoint: {error}") from error
    _record(source, order, ready, failures)
    return ready


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _record(source: Source, order: _Order, ready: Path, failures: list[str]) -> None:
    """Write where the files come from, why they are trusted, and the sha256 of each."""
    origin: dict[str, object] = {"source": source.url, "not from": "; ".join(failures)}
    if order.intact:  # a repair: what need not be fetched is from where it was
        origin = {"source": "not known any more", **_first_origin(order.folder)}
        if fetched := [file for file in FILES if file not in order.intact]:
            earlier = [str(origin["repaired"])] if "repaired" in origin else []
            origin["repaired"] = "; ".join([*earlier, f"{', '.join(fetched)} from {source.url}"])
    origin["files"] = {file: order.spec.trust(file, file_sha256(ready / file)) for file in FILES}
    (ready / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    record = {file.name: file_sha256(file) for file in sorted(ready.iterdir())}
    (ready / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _first_origin(folder: Path) -> dict[str, object]:
    """What was written of a folder's origin; empty where that is missing or altered."""
    path = folder / ORIGIN
    if not path.is_file() or read_record(folder).get(ORIGIN) != file_sha256(path):
        return {}
    return read_json(path, MOST_ARGS)


def _complete(ready: Path, folder: Path) -> None:
    """Move the files to their place: a new folder at once, into one that is there file by file, the record last."""
    if not folder.is_dir():
        os.replace(ready, folder)
        return
    for file in sorted(ready.iterdir(), key=lambda path: path.name == RECORD):
        os.replace(file, folder / file.name)


def _convert(ready: Path) -> None:
    """Load strictly, then write the encoder as safetensors, which later loads only map into memory."""
    from safetensors.torch import save_file

    encoder = load_checkpoint(ready).encoder()
    save_file(official_state(encoder), ready / WEIGHTS[0])
    (ready / WEIGHTS[0]).chmod(0o644)  # safetensors writes for the owner alone
