"""The sha256 of files, by which everything that is downloaded, read or written is known again."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal digits; it is read piece by piece.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     file_sha256(Path(file.name))  # of nothing
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
