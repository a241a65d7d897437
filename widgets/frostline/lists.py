"""Lists as people write them on a command line, in a form, or in a notebook's parameter."""

from __future__ import annotations

import ast
import re

from frostline.errors import FrostlineError

_ITEM = re.compile(r"""\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|((?:[^,"'\[(][^,]*)?))\s*(,|$)""")
_BRACKETS = {"[": "]", "(": ")"}


def list_of(text: str) -> list[str]:
    r"""Items of a list: `a,b`, `["a", "b"]`, with either quotes or with what a shell has left of them.

    Raises
    ------
    FrostlineError
        A bracket or a quotation mark has no partner.

    Examples
    --------
    >>> list_of("head, lora"), list_of('["head","lora"]'), list_of("[head, lora]"), list_of("")
    (['head', 'lora'], ['head', 'lora'], ['head', 'lora'], [])
    """
    inner = text.strip()
    if inner[:1] in _BRACKETS:
        if len(inner) < 2 or inner[-1] != _BRACKETS[inner[0]]:
            raise FrostlineError(f"{text!r} has no closing bracket")
        inner = inner[1:-1]
    items, place = [], 0
    while place < len(inner):
        found = _ITEM.match(inner, place)
        if found is None:
            raise FrostlineError(f"{text!r} is no list")
        quoted, plain, _ = found.groups()
        item = ast.literal_eval(quoted) if quoted else plain.strip()
        if item:
            items.append(item)
        place = found.end()
    return items
