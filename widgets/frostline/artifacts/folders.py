"""The folder that a run writes: tried before the work, held while it goes on, replaced whole or not at all.

A folder is replaced only when it is empty or holds exactly the files that its manifest lists, each with the listed
sha256 (system files aside): everything else is somebody's. That is looked at before the work, and once more when the
folder stands aside already, so that nothing can come in between.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from frostline.artifacts import runs
from frostline.artifacts.manifests import MANIFEST, read_manifest
from frostline.encoder.catalogue import cache_folder
from frostline.errors import ArtifactError
from frostline.hashes import file_sha256
from frostline.plain_files import entries, expanded, is_plain_file, is_system_file
from frostline.scratch import scratch_folder, scratch_path

TRIED = 1 << 20
"""Bytes that are written to see that there is room."""
SHOWN = 4  # names in a message


def whole_path(text: str | Path) -> Path:
    """Where a folder is, links followed; refused where no folder can be replaced.

    Raises
    ------
    ArtifactError
        A file is in the way, or it is the current folder, one above it, or the top of a disk.

    Examples
    --------
    >>> whole_path("")
    Traceback (most recent call last):
    ...
    frostline.errors.ArtifactError: OUTPUT_DIR ... is the current folder or one above it; name a folder in it
    """
    try:
        folder = expanded(text).resolve()
        in_the_way = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, links in a circle
        raise ArtifactError(f"OUTPUT_DIR {str(text)!r} cannot be a folder ({error}); name another one") from error
    if in_the_way is not None:
        raise ArtifactError(f"OUTPUT_DIR {folder}: {in_the_way} is a file; name a folder that is not below a file")
    if Path.cwd().is_relative_to(folder):
        raise ArtifactError(f"OUTPUT_DIR {folder} is the current folder or one above it; name a folder in it")
    if folder.is_mount():
        raise ArtifactError(f"OUTPUT_DIR {folder} is the top of a disk and cannot be replaced; name a folder in it")
    return folder


def take(folder: Path) -> bool:
    """Try a folder before the work, and hold it.

    Parameters
    ----------
    folder
        As `whole_path` gave it. The folders above it are made.

    Returns
    -------
    bool
        Whether it is held now and was not before.

    Raises
    ------
    ArtifactError
        It cannot be written, another run is at work on it, or it holds what no run left.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder.parent) as scratch:
            (scratch / "tried").write_bytes(bytes(TRIED))
        taken = runs.hold(folder)
    except OSError as error:
        raise ArtifactError(
            f"OUTPUT_DIR {folder} cannot be written ({error.strerror or error}); make {folder.parent} writable, "
            "or name another folder"
        ) from error
    try:
        recover(folder)
        refuse_others(folder)
    except BaseException:
        if taken:
            runs.let_go(folder)
        raise
    return taken


