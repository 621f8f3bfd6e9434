"""Without a checkout, as an installed wheel is: a model of one's own is served, asked and checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import RUN
from tests.helpers.serving import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def installed(project, tmp_path, monkeypatch) -> Path:
    """A working folder; the packages lie elsewhere, with their data inside, as a wheel lays them."""
    site, here = tmp_path / "site", tmp_path / "here"
    for package in ("otr_core", "otr_node", "otr_paper"):
        shutil.copytree(project.root / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    ignored = shutil.ignore_patterns("external", "results")
    shutil.copytree(project.data, site / "otr_core" / "data", ignore=ignored)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.delenv("OTR_DATA_MIRROR", raising=False)
    return here


def otr(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import otr_core; assert 'site' in otr_core.__file__\n{RUN}", *map(str, words)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_model_of_ones_own_is_served_asked_and_checked(installed, roomy, tmp_path):
    kept = ("--order-out", "own.order.json", "--out", "own.receipt.json")
    with Server(roomy, tmp_path / "state") as server:
        said = otr("ask", server.url, "--prompt", "w5 w6", "--max-tokens", 4, "--model", roomy, *kept, "--json")
        assert server.stop() == 0
    model_id = json.loads(said.stdout)["model_id"]
    otr("verify", "own.receipt.json", "--order", "own.order.json", "--model-id", model_id)
    prompt = ("--prompt", "w5 w6", "--max-tokens", 4, "--model", roomy, "--lane", "portable")
    otr("infer", *prompt, "--out", "again.receipt.json")
    otr("order", *prompt, "--out", "again.order.json")
    assert {path.name for path in installed.iterdir()} == {
        *("build", "own.order.json", "own.receipt.json", "again.receipt.json", "again.order.json"),
    }
