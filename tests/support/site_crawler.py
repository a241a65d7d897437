"""Serves a built site and follows every address in it, as a browser would come to it."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

ADDRESSES = ("href", "src", "data", "poster")


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and as it stands there; a tree of them would take four times as long."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, self.get_starttag_text() or ""))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Address of a plain file server of the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Crawl:
    """All pages that can be reached from the first one, and what does not resolve on them."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.problems: list[str] = []
        self.pages: dict[str, set[str]] = {}
        """Address of each page -> its anchors."""
        self.files: dict[str, bool] = {}
        self.anchors: set[tuple[str, str, str]] = set()
        self.todo = [f"{origin}index.html"]
        while self.todo:
            self.visit(self.todo.pop())
        for page, address, anchor in sorted(self.anchors):
            if anchor not in self.pages.get(address, {anchor}):
                self.problems.append(f"{self.short(page)}: dead anchor: {self.short(address)}#{anchor}")

    def short(self, address: str) -> str:
        return address.removeprefix(self.origin)

    def visit(self, address: str) -> None:
        if address in self.pages:
            return
        with urllib.request.urlopen(address) as answer:
            tags = Tags(answer.read().decode()).found
        self.pages[address] = {attributes["id"] for _, attributes, _ in tags if attributes.get("id")}
        for name, attributes, written in tags:
            if name == "img" and not attributes.get("alt"):
                self.problems.append(f"{self.short(address)}: image without alt: {written[:80]}")
            for attribute in ADDRESSES:
                if attribute in attributes and not attributes[attribute].startswith(("data:", "mailto:")):
                    self.follow(attributes[attribute], name, address)

    def follow(self, written: str, name: str, page: str) -> None:
        address, anchor = urldefrag(urljoin(page, written))
        if not address.startswith(self.origin):
            if name != "a":
                self.problems.append(f"{self.short(page)}: asset of another host: {written}")
            return
        if not self.is_there(address):
            self.problems.append(f"{self.short(page)}: dead link: {written}")
        elif urlsplit(address).path.endswith(".html"):
            self.todo.append(address)
            if anchor:
                self.anchors.add((page, address, unquote(anchor)))

    def is_there(self, address: str) -> bool:
        if address not in self.files:
            try:
                request = urllib.request.Request(address, method="HEAD")
                with urllib.request.urlopen(request) as answer:
                    self.files[address] = answer.status == 200
            except urllib.error.HTTPError as error:
                error.close()
                self.files[address] = False
        return self.files[address]


def crawl(site: Path) -> Crawl:
    with served(site) as address:
        return Crawl(address)


def find_broken(site: Path) -> list[str]:
    """One line for each dead link, dead anchor, asset from another host and image without a text."""
    return crawl(site).problems
