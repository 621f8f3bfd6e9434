"""The frame holds together: one source of versions, light imports, nothing that names a machine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml


def locked(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_direct_requirement_is_pinned_in_the_lock(project):
    meta = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]
    wanted = [*meta["dependencies"], *meta["optional-dependencies"]["test"]]
    names = {normal(re.match(r"[A-Za-z0-9_.-]+", item)[0]) for item in wanted}
    assert names <= set(locked(project.root))


def test_the_packages_the_user_named_are_there(project):
    named = {
        "jupyterlab",
        "papermill",
        "pandas",
        "numpy",
        "torch",
        "transformers",
        "seaborn",
        "ezkl",
        "pytest",
        "nbval",
    }
    assert named <= set(locked(project.root))
    assert locked(project.root)["torch"] == "2.13.0"


def test_the_environment_is_what_the_lock_says(project):
    import importlib.metadata

    for name, version in locked(project.root).items():
        assert importlib.metadata.version(name).split("+")[0] == version.split("+")[0], name


def test_conda_and_binder_use_the_same_lock_and_the_same_python(project):
    document = yaml.safe_load((project.root / "environment.yml").read_text())
    python, pip, section = document["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert section == {"pip": ["-r requirements.lock", "-e ."]}
    meta = tomllib.loads((project.root / "pyproject.toml").read_text())["project"]
    assert meta["requires-python"] == ">=3.11,<3.12"


LIGHT = [
    *("otr_core.merkle", "otr_core.encoding", "otr_core.economics", "otr_core.attestation", "otr_core.poea"),
    *("otr_core.lane.step", "otr_core.dispute.game", "otr_core.cli", "otr_paper.claims.ledger"),
]


@pytest.mark.parametrize("part", LIGHT)
def test_importing_a_part_does_not_load_another_s_heavy_libraries(part):
    heavy = {"torch", "transformers", "ezkl", "matplotlib", "scipy", "dask", "papermill"}
    code = f"import sys, {part}; print(*sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_nothing_committed_names_a_machine_or_a_package_host(project):
    files = subprocess.run(
        ["git", "ls-files"], cwd=project.root, capture_output=True, text=True, check=True
    ).stdout.split()
    pattern = re.compile("/(wo" + "rk|ro" + r"ot)/|/ho" + r"me/[a-z]|pypi\.or" + r"g|pythonhost" + "ed|index-u" + "rl")
    for name in files:
        path = project.root / name
        if path.suffix not in {".png", ".pdf"} and path.is_file():
            found = pattern.search(path.read_text("utf-8"))
            assert not found, f"{name}: {found[0]}"
