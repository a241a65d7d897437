"""The Sphinx extension of the book, and the rules that a published tutorial must meet.

A `_config.yml` names it once, as `frostline.book`; `frostline init` writes one that does. It checks every
published tutorial before a page is read, draws the status boxes and the status page, and keeps the site
from asking another host for anything.
"""

from __future__ import annotations

import atexit
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

RARELY = (50_000, 20, 10)
"""When Python looks for garbage: by its own thresholds it looks through the same trees of pages again and again."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the parts of the extension to Sphinx, and let this process spend its time on the build."""
    gc.set_threshold(*RARELY)
    atexit.register(gc.freeze)  # nor at its end, among all modules
    for part in ("status_box", "status_page", "strategy_parameters", "self_hosted", "page_text", "repository"):
        app.setup_extension(f"frostline.book.{part}")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
