"""A page with one widget and no kernel, drawn by the scripts that the book's pages have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ipywidgets import Widget
from ipywidgets.embed import dependency_state

from frostline.book import self_hosted
from frostline.escaping import for_script

DARK = "<style>html.dark body {background: #14181e; color: #ddd}</style>"


def write_page(widget: Widget, folder: Path) -> Path:
    """Write the page and its scripts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (self_hosted.HERE / "vendor" / "html-manager").iterdir():
        shutil.copy(file, folder)
    (folder / "embed.js").write_text(self_hosted.manager_script(), encoding="utf-8")
    (folder / "anywidget.js").write_text(self_hosted.anywidget_script(), encoding="utf-8")
    state = {"version_major": 2, "version_minor": 0, "state": dependency_state([widget], drop_defaults=False)}
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    scripts = "".join(f'<script src="{Path(name).name}"></script>' for name in self_hosted.WIDGET_SCRIPTS)
    page = folder / "index.html"
    page.write_text(
        f'<!doctype html><html><head><meta charset="utf-8"><title>Cells</title>{DARK}{scripts}</head><body>'
        f'<script type="application/vnd.jupyter.widget-state+json">{for_script(json.dumps(state))}</script>'
        f'<script type="application/vnd.jupyter.widget-view+json">{json.dumps(view)}</script></body></html>',
        encoding="utf-8",
    )
    return page
