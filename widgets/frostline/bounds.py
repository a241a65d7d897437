"""What a hyper-parameter may be, and in what unit: stated once, in the annotation of its field.

`bounded` makes a class that holds its objects to it; the command line, the panels and the book tell it from the same
place, and take what a field means from the docstring under it.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import wraps
from os import PathLike, fspath
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_origin

import numpy as np
from annotated_types import Interval, Unit
from pydantic import BeforeValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError

from frostline.errors import FrostlineError
from frostline.escaping import one_line
from frostline.limits import LONGEST, SEEDS, SHORTEST

T = TypeVar("T")
_STRICT = ConfigDict(strict=True, use_attribute_docstrings=True)
_SHOWN = 80
"""Characters of a refused value in a message."""


def _plain(value: object) -> object:
    if isinstance(value, np.integer | np.floating):
        return int(value) if isinstance(value, np.integer) else float(value)
    if not isinstance(value, int | float):
        raise PydanticKnownError("float_type")  # else a fraction or an array, too, would become a float
    return value


def _path(value: object) -> object:
    return fspath(value) if isinstance(value, PathLike) else value


Whole = Annotated[int, BeforeValidator(_plain)]
"""Whole numbers; those of NumPy are taken, truth values are not."""
Real = Annotated[float, BeforeValidator(_plain)]
"""Numbers, whole ones too."""
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
"""Text that is not blank and can be written to a file."""
TextOrPath = Annotated[Text, BeforeValidator(_path)]

Genes = Annotated[Whole, Interval(ge=2, le=1_000_000), Unit("genes")]
Cells = Annotated[Whole, Interval(ge=1, le=1_000_000_000), Unit("cells")]
Batch = Annotated[Whole, Interval(ge=1, le=65_536), Unit("cells")]
Epochs = Annotated[Whole, Interval(ge=1, le=10_000), Unit("epochs")]
Steps = Annotated[Whole, Interval(ge=0, le=1_000_000), Unit("optimiser steps")]
Rate = Annotated[Real, Interval(ge=1e-8, le=1.0), Unit("per step")]
Dropped = Annotated[Real, Interval(ge=0.0, lt=1.0), Unit("share of the values")]
Seed = Annotated[Whole, Interval(ge=0, le=SEEDS), Unit("no unit")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], Unit("name")]
Precision = Annotated[Literal["auto", "fp32", "bf16"], Unit("name")]
Memory = Annotated[Literal["normal", "low"], Unit("name")]
LongCells = Annotated[Literal["random", "highest"], Unit("genes that are kept")]
"""What is read of a cell that expresses more genes than the longest sequence holds."""
MaxLength = Annotated[Whole, Interval(ge=SHORTEST, le=LONGEST), Unit("tokens")]
"""Longest sequence, `<cls>` included."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field may be and what it means, read from its annotation and its docstring."""

    info: FieldInfo
    meaning: str = ""

    def _of_kind(self, kind: type[T]) -> T | None:
        return next((each for each in self.info.metadata if isinstance(each, kind)), None)

    @property
    def unit(self) -> str:
        """In what it is counted, or what it names."""
        return self._of_kind(Unit).unit  # type: ignore[union-attr]

    @property
    def span(self) -> Interval:
        """Lowest and highest of a number; empty for anything else."""
        return self._of_kind(Interval) or Interval()

    @property
    def extent(self) -> str:
        """From where to where, or which names."""
        low, high, below = self.span.ge, self.span.le, self.span.lt
        if self.info.annotation is int:
            return f"{low:,} to {high:,}"
        if self.info.annotation is float:
            return f"{low:g} to {high:g}" if below is None else f"{low:g} to below {below:g}"
        if self.info.annotation is str:
            return "not blank"
        if get_origin(self.info.annotation) is Literal:
            return f"one of {', '.join(get_args(self.info.annotation))}"
        return f"one or more of {', '.join(get_args(get_args(self.info.annotation)[0]))}"

    def __str__(self) -> str:
        """In words, as they go on after 'must be'."""
        words = {
            int: "a whole number from {}",
            float: "a number from {}",
            str: "text that is {} and that a file can hold",
        }
        several = "{}" if get_origin(self.info.annotation) is Literal else "{}, each once"
        return f"{words.get(self.info.annotation, several).format(self.extent)} ({self.unit})"  # type: ignore[arg-type]


