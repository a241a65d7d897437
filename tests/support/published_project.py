"""Small projects with one published tutorial, made by hand, for the tests of the book."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from frostline.publishing import inputs
from frostline.publishing.run_manifests import seal

ROOT = Path(__file__).resolve().parents[2]
NAME = "cell_type_annotation"
UNRUN = "never_run"
"""Declared in the copied book, and never run."""
BUILD = ["build", "book", "--config", "_config.yml", "--path-output", "build/site"]
STRICT = ["-W", "-n", "--keep-going", "--all"]
SOURCE = f"notebooks/{NAME}.ipynb"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def markdown_cell(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "title", "metadata": {}, "source": text.splitlines(True)}


def code_cell(text: str, *outputs: dict[str, Any], count: int | None = 1) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"cell-{count}",
        "metadata": {},
        "execution_count": count,
        "outputs": list(outputs),
        "source": text.splitlines(True),
    }


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}


def executed_notebook() -> dict[str, Any]:
    """A notebook as it looks after a run without problems."""
    return {
        "cells": [
            markdown_cell("# Four ways to name a cell\n\nWho it is for."),
            code_cell("print('done')", stream("done\n")),
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "version": "3.11.7"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def png(width: int = 2, height: int = 2) -> bytes:
    """A valid PNG without a library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(range(width)) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_artifacts(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "report.md").write_text("# Report\n\nNo page of the book.\n")
    (folder / "report.csv").write_text("strategy,accuracy\npca_logistic,0.5\n")
    (folder / "frozen_embedding_umap.png").write_bytes(png())
    (folder / "manifest.json").write_text('{"seed": 42}')


def manifest_of(root: Path, name: str = NAME) -> dict[str, Any]:
    """The manifest of the run that left its files under `root`."""
    source = f"notebooks/{name}.ipynb"
    published = root / "book" / "published"
    files = sorted(p for p in (published / name).rglob("*") if p.is_file())
    manifest = {
        "tutorial": name,
        "source_notebook": source,
        "source_sha256": sha256(root / source),
        "executed_sha256": sha256(published / f"{name}.ipynb"),
        "mode": "static executed tutorial",
        "profile": "quickstart",
        "parameters": {"PROFILE": "quickstart", "SEED": 42},
        "dataset": "pbmc68k-reduced",
        "checkpoint": "mini",
        "seed": 42,
        "started": "2026-11-22T10:10:00+00:00",
        "ended": "2026-11-22T10:11:01+00:00",
        "seconds": 61.2,
        "artifact_check": {"result": "passed", "files": len(files), "numbers": 24},
        "artifacts": {p.relative_to(published / name).as_posix(): sha256(p) for p in files},
        "versions": {"python": "3.11.7", "frostline": "0.1.0", "torch": "2.13.0", "scanpy": "1.11.5"},
        "inputs": inputs.inputs_of({"PROFILE": "quickstart", "SEED": 42}, root),
    }
    return manifest | {"manifest_sha256": seal(manifest)}


def write_manifest(root: Path, manifest: dict[str, Any] | None = None, name: str = NAME) -> None:
    target = root / "book" / "published" / f"{name}.run.json"
    target.write_text(json.dumps(manifest or manifest_of(root, name), indent=1))


def publish(root: Path, executed: bytes, source: bytes, name: str = NAME) -> None:
    """Write a published tutorial with its artifacts and manifest under `root`."""
    published = root / "book" / "published"
    write_artifacts(published / name)
    (root / "notebooks").mkdir(exist_ok=True)
    (root / "notebooks" / f"{name}.ipynb").write_bytes(source)
    (published / f"{name}.ipynb").write_bytes(executed)
    write_manifest(root, name=name)


def build_book(root: Path, *, release: bool = False) -> subprocess.CompletedProcess[str]:
    """Call Jupyter Book as the Makefile does; its messages are in `stdout`."""
    program = Path(sys.executable).with_name("jupyter-book")
    environment = {**os.environ, "FROSTLINE_RELEASE": str(int(release))}
    return subprocess.run(
        [program, *BUILD, *STRICT],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def copy_book(root: Path) -> None:
    """Copy the book without its generated part, and stand-ins for the files that it includes."""
    ignored = shutil.ignore_patterns("published", "__pycache__")
    shutil.copytree(ROOT / "book", root / "book", ignore=ignored)
    shutil.copy(ROOT / "_config.yml", root)
    toc = root / "book" / "_toc.yml"
    line = f"      - file: published/{NAME}\n"
    others = re.sub(r" +- file: published/.*\n", "", toc.read_text().replace(line, "@"))
    toc.write_text(others.replace("@", line + line.replace(NAME, UNRUN)))
    stand_ins = {
        "CHANGELOG.md": "# Changelog\n\n## Unreleased\n",
        "widgets/frostline/data/mini/MODEL_CARD.md": "# Model card of mini\n\n## Corpus\n\nCells.\n",
    }
    for file, text in stand_ins.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        there = (ROOT / file).is_file()
        (root / file).write_text((ROOT / file).read_text(encoding="utf-8") if there else text)
