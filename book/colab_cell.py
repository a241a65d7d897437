"""Put a cell into the tutorials that installs frostline on Colab, or take it out: as `_config.yml` names a repository.

`make colab` runs it. The cell does nothing elsewhere, and no page shows it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ID = "on-colab"
CODE = """\
import sys

if "google.colab" in sys.modules:  # nothing is installed there yet
    %pip install --quiet -c {raw}/constraints.txt git+{url}@{branch}
"""


def colab_cell(repository: dict[str, Any]) -> dict[str, Any] | None:
    """The cell of a repository on GitHub; None without one."""
    url = str(repository.get("url") or "").rstrip("/")
    if not url.startswith("https://github.com/"):
        return None
    branch = repository.get("branch") or "main"
    raw = f"{url.replace('https://github.com/', 'https://raw.githubusercontent.com/')}/{branch}"
    source = CODE.format(raw=raw, url=url, branch=branch).rstrip().splitlines(keepends=True)
    metadata = {"tags": ["remove-cell"]}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": ID,
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def with_cell(notebook: dict[str, Any], cell: dict[str, Any] | None) -> dict[str, Any]:
    """The notebook with this cell, and no other of its kind, below its title."""
    cells = [each for each in notebook["cells"] if each.get("id") != ID]
    return {**notebook, "cells": [*cells[:1], *([cell] if cell else []), *cells[1:]]}


def main(root: Path = ROOT) -> None:
    """Write the notebooks."""
    cell = colab_cell(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("repository") or {})
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(with_cell(notebook, cell), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name}: {'installs on Colab' if cell else 'no cell for Colab'}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
