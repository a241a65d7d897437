"""How long a reader waits for a CellMap: from its tab to the picture, and from the pointer to the words.

    python tests/benchmarks/cell_map.py [CELLS ...]

In Chromium, on a page without a kernel, two maps of 25 classes at 830 pixels. "Shown" is from the moment that the
tab is opened until the picture is painted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "support"))

from chromium import launch
from playwright.sync_api import sync_playwright
from widget_page import write_page

from frostline.panels import CellMap, mapped

HOVER = """() => {
  const map = document.querySelector('.frostline-map-over'), box = map.getBoundingClientRect(), times = [];
  for (let i = 0; i < 500; i++) {
    const clientX = box.left + box.width * Math.random(), clientY = box.top + box.height * Math.random();
    const start = performance.now();
    map.dispatchEvent(new PointerEvent('pointermove', {clientX, clientY, bubbles: true}));
    map.parentElement.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return [times[250], times[499]];
}"""
SHOWN = """async () => {
  const root = document.querySelector('.frostline-map').parentElement, frame = () => new Promise(requestAnimationFrame);
  root.style.display = 'none';
  await frame();
  await frame();
  const start = performance.now();
  root.style.display = '';
  await frame();
  await frame();
  return performance.now() - start;
}"""
SELECT = """async () => {
  const start = performance.now();
  document.querySelectorAll('.frostline-map-legend button')[0].click();
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


def many(n: int, k: int = 25) -> mapped.Mapped:
    rng = np.random.default_rng(0)
    kinds = rng.integers(k, size=n)
    views = []
    for name in ("left", "right"):
        best, chances = mapped.top_classes(rng.dirichlet(np.ones(k), size=n))
        points = 8 * rng.normal(size=(k, 2))[kinds] + rng.normal(size=(n, 2))
        views.append(mapped.View(name, name, points, best, chances))
    classes = tuple(f"type {i:02d}" for i in range(k))
    names = tuple(f"AAACATACAACC{i:06d}-1" for i in range(n))
    return mapped.Mapped(
        f"{n} cells", names, tuple(views), (mapped.MapColumn("label", "class", classes, kinds),), classes, True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=int, nargs="*", default=[1_000, 20_000, 100_000])
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = launch(playwright)
        for n in parser.parse_args().cells:
            found, shown = many(n), CellMap()
            start = time.perf_counter()
            shown.take(found)
            prepared = time.perf_counter() - start
            address = write_page(shown, Path(place) / str(n))
            page = browser.new_page(viewport={"width": 830, "height": 900})
            page.goto(address.as_uri())
            page.locator(".frostline-map-cells").nth(1).wait_for()
            page.wait_for_timeout(500)
            middle, longest = page.evaluate(HOVER)
            print(
                f"{n:,} cells: prepared in {prepared:.2f} s; {address.stat().st_size / 1e3:,.0f} kB of page; shown in "
                f"{page.evaluate(SHOWN):.0f} ms; hover {middle:.1f} ms, at most {longest:.1f} ms; "
                f"a class selected in {page.evaluate(SELECT):.0f} ms"
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
