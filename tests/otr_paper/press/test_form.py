"""The form of a notebook's parameters: what it takes, what it refuses, and that it runs the notebook."""

import json
from dataclasses import replace

import pytest

from otr_core.errors import InputError
from otr_node.project import find_project
from otr_paper.press.form import papermill_words, parameter_form, parameters_html, parsed
from otr_paper.press.notebook import parameter_names
from otr_paper.press.parameters import PARAMETERS
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook

PROJECT = find_project()
SMALL = "small"


@pytest.fixture
def project(tmp_path):
    """A folder with one notebook, which prints two parameters."""
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "rho: float = 0.01\nprompt: str = 'x'\n"},
        {
            "cell_type": "code",
            "metadata": {},
            "source": "assert prompt != 'fail', 'as it was asked to'\nprint(rho * 2, prompt)",
        },
    ]
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": [{**cell, "execution_count": None, "outputs": []} for cell in cells], "metadata": about}
    made = replace(PROJECT, root=tmp_path)
    made.notebooks.mkdir()
    (made.notebooks / f"{SMALL}.ipynb").write_text(json.dumps({**whole, "nbformat": 4, "nbformat_minor": 4}))
    return made


def parts(form):
    *fields, button, said = form.children[0].children
    return {field.description: field for field in fields}, button, said


def test_the_form_runs_the_notebook_with_what_was_typed(project):
    fields, button, said = parts(parameter_form(project, SMALL, {"rho": 0.01, "prompt": "x"}))
    fields["rho"].value, fields["prompt"].value = "0.25", 'it\'s "quoted", <b> and 1.50'
    assert "papermill" in said.value
    assert "0.25" in said.value
    button.click()
    assert said.value.startswith("done"), said.value
    executed = read_notebook(project.build / "runs" / f"{SMALL}.ipynb")
    assert executed["cells"][-1]["outputs"][0]["text"] == ['0.5 it\'s "quoted", <b> and 1.50\n']
    fields["prompt"].value = "fail"
    button.click()
    assert said.value == "not run: AssertionError: as it was asked to"
    assert not button.disabled


@pytest.mark.parametrize("text", ["2", "5%", "nan", "", "True", "[0.1]", "(" * 500, "0.1; import os"])
def test_what_is_outside_the_range_cannot_be_run(project, text):
    fields, button, said = parts(parameter_form(project, SMALL, {"rho": 0.01, "prompt": "x"}))
    fields["rho"].value = text
    assert button.disabled
    assert "rho: found" in said.value
    assert "expected a number from 0 to 1" in said.value
    fields["rho"].value = "0.5"
    assert not button.disabled


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("provers", "1,000", 1000),
        ("live", "True", True),
        ("unit_rows", "64", 64),
        ("load", "2", 2),
        ("mode", "fresh", "fresh"),
    ],
)
def test_text_becomes_a_value_of_its_kind(name, text, value):
    (found,) = parsed({name: text}).values()
    assert (found, type(found)) == (value, type(value))
    with pytest.raises(InputError, match=name):
        parsed({name: "7.5" if PARAMETERS[name].kind is not float else "seven"})


@pytest.mark.parametrize("name", notebook_names(PROJECT))
def test_every_notebook_shows_its_parameters_to_readers_without_a_kernel(name):
    """In its stored outputs: each declared name with its range."""
    notebook = read_notebook(PROJECT.notebooks / f"{name}.ipynb")
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    (table,) = [page for page in pages if page.startswith("<details><summary>Parameters")]
    declared = parameter_names(notebook)
    assert [line.split("<td>")[1].split("<")[0] for line in table.split("<tr>")[2:]] == declared


def test_the_table_escapes_what_it_shows():
    page = parameters_html({"prompt": "<script>"})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_command_names_only_what_was_changed(project, tmp_path):
    words = papermill_words(project, SMALL, {"rho": 0.5}, tmp_path / "out.ipynb")
    assert words[-2:] == ["-y", '{"rho": 0.5}']
