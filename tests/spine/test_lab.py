"""The tutorial in a live JupyterLab, used as a person would: run all cells, then the panel's own buttons."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from chromium import launch
from playwright.sync_api import Locator, Page, expect, sync_playwright

SECONDS = 1_000
"""Playwright counts in milliseconds."""

SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
}


class Lab(NamedTuple):
    address: str
    token: str
    folder: Path


class Session(NamedTuple):
    """An open tutorial whose cells have all run, and what went wrong or left the machine meanwhile."""

    page: Page
    panel: Locator
    errors: list[str]
    requests: list[str]
    origin: str


@pytest.fixture(scope="module")
def notebook_folder(root, small_checkpoint, tmp_path_factory) -> Path:
    """Folder with a copy of the tutorial whose parameters ask for a run of seconds."""
    folder = tmp_path_factory.mktemp("work")
    source = nbformat.read(root / "notebooks" / "cell_type_annotation.ipynb", 4)
    (parameters,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source += f"\nSTRATEGIES = ['pca_logistic', 'frozen_probe']\nCHECKPOINT = {str(small_checkpoint)!r}"
    nbformat.write(source, folder / "tutorial.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(notebook_folder, own_jupyter_folders, quick_umap_in_kernels, tmp_path_factory) -> Iterator[Lab]:
    """A JupyterLab of its own: folders, settings, token and port."""
    folder = tmp_path_factory.mktemp("lab")
    for name, content in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    port, token = free_port(), secrets.token_hex(16)
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={notebook_folder}",
        "--LabApp.extension_manager=readonly",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=notebook_folder, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for_server(server, f"{address}/api/status?token={token}", folder / "log.txt")
            yield Lab(address, token, folder)
        finally:
            server.terminate()
            server.wait(30)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_server(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not answer:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def session(lab) -> Iterator[Session]:
    """The tutorial after Run All Cells."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        errors, requests = [], []
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.set_default_timeout(60 * SECONDS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{lab.address}/lab/tree/tutorial.ipynb?reset&token={lab.token}")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # else a dialog about the kernel swallows the run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".jp-OutputArea-output", has_text="bytes  manifest.json").wait_for()
        yield Session(page, page.locator(".frostline-annotation-panel"), errors, requests, lab.address)
        browser.close()


def rows(panel: Locator) -> Locator:
    """Rows of the leaderboard in the panel."""
    return panel.locator("table.frostline-leaderboard tbody tr")


def test_all_cells_run_without_an_error(session, notebook_folder):
    expect(session.page.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.error']")).to_have_count(0)
    expect(session.page.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)
    assert (notebook_folder / "artifacts" / "scgpt_cell_type_annotation" / "manifest.json").is_file()


def test_panel_shows_the_finished_run(session):
    panel = session.panel
    expect(panel).to_have_count(1)
    expect(panel.get_by_role("status")).to_have_text(re.compile("^Done"))
    expect(panel.get_by_role("alert")).to_have_count(0)
    expect(rows(panel)).to_have_count(2)
    expect(panel.locator("img[alt^='UMAP of the test cells']")).to_be_visible()
    expect(panel.locator("img[alt^='Confusion matrix']")).to_be_visible()


def test_controls_are_found_by_their_labels(session):
    panel = session.panel
    expect(panel.get_by_label("Profile")).to_have_value("quickstart")
    expect(panel.get_by_label("Seed")).to_have_value("42")
    expect(panel.get_by_role("button", name="Run")).to_be_enabled()
    expect(panel.get_by_role("button", name="Cancel")).to_be_disabled()
    for strategy, ticked in (("pca_logistic", True), ("frozen_probe", True), ("head", False), ("lora", False)):
        box = panel.get_by_role("checkbox", name=re.compile(rf"\({strategy}\): [\d,]+ trained parameters"))
        expect(box).to_be_checked(checked=ticked)


def test_panel_runs_again_with_what_is_ticked(session):
    """In the end the panel is as it was before, so that the other tests may come in any order."""
    panel = session.panel
    boxes = {name: panel.get_by_role("checkbox", name=re.compile(name)) for name in ("pca_logistic", "frozen_probe")}
    run, status = panel.get_by_role("button", name="Run"), panel.get_by_role("status")
    boxes["frozen_probe"].uncheck()
    boxes["pca_logistic"].uncheck()
    expect(run).to_be_disabled()
    expect(status).to_have_text("Tick at least one strategy to run.")
    boxes["pca_logistic"].check()
    run.click()
    expect(rows(panel)).to_have_count(1)
    expect(rows(panel)).to_contain_text("pca_logistic")
    expect(status).to_have_text(re.compile("^Done"))
    expect(panel.locator("img[alt^='UMAP of the test cells']")).to_have_count(0)
    boxes["frozen_probe"].check()
    run.click()
    expect(rows(panel)).to_have_count(2)
    expect(status).to_have_text(re.compile("^Done"))


def test_panel_fits_into_the_notebook(session):
    assert session.panel.evaluate("panel => panel.scrollWidth <= panel.clientWidth + 1")


def test_no_page_error_and_no_request_to_another_host(session):
    assert session.errors == []
    own = (session.origin, session.origin.replace("http", "ws", 1), "data:", "blob:")
    assert [url for url in session.requests if not url.startswith(own)] == []
