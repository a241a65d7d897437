"""Where the files of official checkpoints come from: repositories of the Hugging Face Hub, and Google Drive.

Each source fetches one file after the other into a folder of its own, goes on where an earlier attempt was cut, and
holds a file to what is known of it. Nothing is sent but the request: no token, no telemetry, no cookies.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from frostline import __version__
from frostline.encoder.catalogue import FILES, CheckpointSpec, Pin
from frostline.encoder.layouts import MOST_ARGS, MOST_VOCABULARY
from frostline.errors import Cancelled
from frostline.escaping import one_line
from frostline.hashes import file_sha256
from frostline.monitor import Monitor

CONNECT, READ = 4.0, 60.0
"""Seconds to connect, and to wait for the next bytes."""
RETRIES = 3
MOST = dict(zip(FILES, (MOST_ARGS, MOST_VOCABULARY, 2**32), strict=True))
"""Bytes of each file of an official checkpoint, at most."""


class SourceFailed(Exception):
    """A source does not give what it should; says why."""


class OutOfReach(SourceFailed):
    """The host of a source cannot be reached: there is no need to ask it for another repository."""


@dataclass(frozen=True)
class Source(ABC):
    """One place that holds a checkpoint's files."""

    url: str

    @property
    @abstractmethod
    def host(self) -> str:
        """Who is asked."""

    @property
    def slug(self) -> str:
        """Name of its folder of files that are on their way."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.url)

    def fetch(self, file: str, folder: Path, pin: Pin | None, monitor: Monitor) -> None:
        """Fetch a file into a folder; what is not the pinned file is deleted, so that nothing wrong is resumed.

        Raises
        ------
        SourceFailed
            The file is not there, cannot be fetched, or is another one than is publicly known.
        Cancelled
            The monitor was asked to stop; what has arrived is kept.
        """
        target = folder / file
        try:
            if not target.is_file():
                self._fetch(file, folder, _Limits(file, pin), monitor)
        except (SourceFailed, Cancelled):
            raise
        except Exception as error:  # each library has exceptions of its own; the next source is the remedy
            kind = OutOfReach if self._is_out_of_reach(error) else SourceFailed
            raise kind(f"{file}: {one_line(error) or type(error).__name__}"[:400]) from error
        found = file_sha256(target)
        if pin is not None and found != pin.sha256:
            target.unlink()
            raise SourceFailed(_another(file, found, pin))

    @abstractmethod
    def _fetch(self, file: str, folder: Path, limits: _Limits, monitor: Monitor) -> None: ...

    @abstractmethod
    def _is_out_of_reach(self, error: Exception) -> bool: ...


def _another(file: str, sha256: str, pin: Pin) -> str:
    return f"{file} is another file than the known one: its sha256 is {sha256}, not {pin.sha256} ({pin.seen})"


@dataclass(frozen=True)
class _Limits:
    """How large a file may be."""

    file: str
    pin: Pin | None

    def refuse(self, size: int | None) -> None:
        """Refuse a size before the bytes have arrived."""
        known = self.pin.size if self.pin is not None else None
        if size is not None and known is not None and size != known:
            raise SourceFailed(f"{self.file} has {size:,} bytes there, and the known one has {known:,}")
        self.refuse_beyond(size or 0)

    def refuse_beyond(self, done: int) -> None:
        """Refuse more bytes than there can be."""
        known = self.pin.size if self.pin is not None else None
        if done > (known or MOST[self.file]):
            raise SourceFailed(f"{self.file} has more than {known or MOST[self.file]:,} bytes there")


def _progress(file: str, limits: _Limits, monitor: Monitor) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        size = f" of {total / 1e6:,.0f}" if total else ""
        limits.refuse_beyond(max(done, total or 0))
        monitor.step(done / total if total else 0.0, f"{file}: {done / 1e6:,.0f}{size} MB")

    return progress


@dataclass(frozen=True)
class Hub(Source):
    """A repository of the Hugging Face Hub, or of the mirror that HF_ENDPOINT names."""

    repository: str

    @property
    def host(self) -> str:
        """The endpoint."""
        return _endpoint()

    def _fetch(self, file: str, folder: Path, limits: _Limits, monitor: Monitor) -> None:
        from unittest import mock

        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

        headers = {"user-agent": f"frostline/{__version__}"}  # instead of the list of all that is installed
        url = hf_hub_url(self.repository, file, endpoint=_endpoint())
        # its telemetry would first fetch a list of programs that may have begun this one
        with mock.patch.object(constants, "HF_HUB_DISABLE_TELEMETRY", new=True):
            seen = get_hf_file_metadata(url, token=False, timeout=CONNECT, headers=headers, endpoint=_endpoint())
        limits.refuse(seen.size)
        etag = seen.etag or "unknown"
        announced = etag if len(etag) == 64 else None  # of large files it is their sha256
        if announced and limits.pin is not None and announced != limits.pin.sha256:
            raise SourceFailed(_another(file, announced, limits.pin))
        part = folder / f"{file}.{etag[:16]}.part"
        self._go_on(url, part, headers, seen.size, _progress(file, limits, monitor))
        if announced and file_sha256(part) != announced:
            part.unlink()
            raise SourceFailed(f"{file} was damaged on its way (its sha256 is not the announced one); deleted")
        part.replace(folder / file)

    @staticmethod
    def _go_on(
        url: str, part: Path, headers: Mapping[str, str], size: int | None, report: Callable[[int, int | None], None]
    ) -> None:
        """Fetch what is missing of a file; the library goes on by itself when the connection breaks."""
        from huggingface_hub.file_download import http_get

        done = part.stat().st_size if part.is_file() else 0
        if size is None or done > size:
            done = 0
        with part.open("ab" if done else "wb") as file:
            bar: Any = _bar(done, size, report)
            http_get(url, file, resume_size=done, headers=dict(headers), expected_size=size, tqdm_class=bar)

    def _is_out_of_reach(self, error: Exception) -> bool:
        from httpx2 import TransportError

        return isinstance(error, TransportError)


def offline() -> bool:
    """Whether the user wants nothing to be fetched: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    said = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return constants.is_offline_mode() or said in constants.ENV_VARS_TRUE_VALUES


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _bar(start: int, size: int | None, report: Callable[[int, int | None], None]) -> type:
    """A progress bar as huggingface_hub wants one, that draws nothing."""
    from tqdm import tqdm

    class Reported(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self.done = start

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            report(self.done, size)

    return Reported


@dataclass(frozen=True)
class Drive(Source):
    """A public folder of Google Drive; it fails when too many have asked for a file."""

    folder: str

    @property
    def host(self) -> str:
        """Google."""
        return "drive.google.com"

    @cached_property
    def _ids(self) -> dict[str, str]:
        import gdown

        listing = gdown.download_folder(
            id=self.folder, skip_download=True, quiet=True, use_cookies=False, timeout=(CONNECT, READ)
        )
        return {Path(item.path).name: item.id for item in listing if not isinstance(item, str)}

    def _fetch(self, file: str, folder: Path, limits: _Limits, monitor: Monitor) -> None:
        import gdown

        if file not in self._ids:
            raise SourceFailed(f"the folder lacks {file}; it holds: {one_line(', '.join(self._ids))[:200]}")
        gdown.download(
            id=self._ids[file],
            output=str(folder / file),
            quiet=True,
            use_cookies=False,
            resume=True,
            progress=_sized(_progress(file, limits, monitor), limits),
            timeout=(CONNECT, READ),
            retries=RETRIES,
        )

    def _is_out_of_reach(self, error: Exception) -> bool:
        import requests

        return isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout)


def _sized(report: Callable[[int, int | None], None], limits: _Limits) -> Callable[[int, int | None], None]:
    """Refuse a wrong size when the first bytes arrive: Drive does not tell it before."""

    def progress(done: int, total: int | None) -> None:
        limits.refuse(total)
        report(done, total)

    return progress


def sources_of(spec: CheckpointSpec) -> list[Source]:
    """Where a checkpoint is to be had, in the order in which it is tried.

    Examples
    --------
    >>> from frostline.encoder.catalogue import CHECKPOINTS
    >>> [source.url for source in sources_of(CHECKPOINTS["brain"])]  # doctest: +ELLIPSIS
    ['https://huggingface.co/perturblab/scgpt-brain', 'https://drive.google.com/drive/folders/1vf1i...']
    """
    hubs: list[Source] = [Hub(f"https://huggingface.co/{name}", name) for name in spec.hub]
    drives: list[Source] = [Drive(spec.sources[-1], spec.drive_folder)] if spec.drive_folder else []
    return hubs + drives
