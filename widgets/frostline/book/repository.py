"""Sphinx extension: buttons for repository, edit, Binder and Colab where `_config.yml` names a repository.

Without one there are none. The page of a tutorial is generated: its buttons lead to the source notebook.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from frostline.publishing.states import FOLDER, tutorials_among

LAUNCHERS = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}


def offer_buttons(app: Sphinx, config: Config) -> None:
    """Turn the buttons on that a repository makes possible; what a configuration says itself stays."""
    options = config.html_theme_options
    if options.get("repository_url"):
        for name in ("use_repository_button", "use_edit_page_button"):
            options[name] = True
        options["repository_branch"] = options.get("repository_branch") or "main"
        said = {name: value for name, value in (options.get("launch_buttons") or {}).items() if value}
        options["launch_buttons"] = {**LAUNCHERS, **said}


def lead_to_sources(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the buttons of a tutorial's page lead to its source notebook."""
    (name, *_) = [*tutorials_among([pagename]), ""]
    if name and context.get("header_buttons"):
        _lead_to_sources(context["header_buttons"], name, app.config.html_theme_options.get("path_to_docs", ""))


def _lead_to_sources(buttons: list[dict[str, Any]], name: str, docs: str) -> None:
    page = f"{docs.strip('/')}/{FOLDER}/{name}".lstrip("/")
    for button in buttons:
        _lead_to_sources(button.get("buttons", []), name, docs)
        address = str(button.get("url", ""))
        for ending in (".ipynb", ".md"):
            if f"{page}{ending}" in address and "_sources/" not in address:
                button["url"] = address.replace(f"{page}{ending}", f"notebooks/{name}.ipynb")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    app.connect("config-inited", offer_buttons, priority=900)
    app.connect("html-page-context", lead_to_sources, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
