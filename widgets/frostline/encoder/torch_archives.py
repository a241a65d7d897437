"""What a best_model.pt says of its tensors, read without building any of them.

`torch.load(weights_only=True)` runs no code of a stranger's, but it builds what the file tells it to: a few bytes can
ask for terabytes, or for a key whose hash takes a century. So the archive is looked at first. It must be what
`torch.save` writes of a state dict: a stored zip whose records are as long as the file says, and a pickle of names,
plain values and dense tensors that fit into their records.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

MOST_RECORDS, MOST_DIRECTORY = 10_000, 2**20
MOST_PICKLE, MOST_OPERATIONS = 2**18, 60_000
"""Bytes and operations of data.pkl; those of the official files have 35,000 and 7,000."""
DEEPEST = 4
"""Tuples within tuples."""
STORAGES = {
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Kinds of records, and the bytes of one number."""
REBUILD, PARAMETER, DICT = (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
)


class Refused(ValueError):
    """The archive is not what `torch.save` writes of a state dict; says in what way."""


@dataclass(frozen=True)
class Dense:
    """A tensor that the archive holds in full."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A name that the pickle imports."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A record of numbers."""

    n: int


def describe(path: Path) -> object:
    """What the archive holds, with `Dense` in the place of tensors.

    Raises
    ------
    Refused
        It is no archive of dense tensors and plain values, or asks for more than it holds.
    """
    with path.open("rb") as file:
        _refuse_long_directory(file.read, file.seek, path.stat().st_size)
        with zipfile.ZipFile(file) as archive:
            records = _records(archive, path.stat().st_size)
            pickles = [name for name in records if name.endswith("/data.pkl")]
            if len(pickles) != 1 or records[pickles[0]] > MOST_PICKLE:
                raise Refused(f"it must hold one data.pkl of at most {MOST_PICKLE:,} bytes")
            content = archive.read(pickles[0])
    folder = pickles[0].removesuffix("data.pkl")
    return _Machine({name.removeprefix(f"{folder}data/"): size for name, size in records.items()}).run(content)


