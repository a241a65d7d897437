"""The built site in headless Chromium: quiet, self-contained, and each widget drawn once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from bs4 import BeautifulSoup, SoupStrainer
from chromium import chromium_path, launch
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright
from published_project import NAME, UNRUN
from site_crawler import served
from tiny_tutorial import NAME as HOSTILE

PWNED = "window.pwned ?? null"
TUTORIAL = f"published/{NAME}.html"
NARROW = 390
"""Pixels of a telephone."""
OVERFLOWING = """
[...document.querySelectorAll(".cell_output, .frostline-status, .frostline-states, .frostline-figure")]
    .filter(e => e.getBoundingClientRect().right > innerWidth ||
                 (e.tagName != "DIV" && e.scrollWidth > e.clientWidth + 1))
    .map(e => e.className)
"""


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """Address of a plain file server of the site."""
    with served(site) as address:
        yield address


@pytest.fixture(scope="module", params=["server", "folder"])
def address(request: pytest.FixtureRequest, site: Path) -> str:
    """Address of the site, once served and once opened from its folder."""
    if request.param == "folder":
        return f"{site.as_uri()}/"
    return request.getfixturevalue("server")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


class Watcher:
    """Opens pages in one window and notes what goes wrong and what is asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, url: str, wait_until: Literal["load", "networkidle"] = "networkidle") -> Page:
        self.page.goto(url, wait_until=wait_until)
        return self.page


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def watcher(browser: Browser) -> Iterator[Watcher]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield Watcher(context)


def pages_of(site: Path) -> list[str]:
    """Every page of the site, as the part of its address that follows the origin."""
    pages = [path.relative_to(site) for path in sorted(site.rglob("*.html"))]
    return [page.as_posix() for page in pages if page.parts[0] != "_static"]


def words_of(part: Locator) -> str:
    return " ".join(part.inner_text().split())


