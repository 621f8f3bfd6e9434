"""The comparison is not hollow: one edited output, and one edited number, are each noticed."""

import json
import subprocess
import sys

import pytest

from otr_node.project import find_project
from otr_paper.press.runner import read_notebook

NAME = "08_claims"
PROJECT = find_project()


def compare(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command += ["--rootdir", str(folder), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT.notebooks, check=False)


def outputs(book):
    return [out for cell in book["cells"] if cell["cell_type"] == "code" for out in cell["outputs"]]


@pytest.mark.slow
def test_an_edited_output_and_an_edited_number_are_noticed(tmp_path):
    """One cell of each copy: that the others, and with them the notebook as it is stored, agree is seen as well."""
    book = read_notebook(PROJECT.notebooks / f"{NAME}.ipynb")
    stream = next(out for out in outputs(book) if "plain mean = " in "".join(out.get("text", "")))
    before = "".join(stream["text"])
    for name, after in (
        ("word", before.replace("contradicted", "reproduced", 1)),
        ("number", before.replace("plain mean = 12", "plain mean = 13", 1)),
    ):
        assert after != before
        stream["text"] = [after]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(book))
    run = compare(tmp_path)
    assert run.returncode == 1, run.stdout[-2000:]
    assert "2 failed" in run.stdout
    for name in ("word", "number"):
        assert run.stdout.count(f"/{name}.ipynb::Cell") == 1, run.stdout[-2000:]