def _refuse_long_directory(read: Callable[[int], bytes], seek: Callable[[int, int], int], size: int) -> None:
    """Look at the two ends of the directory: zipfile reads all of it before it can be asked."""
    tail = min(size, 22 + 20 + 56)
    seek(-tail, 2)
    end = read(tail)
    place = len(end) - 22
    if place < 0 or end[place : place + 4] != b"PK\5\6":
        raise Refused("it is no zip archive as torch.save writes it, or is cut off; save a state dict with torch.save")
    n_records, length = struct.unpack("<HI", end[place + 10 : place + 16])
    if end[max(0, place - 20) : max(0, place - 20) + 4] == b"PK\6\7":  # torch writes the long form always
        start = max(0, place - 76)
        if end[start : start + 4] != b"PK\6\6":
            raise Refused("the end of its directory is damaged")
        n_records, length = struct.unpack("<QQ", end[start + 32 : start + 48])
    if n_records > MOST_RECORDS or length > MOST_DIRECTORY:
        raise Refused(f"it holds {n_records:,} records, and weights have at most {MOST_RECORDS:,}")
    seek(0, 0)


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Bytes of each record; they lie in the file one after the other, as they are."""
    found = sorted(archive.infolist(), key=lambda record: record.header_offset)
    packed = [record.filename for record in found if record.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise Refused(f"its record {packed[0][:80]!r} is compressed, which torch.save never does")
    records = {record.filename: record.file_size for record in found}
    ends = [(record.header_offset, record.header_offset + record.file_size) for record in found]
    overlap = any(end > start for (_, end), (start, _) in pairwise(ends))
    if len(records) < len(found) or overlap or any(end > size for _, end in ends):
        raise Refused("its records overlap, or are longer than the file")
    if any(record.file_size != record.compress_size for record in found):
        raise Refused("its records are not as long as they say")
    return records


class _Tuple(tuple[Any, ...]):
    """A tuple that knows how deep it is: one tuple may stand in many others, and walking them could take forever."""

    depth: int

    def __new__(cls, items: list[Any]) -> Self:
        """Refuse what is nested deeper than anything that weights need."""
        made = super().__new__(cls, items)
        made.depth = 1 + max((item.depth for item in items if isinstance(item, _Tuple)), default=0)
        if made.depth > DEEPEST:
            raise Refused("its data.pkl nests tuples deeper than weights do")
        return made


class _Machine:
    """Runs the few operations of a pickle that `torch.save` writes, on descriptions in the place of tensors."""

    def __init__(self, records: Mapping[str, int]) -> None:
        self.records = records
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> object:
        """Return what the pickle describes."""
        try:
            for i, (operation, argument, _) in enumerate(pickletools.genops(content)):
                if i > MOST_OPERATIONS:
                    raise Refused(f"its data.pkl has more than {MOST_OPERATIONS:,} operations")
                step = getattr(self, f"_{operation.name.lower()}", None)
                if step is None:
                    raise Refused(f"its data.pkl uses {operation.name}, which weights have no need of")
                step(argument)
            return self.stack.pop()
        except Refused:
            raise
        except Exception as error:  # whatever operation met what it did not expect
            raise Refused(f"its data.pkl is damaged ({type(error).__name__})") from error

    def _nothing(self, argument: Any) -> None:
        """Neither the version nor the end changes the stack."""

    _proto = _stop = _nothing

    def _push(self, argument: Any) -> None:
        self.stack.append(argument)

    _binunicode = _binint = _binint1 = _binint2 = _long1 = _binfloat = _push

    def _none(self, _: Any) -> None:
        self.stack.append(None)

    def _newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def _newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(_Tuple([]))

    def _global(self, name: str) -> None:
        module, _, kind = name.partition(" ")
        if name not in (REBUILD, PARAMETER, DICT) and not (module == "torch" and kind in STORAGES):
            raise Refused(f"its data.pkl names {name[:80].replace(' ', '.')!r}, and weights are dense tensors only")
        self.stack.append(_Name(name))

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    _long_binput = _binput

    def _binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _long_binget = _binget

    def _last(self, n: int) -> list[Any]:
        return [self.stack.pop() for _ in range(n)][::-1]

    def _tuple(self, _: Any) -> None:
        made = _Tuple(self._since_mark())
        self.stack.append(made)

    def _tuple1(self, _: Any) -> None:
        self.stack.append(_Tuple(self._last(1)))

    def _tuple2(self, _: Any) -> None:
        self.stack.append(_Tuple(self._last(2)))

    def _tuple3(self, _: Any) -> None:
        self.stack.append(_Tuple(self._last(3)))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("its data.pkl appends to what is no list")
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        self._update(self._last(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._since_mark())

    def _update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(items) % 2 or any(type(key) not in (str, int) for key in items[::2]):
            raise Refused("its data.pkl holds a key that is neither text nor a whole number")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key in self.stack[-1]:
                raise Refused(f"its data.pkl holds {str(key)[:80]!r} twice")
            self.stack[-1][key] = value

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if type(state) is not dict or set(state) != {"_metadata"} or type(self.stack[-1]) is not dict:
            raise Refused("its data.pkl sets attributes, which weights do not have")

    def _binpersid(self, _: Any) -> None:
        word, kind, key, _where, n = self.stack.pop()
        kinds = (type(word), type(kind), type(key), type(n))
        if kinds != (str, _Name, str, int) or word != "storage":
            raise Refused("its data.pkl refers to something else than numbers")
        record = key[:80]
        if self.records.get(record) != n * STORAGES[kind.name.removeprefix("torch ")]:
            raise Refused(f"its record {record!r} is not as long as data.pkl says")
        self.stack.append(_Storage(n))

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called == _Name(DICT) and isinstance(arguments, _Tuple) and not arguments:
            self.stack.append({})
        elif called == _Name(REBUILD) and isinstance(arguments, _Tuple):
            self.stack.append(_dense(*arguments[:4]))
        elif called == _Name(PARAMETER) and isinstance(arguments, _Tuple) and isinstance(arguments[0], Dense):
            self.stack.append(arguments[0])
        else:
            raise Refused("its data.pkl calls something else than what makes dense tensors")


def _dense(storage: Any, offset: Any, shape: Any, strides: Any) -> Dense:
    """Refuse a tensor that needs more numbers than its record holds, for instance by a stride of 0."""
    if not (type(storage) is _Storage and isinstance(shape, _Tuple) and isinstance(strides, _Tuple)):
        raise Refused("its data.pkl makes a tensor of something else than numbers")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 8 or any(type(n) is not int or abs(n) > 2**62 for n in numbers):
        raise Refused("its data.pkl makes a tensor of a shape that there cannot be")
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if all(shape) else -1
    if min(numbers) < 0 or offset + reach >= storage.n + (reach < 0) or math.prod(shape) > storage.n:
        raise Refused(f"its data.pkl asks for a tensor of {'x'.join(map(str, shape))[:80]} in {storage.n:,} numbers")
    return Dense(tuple(shape))
