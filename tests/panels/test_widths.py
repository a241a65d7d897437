"""Tables of the results fit a panel of 830 pixels, with the longest numbers that they have."""

from __future__ import annotations

import pytest
from chromium import launch
from playwright.sync_api import sync_playwright

import frostline
from frostline.panels import ResultPanel
from frostline.panels.base import STYLE

WIDTH = 830
PAGE = """<body style="font: 13px system-ui; margin: 0">{style}<div class="frostline-panel" style="width: {width}px">
<div class="widget-html-content">{content}</div></div>"""
WIDER = """() => { document.querySelectorAll("details").forEach((part) => { part.open = true; });
  return [...document.querySelectorAll("table")].filter((table) => table.offsetWidth > table.parentElement.clientWidth)
    .map((table) => [table.caption?.innerText, table.offsetWidth]); }"""


@pytest.mark.usefixtures("instant_umap")
def test_tables_fit(make_record):
    names = (
        "majority",
        "pca_logistic",
        "genes_logistic",
        "pca_knn",
        "frozen_probe",
        "frozen_probe:500",
        "head",
        "lora",
    )
    panel = ResultPanel(frostline.compare([make_record(name, repeat=r) for name in names for r in range(3)]))
    panel.settle(60)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        for name in ("Verdict", "Classes", "Confidence", "Costs", "Checks"):
            content = panel._shown[name].value
            assert (name == "Checks") or "<table" in content
            page.set_content(PAGE.format(style=STYLE, width=WIDTH, content=content))
            assert page.evaluate(WIDER) == [], name
        browser.close()
    panel.close()
