"""Text of the user's stays text: one function for each language that frostline writes.

Class names, columns, paths and notes come from files that strangers send. Whoever puts such a text into HTML, Markdown,
a figure, a terminal, an address or the name of a file passes it through here; nothing else in the package escapes, but
the templates of the book, for which jinja does.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_JOINERS = "\u200c\u200d"
"""Invisible, and part of how words of some scripts, and some emoji, are written."""
_CODE = re.compile(r"[^\s|<]*[$\\][^\s|<]*")
"""Words that JupyterLab, MyST or GitHub may take for a formula, however it is escaped outside of code."""
_MARKDOWN = re.compile(
    r"[\\`*\[{|~$@]"  # code, emphasis, links, roles, columns of tables, strikethrough, formulas, mentions
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # emphasis; in pca_logistic it is a letter
    r"|<(?=[A-Za-z/!?]|$)|&(?=[#A-Za-z]|$)"  # tags, comments, characters by name
    r"|(?<!\S)#"  # headings, and what closes them
    r"|:(?=//)|(?<=www)\."  # what GitHub makes links of
    , re.IGNORECASE,
)  # fmt: skip
_BEGINNING = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[-+](?:[-+\s]|$)|[=:%>]))")
"""What would begin a list, a quotation, a heading, a fence or a comment."""
_INTERVAL = re.compile(r"(?<=<td>)([-+]?[\d.]+) to ([-+]?[\d.]+)(?=</td>)")
_SENTENCE = re.compile(r"<td>(?=[^<]{60})")
"""Cells of a table that need room."""
_FILE = re.compile(r"[^A-Za-z0-9._+-]+")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
"""Names that Windows keeps for itself, with any ending."""
UNFORMULATED = "tex2jax_ignore mathjax_ignore"
"""Classes of elements in which JupyterLab looks for no formulas."""
MANY = 8_192
"""Texts that are looked at together."""
MOST = 80
"""Characters of a name in a file name."""
MOST_DRAWN = 60
"""Characters of a name in a figure; longer ones lose their middle."""


def one_line(text: object) -> str:
    r"""Text without line breaks, control characters and marks that turn the direction of writing.

    Examples
    --------
    >>> one_line("B cells\n# a heading")
    'B cells # a heading'
    """
    return " ".join(_visible(text, "").split())


def _visible(text: object, kept: str) -> str:
    kept += _JOINERS
    hidden = ("Cc", "Cf", "Zl", "Zp", "Cs")
    return "".join(c if c in kept or unicodedata.category(c) not in hidden else " " for c in str(text))


def for_terminal(text: object) -> str:
    r"""Text for a terminal, lines kept: nothing in it moves the cursor or changes a colour.

    Examples
    --------
    >>> for_terminal("B\x1b[2J cells\nT cells")
    'B [2J cells\nT cells'
    """
    return _visible(text, "\n\t")


def from_html(text: str) -> str:
    """Text that a piece of HTML shows, without its tags.

    Examples
    --------
    >>> from_html("<b>B</b> &amp; T")
    'B & T'
    """
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def for_html(text: object) -> str:
    """Text for HTML, in an element or in a quoted attribute.

    Examples
    --------
    >>> for_html("<b>'B' & T</b>")
    '&lt;b&gt;&#x27;B&#x27; &amp; T&lt;/b&gt;'
    """
    return html.escape(for_terminal(text), quote=True)


def visible(table: pd.DataFrame) -> pd.DataFrame:
    """Table with every text and heading on one line, numbers as they are."""
    shown = table.map(_line_of).rename(index=_line_of, columns=_line_of)
    for axis in (shown.index, shown.columns):
        axis.names = list(map(_line_of, axis.names))
    return shown


def _line_of(name: object) -> object:
    return one_line(name) if isinstance(name, str) else name


def html_table(table: pd.DataFrame, classes: str = "", *, index: bool = False) -> str:
    """HTML table in which every text and heading is text, whole; sentences get a class, intervals stay in one line.

    Examples
    --------
    >>> import pandas as pd
    >>> "<td>&lt;b&gt;</td>" in html_table(pd.DataFrame({"Class": ["<b>"]}))
    True
    """
    import pandas as pd

    with pd.option_context("display.max_colwidth", None):
        shown: str = visible(table).to_html(
            index=index, border=0, classes=f"{classes} {UNFORMULATED}".strip(), escape=True
        )
    shown = _INTERVAL.sub(r"\1&nbsp;to&nbsp;\2", shown)
    return _SENTENCE.sub('<td class="frostline-sentence">', shown)


def for_script(content: str) -> str:
    r"""JSON for a script element, which neither a tag nor a comment in it can end.

    Examples
    --------
    >>> for_script('["</script>"]')
    '["\\u003c/script>"]'
    """
    return content.replace("<", r"\u003c")


def for_address(path: object) -> str:
    """Relative path for the address of a link, in a quoted attribute.

    Examples
    --------
    >>> for_address("../published/B & T #1.html")
    '../published/B%20%26%20T%20%231.html'
    """
    return for_html(urllib.parse.quote(str(path), errors="replace"))


def for_markdown(text: object) -> str:
    r"""Text for Markdown, in a paragraph, a heading, a list or a table; on one line.

    Ordinary names stay as they are. A word with a backslash or a dollar becomes code, in which no formula can begin.

    Examples
    --------
    >>> for_markdown("CD4+ T cell (pca_logistic)"), for_markdown("<img src=x>\n# Big"), for_markdown("a|b")
    ('CD4+ T cell (pca_logistic)', '&lt;img src=x> \\# Big', 'a\\|b')
    >>> for_markdown(r"a $\frac{$")
    'a `$\\frac{$`'
    """
    shown, end, parts = one_line(text), 0, []
    for found in _CODE.finditer(shown):
        parts += [_MARKDOWN.sub(_as_sign, shown[end : found.start()]), _code(found.group())]
        end = found.end()
    return _BEGINNING.sub(r"\g<0>\\", "".join([*parts, _MARKDOWN.sub(_as_sign, shown[end:])]))


def _as_sign(found: re.Match[str]) -> str:
    return "&lt;" if found.group() == "<" else f"\\{found.group()}"


def for_code(text: object) -> str:
    """Text as code in Markdown; what code cannot hold in a table, or what looks like a tag, is escaped instead.

    Examples
    --------
    >>> for_code("cell_type"), for_code("a`b")
    ('`cell_type`', '``a`b``')
    """
    shown = one_line(text)
    return _code(shown) if shown and not {"|", "<"} & set(shown) else for_markdown(shown)


def _code(shown: str) -> str:
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def for_figure(text: object, most: int = MOST_DRAWN) -> str:
    r"""Text for matplotlib: no formula, in one line that is not too long, of characters that its font has.

    Others are shown by their code, so that names stay different. A legend hides names with a leading underscore, and
    empty ones.

    Examples
    --------
    >>> for_figure(r"$\frac{$"), for_figure("_B"), for_figure("B 细胞"), len(for_figure("x" * 999))
    ('\\$\\frac{\\$', ' _B', 'B \\u7ec6\\u80de', 60)
    """
    shown = shortened("".join(c if c.isascii() or _has_glyph(c) else _by_code(c) for c in one_line(text)), most)
    return (" " if shown.startswith("_") else "") + (shown.replace("$", r"\$") or "(empty)")


def for_figures(names: Sequence[object], most: int = MOST_DRAWN) -> list[str]:
    """Different names for matplotlib, which stay different.

    Examples
    --------
    >>> for_figures(["B", "x" * 70, "x" * 71])[0]
    'B'
    >>> [name[-5:] for name in for_figures(["B", "x" * 70, "x" * 71])[1:]]
    ['xx #1', 'xx #2']
    """
    shown = [for_figure(name, most) for name in names]
    times = Counter(shown)
    out: list[str] = []
    for name in shown:
        numbered = (f"{name} #{i}" for i in itertools.count(1))
        out.append(name if times[name] == 1 else next(new for new in numbered if new not in {*shown, *out}))
    return out


def shortened(text: str, most: int) -> str:
    """Text without its middle where it is longer than `most` characters.

    Examples
    --------
    >>> shortened("CD4-positive, alpha-beta memory T cell", 21)
    'CD4-positive…y T cell'
    """
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 5
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def _by_code(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _has_glyph(character: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont

    return _glyph(findfont(FontProperties()), character)


@functools.lru_cache(maxsize=4096)
def _glyph(font: str, character: str) -> bool:
    from matplotlib.font_manager import get_font

    return bool(get_font(font).get_char_index(ord(character)))


def for_file_name(text: object) -> str:
    """Text as part of the name of a file, on every system; other texts give other names.

    Examples
    --------
    >>> for_file_name("T_cell"), for_file_name("../B cells")
    ('T_cell', 'B_cells-d143ffb6')
    """
    shown = _FILE.sub("_", str(text)).strip("._-+")[:MOST]
    if shown and shown == str(text) and shown.lower().partition(".")[0] not in _DEVICES:
        return shown
    digest = hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{shown}-{digest}" if shown and shown.lower().partition(".")[0] not in _DEVICES else digest


def first_unwritable(texts: Iterable[object]) -> str | None:
    r"""First text that files cannot hold: half a surrogate pair has no UTF-8, and a NUL ends a name in HDF5 and CSV.

    Examples
    --------
    >>> first_unwritable(["B", "T\ud800"]), first_unwritable(["B", "T"])
    ('T\ud800', None)
    """
    rest = map(str, texts)
    while found := list(itertools.islice(rest, MANY)):
        joined = "\n".join(found)
        if "\0" in joined or re.search("[\ud800-\udfff]", joined):
            return next(text for text in found if re.search("[\0\ud800-\udfff]", text))
    return None
