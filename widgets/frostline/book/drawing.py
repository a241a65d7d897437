"""HTML of the book, drawn from the files in `templates/`, in which every value is text.

jinja escapes what a template is given. Before that it is put on one line, without what cannot be seen: a blank line
would end a block of HTML in Markdown.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from frostline.escaping import for_address, for_terminal


def draw(template: str, **values: object) -> str:
    """Fill in a template.

    Examples
    --------
    >>> draw("figure.html", address="a b.png", alt="<b>", caption="Cells")
    '<figure class="frostline-figure"><img alt="&lt;b&gt;" src="a%20b.png"><figcaption>Cells</figcaption></figure>'
    """
    return _templates.get_template(template).render(values).strip()


def _line(value: object) -> object:
    """Text on one line; what a macro has drawn stays as it is."""
    return value if hasattr(value, "__html__") else for_terminal(value).replace("\n", " ")


def _utc(moment: datetime) -> str:
    """Point in time in UTC, to the minute."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _around_code(text: str) -> list[str]:
    """Text and code in turn, as single backticks part them."""
    return re.split("`([^`]+)`", text)


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_line,
)
_templates.filters |= {"address": for_address, "around_code": _around_code, "quoted": shlex.quote, "utc": _utc}
