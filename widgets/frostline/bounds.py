"""What a hyper-parameter may be, and in what unit: stated once, on the field of its dataclass.

`__post_init__` holds an object to it; the command line, the panels and the book tell it from the same place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from os import PathLike, fspath
from typing import Any

import numpy as np

from frostline.errors import FrostlineError
from frostline.escaping import one_line

_KEY = "frostline.bounds"
_SHOWN = 80
"""Characters of a refused value in a message."""


class Domain(ABC):
    """The values that a field may hold."""

    unit: str

    @property
    @abstractmethod
    def extent(self) -> str:
        """From where to where, or which names."""

    @abstractmethod
    def __str__(self) -> str:
        """In words, as they go on after 'must be'."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return the value in its plain type.

        Raises
        ------
        FrostlineError
            The value is none of these; the message says in what way.
        """

    def hold(self, field_name: str, value: Any, owner: str = "") -> Any:
        """Return the value in its plain type, or refuse it by the name of its field and its owner.

        Examples
        --------
        >>> Whole(1, 10, "epochs").hold("epochs", 0, "strategy 'head'")
        Traceback (most recent call last):
            ...
        frostline.errors.FrostlineError: strategy 'head': epochs is 0, and must be a whole number from 1 to 10 (epochs)
        """
        try:
            return self.read(value)
        except FrostlineError as error:
            whose = f"{owner}: " if owner else ""
            raise FrostlineError(f"{whose}{field_name} {error}, and must be {self}") from None


@dataclass(frozen=True)
class Whole(Domain):
    """Whole numbers from `low` to `high`; those of NumPy are taken, truth values are not."""

    low: int
    high: int
    unit: str

    @property
    def extent(self) -> str:
        """From the lowest to the highest."""
        return f"{self.low:,} to {self.high:,}"

    def __str__(self) -> str:
        return f"a whole number from {self.extent} ({self.unit})"

    def read(self, value: Any) -> int:
        """Return it as an int."""
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise _wrong_type(value)
        if not self.low <= value <= self.high:
            raise FrostlineError(f"is {shown(value)}")
        return int(value)


@dataclass(frozen=True)
class Real(Domain):
    """Finite numbers from `low` to `high`, whole ones too; `below` leaves the upper end out."""

    low: float
    high: float
    unit: str
    below: bool = False

    @property
    def extent(self) -> str:
        """From the lowest to the highest."""
        return f"{self.low:g} to {'below ' if self.below else ''}{self.high:g}"

    def __str__(self) -> str:
        return f"a number from {self.extent} ({self.unit})"

    def read(self, value: Any) -> float:
        """Return it as a float."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise _wrong_type(value)
        # compared before it is converted: a long int is no float, and NaN lies between no two numbers
        if not self.low <= value <= self.high or (self.below and float(value) >= self.high):
            raise FrostlineError(f"is {shown(value)}")
        return float(value)


@dataclass(frozen=True)
class Text(Domain):
    """Text that is not blank and can be written to a file."""

    unit: str
    """What it names."""
    paths: bool = False
    """Take a path, too."""

    @property
    def extent(self) -> str:
        """What there is to say of any text."""
        return "not blank"

    def __str__(self) -> str:
        return f"text that is not blank ({self.unit})"

    def read(self, value: Any) -> str:
        """Return it as a str."""
        if self.paths and isinstance(value, PathLike):
            value = fspath(value)
        if not isinstance(value, str):
            raise _wrong_type(value)
        if not value.strip():
            raise FrostlineError("is empty")
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise FrostlineError(f"is {shown(value)}, which no file can hold")
        return str.__str__(value)


@dataclass(frozen=True)
class Several(Domain):
    """At least one of some names, each once; any sequence of them becomes a tuple."""

    known: tuple[str, ...]
    unit: str

    @property
    def extent(self) -> str:
        """The names."""
        return f"one or more of {', '.join(self.known)}"

    def __str__(self) -> str:
        return f"{self.extent}, each once ({self.unit})"

    def read(self, value: Any) -> tuple[str, ...]:
        """Return them as a tuple."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _wrong_type(value)
        if not value or any(not isinstance(name, str) or name not in self.known for name in value):
            raise FrostlineError(f"is {shown(tuple(value))}")
        if len(set(value)) < len(value):
            raise FrostlineError(f"is {shown(tuple(value))}, which names one of them twice")
        return tuple(map(str.__str__, value))


def bounded(domain: Domain, default: Any = MISSING) -> Any:
    """Declare a dataclass field with its domain; a subclass may give another default without stating it again.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Training:
    ...     epochs: int = bounded(Whole(1, 100, "epochs"), 8)
    >>> @dataclass(frozen=True)
    ... class Longer(Training):
    ...     epochs: int = 16
    >>> str(domains(Longer)["epochs"])
    'a whole number from 1 to 100 (epochs)'
    """
    return field(default=default, metadata={_KEY: domain})


def domains(kind: type) -> dict[str, Domain]:
    """Domain of every field that has one, its own or that of the nearest class above."""
    found: dict[str, Domain] = {}
    for each in reversed(kind.__mro__):
        declared = vars(each).get("__dataclass_fields__", {})
        found |= {name: spec.metadata[_KEY] for name, spec in declared.items() if _KEY in spec.metadata}
    return {spec.name: found[spec.name] for spec in fields(kind) if spec.name in found}


def hold_fields(instance: Any, owner: str) -> None:
    """Hold every field of a frozen dataclass to its domain, and give it its plain type.

    Raises
    ------
    FrostlineError
        Names owner, field, the value seen and what it must be.
    """
    for name, domain in domains(type(instance)).items():
        object.__setattr__(instance, name, domain.hold(name, getattr(instance, name), owner))


def _wrong_type(value: object) -> FrostlineError:
    return FrostlineError(f"is {shown(value)} of type {type(value).__name__}")


def shown(value: object) -> str:
    """Value as Python writes it, short and on one line."""
    try:
        text = one_line(repr(value)[: 4 * _SHOWN])
    except Exception:  # an int of thousands of digits, or an object that cannot be shown
        return "too long or strange to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


GENES = Whole(2, 1_000_000, "genes")
CELLS = Whole(1, 1_000_000_000, "cells")
BATCH = Whole(1, 65_536, "cells")
EPOCHS = Whole(1, 10_000, "epochs")
STEPS = Whole(0, 1_000_000, "optimiser steps")
RATE = Real(1e-8, 1.0, "per step")
DROPPED = Real(0.0, 1.0, "share of the values", below=True)
SEED = Whole(0, 2**32 - 1, "no unit")
TOKENS = Whole(2, 100_000, "tokens")
"""Longest sequence: `<cls>` and a gene at least."""