def refuse_others(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but what its manifest lists.

    Raises
    ------
    ArtifactError
        Names what it holds.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     refuse_others(Path(folder))  # empty
    """
    if not os.path.lexists(folder):
        return
    try:
        why = _others(folder)
    except OSError as error:
        why = f"cannot be read ({error})"
    if why:
        raise ArtifactError(f"OUTPUT_DIR {folder} {why}; it would be replaced whole: move it, or name another folder")


def _others(folder: Path) -> str | None:
    if folder.is_symlink() or not folder.is_dir():
        return "is no folder"
    present = {path.name: path for path in entries(folder)}
    if not present:
        return None
    if not os.access(folder, os.W_OK):
        return "is write-protected"
    try:
        listed = read_manifest(folder).files
    except ArtifactError:
        return f"holds files but no {MANIFEST} of a run: it is no folder of artifacts ({_some(present)})"
    own = {MANIFEST, *listed}
    if foreign := sorted(present.keys() - own):
        return f"holds {_some(foreign)}, which no run wrote"
    if missing := sorted(own - present.keys()):
        return f"lacks {_some(missing)}, which its {MANIFEST} lists"
    changed = [name for name in sorted(listed) if not _is_as_listed(present[name], listed[name].sha256)]
    return f"holds {_some(changed)}, changed since the run" if changed else None


def _is_as_listed(path: Path, digest: str) -> bool:
    return is_plain_file(path) and file_sha256(path) == digest


def _some(names: object) -> str:
    shown = sorted(names)  # type: ignore[call-overload]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def state_of(folder: Path) -> str | None:
    """Hash of the manifest that is in a folder; None without one."""
    path = folder / MANIFEST
    return file_sha256(path) if is_plain_file(path) else None


def recover(folder: Path) -> None:
    """Bring back what a run that was killed while it replaced a folder had put aside; its lock is held.

    Where something else is in its place by now, what stood aside gets another name.
    """
    aside = _aside(folder)
    if not os.path.lexists(aside):
        return
    with contextlib.suppress(OSError):
        folder.rmdir()  # empty
    if os.path.lexists(folder):
        print(f"an earlier {folder.name} is now beside it, as {move_beside(aside, folder).name}")
    else:
        os.rename(aside, folder)


def recover_if_free(folder: Path) -> None:
    """Do as `recover`, unless a run is at work on the folder or nothing can be moved here."""
    folder = expanded(folder).absolute()
    if os.path.lexists(_aside(folder)):
        with contextlib.suppress(OSError, ArtifactError):
            taken = runs.hold(folder)
            try:
                recover(folder)
            finally:
                if taken:
                    runs.let_go(folder)


def replace(folder: Path, new: Path, is_expected: Callable[[Path], bool], keeps: Callable[[Path], bool]) -> Path | None:
    """Put a new folder in the place of an old one; whenever that fails, the old one is where it was.

    Parameters
    ----------
    folder
        Its place.
    new
        Complete; beside it.
    is_expected
        Of the old one: whether it is what was there when the run began.
    keeps
        Of the old one: whether it is to be kept under another name.

    Returns
    -------
    Path or None
        The other name, if the old one is kept.

    Raises
    ------
    ArtifactError
        The old one holds something that its manifest does not list, or is another than when the run began.
    OSError
        It cannot be moved.
    """
    recover(folder)
    if not os.path.lexists(folder):
        os.rename(new, folder)
        return None
    refuse_others(folder)
    aside = _aside(folder)
    os.rename(folder, aside)
    try:
        _refuse_aside(aside, folder, is_expected)
        is_kept = keeps(aside)
        os.rename(new, folder)
    except BaseException:
        if not os.path.lexists(folder):  # otherwise the next `recover` sees to it
            os.rename(aside, folder)
        raise
    if is_kept:
        return move_beside(aside, folder)
    _carry_over(aside, folder)
    _dispose(aside)
    return None


def _refuse_aside(aside: Path, folder: Path, is_expected: Callable[[Path], bool]) -> None:
    try:
        refuse_others(aside)
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(aside), str(folder))) from error
    if not is_expected(aside):
        raise ArtifactError(
            f"OUTPUT_DIR {folder} holds the artifacts of another run, which came while this one went on"
        )


def _aside(folder: Path) -> Path:
    """Where an old folder stands while the new one takes its place; never cleared away as a temporary file is."""
    return folder.with_name(f".{folder.name}.before")


def _carry_over(old: Path, new: Path) -> None:
    for path in old.iterdir():
        if is_system_file(path):
            with contextlib.suppress(OSError):  # the system holds it, or made it again
                os.rename(path, new / path.name)


def _dispose(folder: Path) -> None:
    """Remove a folder under a name that the next run clears if this one is killed meanwhile."""
    gone = scratch_path(folder.parent)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def move_beside(path: Path, folder: Path) -> Path:
    """Move a folder to the first free of the names FOLDER-1, FOLDER-2, ...; nothing that is there is replaced.

    Returns
    -------
    Path
        The new name.
    """
    for i in itertools.count(1):
        free = folder.with_name(f"{folder.name}-{i}")
        if os.path.lexists(free):
            continue
        try:
            os.rename(path, free)
        except OSError:
            if not os.path.lexists(free):  # not because somebody was faster
                raise
        else:
            return free
    raise AssertionError  # itertools.count has no end


def rescue(folder: Path, write: Callable[[Path], None]) -> tuple[Path, Exception | None]:
    """Write what was computed somewhere, since it cannot be saved where it should be.

    Parameters
    ----------
    folder
        Where it should be: tried are a folder beside it, the cache, and the system's folder for temporary files.
    write
        Writes into the folder that it is given.

    Returns
    -------
    tuple
        Where it is; and why a part of it is not, where it could not be written whatever the place.

    Raises
    ------
    OSError
        Nothing can be written anywhere.
    """
    places: list[Callable[[], Path]] = [
        lambda: folder.parent,
        lambda: cache_folder("rescued"),
        lambda: Path(tempfile.gettempdir()),
    ]
    failed: list[str] = []
    for place in places:
        try:
            parent = place()
            parent.mkdir(parents=True, exist_ok=True)
            kept = Path(tempfile.mkdtemp(prefix=f"{folder.name[:100]}-rescued-", dir=parent))
        except OSError as error:
            failed.append(str(error))
            continue
        try:
            write(kept)
        except OSError as error:
            failed.append(str(error))
            shutil.rmtree(kept, ignore_errors=True)
        except Exception as error:  # of what was computed: another place would not help
            return kept, error
        else:
            return kept, None
    raise OSError("; ".join(failed))
