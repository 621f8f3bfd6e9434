"""What travels with the artifact: appendix, metadata, workflow and containers say the same as the code."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from otr_core import __version__
from otr_paper.claims.rows import read_ledger

WORKFLOW = ".github/workflows/artifact.yml"


def lint(path):
    """Status and words of check-jsonschema with the schema of a GitHub workflow that it ships."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


def test_the_workflow_is_one(project, tmp_path):
    assert lint(project.root / WORKFLOW) == (0, "ok -- validation done\n")
    bad = tmp_path / "bad.yml"
    bad.write_text((project.root / WORKFLOW).read_text().replace("runs-on:", "runs_on:", 1))
    status, words = lint(bad)
    assert status == 1
    assert "jobs.test" in words


def test_the_workflow_runs_what_is_there(project):
    """Its make targets, its script, and one run of its grid for every notebook."""
    text = (project.root / WORKFLOW).read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert set(jobs) == {"test", "grid", "site", "wheel"}
    targets = set(re.findall(r"^([a-z]+):", (project.root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= targets
    assert (project.root / ".ci/run").is_file()
    numbers = [path.name[:2] for path in sorted(project.notebooks.glob("[0-9][0-9]_*.ipynb"))]
    assert jobs["grid"]["strategy"]["matrix"]["notebook"] == numbers
    versions = {
        step["with"]["python-version"]
        for job in jobs.values()
        for step in job["steps"]
        if "with" in step and "python-version" in step["with"]
    }
    assert versions == {"3.11"}


@pytest.mark.parametrize("name", ["codemeta.json", ".zenodo.json"])
def test_the_metadata_say_what_the_citation_says(project, name):
    cited = yaml.safe_load((project.root / "CITATION.cff").read_text())
    said = json.loads((project.root / name).read_text())
    assert said["version"] == cited["version"] == __version__
    assert said["license"].endswith(cited["license"])
    (article,) = cited["references"]
    identifiers = {article["identifiers"][0]["value"]}
    assert identifiers & {text for text in re.findall(r"arXiv:[\d.]+\d", json.dumps(said))}


def test_the_appendix_has_its_sections_and_a_command_for_each_claim(project):
    text = (project.root / "ARTIFACT.md").read_text()
    for section in ("Abstract", "Description and requirements", "Set-up and basic test", "The badges", "Claims"):
        assert f"\n## {section}\n" in text
    for badge in ("Available", "Functional", "Reproduced"):
        assert f"\n**{badge}.**" in text
    assert re.findall(r"`otr reproduce --claim (L\d\d)`", text) == [row.id for row in read_ledger(project.data)]


def test_the_containers_bring_what_the_artifact_needs(project):
    docker = (project.root / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.11", docker, re.MULTILINE)
    assert "RUN make setup" in docker
    assert docker.index("USER reader") < docker.index("RUN make setup")
    container = json.loads((project.root / ".devcontainer/devcontainer.json").read_text())
    assert "3.11" in container["image"]
    assert "make data" in container["postCreateCommand"]
