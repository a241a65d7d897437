"""Sphinx extension: the directive that lists the hyper-parameters of every strategy.

```{strategy-parameters}
```
"""

from __future__ import annotations

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from frostline.book.drawing import draw
from frostline.strategies import STRATEGIES, Strategy, parameter_table, show


def render_parameters(kind: type[Strategy]) -> str:
    """HTML of one strategy's hyper-parameters.

    Examples
    --------
    >>> from frostline.strategies import Majority
    >>> render_parameters(Majority)
    '<p>No hyper-parameters.</p>'
    """
    table = parameter_table(kind.name).reset_index()
    return draw("parameters.html", headings=list(table), rows=table.to_numpy().tolist())


class StrategyParameters(SphinxDirective):
    """A section for each strategy of the list."""

    def run(self) -> list[nodes.Node]:
        """Draw it."""
        return [self._section(name, row) for name, row in show().iterrows()]

    def _section(self, name: str, row: pd.Series) -> nodes.Node:
        section = nodes.section("", nodes.title("", name), ids=[nodes.make_id(f"strategy-{name}")])
        section += nodes.paragraph("", f"{row['title']}: trains {row['trains']}.")
        paper, address = row["reference"].rsplit(", ", 1)
        section += nodes.paragraph("", "", nodes.reference("", paper, refuri=address), nodes.Text("."))
        section += nodes.raw("", render_parameters(STRATEGIES[name]), format="html")
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.add_directive("strategy-parameters", StrategyParameters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
