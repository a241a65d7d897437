"""The panels in a live JupyterLab, used as a person would: with the mouse, the keyboard, and at two widths."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from chromium import launch
from live_lab import Lab, run_all_cells
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

SECONDS = 1_000
"""Playwright counts in milliseconds."""
PATIENCE = 100 * SECONDS
"""Much longer than anything here takes on a quiet machine."""
LEAST_CONTRAST = 4.5
"""Of text, as WCAG AA asks for."""
PANEL, REPORT, BAD_LABEL = 1, 2, 3
"""Code cells of the small notebook."""

CELLS = """
import gc, os, threading, time, frostline, ipywidgets
from frostline.strategies import GenesLogistic, PcaKnn

cells = frostline.load_dataset("cells.h5ad", "bulk_labels")

def hold(kind, fit):
    def held(self, dataset, split, monitor=None):
        while monitor is not None and os.path.exists("held"):
            monitor.step(0.0, "held")
            time.sleep(0.02)
        return fit(self, dataset, split, monitor)
    kind.fit = held

for kind in (GenesLogistic, PcaKnn):
    hold(kind, kind.fit)
"""
"""Few cells, and two strategies whose fits wait as long as there is a file `held`."""

CONTRASTS = """panel => {
  const parse = text => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith('color') ? 255 : 1;
    return [...numbers.slice(0, 3).map(n => n * scale), numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (front, back) => [0, 1, 2].map(i => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255, 1]);
  };
  const luminance = colour => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const c = colour[i] / 255;
    return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const found = new Map();
  const measure = (element, text) => {
    if (!element.checkVisibility() || element.closest(':disabled, style, svg')) return;
    const back = behind(element), front = over(parse(getComputedStyle(element).color), back);
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    found.set(text, (light + 0.05) / (dark + 0.05));
  };
  const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (text && element.localName !== 'option') measure(element, text);
  }
  panel.querySelectorAll('select, input:not([type=checkbox])').forEach(e => measure(e, `${e.localName} ${e.value}`));
  return [...found];
}"""
"""Every visible text of the panel and its contrast with what is behind it; controls out of use aside."""

NAMELESS = """panel => [...panel.querySelectorAll('button, input, select, textarea, summary, [role=tab], img, svg')]
  .filter(e => e.checkVisibility())
  .filter(e => ![e.getAttribute('aria-label'), e.alt, e.textContent && e.localName !== 'select' ? e.textContent : '',
                 ...[...(e.labels || [])].map(label => label.textContent)].some(text => text && text.trim()))
  .map(e => e.outerHTML.slice(0, 200))"""
"""Visible controls and pictures that a screen reader cannot name; what a tooltip says does not count."""

STILL = """panel => new Promise(done => {
  const wait = () => { clearTimeout(wait.timer); wait.timer = setTimeout(() => { seen.disconnect(); done(); }, 500); };
  const seen = new MutationObserver(wait);
  seen.observe(panel, {subtree: true, childList: true, attributes: true, characterData: true});
  wait();
})"""
"""Ends when nothing in the panel has changed for half a second: what is worked out moves what is below it."""


class Session(NamedTuple):
    """An open notebook, and what went wrong or left the machine meanwhile."""

    page: Page
    errors: list[str]
    requests: list[str]
    origin: str

    @property
    def panel(self) -> Locator:
        return self.page.locator(".frostline-annotation-panel")

    def check_quiet(self) -> None:
        """Nothing was said in the browser's console, and nothing asked of another host."""
        assert self.errors == [], "\n".join(self.errors)
        own = (self.origin, self.origin.replace("http", "ws", 1), "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(own)] == []


@pytest.fixture(scope="module")
def notebook_folder(root, three_kinds, small_checkpoint, write_notebook, lab) -> Path:
    """Folder with a copy of the tutorial whose parameters ask for a run of seconds, and with a small notebook."""
    folder = lab.notebooks / "work"
    folder.mkdir()
    three_kinds.adata.write_h5ad(folder / "cells.h5ad")
    source = nbformat.read(root / "notebooks" / "cell_type_annotation.ipynb", 4)
    (parameters,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source += f"\nSTRATEGIES = ['pca_logistic', 'frozen_probe']\nCHECKPOINT = {str(small_checkpoint)!r}"
    nbformat.write(source, folder / "tutorial.ipynb")
    write_notebook(
        folder / "small.ipynb",
        CELLS,
        "panel = frostline.panels.AnnotationPanel(cells, strategies=['majority', 'pca_logistic'],"
        f" checkpoint={str(small_checkpoint)!r})\npanel",
        "if panel.state != 'running':\n    panel.settle()\ngc.collect()\n"
        "threads = [t.name for t in threading.enumerate() if t.name.startswith('frostline')]\n"
        "print(f'the panel is {panel.state}; threads {threads};',"
        " f'{len(ipywidgets.widgets.widget._instances)} widgets')",
        "frostline.panels.DataPanel('pbmc68k-reduced', label_key='no_such_column')",
    )
    write_notebook(
        folder / "waits.ipynb",
        CELLS,
        "panel = frostline.panels.AnnotationPanel(cells, strategies=['majority', 'pca_knn'],"
        f" checkpoint={str(small_checkpoint)!r})\ndisplay(panel)\npanel.settle()\npanel.run(wait=True)",
    )
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, lab: Lab, notebook: str) -> Iterator[Session]:
    """Open a notebook in a window of its own and run all its cells."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
    errors, requests = [], []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    lab.open(page, f"work/{notebook}")
    run_all_cells(page)
    yield Session(page, errors, requests, lab.address)
    context.close()


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE)
    yield
    expect.set_options(timeout=5 * SECONDS)


@pytest.fixture(scope="module")
def small(browser, lab, notebook_folder) -> Iterator[Session]:
    """The small notebook; tests leave its panel idle, with the strategies ticked that were ticked."""
    with opened(browser, lab, "small.ipynb") as session:
        wait_until_ready(session)
        yield session


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """No fit of those strategies ends in this block, unless it removes the file."""
    (folder / "held").touch()
    try:
        yield
    finally:
        (folder / "held").unlink(missing_ok=True)


def wait_until_ready(session: Session) -> None:
    """The last cell but one waits for the panel: estimates are made, and nothing will move any more."""
    expect(output(session, REPORT)).to_have_text(re.compile(r"the panel is \w+; threads .*; \d+ widgets"))


def output(session: Session, cell: int) -> Locator:
    """What a code cell of the small notebook printed or shows."""
    return session.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")


def run_cell(session: Session, cell: int) -> None:
    """Press Ctrl+Enter in a cell and wait until it has a number again."""
    cells = session.page.locator(".jp-CodeCell")
    prompt = cells.nth(cell).locator(".jp-InputArea-prompt")
    before = prompt.inner_text()
    cells.nth(cell).locator(".cm-content").click()
    session.page.keyboard.press("Control+Enter")
    expect(prompt).to_have_text(re.compile(rf"^(?!{re.escape(before)}$)\[\d+\]:$"))


def make_again(session: Session) -> None:
    """Leave the panel as it was before: the one that goes has settled, and so has the one that comes."""
    for cell in (REPORT, PANEL, REPORT):
        run_cell(session, cell)


def box(panel: Locator, strategy: str) -> Locator:
    return panel.get_by_role("checkbox", name=f"({strategy})")


def row(panel: Locator, strategy: str) -> Locator:
    """Row of a strategy in the list of what can be run."""
    return panel.locator(".frostline-row", has_text=f"({strategy})")


def button(panel: Locator, name: str) -> Locator:
    return panel.get_by_role("button", name=re.compile(rf"\b{name}$"))  # an icon's letter may come before it


def said(panel: Locator) -> Locator:
    """Status line of the run."""
    return panel.locator(".frostline-run-panel").get_by_role("status").last


def leaderboard(panel: Locator) -> Locator:
    return panel.locator("table.frostline-leaderboard tbody tr")


def choose(panel: Locator, label: str, option: str) -> None:
    """Choose the option of a list that begins with some words."""
    control = panel.get_by_label(label, exact=True)
    control.select_option(label=control.locator("option", has_text=re.compile(f"^{option}")).first.inner_text())


def test_first_time_path(browser, lab, notebook_folder):
    with opened(browser, lab, "tutorial.ipynb") as session:
        page, panel = session.page, session.panel
        page.locator(".jp-OutputArea-output", has_text="bytes  manifest.json").wait_for()
        for kind in ("error", "stderr"):
            expect(page.locator(f".jp-Notebook [data-mime-type='application/vnd.jupyter.{kind}']")).to_have_count(0)
        assert (notebook_folder / "artifacts" / "scgpt_cell_type_annotation" / "manifest.json").is_file()
        check_the_finished_run(panel)
        check_stale_marks(panel)
        check_cancel_and_run_again(panel)
        check_tabs_and_figures(panel)
        check_cells_below(session, notebook_folder)
        check_export(panel, notebook_folder / "my-results")
        session.check_quiet()


def check_the_finished_run(panel: Locator) -> None:
    expect(panel).to_have_count(1)
    expect(said(panel)).to_have_text(re.compile("^Done: 2 evaluations"))
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(panel.locator(".frostline-stale")).to_have_count(0)
    expect(leaderboard(panel)).to_have_count(2)
    expect(panel.get_by_label("Profile")).to_have_value("quickstart")
    expect(panel.get_by_label("Seed")).to_have_value("42")
    expect(panel.get_by_label("Groups")).to_have_value("none")
    for strategy, ticked in (("pca_logistic", True), ("frozen_probe", True), ("head", False), ("lora", False)):
        expect(box(panel, strategy)).to_be_checked(checked=ticked)


def check_stale_marks(panel: Locator) -> None:
    data, banner = panel.locator(".frostline-data-panel"), panel.locator(".frostline-stale[role=status]")
    box(panel, "frozen_probe").uncheck()
    expect(said(panel)).to_have_text(re.compile("^Changed since the results below: strategies"))
    expect(banner).to_contain_text("earlier settings. Changed since: strategies.")
    expect(data.get_by_role("cell", name="Dendritic")).to_have_count(1)
    choose(data, "Labels", "louvain")
    expect(data.get_by_role("cell", name="Dendritic")).to_have_count(0)
    expect(data.get_by_role("table", name="Cells per class").get_by_role("row")).to_have_count(11)
    expect(banner).to_contain_text("labels")
    expect(leaderboard(panel)).to_have_count(2)


def check_cancel_and_run_again(panel: Locator) -> None:
    panel.evaluate(STILL)
    box(panel, "lora").check()
    expect(button(panel, "Cancel")).to_be_disabled()
    button(panel, "Run").click()
    expect(row(panel, "lora").locator(".progress-bar")).to_be_visible()
    expect(row(panel, "lora")).to_contain_text("running")
    expect(button(panel, "Run")).to_be_disabled()
    expect(panel.get_by_label("Seed")).to_be_disabled()
    button(panel, "Cancel").click()
    expect(said(panel)).to_have_text("Cancelled; 1 finished evaluation(s) kept.")
    expect(leaderboard(panel)).to_have_count(1)
    expect(panel.locator(".frostline-stale")).to_have_count(0)
    expect(panel.locator(".frostline-partial")).to_contain_text("lora")
    expect(button(panel, "Run")).to_be_enabled()
    box(panel, "lora").uncheck()
    box(panel, "frozen_probe").check()
    button(panel, "Run").click()
    expect(said(panel)).to_have_text(re.compile("^Done: 2 evaluations"))
    expect(leaderboard(panel)).to_have_count(2)
    expect(row(panel, "lora").locator(".progress-bar")).to_be_hidden()


def check_cells_below(session: Session, folder: Path) -> None:
    """They show what the panel ran last: by now with other labels than the notebook's."""
    for cell, said_of in (("ran.caption", "labels in louvain"), ("artifacts.save(", "passed:")):
        code = session.page.locator(".jp-CodeCell", has_text=cell)
        code.locator(".cm-content").click()
        session.page.keyboard.press("Control+Enter")
        expect(code.locator(".jp-OutputArea")).to_contain_text(said_of)
    saved = folder / "artifacts" / "scgpt_cell_type_annotation" / "manifest.json"
    session.page.wait_for_timeout(200)
    for _ in range(600):
        if json.loads(saved.read_text())["parameters"]["label_key"] == "louvain":
            return
        session.page.wait_for_timeout(100)
    raise AssertionError(saved.read_text()[:1000])


def check_tabs_and_figures(panel: Locator) -> None:
    panel.get_by_role("tab", name="Maps").click()
    maps = panel.locator(".frostline-map")
    expect(maps.get_by_role("application")).to_have_count(2)
    maps.get_by_label("Colour by").select_option("correct")
    maps.get_by_role("button", name=re.compile(r"^Select wrong \(\d+\)$")).click()
    expect(maps.get_by_role("status")).to_have_text(re.compile(r"^\d+ cells? of \d+ selected$"))
    panel.get_by_role("tab", name="Confusion").click()
    matrix = panel.locator("img[alt^='Confusion matrix']")
    expect(matrix).to_have_attribute("alt", re.compile("in cells$"))
    choose(panel, "Numbers", "percent")
    expect(matrix).to_have_attribute("alt", re.compile("in percent of the true class$"))
    for name, text in (
        ("Classes", "F1 by class, mean over repeats"),
        ("Costs", "Peak memory (MB)"),
        ("Labels", "Not measured in this comparison"),
    ):
        panel.get_by_role("tab", name=name).click()
        expect(panel.locator(".frostline-result-panel").get_by_text(text)).to_be_visible()


def check_export(panel: Locator, folder: Path) -> None:
    panel.get_by_role("tab", name="Export").click()
    panel.get_by_label("Folder").fill(folder.name)
    button(panel, "Export").click()
    expect(panel.get_by_role("status").filter(has_text=re.compile(r"passed: \d+ files opened"))).to_be_visible()
    assert (folder / "manifest.json").is_file()


def test_cell_that_waits_can_be_interrupted_and_all_cells_run_again(browser, lab, notebook_folder):
    with held(notebook_folder), opened(browser, lab, "waits.ipynb") as session:
        page, panel = session.page, session.panel
        expect(row(panel, "pca_knn")).to_contain_text("running")  # no other test has finished it
        expect(button(panel, "Cancel")).to_be_disabled()
        hint = panel.locator(".frostline-note", has_text="interrupt the kernel: the square")
        expect(hint).to_be_visible()
        page.get_by_role("button", name=re.compile("^Interrupt the kernel")).click()
        expect(said(panel)).to_have_text("Cancelled; 1 finished evaluation(s) kept.")
        expect(hint).to_be_hidden()
        (notebook_folder / "held").unlink()
        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Restart Kernel and Run All Cells")).click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        expect(said(panel)).to_have_text("Done: 2 evaluations, 1 of them taken over from an earlier run.")
        expect(leaderboard(panel)).to_have_count(2)


def test_what_is_wrong_is_said_in_plain_words(small):
    panel, run = small.panel, small.panel.locator(".frostline-run-panel")
    checkpoint = panel.get_by_label("Checkpoint")
    before = checkpoint.input_value()
    checkpoint.fill("no/such/folder")
    checkpoint.press("Tab")
    expect(run.get_by_role("alert")).to_contain_text("no/such/folder")
    expect(run.get_by_role("alert").locator("details")).not_to_have_attribute("open", "")
    checkpoint.fill(before)
    checkpoint.press("Tab")
    expect(run.get_by_role("alert")).to_have_count(0)
    wrong = output(small, BAD_LABEL).get_by_role("alert")
    expect(wrong).to_contain_text("no_such_column")
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_kernel_is_free_while_a_run_is_under_way(small, notebook_folder):
    panel = small.panel
    box(panel, "genes_logistic").check()  # no other test has finished it, so nothing is taken over
    with held(notebook_folder):
        button(panel, "Run").click()
        expect(row(panel, "genes_logistic")).to_contain_text("running")
        run_cell(small, REPORT)
        expect(output(small, REPORT)).to_contain_text("the panel is running")
        button(panel, "Cancel").click()
    expect(said(panel)).to_have_text(re.compile("^Cancelled"))
    make_again(small)


def test_cell_that_is_run_again_leaves_one_panel(small):
    said_then = []
    for _ in range(3):
        run_cell(small, PANEL)
        run_cell(small, REPORT)
        wait_until_ready(small)
        said_then.append(output(small, REPORT).inner_text())
    assert "the panel is idle; threads []" in said_then[0]
    assert said_then[1:] == said_then[:1] * 2
    expect(small.panel).to_have_count(1)


def test_run_is_reached_and_pressed_with_the_keyboard(small):
    panel = small.panel
    panel.get_by_label("Seed").focus()
    for _ in range(60):
        small.page.keyboard.press("Tab")
        if button(panel, "Run").evaluate("button => button === document.activeElement"):
            break
    expect(button(panel, "Run")).to_be_focused()
    assert button(panel, "Run").evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    small.page.keyboard.press("Enter")
    expect(said(panel)).to_have_text(re.compile("^Done: 2 evaluations"))
    make_again(small)


def test_controls_have_names_and_nothing_overflows(small):
    panel = small.panel
    try:
        for width in (1280, 800):
            small.page.set_viewport_size({"width": width, "height": 1000})
            for tab in ("Confidence", "Maps", "Costs", "Export", "Verdict"):
                panel.get_by_role("tab", name=tab).click()
                assert panel.evaluate(NAMELESS) == []
                check_width(panel)
    finally:
        small.page.set_viewport_size({"width": 1280, "height": 1000})


def check_width(panel: Locator) -> None:
    """The panel, which hides what sticks out, has nothing to hide; wide tables scroll in boxes of their own."""
    sticking_out = """panel => [panel, ...panel.querySelectorAll('.frostline-panel')]
        .map(e => [e.className, e.scrollWidth - e.clientWidth]).filter(([_, by]) => by > 1)"""
    assert panel.evaluate(sticking_out) == []


def test_no_error_in_the_browser_and_no_request_to_another_host(small):
    small.check_quiet()


def test_texts_stand_out_in_the_light_theme(small):
    check_contrast(small)
    make_again(small)


def test_texts_stand_out_in_the_dark_theme(small):
    choose_theme(small.page, "JupyterLab Dark", light="false")
    try:
        check_contrast(small)
    finally:
        choose_theme(small.page, "JupyterLab Light", light="true")
    small.check_quiet()
    make_again(small)


def choose_theme(page: Page, name: str, *, light: str) -> None:
    """Choose a theme from the menu and wait for it."""
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    for item in ("Theme", name):
        page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{item}$")).click()
    page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)


def check_contrast(session: Session) -> None:
    """Of results that are out of date, tab by tab, and of an alert."""
    panel = session.panel
    button(panel, "Run").click()
    expect(said(panel)).to_have_text(re.compile("^Done: 2 evaluations"))
    box(panel, "majority").uncheck()
    expect(panel.locator(".frostline-stale")).to_be_visible()
    for tab in ("Verdict", "Classes", "Checks", "Export"):
        panel.get_by_role("tab", name=tab).click()
        found = panel.evaluate(CONTRASTS)
        assert len(found) > 60
        assert too_faint(found) == []
    expect(output(session, BAD_LABEL).get_by_role("alert")).to_be_visible()
    assert too_faint(output(session, BAD_LABEL).evaluate(CONTRASTS)) == []


def too_faint(found: list[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(text, round(ratio, 2)) for text, ratio in found if ratio < LEAST_CONTRAST]
