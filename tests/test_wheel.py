"""Wheel-smoke: the wheel, installed without extras into a fresh environment, verifies from an empty
folder."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otr_core
from otr_core.encoding import canonical_json
from tests.helpers.receipts import MANIFEST, ordered, signed
from tests.test_frame import locked

pytestmark = pytest.mark.slow

MOST_PACKAGES, MOST_MB = 40, 250
BROUGHT_BY_VENV = {"pip", "setuptools"}
AS_OF = "2027-01-15T08:00:00Z"  # the instant at which the helpers' receipts are fresh


@pytest.fixture(scope="module")
def python(project, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds the wheel and what it requires, in the versions
    of the lock."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, project.root]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    versions = folder / "versions.txt"
    versions.write_text("".join(f"{name}=={version}\n" for name, version in locked(project.root).items()))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    found = folder / "venv" / "bin" / "python"
    install = [found, *pip[1:], "install", "--constraint", versions, wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def otr(python, tmp_path):
    """``otr(*arguments)`` in an empty folder, with an empty home, and nothing of the checkout in
    sight."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "empty").mkdir()
    hidden = ("PYTHONPATH", "OTR_DATA_MIRROR", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(home)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [python.with_name("otr"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        assert [*home.iterdir(), *(tmp_path / "empty").iterdir()] == [], "a verifier leaves nothing behind"
        return done

    return run


def test_the_base_install_is_small(python):
    packages = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format=json"], text=True))
    names = {package["name"].lower() for package in packages} - BROUGHT_BY_VENV
    assert not names & {"torch", "transformers", "ezkl", "onnx", "vyper", "matplotlib", "pandas", "scipy", "jupyterlab"}
    assert len(names) < MOST_PACKAGES, sorted(names)
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    size_mb = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 2**20
    assert size_mb < MOST_MB
    print(f"{len(names)} packages, {size_mb:.0f} MB")


def test_version(otr):
    assert otr("--version").stdout == f"otr {otr_core.__version__}\n"


def test_appraise(otr, wheel_file, tmp_path):
    source, folder = "nv-local-gpu-verifier", "verifier/samples/"
    report, chain = (wheel_file(source, folder + n) for n in ("hopperAttestationReport.txt", "hopperCertChain.txt"))
    eat = tmp_path / "eat.jwt"
    run = otr("appraise", "--gpu", report, "--gpu-certs", chain, "--as-of", "2024-06-01", "--eat", eat, "--json")
    assert run.returncode == 1  # no reference values are given, which the default policy demands
    claims = {claim["id"]: claim["status"] for claim in json.loads(run.stdout)["claims"]}
    assert claims["gpu.0.signature"] == "asserted"
    claims = eat.read_text().split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["x-otr-verdict"] == "rejected"


def test_verify(otr, tmp_path):
    receipt, order = tmp_path / "receipt.json", tmp_path / "order.json"
    placed = ordered()
    receipt.write_bytes(signed(placed).dump())
    order.write_bytes(placed.dump())
    named = ("--as-of", AS_OF, "--model-id", MANIFEST.model_id.hex(), "--order", order)
    run = otr("verify", receipt, *named, "--json")
    assert (run.returncode, json.loads(run.stdout)["check"]) == (0, None), run.stdout + run.stderr
    # the model is none of the packaged registry's
    run = otr("verify", receipt, "--as-of", AS_OF, "--json")
    assert (run.returncode, json.loads(run.stdout)["check"]) == (1, "registered-model")
    document = json.loads(receipt.read_bytes())
    document["response"]["plain"]["token_ids"][0] += 1
    receipt.write_bytes(canonical_json(document) + b"\n")
    run = otr("verify", receipt, *named, "--json")
    assert (run.returncode, json.loads(run.stdout)["check"]) == (1, "response-digest")


def test_claims(otr):
    assert "L42" in otr("claims").stdout
    run = otr("claims", "--json")
    assert run.returncode == 0
    rows = json.loads(run.stdout)
    assert len(rows) == 42
    assert all(row["verdict"] for row in rows)


def test_economics(otr):
    assert "Chatbot" in otr("economics").stdout
    assert len(json.loads(otr("economics", "--json").stdout)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer", "--prompt", "Hello"], "pip install 'otr-core[node]'"),
        (["record"], "pip install 'otr-core[node]'"),
        (["reproduce"], "run inside the clone"),
        (["data", "status"], "run inside the clone"),
        (["claims", "--refresh"], "run inside the clone"),
    ],
)
def test_what_is_not_here_is_said_in_one_line(otr, arguments, words):
    run = otr(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_an_extra_that_is_missing_inside_a_clone_is_named(python, project, tmp_path):
    run = subprocess.run(
        [python.with_name("otr"), "reproduce"], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "pip install 'otr-core[node,proofs,chain,paper]'" in line
