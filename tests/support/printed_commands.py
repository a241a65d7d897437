"""The commands that pages, notebooks, templates and help print, collected as they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = r"frostline|make|papermill|pip|python3?(?:\.\d+)?|jupyter(?:-book)?|source|cd"
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Name and text of everything that a reader may copy a command from."""
    template = root / "widgets" / "frostline" / "book" / "template"
    pages = [root / "README.md", root / "_config.yml", *(root / "book").rglob("*.md"), *template.rglob("*.yml")]
    pages += (root / "widgets").rglob("*.md")
    for path in sorted(page for page in pages if "published" not in page.parts):
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted([*(root / "notebooks").glob("*.ipynb"), *(template / "notebooks").glob("*.ipynb")]):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        yield path.relative_to(root).as_posix(), text
    for path in (root / "Makefile", template / "Makefile"):
        recipes = re.findall(r"^\t(?:\$\(BIN\)/)?(frostline .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        lines = [f"`{line.replace('$(PROFILE)', 'quickstart')}`" for line in recipes]
        yield path.relative_to(root).as_posix(), "\n".join(lines)


def commands(text: str) -> Iterator[str]:
    """Commands after a `$` in blocks, and in code spans, without comments."""
    for language, block in BLOCK.findall(text):
        if language in ("console", "bash", "sh", "shell", ""):
            lines = [line[2:] for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
            yield from (re.sub(r"\s+#.*$", "", line).strip() for line in lines)
    yield from re.findall(rf"^#   ((?:{PROGRAMS}) .*)$", text, re.MULTILINE)  # of a comment
    for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
        words = " ".join(span.split())
        if re.match(rf"(?:{PROGRAMS})(?: |$)", words):
            yield words


def collected(root: Path) -> dict[str, list[str]]:
    """Every distinct command, with where it is printed."""
    found: dict[str, list[str]] = {}
    for name, text in texts(root):
        for command in commands(text):
            found.setdefault(command, []).append(name)
    return found
