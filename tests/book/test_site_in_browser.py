"""The built site in headless Chromium: quiet, self-contained, and each widget drawn once."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import chromium_path, launch
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from published_project import NAME

TUTORIAL = f"published/{NAME}.html"
PAGES = ["index.html", "install.html", "protocol.html", "mini.html", TUTORIAL]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    """Address of a plain file server of the site."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


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

    def open(self, url: str) -> Page:
        self.page.goto(url, wait_until="networkidle")
        return self.page


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def watcher(browser: Browser) -> Iterator[Watcher]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield Watcher(context)


@pytest.mark.parametrize("path", PAGES)
def test_page_is_quiet_and_asks_no_other_host(watcher: Watcher, address: str, path: str) -> None:
    page = watcher.open(address + path)
    assert page.locator("article h1").first.is_visible()
    assert watcher.errors == []
    outside = [url for url in watcher.requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == []


def test_widget_is_drawn_once(watcher: Watcher, address: str) -> None:
    page = watcher.open(address + TUTORIAL)
    page.wait_for_selector(".tiny-panel")
    page.wait_for_timeout(500)  # a second copy would be drawn after the first
    assert page.locator(".tiny-panel").count() == 1
    assert page.locator(".tiny-panel").is_visible()
    assert page.locator(".tiny-panel .widget-hprogress").count() == 1
    assert page.locator(".tiny-panel").get_by_text("All strategies done").count() == 1
    assert watcher.errors == []


def test_search_finds_a_page(watcher: Watcher, address: str) -> None:
    page = watcher.open(address + "search.html?q=silhouette")
    page.get_by_role("link", name="How the comparison is made").first.wait_for()


def test_source_notebook_can_be_downloaded(watcher: Watcher, server: str, built: Path) -> None:
    page = watcher.open(server + TUTORIAL)
    with page.expect_download() as download:
        page.click('.frostline-status dd[data-field="source_notebook"] a')
    saved = Path(download.value.path()).read_bytes()
    assert saved == (built / "notebooks" / f"{NAME}.ipynb").read_bytes()


def test_nothing_overflows_at_800_pixels(browser: Browser, server: str, scheme: str) -> None:
    with browser.new_context(viewport={"width": 800, "height": 900}, color_scheme=scheme) as context:
        page = Watcher(context).open(server + TUTORIAL)
        page.wait_for_selector(f"html[data-theme={scheme}]")
        page.wait_for_selector(".tiny-panel")
        assert page.evaluate("document.documentElement.scrollWidth") == 800
        box = page.locator(".frostline-status")
        assert box.evaluate("e => e.scrollWidth <= e.clientWidth")
        outputs = page.locator(".cell_output")
        assert outputs.evaluate_all("all => all.every(e => e.getBoundingClientRect().right <= 800)")


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
