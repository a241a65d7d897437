"""The output of an atlas: a store of anndata that workers fill, part by part, and that is in its place only when whole.

Until then everything is in a folder beside it, `OUT.zarr.unfinished`: the plan, the store, and of each part a record
with the sha256 of what was written. A part is computed, written under another name, moved to its place file by file,
and recorded last; one without a record, or whose files are not those of the record, is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from frostline.cluster.arrays import Array
from frostline.errors import FrostlineError
from frostline.plain_files import entries
from frostline.scratch import clear, scratch_path

PLAN, STORE, CODES, RECORDS, SCRATCH, LOCK = "plan.json", "store", "codes", "parts", "scratch", "lock"
FORMAT = "frostline atlas"


@dataclass(frozen=True)
class OutputPlan:
    """What is computed into an output; with the same plan it goes on, with another one it is refused."""

    identity: Mapping[str, Any]
    """All that decides the result, by name: the command, the input, the model or checkpoint, the settings, versions."""
    n_cells: int
    rows: int
    """Cells of a part; the last one has what is left."""
    arrays: tuple[Array, ...] = field(default=())

    def __len__(self) -> int:
        return -(-self.n_cells // self.rows)

    def span(self, part: int) -> tuple[int, int]:
        """First row of a part, and the one after its last."""
        return part * self.rows, min((part + 1) * self.rows, self.n_cells)

    def sha256(self) -> str:
        """Of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Unfinished:
    """The folder of an output that is not whole yet."""

    output: Path
    plan: OutputPlan

    @property
    def folder(self) -> Path:
        """Beside the output."""
        return folder_of(self.output)

    @property
    def store(self) -> Path:
        """What will be the output."""
        return self.folder / STORE

    def record(self, part: int) -> Path:
        """What says that a part is whole."""
        return self.folder / RECORDS / f"{part:06}.json"

    def write(self, part: int, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write a part: its arrays by place, then its record; at any moment it is whole or does not count.

        Raises
        ------
        OSError
            The disk is full, or the folder is gone.
        """
        files = {}
        for array in self.plan.arrays:
            content = array.chunk(self.plan.rows, arrays[array.place])
            put(content, self.folder / array.file(part), self.folder / SCRATCH)
            files[array.file(part)] = [len(content), hashlib.sha256(content).hexdigest()]
        record = {"part": part, "plan": self.plan.sha256(), "files": files, "facts": dict(facts)}
        put((json.dumps(record) + "\n").encode(), self.record(part), self.folder / SCRATCH)

    def facts(self, part: int) -> dict[str, Any] | None:
        """What was recorded of a part whose files are all as they were written; None where it has to be computed."""
        try:
            record = json.loads(self.record(part).read_bytes())
            if record["plan"] != self.plan.sha256() or set(record["files"]) != {a.file(part) for a in self.plan.arrays}:
                return None
            for name, (size, sha256) in record["files"].items():
                content = (self.folder / name).read_bytes()
                if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
                    return None
            facts: dict[str, Any] = record["facts"]
            return facts
        except (OSError, ValueError, KeyError, TypeError):
            return None


def folder_of(output: Path) -> Path:
    """Where an output is until it is whole.

    Examples
    --------
    >>> folder_of(Path("OUT.zarr")).name
    'OUT.zarr.unfinished'
    """
    return output.with_name(f"{output.name}.unfinished")


def put(content: bytes, place: Path, scratch: Path) -> None:
    """Write a file under another name, then move it to its place: there it is whole, or it is what it was."""
    path = scratch_path(scratch)
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path, place)
    except OSError as error:
        error.filename = error.filename or str(place)  # whose disk is full, it does not say
        raise
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(output: Path, plan: OutputPlan) -> Iterator[Unfinished]:
    """Begin an output or go on with one, alone; another plan, or another client at work, is refused.

    Raises
    ------
    FrostlineError
        The folder is of another plan (says what differs), of something else, in use, or cannot be written.
    """
    unfinished = Unfinished(output, plan)
    folder = unfinished.folder
    _refuse_foreign(folder)
    try:
        folder.mkdir(exist_ok=True)
        for name in (RECORDS, SCRATCH):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise FrostlineError(f"{folder} cannot be made ({error}); name an output in another folder") from error
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FrostlineError(f"{output} is at work already: another process writes {folder}") from error
    try:
        clear(folder / SCRATCH)
        _hold_to(unfinished)
        yield unfinished
    finally:
        lock.release()


@contextlib.contextmanager
def written(output: Path) -> Iterator[None]:
    """Say that an output cannot be written, whatever is written of it, where the error itself may be of anything.

    Raises
    ------
    FrostlineError
        The disk is full, or the folder cannot be written.

    Examples
    --------
    >>> with written(Path("OUT.zarr")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
        ...
    frostline.errors.FrostlineError: OUT.zarr.unfinished cannot be written ([Errno 28] No space left on device): ...
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # h5py's, of what is read
            raise
        raise FrostlineError(
            f"{folder_of(output)} cannot be written ({error}): make room, and the same command goes on"
        ) from error


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder of something else."""
    if not os.path.lexists(folder):
        return
    known = {PLAN, STORE, CODES, RECORDS, SCRATCH, LOCK, "work.pickle"}
    other = sorted({path.name for path in entries(folder)} - known) if folder.is_dir() else [folder.name]
    if other:
        raise FrostlineError(f"{folder} holds {other[0]}, which is not of frostline: name another output")


def _hold_to(unfinished: Unfinished) -> None:
    """Write the plan down, or compare with the one that is there."""
    path, plan = unfinished.folder / PLAN, unfinished.plan
    if path.exists():
        try:
            before = json.loads(path.read_bytes())
        except ValueError as error:
            raise FrostlineError(f"{path} is damaged ({error}): remove {unfinished.folder} and begin again") from error
        refuse_other(unfinished.folder, before["identity"], plan.identity)
        return
    content = {"format": FORMAT, "identity": dict(plan.identity), "n_cells": plan.n_cells, "rows": plan.rows}
    put((json.dumps(content, indent=1) + "\n").encode(), path, unfinished.folder / SCRATCH)


def refuse_other(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on where anything that decides the result is another.

    Raises
    ------
    FrostlineError
        Names what differs.

    Examples
    --------
    >>> refuse_other(Path("OUT.zarr"), {"seed": 0}, {"seed": 1})
    Traceback (most recent call last):
        ...
    frostline.errors.FrostlineError: OUT.zarr was begun with another seed (0, now 1): name another output, or ...
    """
    differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differ:
        said = ", ".join(f"{name} ({_short(before.get(name))}, now {_short(now.get(name))})" for name in differ[:3])
        raise FrostlineError(
            f"{place} was begun with another {said}: name another output, or give what it was begun with; to begin "
            f"again, remove {place}"
        )


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def prepared(unfinished: Unfinished, names: Any, tables: Mapping[str, Any]) -> None:
    """Make the store with everything but what workers compute, once: whole or not at all.

    Parameters
    ----------
    unfinished
        Of an output.
    names
        Names of the cells.
    tables
        `obs` and `var`, open, as anndata stores them; each column is read and written by itself.
    """
    import pandas as pd
    import zarr
    from anndata import AnnData
    from anndata.io import read_elem, write_elem

    if unfinished.store.exists():
        return
    scratch = scratch_path(unfinished.folder / SCRATCH)
    try:
        root: Any = zarr.open_group(scratch, mode="w", zarr_format=2)
        write_elem(root, "/", AnnData(obs=pd.DataFrame(index=names[:].astype(str)), var=read_elem(tables["var"])))
        if "raw" in root:
            del root["raw"]  # where it is written down that there is none, which older readers do not know
        new = {array.place.removeprefix(f"{STORE}/obs/") for array in unfinished.plan.arrays}
        columns = [str(name) for name in tables["obs"].attrs["column-order"] if str(name) not in new]
        for name in columns:
            write_elem(root["obs"], name, read_elem(tables["obs"][name]))
        root["obs"].attrs["column-order"] = columns
        for array in unfinished.plan.arrays:
            room, _, place = array.place.partition("/")
            target = scratch / place if room == STORE else unfinished.folder / array.place
            array.make(target, unfinished.plan.rows, unfinished.plan.n_cells)
        os.replace(scratch, unfinished.store)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def finished(unfinished: Unfinished, entries: Mapping[str, Any]) -> Path:
    """Write what is said of the whole into `uns`, and move the store to its place.

    Parameters
    ----------
    unfinished
        Of an output, all of whose parts are whole.
    entries
        Names and what is written under them; empty lists and tables are left out, over which lazy readers stumble.

    Returns
    -------
    Path
        The output.
    """
    import zarr

    for place, content in _stored(entries).items():
        path = unfinished.store / "uns" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    said = json.loads(json.dumps(entries, default=lambda number: number.item()))
    group_of(unfinished.store).attrs["frostline"] = {"identity": dict(unfinished.plan.identity), "said": said}
    zarr.consolidate_metadata(unfinished.store)
    os.replace(unfinished.store, unfinished.output)
    remove(unfinished)
    return unfinished.output


def _stored(entries: Mapping[str, Any]) -> dict[str, bytes]:
    """Files of entries in a group by place, made in memory: zarr takes milliseconds to write each by itself."""
    import zarr
    from anndata.io import write_elem

    store: dict[str, Any] = {}
    group = zarr.open_group(zarr.storage.MemoryStore(store), mode="w", zarr_format=2)
    for name, entry in entries.items():
        write_elem(group, name, _filled(entry))
    return {place: content.to_bytes() for place, content in store.items() if "/" in place}


def remove(unfinished: Unfinished) -> None:
    """Remove the folder of an output that is whole."""
    shutil.rmtree(unfinished.folder, ignore_errors=True)


def group_of(place: Path) -> Any:
    """A group of zarr, open for writing; its metadata are read where they lie, not from the summary."""
    import zarr

    return zarr.open_group(place, mode="r+", use_consolidated=False)


def _filled(entry: Any) -> Any:
    """The same without what is empty."""
    if isinstance(entry, Mapping):
        kept = {name: _filled(value) for name, value in entry.items()}
        return {name: value for name, value in kept.items() if not (isinstance(value, list | dict) and not value)}
    return entry


def said_of(output: Path) -> dict[str, Any] | None:
    """What an output that is in its place says of itself: `identity`, and `said`, all of the entries of uns.

    None where there is none.

    Raises
    ------
    FrostlineError
        Something else is in its place.
    """
    if not os.path.lexists(output):
        return None
    import zarr

    try:
        found: Any = dict(zarr.open_group(output, mode="r").attrs)["frostline"]
    except Exception as error:  # whatever zarr finds
        raise FrostlineError(f"{output} is there already and is not of frostline: name another output") from error
    return {name: dict(found[name]) for name in ("identity", "said")}


def is_whole(output: Path, plan: OutputPlan) -> bool:
    """Whether an output of a plan is in its place.

    Raises
    ------
    FrostlineError
        Something else is, or an output of another plan.
    """
    found = said_of(output)
    if found is not None:
        refuse_other(output, found["identity"], plan.identity)
    return found is not None


def remove_rest(output: Path, plan: OutputPlan) -> None:
    """Remove what stands beside a whole output, of a run that was killed at its very end; what is not of it is left."""
    if folder_of(output).is_dir():
        with contextlib.suppress(FrostlineError), held(output, plan) as unfinished:
            remove(unfinished)


def whole(unfinished: Unfinished, parts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Facts of those parts that are whole, their files read and compared."""
    found = {part: unfinished.facts(part) for part in parts}
    return {part: facts for part, facts in found.items() if facts is not None}
