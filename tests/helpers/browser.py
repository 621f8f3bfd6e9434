"""A real browser on a real JupyterLab: what a reader sees of a notebook, as data.

Debian's Chromium, driven by playwright; where none is installed, the tests that ask for it are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

WIDTH, HEIGHT = 1280, 900
TOKEN = "seen"
"""Of the server, which listens on the loopback interface for the time of the test."""
PROBE = {"cell_type": "markdown", "id": "probe", "metadata": {}, "source": ["probe: $x$"]}
"""Appended to a notebook that is opened. JupyterLab typesets late; once the probe is mathematics, the cells before
it would be, and a notebook without mathematics shows exactly this one."""

#: The settings that differ from what a reader has: every cell stands in the page, also far below.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

#: What a reader sees, cell by cell: pictures and tables with the name in the caption below, mathematics, what is cut
#: off at the right, and text whose colour is too close to what is behind it.
SEE = (Path(__file__).parent / "see.js").read_text()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser: `apt-get install chromium` brings the one that opens notebooks and site")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Lab:
    """One JupyterLab on a folder of its own, and one page of a browser on it.

    Attributes:
        folder: what it shows; settings, state and kernels lie beside it, so that no other JupyterLab is met.
    """

    def __init__(self, home: Path, page: Page) -> None:
        self.folder, self.page = home / "notebooks", page
        self.folder.mkdir(parents=True)
        for name, values in SETTINGS.items():
            path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "run",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        self.port = free_port()
        command += [f"--port={self.port}", f"--IdentityProvider.token={TOKEN}", f"--notebook-dir={self.folder}"]
        command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--ServerApp.port_retries=0"]
        environment = {**os.environ, **{name: str(home / where) for name, where in places.items()}}
        self.log = (home / "lab.log").open("wb")
        self.server = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self._wait_for_server(home / "lab.log")

    def _wait_for_server(self, log: Path) -> None:
        last = time.monotonic() + 90
        while time.monotonic() < last and self.server.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={TOKEN}", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.close()
        raise AssertionError(f"JupyterLab did not start: {log.read_text()[-800:]}")

    def close(self) -> None:
        self.server.terminate()
        try:
            self.server.wait(20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.log.close()

    def open(self, name: str, notebook: dict[str, Any]) -> None:
        """Show a notebook, with the probe below it, until all is drawn."""
        (self.folder / f"{name}.ipynb").write_text(json.dumps({**notebook, "cells": [*notebook["cells"], PROBE]}))
        self.page.goto(f"http://127.0.0.1:{self.port}/doc/tree/{name}.ipynb?token={TOKEN}&reset")
        outputs = sum(len(cell.get("outputs", ())) for cell in notebook["cells"])
        self.page.wait_for_function(
            """([cells, outputs]) => document.querySelectorAll('.jp-Notebook .jp-Cell').length === cells
               && document.querySelectorAll('.jp-Notebook .jp-OutputArea-output').length >= outputs
               && document.querySelector('.jp-Notebook .jp-Cell:last-child mjx-container') !== null
               && [...document.querySelectorAll('.jp-Notebook img')].every((one) => one.complete)""",
            arg=[len(notebook["cells"]) + 1, outputs],
            timeout=90_000,
        )

    def theme(self, name: str) -> None:
        """``JupyterLab Light`` or ``JupyterLab Dark``."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        light = "true" if name.endswith("Light") else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached", timeout=60_000)

    def see(self) -> dict[str, Any]:
        """What stands on the page now (see ``SEE``)."""
        found: dict[str, Any] = self.page.evaluate(SEE, ".jp-Notebook")
        return found

    def end_kernels(self) -> None:
        """A notebook that is opened starts a kernel, which nothing here needs."""
        self.page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
