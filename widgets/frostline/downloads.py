"""Fetching checkpoints of the official zoo: once, resumable, verified ever after.

Files arrive in a hidden folder beside their place and are moved there together, when all of them are
complete, load strictly, and have been converted to safetensors. What an interrupted download left is
resumed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from frostline.checkpoints import (
    CHECKPOINTS,
    RECORD,
    WEIGHTS,
    CheckpointSpec,
    cache_folder,
    file_sha256,
    find_folder,
    load_checkpoint,
    official_state,
    read_record,
)
from frostline.errors import CheckpointError, unknown
from frostline.monitor import Monitor

FILES = ("args.json", "vocab.json", "best_model.pt")
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""
RETRIES = 3


def download(name: str, *, monitor: Monitor | None = None) -> Path:
    """Download a checkpoint of the official zoo into the cache, unless it is there and intact.

    Parameters
    ----------
    name
        A name of `CHECKPOINTS`.
    monitor
        Told of progress; asked whether to stop.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    CheckpointError
        The name is unknown, the network is out of reach (the message has the offline way), or what was
        downloaded does not load strictly.

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
        if folder.is_dir():
            damaged = verify(name)
            if not damaged:
                return folder
            monitor.step(0.0, f"repairing: {'; '.join(damaged)}")
            shutil.rmtree(partial, ignore_errors=True)
            _keep_intact(folder, partial, damaged)
        partial.mkdir(exist_ok=True)
        _fetch(spec, partial, monitor)
        _convert(spec, partial)
        record = {file.name: file_sha256(file) for file in sorted(partial.iterdir()) if file.name != RECORD}
        (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    return folder


def verify(name: str) -> list[str]:
    """Compare every file of a checkpoint with the sha256 recorded when it was downloaded.

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
    if not (folder / RECORD).is_file():
        if name in CHECKPOINTS and CHECKPOINTS[name].folder is None:
            return [f"{RECORD}: missing"]
        load_checkpoint(name).encoder()  # nothing was recorded: it must at least load strictly
        return []
    problems = []
    for file, digest in read_record(folder).items():
        if not (folder / file).is_file():
            problems.append(f"{file}: missing")
        elif file_sha256(folder / file) != digest:
            problems.append(f"{file}: altered (sha256 differs from the one recorded at download)")
    return problems


def _keep_intact(folder: Path, partial: Path, damaged: list[str]) -> None:
    """Move what need not be fetched again to where the download goes on."""
    bad = {problem.split(":")[0] for problem in damaged}
    partial.mkdir()
    if RECORD not in bad:
        for file in FILES:
            if file not in bad:
                os.replace(folder / file, partial / file)


def _fetch(spec: CheckpointSpec, partial: Path, monitor: Monitor) -> None:
    import gdown
    import requests

    try:
        listing = gdown.download_folder(
            id=spec.drive_folder, skip_download=True, quiet=True, use_cookies=False, timeout=TIMEOUT
        )
        ids = {Path(item.path).name: item.id for item in listing if not isinstance(item, str)}
        absent = [file for file in FILES if file not in ids]
        if absent:
            raise CheckpointError(f"the folder {spec.source} lacks {', '.join(absent)}; it holds: {', '.join(ids)}")
        for file in FILES:
            if not (partial / file).is_file():
                _fetch_file(ids[file], partial / file, monitor)
    except (requests.exceptions.RequestException, gdown.exceptions.DownloadError, OSError) as error:
        raise CheckpointError(
            f"checkpoint {spec.name!r} could not be downloaded ({error}). What has arrived is kept and the next "
            f"attempt goes on from there. Without a network, fetch the folder {spec.source} elsewhere and pass its "
            "path, or use 'mini'"
        ) from error


def _fetch_file(drive_id: str, target: Path, monitor: Monitor) -> None:
    """Fetch one file; gdown keeps the beginning of an interrupted one beside the target and resumes it."""
    import gdown

    def progress(done: int, total: int | None) -> None:
        size = f" of {total / 1e6:,.0f}" if total else ""
        monitor.step(done / total if total else 0.0, f"{target.name}: {done / 1e6:,.0f}{size} MB")

    gdown.download(
        id=drive_id,
        output=str(target),
        quiet=True,
        use_cookies=False,
        resume=True,
        progress=progress,
        timeout=TIMEOUT,
        retries=RETRIES,
    )


def _convert(spec: CheckpointSpec, partial: Path) -> None:
    """Load strictly, then write the encoder as safetensors, which later loads only map into memory."""
    from safetensors.torch import save_file

    (partial / WEIGHTS[0]).unlink(missing_ok=True)
    try:
        encoder = load_checkpoint(partial).encoder()
    except CheckpointError as error:
        shutil.rmtree(partial)  # resuming a wrong file would not mend it
        raise CheckpointError(f"what was downloaded as {spec.name!r} is no usable checkpoint: {error}") from error
    save_file(official_state(encoder), partial / WEIGHTS[0])
    (partial / WEIGHTS[0]).chmod(0o644)  # safetensors writes for the owner alone
