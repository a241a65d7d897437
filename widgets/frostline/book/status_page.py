"""Sphinx extension: the directives that show all tutorials' status, and a picture of one's result.

```{tutorial-status}
```

```{tutorial-figure} cell_type_annotation/lora_embedding_umap.png
:alt: What the picture shows.
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from frostline.book.drawing import draw
from frostline.book.status_box import states_of_book
from frostline.publishing.states import FOLDER, State


def render_table(states: list[State], *, up: str = "") -> str:
    """HTML of the table of all tutorials, also of those never run.

    Parameters
    ----------
    states
        One row each.
    up
        What leads from the page to the root of the site.

    Examples
    --------
    >>> "not run" in render_table([State("mine", "not run")])
    True
    """
    return draw("status_table.html", states=states, up=up, folder=FOLDER)


class _OfTutorials(SphinxDirective):
    """A directive whose answer follows from what is published, and so is asked for at every build."""

    def _up(self) -> str:
        self.env.note_reread()
        return "../" * self.env.docname.count("/")

    def _raw(self, html: str) -> list[nodes.Node]:
        return [nodes.raw("", html, format="html")]


class TutorialStatus(_OfTutorials):
    """The table of all tutorials."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        return self._raw(render_table(states_of_book(self.env.app), up=self._up()))


class TutorialFigure(_OfTutorials):
    """A picture among the artifacts of a tutorial, with the content as its caption; nothing before its run."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        up, file = self._up(), self.arguments[0]
        if "alt" not in self.options:
            raise self.error(f"tutorial-figure {file}: say what the picture shows in a line `:alt: ...` below it")
        if not Path(self.env.srcdir, FOLDER, file).is_file():
            return []
        address, alt, caption = f"{up}{FOLDER}/{file}", self.options["alt"], " ".join(self.content)
        return self._raw(draw("figure.html", address=address, alt=alt, caption=caption))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.add_directive("tutorial-status", TutorialStatus)
    app.add_directive("tutorial-figure", TutorialFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
