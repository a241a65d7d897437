"""Pictures of the panels for README and book, from a live JupyterLab on data sets that need no network.

All of them, or those of the notebooks that are named: `python tests/screenshots.py annotate`.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from chromium import launch  # noqa: E402
from live_lab import live_lab, run_all_cells  # noqa: E402

IMAGES = ROOT / "book" / "images"
WIDTH = 1280
MOST_BYTES = 250_000
PATIENCE = 600_000
"""Milliseconds."""
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
CELLS = (
    "import frostline",
    """panel = frostline.panels.AnnotationPanel(
    "pbmc68k-reduced", strategies=["majority", "pca_logistic", "frozen_probe", "head"]
)
panel""",
    "panel.settle()\nprint('estimates' + ' made')",
)
ANNOTATE = (
    """import numpy as np

import frostline

pancreas = frostline.load_dataset("pancreas")
is_new = pancreas.groups == "human4"
labelled = pancreas.part(np.flatnonzero(~is_new))
model = frostline.adapt(labelled, strategies=["majority", "pca_logistic"], target=0.9)
donor = pancreas.part(np.flatnonzero(is_new)).adata
del donor.obs["cell_type"]""",
    "panel = frostline.panels.AnnotatePanel(model, donor)\npanel",
    "panel.settle()\nprint('panel' + ' ready')",
)


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook with a panel in it."""
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNELSPEC})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)


def save(locator: Locator, name: str) -> None:
    """Take a picture; refuse one that is too large for a repository."""
    picture = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    path = IMAGES / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size:,} bytes, more than {MOST_BYTES:,}")
    print(f"{size:>9,} bytes  {path.relative_to(ROOT)}  {picture.width} x {picture.height}")


def take(page: Page) -> None:
    """Run the strategies and take the four pictures on the way."""
    run_all_cells(page)
    page.locator(".jp-OutputArea-output", has_text="estimates made").wait_for()
    panel = page.locator(".frostline-annotation-panel")
    panel.scroll_into_view_if_needed()
    save(panel.locator(".frostline-data-panel"), "panel_data")
    panel.get_by_role("button", name="Run").click()
    panel.get_by_text("Done: 4 evaluations").wait_for()
    page.locator("img[alt^='Confidence against accuracy']").wait_for(state="attached")
    page.evaluate("() => document.activeElement.blur()")
    page.mouse.move(2, 2)
    save(panel.locator(".frostline-run-panel"), "panel_run")
    save(panel.locator(".frostline-result-panel"), "panel_results")
    panel.get_by_role("tab", name="Maps").click()
    panel.get_by_role("button", name="Select wrong").click()
    page.mouse.move(2, 2)
    save(panel.locator(".frostline-result-panel"), "panel_maps")


def take_annotate(page: Page) -> None:
    """Label the cells of a donor and take a picture of their map."""
    run_all_cells(page)
    page.locator(".jp-OutputArea-output", has_text="panel ready").wait_for()
    panel = page.locator(".frostline-annotate-panel")
    panel.get_by_role("button", name="Annotate").click()
    panel.get_by_text("Done: 23 cells").wait_for()
    panel.get_by_role("tab", name="Map").click()
    panel.get_by_role("application").first.wait_for()
    page.evaluate("() => document.activeElement.blur()")
    page.mouse.move(2, 2)
    save(panel, "panel_annotate")


NOTEBOOKS: dict[str, tuple[Sequence[str], Callable[[Page], None]]] = {
    "panels": (CELLS, take),
    "annotate": (ANNOTATE, take_annotate),
}


def main(names: Sequence[str]) -> None:
    """Write book/images, those of some notebooks or of all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"):
            os.environ[f"JUPYTER_{kind}"] = str(folder / kind.lower())
        os.environ["IPYTHONDIR"] = str(folder / "ipython")
        os.environ["FROSTLINE_CACHE"] = str(folder / "cache")  # where no earlier run could be taken over from
        (folder / "notebooks").mkdir()
        for name in names or NOTEBOOKS:
            write_notebook(folder / "notebooks" / f"{name}.ipynb", NOTEBOOKS[name][0])
        with live_lab(folder / "notebooks", folder / "lab") as lab, sync_playwright() as playwright:
            browser = launch(playwright)
            for name in names or NOTEBOOKS:
                page = browser.new_page(viewport={"width": WIDTH, "height": 2400}, reduced_motion="reduce")
                page.set_default_timeout(PATIENCE)
                lab.open(page, f"{name}.ipynb")
                page.keyboard.press("Control+b")  # without the file browser
                NOTEBOOKS[name][1](page)
                page.close()
            browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