def visit(watcher: Watcher, address: str, path: str) -> Page:
    """Open a page and hold it to what every page must be: there, quiet, and without a request to another host."""
    page = watcher.open(address + path, wait_until="load")
    assert page.locator("article h1, #search-results").count() > 0, path
    assert watcher.errors == [], path
    outside = [url for url in watcher.requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == [], path
    return page


def test_every_page_is_quiet_and_fits_in_light_and_dark_on_a_telephone_and_wider(
    browser: Browser, server: str, site: Path
) -> None:
    """Colours change no width: each width is measured under one of the two."""
    pages = pages_of(site)
    assert {"index.html", "status.html", "api/encoder.html", TUTORIAL} <= set(pages)
    looks = [(NARROW, "light"), (800, "dark")]
    with browser.new_context(viewport={"width": NARROW, "height": 900}) as context:
        watcher = Watcher(context)
        for path in pages:
            page = visit(watcher, server, path)
            for width, scheme in looks:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.wait_for_selector(f"html[data-theme={scheme}]")
                assert page.evaluate("document.documentElement.scrollWidth") == width, (path, scheme)
                assert page.evaluate(OVERFLOWING) == [], (path, scheme)
            looks.reverse()  # the next page opens as this one was left
        assert watcher.errors == []


def test_pages_opened_from_a_folder_are_quiet_too(watcher: Watcher, site: Path) -> None:
    for path in ("index.html", "status.html", "search.html", TUTORIAL):
        visit(watcher, f"{site.as_uri()}/", path)


def test_status_box_says_what_the_manifest_says(watcher: Watcher, server: str, built: Path) -> None:
    manifest = json.loads((built / "book" / "published" / f"{NAME}.run.json").read_text())
    page = watcher.open(server + TUTORIAL)
    fields = page.locator(".frostline-status dd")
    shown = dict(
        zip(fields.evaluate_all("all => all.map(e => e.dataset.field)"), fields.all_inner_texts(), strict=True)
    )
    for key in ("mode", "profile", "source_notebook", "dataset", "checkpoint"):
        assert shown[key] == manifest[key]
    check = manifest["artifact_check"]
    assert shown["artifact_check"] == f"passed: {check['files']} files, {check['numbers']} numbers recomputed"
    assert shown["seed"] == str(manifest["seed"])
    assert shown["seconds"] == f"{manifest['seconds']:.1f} s"
    assert shown["frostline"] == manifest["versions"]["frostline"]
    assert page.locator("time").first.get_attribute("datetime") == manifest["ended"]
    assert page.locator(".frostline-draft").count() == 0


def test_tutorial_that_was_never_run_is_a_draft(watcher: Watcher, server: str) -> None:
    page = watcher.open(f"{server}published/{UNRUN}.html")
    assert "Draft. It has not been run yet." in page.locator(".frostline-draft").inner_text()
    assert page.locator(".frostline-draft code").inner_text() == f"frostline publish {UNRUN}"
    assert "A widget, a table and a figure." in page.locator("article").inner_text()
    assert page.get_by_role("heading", name="Outline").count() == 1
    assert "IntProgress(value=3" in page.locator("article pre").nth(1).inner_text()
    assert page.locator(".cell_output, .tiny-panel").count() == 0
    row = watcher.open(f"{server}status.html").locator(f'tr[data-tutorial="{UNRUN}"]')
    assert "draft" in row.inner_text()


def test_a_hostile_name_is_text_on_every_page(watcher: Watcher, address: str) -> None:
    """In outputs, in the state of the widgets, in the status box, in the table of all tutorials, in the search."""
    page = watcher.open(address + TUTORIAL)
    page.wait_for_selector(".of-a-panel")
    words = words_of(page.locator("article"))
    assert words.count(HOSTILE) >= 7
    options = page.locator("select").first.evaluate("e => [...e.options].map(o => o.text)")
    assert [" ".join(option.split()) for option in options] == [HOSTILE]
    assert page.evaluate(PWNED) is None
    page = watcher.open(address + "status.html")
    assert words_of(page.locator("article")).count(HOSTILE) == 2
    assert page.evaluate(PWNED) is None
    assert watcher.errors == []
    page = watcher.open(address + "search.html?q=src%3Dx+onerror%3Dpwned%3D1")
    page.get_by_role("link", name="<img src=x").first.wait_for()
    assert page.evaluate(PWNED) is None


def test_widget_is_drawn_once(watcher: Watcher, address: str) -> None:
    page = watcher.open(address + TUTORIAL)
    page.wait_for_selector(".tiny-panel")
    page.wait_for_timeout(500)  # a second copy would be drawn after the first
    assert page.locator(".tiny-panel").count() == 1
    assert page.locator(".tiny-panel").is_visible()
    assert page.locator(".tiny-panel .widget-hprogress").count() == 1
    assert page.locator(".tiny-panel").get_by_text("All strategies done").count() == 1
    assert watcher.errors == []


def test_on_a_telephone_the_first_screen_is_the_tutorial_under_one_line_of_status(
    browser: Browser, server: str
) -> None:
    with browser.new_context(viewport={"width": NARROW, "height": 844}) as context:
        page = Watcher(context).open(server + TUTORIAL)
        box = page.locator(".frostline-status")
        assert box.bounding_box()["height"] < 60
        assert words_of(box).startswith("Passed, run on 2026-11-22 10:11 (UTC)")
        text = page.get_by_text("A widget, a table and a figure.")
        assert text.bounding_box()["y"] < 600
        box.locator("summary").first.click()
        assert page.locator("dd[data-field=seed]").is_visible()


def test_a_panel_stands_on_the_page_s_own_ground_in_the_dark(browser: Browser, server: str) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page = Watcher(context).open(server + TUTORIAL)
        page.wait_for_selector("html[data-theme=dark]")
        page.wait_for_selector(".tiny-panel")
        behind = """e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!c.endsWith(', 0)')) return c; } }"""
        ground = page.eval_on_selector(".bd-article", behind)
        for part in (".tiny-panel", ".tiny-panel p", ".cell_output table"):
            assert page.eval_on_selector(part, behind) == ground, part
            text = page.eval_on_selector(part, "e => getComputedStyle(e).color")
            assert contrast(rgb(text), rgb(ground)) >= 4.5, part


def test_every_page_says_what_it_is_about(site: Path) -> None:
    said = {}
    for path in pages_of(site):
        page = BeautifulSoup((site / path).read_bytes(), "html.parser", parse_only=SoupStrainer("meta"))
        found = page.select("meta[name=description]")
        assert len(found) == 1, path
        said[path] = found[0]["content"]
    assert said["index.html"].startswith("You have a labelled human single-cell data set")
    assert said[TUTORIAL] == "A widget, a table and a figure."
    assert max(map(len, said.values())) <= 160


def test_api_shows_the_parameters_of_panels(site: Path) -> None:
    page = BeautifulSoup((site / "api" / "panels.html").read_bytes(), "html.parser")
    signature = page.find(id="frostline.panels.annotation.AnnotationPanel").get_text()
    assert "label_key: str | None = None" in signature
    assert "kwargs: t.Any" not in page.get_text()


def test_sources_are_cited_by_author_and_year_with_their_doi(site: Path) -> None:
    sources = BeautifulSoup((site / "sources.html").read_bytes(), "html.parser")
    links = [str(link["href"]) for link in sources.select("article a[href^='https://doi.org/']")]
    assert len(set(links)) >= 20
    protocol = BeautifulSoup((site / "protocol.html").read_bytes(), "html.parser")
    assert "Nadeau and Bengio [2003]" in protocol.get_text()


def test_without_a_repository_there_are_no_buttons_for_it(site: Path) -> None:
    page = BeautifulSoup((site / "published" / f"{NAME}.html").read_bytes(), "html.parser")
    links = [str(link["href"]) for link in page.select(".header-article a[href]")]
    assert not [link for link in links if link.startswith("http")]


def test_search_finds_a_page(watcher: Watcher, address: str) -> None:
    page = watcher.open(address + "search.html?q=silhouette")
    page.get_by_role("link", name="How the comparison is made").first.wait_for()


def test_source_notebook_can_be_downloaded(watcher: Watcher, server: str, built: Path) -> None:
    page = watcher.open(server + TUTORIAL)
    with page.expect_download() as download:
        page.click('.frostline-status dd[data-field="source_notebook"] a')
    saved = Path(download.value.path()).read_bytes()
    assert saved == (built / "notebooks" / f"{NAME}.ipynb").read_bytes()


def test_box_is_legible(browser: Browser, server: str, scheme: str) -> None:
    """The contrast of text against its background is at least 4.5, as WCAG 2 asks for."""
    with browser.new_context(color_scheme=scheme) as context:
        page = Watcher(context).open(server + TUTORIAL)
        page.wait_for_selector(f"html[data-theme={scheme}]")
        back = page.eval_on_selector(".frostline-status", "e => getComputedStyle(e).backgroundColor")
        for part in ("p", "dt", "dd", "dd a", "summary"):
            text = page.eval_on_selector(f".frostline-status {part}", "e => getComputedStyle(e).color")
            assert contrast(rgb(text), rgb(back)) >= 4.5, part


def rgb(css: str) -> list[float]:
    return [float(value) / 255 for value in css[css.index("(") + 1 : -1].split(",")[:3]]


def contrast(first: list[float], second: list[float]) -> float:
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_a_browser_the_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssertionError, match="make browser"):
        chromium_path()
