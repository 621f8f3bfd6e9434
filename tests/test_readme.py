"""README tells the truth: generated blocks are current, examples run, links and commands exist."""

import doctest
import os
import re
import shlex
import subprocess

import pytest

from otr_core.errors import DataError
from otr_paper.claims.ledger import read_ledger
from otr_paper.press import readme
from otr_paper.press.claims_table import claims_markdown


@pytest.fixture(scope="module")
def text(project):
    """README.md as it stands."""
    return (project.root / "README.md").read_text()


def block(text, name):
    return re.search(rf"<!-- begin:{name} [^>]*-->\n(.*?)<!-- end:{name} -->", text, re.DOTALL)[1].rstrip("\n")


def test_generated_blocks_are_what_the_code_generates(project, text):
    assert block(text, "claims") == claims_markdown(read_ledger(project.data))
    assert block(text, "resources") == readme.resources_markdown(project)


def test_a_lost_marker_is_named():
    with pytest.raises(DataError, match="found 0 blocks named claims"):
        readme.replace_block("no markers", "claims", "x")


def test_links_lead_somewhere(project, text):
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (project.root / target).exists(), target


def test_make_targets_exist(project, text):
    targets = set(re.findall(r"^([a-z]+):", (project.root / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_python_examples_run(project):
    # `...` stands for the hex digests of an error message
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    failed, tried = doctest.testfile(str(project.root / "README.md"), module_relative=False, optionflags=options)
    assert tried >= 8
    assert failed == 0


def squeezed(line):
    return " ".join(line.split())


@pytest.mark.slow
@pytest.mark.model
def test_console_examples_run_and_print_what_is_shown(project, text, tmp_path):
    """Each `$` line is run; lines below it must appear in its output; `# exit status n` must be its
    status."""
    environment = {**os.environ, "PATH": f"{project.root / '.venv/bin'}:{os.environ['PATH']}", "COLUMNS": "200"}
    ran = 0
    for example in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        folder = tmp_path
        for step in re.split(r"^\$ ", example, flags=re.MULTILINE)[1:]:
            command, *expected = step.rstrip("\n").split("\n")
            if command.startswith("cd "):
                folder = project.root / shlex.split(command)[1]
                continue
            run = subprocess.run(
                command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            ran += 1
            status = [int(line.split()[-1]) for line in expected if line.startswith("# exit status")]
            assert run.returncode == (status[0] if status else 0), f"{command}: {run.stderr}"
            printed = squeezed(run.stdout + run.stderr)
            for line in expected:
                if not line.startswith("#"):
                    assert squeezed(line) in printed, f"{command}: {line!r} not in {run.stdout}"
    assert ran >= 6
