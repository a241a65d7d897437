"""Draw the rooms of the package, what is in them and how much each imports of those above: `make house`."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "widgets" / "frostline"
PICTURE = HERE / "images" / "house.svg"
GROUND = "ground"
ROOMS = (
    *(GROUND, "cells", "encoder", "pretraining", "strategies", "settings", "evaluation", "comparison"),
    *("annotation", "artifacts", "publishing", "cluster", "sweeps", "panels", "book", "cli"),
)
"""From the ground up, as in tests/doors/test_package.py."""
ALONE = {"settings": "parameters of a run"}
WIDTH, LINE = 56, 0.155  # characters of a line of module names, and its height in inches


def room_of(module: str) -> str:
    """Name of the room that a module is in."""
    top = module.split(".")[0]
    return top if top in ROOMS else GROUND


def modules() -> dict[str, Path]:
    """Dotted names below the package, without those of the rooms themselves, and their files."""
    paths = sorted(PACKAGE.rglob("*.py"))
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}
    return {name: path for name, path in names.items() if not name.endswith("__init__")}


def imports() -> Counter[tuple[str, str]]:
    """How many modules of a room import something of another room, by pair."""
    found: Counter[tuple[str, str]] = Counter()
    for name, path in modules().items():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        dotted = {
            f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        inner = [each.removeprefix("frostline.") for each in dotted if each.startswith("frostline.")]
        found.update({(room_of(name), room_of(module)) for module in inner})
    return found


def draw(path: Path) -> None:
    """Write the picture."""
    counts, n = imports(), len(ROOMS)
    inside: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name in modules():
        inside[room_of(name)].append(name.rpartition(".")[2])
    texts = {room: [ALONE[room]] if room in ALONE else textwrap.wrap(", ".join(inside[room]), WIDTH) for room in ROOMS}
    heights = np.array([len(texts[room]) + 1 for room in ROOMS])
    tops = heights.sum() - np.cumsum(heights) + heights
    middles = tops - heights / 2
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "frostline", "font.size": 10})
    size = (9, 1.8 + LINE * heights.sum())
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(4, 2.7), layout="constrained")
    for room, top, height, y in zip(ROOMS, tops, heights, middles, strict=True):
        box = plt.Rectangle((0, top - height + 0.15), 10, height - 0.3, facecolor="#eef3f8", edgecolor="#5b7c99")
        left.add_patch(box)
        left.text(0.15, y, room, va="center", weight="bold", color="#1d3b53")
        left.text(2.3, y, "\n".join(texts[room]), va="center", fontsize=8.2, color="#222222")
        for column, other in enumerate(ROOMS):
            if (room, other) in counts and other != room:
                right.scatter(column, y, s=60 + 12 * counts[room, other], color="#2f6f9f")
                right.text(column, y, str(counts[room, other]), ha="center", va="center", fontsize=7, color="white")
    left.set(xlim=(0, 10), ylim=(0, heights.sum()), title="The rooms, each on those above it")
    left.axis("off")
    right.set(
        xlim=(-0.7, n - 0.3),
        ylim=(0, heights.sum()),
        title="Modules of a room (row) that\nimport from another room (column)",
    )
    right.set_xticks(range(n), ROOMS, rotation=90)
    right.set_yticks(middles, ROOMS)
    right.tick_params(length=0)
    for side in right.spines.values():
        side.set_visible(False)
    right.grid(color="#dddddd", linewidth=0.5)
    right.set_axisbelow(True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(PICTURE)
