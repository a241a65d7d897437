"""The card of JupyterLab's Launcher, and `frostline lab`, in a live JupyterLab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from chromium import launch
from live_lab import run_all_cells
from playwright.sync_api import Browser, Page, expect, sync_playwright

import frostline
from frostline.publishing import labs

CARD = Path(frostline.__file__).parent / "data" / "labextension"
PATIENCE = 100_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []
    page.close()


def test_the_card_opens_a_notebook_with_the_panel_that_finds_a_file_and_gives_a_download(page, lab, tmp_path):
    (lab.notebooks / "study").mkdir()
    frostline.load_dataset("pancreas").adata.write_h5ad(lab.notebooks / "study" / "islets.h5ad")
    page.goto(f"{lab.address}/lab?reset&token={lab.token}")
    card = page.locator(".jp-LauncherCard", has_text=re.compile("^frostline$"))
    expect(card).to_be_visible(timeout=PATIENCE)
    assert card.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    card.click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    run_all_cells(page)
    panel = page.locator(".frostline-annotation-panel")
    panel.wait_for()
    assert (lab.notebooks / "Untitled.ipynb").is_file()
    data = panel.locator(".frostline-data-panel")
    data.get_by_label("Data", exact=True).select_option(label="A file (.h5ad) ...")
    data.get_by_role("button", name="Browse").click()
    for entry in ("study/", "islets.h5ad"):
        listed = data.get_by_label("In it")
        name = listed.locator("option", has_text=re.compile(f"^{re.escape(entry)}")).inner_text()
        listed.select_option(label=name)
        data.get_by_role("button", name="Open").click()
    expect(data.get_by_label("File", exact=True)).to_have_value("study/islets.h5ad")
    expect(data.get_by_text(re.compile(r"^islets: 175 cells x 12,474 genes, labels in cell_type"))).to_be_visible(
        timeout=PATIENCE
    )
    data.get_by_label("Groups").select_option(label="donor (4 values)")
    expect(panel.get_by_text("Held out for the test, by donor:")).to_be_visible(timeout=PATIENCE)
    for box in panel.locator(".frostline-row").get_by_role("checkbox").all():
        box.set_checked("(majority)" in box.locator("xpath=..").inner_text())
    panel.get_by_role("button", name=re.compile(r"\bRun$")).click()
    expect(panel.get_by_text("Done: 4 evaluations")).to_be_visible(timeout=PATIENCE)
    panel.get_by_role("tab", name="Labels").click()
    panel.get_by_label("Labels", exact=True).last.fill("5")
    panel.get_by_role("button", name=re.compile(r"\bMeasure$")).click()
    expect(panel.get_by_text("Done: 4 evaluations.", exact=True).last).to_be_visible(timeout=PATIENCE)
    expect(panel.locator("img[alt^='Macro-F1 against labelled cells']")).to_be_visible(timeout=PATIENCE)
    panel.get_by_role("tab", name="Export").click()
    panel.get_by_role("button", name=re.compile(r"\bExport$")).click()
    with page.expect_download() as download:
        panel.get_by_role("button", name=re.compile(r"\bDownload$")).click()
    assert download.value.suggested_filename == "frostline-results.zip"
    check_zip(Path(download.value.path()), tmp_path)


def check_zip(path: Path, folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    assert frostline.artifacts.check(folder / "frostline-results").passed


class TestNotebooks:
    """What `frostline lab` opens."""

    @pytest.fixture
    def here(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_on_a_file_it_is_one_with_the_panel(self, here):
        frostline.load_dataset("pancreas").adata.write_h5ad(here / "our cells.h5ad")
        path = labs.notebook_for("our cells.h5ad")
        assert path == Path("our cells_frostline.ipynb")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        code = notebook.cells[1].source.rsplit("\n", 1)[0]
        names: dict[str, object] = {}
        exec(code, names)
        panel = names["panel"]
        panel.settle(60)
        assert panel.dataset.label_key == "cell_type"
        panel.close()

    def test_a_notebook_that_is_there_stays_as_it_is(self, here):
        frostline.load_dataset("pancreas").adata.write_h5ad(here / "ours.h5ad")
        (here / "cell_type_annotation.ipynb").write_text("too")
        ours = labs.notebook_for("ours.h5ad")
        ours.write_text(ours.read_text().replace("Run the cell", "Work of weeks"))
        assert labs.notebook_for("ours.h5ad") == ours
        assert "Work of weeks" in ours.read_text()
        assert labs.notebook_for().read_text() == "too"

    def test_a_file_of_the_same_name_gets_a_notebook_of_its_own(self, here, capsys):
        for folder in ("a", "b's", "c\\'\""):
            (here / folder).mkdir()
            frostline.load_dataset("pancreas").adata[:50].write_h5ad(here / folder / "mine.h5ad")
        for _ in range(2):
            assert labs.notebook_for("a/mine.h5ad") == Path("mine_frostline.ipynb")
        assert capsys.readouterr().out == ""
        for source in ("b's/mine.h5ad", here / "b's" / "mine.h5ad"):
            path = labs.notebook_for(source)
            assert path == Path("mine_frostline-1.ipynb")
            assert "b's/mine.h5ad" in nbformat.read(path, as_version=4).cells[1].source
            assert capsys.readouterr().out == (
                f"mine_frostline.ipynb is of another mine.h5ad; the notebook of {source} is mine_frostline-1.ipynb\n"
            )

        for _ in range(2):
            assert labs.notebook_for("c\\'\"/mine.h5ad") == Path("mine_frostline-2.ipynb")

    def test_without_a_file_it_is_the_tutorial(self, here):
        path = labs.notebook_for()
        assert path == Path("cell_type_annotation.ipynb")
        assert nbformat.read(path, as_version=4).cells[0].source.startswith("# ")

    def test_a_file_that_is_none_is_refused_before_jupyterlab_starts(self, here):
        with pytest.raises(frostline.errors.FrostlineError, match=r"there is no file no\.h5ad"):
            labs.notebook_for("no.h5ad")
        assert list(here.iterdir()) == []


def test_the_extension_is_of_the_package_s_version_and_its_script_is_there():
    described = json.loads((CARD / "package.json").read_text())
    assert (described["name"], described["version"]) == ("frostline", frostline.__version__)
    assert (CARD / described["jupyterlab"]["_build"]["load"]).is_file()
