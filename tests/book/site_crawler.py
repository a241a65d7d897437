"""Reads every page of a built site and says what does not resolve inside it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

ADDRESSES = {"href", "src", "data", "poster"}


def find_broken(site: Path) -> list[str]:
    """One line for each dead link, dead anchor, asset from another host and image without a text."""
    pages = {page: BeautifulSoup(page.read_bytes(), "html.parser") for page in sorted(site.rglob("*.html"))}
    pages = {page: soup for page, soup in pages.items() if "_static" not in page.parts}
    anchors = {page: {str(tag["id"]) for tag in soup.find_all(id=True)} for page, soup in pages.items()}
    problems = []
    for page, soup in pages.items():
        name = page.relative_to(site).as_posix()
        for tag in soup.find_all(True):
            problems += [f"{name}: {problem}" for problem in check_tag(tag, page, anchors)]
    return problems


def check_tag(tag: Tag, page: Path, anchors: dict[Path, set[str]]) -> list[str]:
    problems = []
    if tag.name == "img" and not tag.get("alt"):
        problems.append(f"image without alt: {str(tag)[:80]}")
    for attribute in ADDRESSES & tag.attrs.keys():
        address = str(tag[attribute])
        parts = urlsplit(address)
        if parts.scheme in {"data", "mailto"}:
            continue
        if parts.scheme or parts.netloc:
            if tag.name != "a":
                problems.append(f"asset of another host: {address}")
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.is_file():
            problems.append(f"dead link: {address}")
        elif parts.fragment and target in anchors and parts.fragment not in anchors[target]:
            problems.append(f"dead anchor: {address}")
    return problems
