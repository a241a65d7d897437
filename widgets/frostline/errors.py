"""What can go wrong, as one small tree of exceptions.

- FrostlineError (a ValueError): the input or the request is at fault; the message names the remedy
    - DatasetError: the data set cannot be compared on as it is
    - CheckpointError: a checkpoint is unknown, incomplete or does not match the encoder
    - ArtifactError: a folder of artifacts is not what its run declared
    - ModelError: a folder holds no model, or not the one that was kept there
- Cancelled: the user stopped the work; what was finished before is kept
"""


class FrostlineError(ValueError):
    """The input or the request is at fault; the message says what was seen and what to do."""


class DatasetError(FrostlineError):
    """The data set cannot be used as it is.

    Parameters
    ----------
    message
        What was seen and what to do.
    values
        What the values are, in a word, where that is the reason: scaled, binned, mixed or unknown.
    line
        Line of code that mends an AnnData called `adata`; empty where none does, or somebody has to choose.
    """

    def __init__(self, message: str, *, values: str = "", line: str = "") -> None:
        super().__init__(message)
        self.values, self.line = values, line


class CheckpointError(FrostlineError):
    """A checkpoint is unknown, incomplete, or does not match the encoder."""


class ArtifactError(FrostlineError):
    """A folder of artifacts is not what its run declared."""


class ModelError(FrostlineError):
    """A folder holds no model, or not the one that was kept there."""


class Cancelled(Exception):
    """The user stopped the work."""


def unknown(kind: str, value: object, known: object, *, remedy: str = "") -> FrostlineError:
    """Build the error for a name that is not in a registry.

    Examples
    --------
    >>> str(unknown("profile", "fast", ["full", "quickstart"]))
    "unknown profile 'fast'; known: full, quickstart"
    """
    names = ", ".join(str(name) for name in known)  # type: ignore[attr-defined]
    return FrostlineError(f"unknown {kind} {value!r}; known: {names}" + (f". {remedy}" if remedy else ""))
