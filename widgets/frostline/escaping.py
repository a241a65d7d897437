"""Text of the user's stays text: one function for each language that frostline writes.

Class names, columns, paths and notes come from files that strangers send. Whoever puts such a text into HTML, Markdown,
a figure or the name of a file passes it through here; nothing else in the package escapes.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#!|~$&^])")
_BEGINNING = re.compile(r"^(\d*)([-+=:%.)])")
"""What would begin a list, a heading, a fence or a comment."""
_PLAIN = re.compile(r"[A-Za-z0-9]+(?:[ _.,;/+-][A-Za-z0-9]+)*[+.,;]?")
"""Names that mean nothing in Markdown, as most names of classes and columns: left as they are."""
_FILE = re.compile(r"[^A-Za-z0-9._+-]+")
MOST = 80
"""Characters of a name in a file name."""


def one_line(text: object) -> str:
    r"""Text without line breaks, control characters and marks that turn the direction of writing.

    Examples
    --------
    >>> one_line("B cells\n# a heading")
    'B cells # a heading'
    """
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in str(text))
    return " ".join(shown.split())


def for_html(text: object) -> str:
    """Text for HTML, in an element or in a quoted attribute.

    Examples
    --------
    >>> for_html("<b>'B' & T</b>")
    '&lt;b&gt;&#x27;B&#x27; &amp; T&lt;/b&gt;'
    """
    return html.escape(str(text), quote=True)


def for_markdown(text: object) -> str:
    r"""Text for Markdown, in a paragraph, a heading, a list or a table; on one line.

    Examples
    --------
    >>> for_markdown("CD4+ T cell"), for_markdown("<img src=x>\n# Big"), for_markdown("a|b")
    ('CD4+ T cell', '\\<img src=x\\> \\# Big', 'a\\|b')
    """
    shown = one_line(text)
    return shown if _PLAIN.fullmatch(shown) else _BEGINNING.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\1", shown))


def for_figure(text: object) -> str:
    r"""Text for matplotlib: no formula, and visible in a legend, which hides names with a leading underscore.

    Examples
    --------
    >>> for_figure(r"$\frac{$"), for_figure("_B")
    ('\\$\\frac{\\$', ' _B')
    """
    shown = one_line(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def for_file_name(text: object) -> str:
    """Text as part of the name of a file, on every system; other texts give other names.

    Examples
    --------
    >>> for_file_name("T_cell"), for_file_name("../B cells")
    ('T_cell', 'B_cells-d143ffb6')
    """
    shown = _FILE.sub("_", str(text)).strip("._-+")[:MOST]
    if shown and shown == str(text):
        return shown
    digest = hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown}-{digest}" if shown else digest
