"""Sphinx extension: the site asks no other host for anything, and runs no script but its own.

Widgets are drawn by the manager in `vendor/html-manager` instead of the one that myst-nb would load from
a CDN, and whatever else would be fetched from outside is a warning, which `-W` turns into a failed build.
Two texts that others write into the page for their scripts are made safe: the state of the widgets, which a name
in a list could end early, and the titles that the search page takes for HTML.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging

from frostline.escaping import for_html, for_script
from frostline.publishing.page_checks import WIDGET_STATE

logger = logging.getLogger(__name__)

WIDGET_SCRIPTS = ("html-manager/assets_path.js", "html-manager/anywidget.js", "html-manager/embed.js")
"""In this order: the first two tell the third where its fonts are, and how maps of cells are drawn."""
MADE_MANAGER = "(()=>new ot)"
"""Where the manager is made, once in the vendored script, without a loader of other widgets."""
WITH_LOADER = "(()=>new ot({loader:window.__frostline_widgets__}))"

HERE = Path(__file__).parent
STYLES = ("status_box.css", "outputs.css")

FETCHED = {"src", "srcset", "data", "poster"}
"""Attributes whose address a browser fetches by itself; of `href`, only that of `<link>`."""

FETCHING = re.compile(rf"<link\b|\b(?:{'|'.join(sorted(FETCHED))})\s*=", re.IGNORECASE)
"""What a piece of HTML holds that fetches anything; to read each page of an API tag by tag takes long."""

FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>\n?')


class OutsideAssets(HTMLParser):
    """Collects the addresses in a page that a browser would fetch from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the addresses in one tag."""
        for name, value in attrs:
            if name in FETCHED or (name, tag) == ("href", "link"):
                self.found += [value] if value and is_outside(value) else []


def is_outside(address: str) -> bool:
    """Tell whether an address leads to another host."""
    return address.strip().lower().startswith(("http://", "https://", "//"))


def outside_assets(html: str) -> list[str]:
    """Addresses in a piece of HTML that a browser would fetch from another host."""
    parser = OutsideAssets()
    if FETCHING.search(html):
        parser.feed(html)
    return parser.found


def use_own_files(app: Sphinx, config: Config) -> None:
    """Serve the vendored widget manager, let myst-nb use it, and serve the styles of the pages."""
    config.html_static_path += [str(HERE / "vendor"), str(HERE / "static")]
    config.nb_ipywidgets_js = {script: {} for script in WIDGET_SCRIPTS}
    config.html_favicon = config.html_favicon or str(HERE / "static" / "favicon.svg")
    for style in STYLES:
        app.add_css_file(style)


def manager_script() -> str:
    """Script of the vendored manager, made to ask `anywidget_script` for what it does not hold.

    Raises
    ------
    ExtensionError
        The vendored script is of a version in which the place is another.
    """
    script = (HERE / "vendor" / "html-manager" / "embed.js").read_text(encoding="utf-8")
    if script.count(MADE_MANAGER) != 1:
        raise ExtensionError(f"embed.js holds {MADE_MANAGER!r} {script.count(MADE_MANAGER)} times: see VENDORED.md")
    return script.replace(MADE_MANAGER, WITH_LOADER)


def anywidget_script() -> str:
    """Script that gives the manager the model and the view of the installed anywidget, and no other module."""
    import anywidget

    module = (Path(anywidget.__file__).parent / "nbextension" / "index.js").read_text(encoding="utf-8")
    return f"""(() => {{
let make, made;
const define = (_needs, found) => {{ make = found; }};
{module}
window.__frostline_widgets__ = async function (name) {{
  if (name !== "anywidget") throw new Error(`no widgets of ${{name}} on this page`);
  const names = ["DOMWidgetModel", "DOMWidgetView"];
  made ??= Promise.all(names.map((each) => this.loadClass(each, "@jupyter-widgets/base", "2.0.0"))).then(
    ([DOMWidgetModel, DOMWidgetView]) => make({{ DOMWidgetModel, DOMWidgetView }}));
  return made;
}};
}})();
"""


def write_widget_scripts(app: Sphinx, exception: Exception | None) -> None:
    """Put both beside the manager's fonts."""
    folder = Path(app.outdir) / "_static" / "html-manager"
    if exception is None and app.builder.format == "html":
        (folder / "embed.js").write_text(manager_script(), encoding="utf-8")
        (folder / "anywidget.js").write_text(anywidget_script(), encoding="utf-8")


def warn_of_outside_assets(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Warn of every script, style sheet, image or frame from another host."""
    files = [*context.get("script_files", []), *context.get("css_files", [])]
    addresses = [str(file.filename) for file in files if is_outside(str(file.filename))]
    addresses += outside_assets(context.get("body", ""))
    for address in addresses:
        logger.warning("the page would fetch %s from another host", address, location=pagename)


def close_widget_state(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the state of the widgets so that nothing in it ends its script element."""
    for file in context.get("script_files", []):
        attributes = getattr(file, "attributes", {})
        if attributes.get("type") == WIDGET_STATE and attributes.get("body"):
            attributes["body"] = for_script(attributes["body"])


def escape_searched_titles(app: Sphinx, exception: Exception | None) -> None:
    """Escape the headings in the index: Sphinx escapes those of pages only, and shows all of them as HTML."""
    index = Path(app.outdir) / "searchindex.js"
    if exception is None and app.builder.format == "html" and index.is_file():
        before, content, after = re.match(r"(.*?\()(.*)(\).*)", index.read_text("utf-8"), re.DOTALL).groups()  # type: ignore[union-attr]
        found = json.loads(content)
        found["alltitles"] = {
            for_html(title) if "<" in title else title: places  # once, also where a build keeps an earlier index
            for title, places in found["alltitles"].items()
        }
        index.write_text(f"{before}{json.dumps(found, separators=(',', ':'))}{after}", encoding="utf-8")


def drop_font_preloads(app: Sphinx, exception: Exception | None) -> None:
    """Take the theme's font preloads out of the pages.

    The style sheets load the same fonts anyway, and a page opened from a folder may not preload them: a
    browser logs an error for each.
    """
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            html = page.read_text(encoding="utf-8")
            page.write_text(FONT_PRELOAD.sub("", html), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this part of the extension to Sphinx."""
    # After Jupyter Book and myst-nb have set theirs, and after every extension has added its scripts.
    app.connect("config-inited", use_own_files, priority=900)
    app.connect("html-page-context", warn_of_outside_assets, priority=900)
    app.connect("html-page-context", close_widget_state, priority=900)
    app.connect("build-finished", drop_font_preloads)
    app.connect("build-finished", write_widget_scripts)
    app.connect("build-finished", escape_searched_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
