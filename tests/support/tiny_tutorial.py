"""A tutorial of five cells that shows each kind of output that the published pages rely on, and a hostile name."""

import nbformat
from hostile import BROKEN, NAME
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

INTRODUCTION = "# Four ways to name a cell\n\nA widget, a table and a figure.\n\n## Outline\n\nThree steps."
HEADING = "## `<img src=x onerror=pwned=1>`"
PARAMETERS = 'PROFILE: str = "quickstart"  # profile\nSEED: int = 42  # seed'
WIDGET = """
import ipywidgets
from IPython.display import display

progress = ipywidgets.IntProgress(value=3, max=3, description="Strategies")
message = ipywidgets.HTML("<p role='status'>All strategies done</p>")
panel = ipywidgets.VBox([progress, message, ipywidgets.Button(description="Run", icon="play")])
panel.add_class("tiny-panel")
display(panel)
"""
TABLE = """
import pandas as pd

names = ["pca_logistic", "frozen_probe", "head", "lora"]
columns = ["accuracy", "macro_f1", "silhouette", "seconds", "trainable_parameters", "repeat", "profile"]
table = pd.DataFrame({column: range(4) for column in columns}, index=names)
table
"""
FIGURE = """
import base64
import io

from IPython.display import HTML
from matplotlib.figure import Figure

figure = Figure(figsize=(8, 3))
figure.subplots().scatter(range(20), range(20))
buffer = io.BytesIO()
figure.savefig(buffer, format="png")
data = base64.b64encode(buffer.getvalue()).decode()
HTML(f'<img alt="Scatter plot of twenty points" src="data:image/png;base64,{data}">')
"""


NAMES = f"""
from IPython.display import Markdown, display

from frostline import report
from frostline.escaping import for_html, for_markdown

name, broken = {NAME!r}, {BROKEN!r}
shown = ipywidgets.HTML(f"<p class='of-a-panel'>{{for_html(broken)}}</p>")
display(ipywidgets.VBox([ipywidgets.Dropdown(options=[name], description="Labels"), shown]))
display(report.words(name), report.shown(pd.DataFrame({{name: [broken]}}, index=[broken]), index=True))
display(Markdown(f"# Of {{for_markdown(name)}}\\n\\n" + report.markdown_table(pd.DataFrame({{name: [broken]}}))))
"""


def tiny_notebook() -> nbformat.NotebookNode:
    """The source of the tutorial, without outputs."""
    cells = [new_markdown_cell(INTRODUCTION), new_code_cell(PARAMETERS)]
    cells[1].metadata["tags"] = ["parameters"]
    cells += [new_code_cell(text.strip()) for text in (WIDGET, TABLE, FIGURE)]
    cells += [new_markdown_cell(HEADING), new_code_cell(NAMES.strip())]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})
