"""Sphinx extension: what a page says of itself to search engines, and real signatures in the API.

The description of a page is its first paragraph. Classes with traits are shown with the parameters of their own
`__init__`; the class that they inherit from accepts anything, and Sphinx would show that.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

from frostline.escaping import for_html, one_line

LONGEST = 160
"""Characters of a description that search engines show."""
UNWRITABLE = re.compile(r"=( ?)<[^>]*>")
SHORTEST = 20
"""Characters of a paragraph that says something."""
CATCH_ALL = "traitlets"
"""Where `__new__` is defined that takes anything."""


def first_paragraph(doctree: nodes.document) -> str:
    """Text of the first paragraph that says something; empty without one."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = one_line(paragraph.astext())
        if len(text) > SHORTEST:
            return shortened_at_word(text)
    return ""


def shortened_at_word(text: str, most: int = LONGEST) -> str:
    """Text that ends at a word.

    Examples
    --------
    >>> shortened_at_word("one two three", 9)
    'one two …'
    """
    return text if len(text) <= most else f"{text[: most - 1].rsplit(' ', 1)[0]} …"


def describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the description of a page into its head."""
    text = first_paragraph(doctree) if doctree is not None else f"{context.get('title', '')}, {app.config.project}"
    if text and 'name="description"' not in context.get("metatags", ""):
        context["metatags"] = f'{context.get("metatags", "")}\n<meta name="description" content="{for_html(text)}">'


def own_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """Show a class with the parameters of its own `__init__`, where one above it takes anything.

    A default that Python can only show as `<...>` becomes `...`, without which Sphinx shows a signature as raw text.
    """
    if what == "class" and inspect.isclass(obj) and str(obj.__new__.__module__).startswith(CATCH_ALL):
        given = stringify_signature(signature(obj.__init__, bound_method=True), unqualified_typehints=True)
    return (UNWRITABLE.sub("=\\1...", given), returns) if given else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.connect("html-page-context", describe)
    if "sphinx.ext.autodoc" in app.extensions:
        app.connect("autodoc-process-signature", own_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
