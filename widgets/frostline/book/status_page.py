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

from frostline.book.status_box import current_states, link, time_element
from frostline.escaping import for_address, for_html
from frostline.publishing.states import FOLDER, State

HEADINGS = ("Tutorial", "Artifact check", "Last run (UTC)", "Mode, profile", "Made from", "Version")


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
    head = "".join(f'<th scope="col">{heading}</th>' for heading in HEADINGS)
    body = "".join(f'<tr data-tutorial="{for_html(state.name)}">{_cells(state, up)}</tr>\n' for state in states)
    return f'<table class="table frostline-states">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'


def _cells(state: State, up: str) -> str:
    manifest = state.manifest
    shown = for_html(state.name).replace("_", "_<wbr>")
    address = for_address(f"{up}{FOLDER}/{state.name}.html")
    page = f'<a href="{address}">{shown}</a>'
    draft = ' <span class="frostline-mark">draft</span>' if state.is_draft else ""
    check = f'<td data-field="artifact_check">{for_html(state.check)}</td>'
    if not manifest:
        ended = time_element(state.failure["ended"]) if state.failure.get("ended") else "never"
        return f'<th scope="row">{page}{draft}</th>{check}<td>{ended}</td>' + "<td>-</td>" * 3
    source = link(f"{up}{manifest['source_notebook']}", "source notebook")
    made_from = {"data set": manifest["dataset"], "checkpoint": manifest["checkpoint"], "seed": manifest["seed"]}
    return (
        f'<th scope="row">{page}{draft}<br>{source}</th>{check}'
        f"<td>{time_element(manifest['ended'])}<br>in {manifest['seconds']:.1f} s</td>"
        f"<td>{for_html(manifest['mode'])}<br>{for_html(manifest['profile'])}</td>"
        f"<td>{'<br>'.join(f'{key} {for_html(str(value))}' for key, value in made_from.items())}</td>"
        f"<td>{for_html(manifest['versions'].get('frostline', 'unknown'))}</td>"
    )


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
        return self._raw(render_table(current_states(self.env.app), up=self._up()))


class TutorialFigure(_OfTutorials):
    """A picture among the artifacts of a tutorial, with the content as its caption; nothing before its run."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        up, file = self._up(), self.arguments[0]
        if not Path(self.env.srcdir, FOLDER, file).is_file():
            return []
        address = for_address(f"{up}{FOLDER}/{file}")
        image = f'<img alt="{for_html(self.options["alt"])}" src="{address}">'
        caption = f"<figcaption>{for_html(' '.join(self.content))}</figcaption>"
        return self._raw(f'<figure class="frostline-figure">{image}{caption}</figure>')


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.add_directive("tutorial-status", TutorialStatus)
    app.add_directive("tutorial-figure", TutorialFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
