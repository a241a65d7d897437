"""CellMap in Chromium, on a page from a folder, without a kernel and without a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from chromium import launch
from hostile import NAME as HOSTILE
from playwright.sync_api import Browser, Page, expect, sync_playwright
from widget_page import write_page

import frostline
from frostline.evaluation.islands import islands_of
from frostline.panels import CellMap

pytestmark = pytest.mark.slow

N = 24
CORNERS = np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 10.0]])
"""Middle of each class on the map."""


@pytest.fixture(scope="module")
def comparison(make_record):
    """Three classes of eight cells; the first strategy errs on cell 0, the second on 0 (otherwise) and 9."""
    classes = ("B cell", HOSTILE, "T cell")
    kinds = np.repeat(np.arange(3), 8)
    rng = np.random.default_rng(0)
    records = []
    for name, wrong in (("pca_logistic", {0: 1}), ("head", {0: 2, 9: 2})):
        predicted = kinds.copy()
        for cell, kind in wrong.items():
            predicted[cell] = kind
        probabilities = np.full((N, 3), 0.1)
        probabilities[np.arange(N), predicted] = 0.8
        records.append(
            make_record(
                name, n=N, classes=classes, cells=tuple(f"cell {i}" for i in range(N)),
                labels=tuple(classes[kind] for kind in kinds), probabilities=probabilities,
                umap=CORNERS[kinds] + rng.normal(0, 0.4, (N, 2)), validation_cells=(), validation_labels=(),
                validation_probabilities=None,
            )
        )  # fmt: skip
    return frostline.compare(records)


@pytest.fixture(scope="module")
def address(comparison, tmp_path_factory) -> str:
    shown = CellMap(comparison, "pca_logistic", "head")
    page = write_page(shown, tmp_path_factory.mktemp("page"))
    shown.close()
    return page.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """The page with the network cut; nothing may go wrong on it."""
    context = browser.new_context(viewport={"width": 830, "height": 1000}, offline=True)
    errors: list[str] = []
    context.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else errors.append(r.url))
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.locator(".frostline-map-cells").nth(1).wait_for()
    yield page
    assert errors == []
    assert page.evaluate("window.pwned ?? null") is None
    context.close()


def at(page: Page, x: float, y: float, number: int = 0) -> tuple[float, float]:
    """Point of the window of a part of the width and height of a map."""
    box = page.get_by_role("application").nth(number).bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def at_cell(page: Page, comparison, cell: int, *, narrow: bool = True) -> tuple[float, float]:
    """Point of the window where the first map draws a cell."""
    places = comparison.of("pca_logistic")[0].umap
    places = islands_of(places).nearer(places) if narrow else places
    x, y = ((places - places.min(axis=0)) / np.ptp(places, axis=0))[cell]
    box = page.get_by_role("application").first.bounding_box()
    return box["x"] + 14 + x * (box["width"] - 28), box["y"] + 14 + (1 - y) * (box["height"] - 28)


def said(page: Page):
    return page.locator(".frostline-map-said")


def test_pointing_names_the_cell_its_classes_and_probabilities(page, comparison):
    page.mouse.move(*at(page, 0.5, 0.5))
    tip = page.locator(".frostline-map-tip")
    page.mouse.move(*at_cell(page, comparison, 7))
    expect(tip).to_contain_text("cell 7")
    expect(tip).to_contain_text("true class: B cell")
    expect(tip).to_contain_text("right: B cell 0.80")
    page.mouse.move(*at(page, 0.5, 0.5))
    expect(tip).to_be_hidden()


def test_a_lasso_selects_in_both_maps_and_lists_the_wrong_first(page):
    page.mouse.move(*at(page, 0.02, 0.6))
    page.mouse.down()
    for corner in ((0.5, 0.6), (0.5, 0.99), (0.02, 0.99)):
        page.mouse.move(*at(page, *corner), steps=4)
    page.mouse.up()
    expect(said(page)).to_have_text("8 cells of 24 selected")
    first = page.locator(".frostline-map table").first.locator("tbody tr").first
    expect(first.get_by_role("rowheader")).to_have_text("cell 0")
    assert [part.split() for part in first.locator("td").all_inner_texts()][-1] == ["✗", "T", "cell", "0.80"]


def test_buttons_select_what_is_wrong_and_what_differs_and_nothing(page):
    page.get_by_role("button", name="Select wrong (2)").click()
    expect(said(page)).to_have_text("2 cells of 24 selected")
    page.get_by_role("button", name="Clear").click()
    expect(said(page)).to_have_text("24 cells; none selected")
    page.get_by_role("button", name="Select where they differ (2)").click()
    assert page.locator(".frostline-map tbody th").all_inner_texts()[:2] == ["cell 0", "cell 9"]


def test_the_keyboard_goes_from_cell_to_cell_and_selects(page):
    page.get_by_role("application").first.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    live = page.locator("[aria-live=polite]")
    expect(live).to_contain_text("not selected")
    page.keyboard.press("Space")
    expect(said(page)).to_have_text("1 cell of 24 selected")
    page.keyboard.press("Escape")
    expect(said(page)).to_have_text("24 cells; none selected")
    page.keyboard.press("Control+a")
    expect(said(page)).to_have_text("24 cells of 24 selected")


def test_the_keyboard_goes_on_from_the_maps_along_the_legend_to_the_table(page):
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    page.get_by_role("application").nth(1).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.evaluate(focused) == "Select T cell"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("8 cells of 24 selected")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Selected cells"
    expect(page.get_by_role("region", name="Selected cells").get_by_role("row")).to_have_count(9)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == "Select T cell"
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("application").nth(1).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "The maps in numbers"  # an empty table is no stop


def test_a_name_of_the_legend_selects_its_cells_and_stays_text(page):
    shown = page.locator(".frostline-map-legend button").first
    assert "<img" in shown.get_attribute("title")
    shown.click()
    expect(said(page)).to_have_text("8 cells of 24 selected")
    assert page.locator(".frostline-map img").count() == 0


def test_colours_follow_the_list_and_the_picture_changes(page):
    picture = "document.querySelector('.frostline-map-cells').toDataURL()"
    before = page.evaluate(picture)
    page.get_by_label("Colour by").select_option("correct")
    expect(page.locator(".frostline-map-legend")).to_contain_text("wrong")
    assert page.evaluate(picture) != before


def test_zoom_and_the_whole_map(page):
    picture = "document.querySelector('.frostline-map-cells').toDataURL()"
    before = page.evaluate(picture)
    page.get_by_role("button", name="+", exact=True).click()
    page.wait_for_function(f"before => {picture} !== before", arg=before)
    page.get_by_role("button", name="Whole").click()
    page.wait_for_function(f"before => {picture} === before", arg=before)


def test_wide_gaps_are_narrow_until_a_reader_wants_them_as_computed(page, comparison):
    picture = "document.querySelector('.frostline-map-cells').toDataURL()"
    button, tip = page.get_by_role("button", name="Narrow gaps"), page.locator(".frostline-map-tip")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("p.frostline-map-note").first).to_contain_text("drawn narrower")
    before = page.evaluate(picture)
    page.mouse.move(*at_cell(page, comparison, 20))
    expect(tip).to_contain_text("cell 20")
    button.click()
    assert page.evaluate(picture) != before
    page.mouse.move(*at_cell(page, comparison, 20))
    expect(tip).to_be_hidden()
    page.mouse.move(*at_cell(page, comparison, 20, narrow=False))
    expect(tip).to_contain_text("cell 20")
    button.click()
    assert page.evaluate(picture) == before


def test_the_ground_follows_the_page(page):
    corner = "[...document.querySelector('.frostline-map-cells').getContext('2d').getImageData(1, 1, 1, 1).data]"
    assert page.evaluate(corner) == [255, 255, 255, 255]
    page.evaluate("document.documentElement.classList.add('dark')")
    page.wait_for_function(f"{corner}[0] === 20")


def test_the_maps_stand_below_each_other_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    left, right = (page.get_by_role("application").nth(i).bounding_box() for i in (0, 1))
    assert right["y"] > left["y"] + left["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_numbers_are_a_table(page):
    page.get_by_text("The maps in numbers").click()
    rows = page.locator(".frostline-map details table tbody tr").all_inner_texts()
    assert [row.split()[-3:] for row in rows] == [["8", "8", "7"], ["8", "7", "7"], ["8", "8", "8"]]