def setting(annotation: Any) -> Setting:
    """What an annotation says of the values that it takes.

    Examples
    --------
    >>> str(setting(Epochs))
    'a whole number from 1 to 10,000 (epochs)'
    """
    return Setting(FieldInfo.from_annotation(annotation))


def settings(kind: type) -> dict[str, Setting]:
    """What is said of every field that a `bounded` class is made with; the nearest docstring goes before a base's."""
    meanings: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        declared = vars(each).get("__pydantic_fields__", {})
        meanings |= {name: info.description for name, info in declared.items() if info.description}
    found: dict[str, FieldInfo] = kind.__pydantic_fields__  # type: ignore[attr-defined]
    return {name: Setting(info, meanings.get(name, "")) for name, info in found.items() if info.init is not False}


def learned(default: Any = dataclasses.MISSING) -> Any:
    """Declare a field that an object gets later: no argument, not compared, not printed."""
    return dataclasses.field(default=default, init=False, repr=False, compare=False)


@dataclass_transform(frozen_default=True)
def bounded(kind: type[T]) -> type[T]:
    """Make a frozen dataclass that holds every field to the bounds of its annotation, and gives it its plain type.

    Raises
    ------
    FrostlineError
        When an object is made: names the object, the field, the value seen and what it must be.

    Examples
    --------
    >>> @bounded
    ... class Training:
    ...     noun = "training"
    ...     name: Annotated[Text, Unit("name")]
    ...     epochs: Epochs = 8
    >>> Training("short", epochs=0)
    Traceback (most recent call last):
        ...
    frostline.errors.FrostlineError: training 'short': epochs is 0, and must be a whole number from 1 to 10,000 (epochs)
    """
    made: Any = dataclass(frozen=True, config=_STRICT)(kind)
    check, signature = made.__init__, inspect.signature(made)

    @wraps(check)
    def init(self: T, *args: Any, **values: Any) -> None:
        given = signature.bind(*args, **values).arguments
        try:
            check(self, **given)
        except ValidationError as error:
            raise _refusal(error, made, given) from None

    made.__init__ = init
    bound: type[T] = made
    return bound


def _refusal(error: ValidationError, kind: Any, given: dict[str, Any]) -> Exception:
    first = error.errors()[0]
    if not first["loc"]:  # by __post_init__, which says itself what is wrong
        own: Exception = first["ctx"]["error"]
        return own
    name = str(first["loc"][0])
    whose = f"{kind.noun} {given.get('name', getattr(kind, 'name', ''))!r}"
    return FrostlineError(f"{whose}: {_said(error, name, given[name], settings(kind)[name])}")


def _said(error: ValidationError, name: str, value: object, must: Setting) -> str:
    """Say what was seen and what must be."""
    first = error.errors()[0]
    seen = shown(value)
    if first["type"].endswith("_type") and len(first["loc"]) <= 1:
        seen += f" of type {type(value).__name__}"
    elif first["type"] == "value_error":
        seen += f", {first['ctx']['error']}"
    return f"{name} is {seen}, and must be {must}"


def hold(annotation: Any, name: str, value: Any) -> Any:
    """Return an argument of a function in its plain type, or refuse it by its name.

    Examples
    --------
    >>> hold(MaxLength, "max_length", 1)
    Traceback (most recent call last):
        ...
    frostline.errors.FrostlineError: max_length is 1, and must be a whole number from 2 to 100,000 (tokens)
    """
    try:
        return TypeAdapter(annotation, config=_STRICT).validate_python(value)
    except ValidationError as error:
        raise FrostlineError(_said(error, name, value, setting(annotation))) from None


def shown(value: object) -> str:
    """Value as Python writes it, short and on one line."""
    try:
        text = one_line(repr(value)[: 4 * _SHOWN])
    except Exception:  # an int of thousands of digits, or an object that cannot be shown
        return "too long or strange to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
