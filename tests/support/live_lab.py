"""A JupyterLab of its own to be driven in Chromium: folders, settings, token and port that nobody else uses."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Page


class Lab(NamedTuple):
    """Where it answers, and its folder of notebooks."""

    address: str
    token: str
    notebooks: Path

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook and wait for its kernel; before that a dialog about the kernel swallows clicks."""
        page.goto(f"{self.address}/lab/tree/{notebook}?reset&token={self.token}")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def run_all_cells(page: Page) -> None:
    """Choose Run All Cells from the menu."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@contextlib.contextmanager
def live_lab(notebooks: Path, folder: Path) -> Iterator[Lab]:
    """Serve a folder of notebooks.

    Parameters
    ----------
    notebooks
        Where the file browser starts.
    folder
        For settings, workspaces and the log.
    """
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "apputils-extension/themes": {"theme": "JupyterLab Light", "adaptive-theme": False},
        "docmanager-extension/plugin": {"autosave": False},  # what one test leaves, the next one would open
        "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
    }
    for name, content in settings.items():
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
        f"--ServerApp.root_dir={notebooks}",
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
        server = subprocess.Popen(command, cwd=notebooks, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for_server(server, f"{address}/api/status?token={token}", folder / "log.txt")
            yield Lab(address, token, notebooks)
        finally:
            server.terminate()
            server.wait(30)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for_server(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab ended:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not answer:\n{log.read_text()[-3000:]}")
