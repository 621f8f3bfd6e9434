"""The stored notebooks, without running them: executed, complete, bare, and thin."""

import json
import re

import pytest

from otr_node.project import find_project
from otr_paper.press.notebook import parameter_names
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import normalise, notebook_text, read_notebook

PROJECT = find_project()
NAMES = notebook_names(PROJECT)


@pytest.fixture(params=NAMES)
def book(request):
    """Each stored notebook in turn."""
    return read_notebook(PROJECT.notebooks / f"{request.param}.ipynb")


def code(book):
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def test_the_notebooks_are_numbered_without_a_gap():
    assert [int(name.split("_")[0]) for name in NAMES] == list(range(len(NAMES)))


def test_stored_executed_in_order_and_without_errors(book):
    assert [cell["execution_count"] for cell in code(book)] == list(range(1, len(code(book)) + 1))
    outputs = [output for cell in code(book) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum(bool(cell["outputs"]) for cell in code(book)) >= 2


def test_stored_in_the_one_form_reproduce_writes(book):
    assert normalise(json.loads(json.dumps(book))) == book
    name = next(n for n in NAMES if read_notebook(PROJECT.notebooks / f"{n}.ipynb") == book)
    assert (PROJECT.notebooks / f"{name}.ipynb").read_text() == notebook_text(book)


def test_parameters_are_typed_commented_and_complete(book):
    cell = next(c for c in code(book) if "parameters" in c["metadata"].get("tags", []))
    lines = "".join(cell["source"]).splitlines()
    for line in lines if parameter_names(book) else []:
        assert re.fullmatch(r"\w+: (str|int|float|bool) = .+?  # .+", line), line
    assert parameter_names(book) or lines == ["# This notebook takes no parameters."]


def test_every_output_is_compared(book):
    """No cell opts out of comparison, and no tag lets an exception pass."""
    tags = {tag for cell in book["cells"] for tag in cell["metadata"].get("tags", [])}
    assert tags <= {"parameters"}
    assert not any("NBVAL_" in "".join(cell["source"]) for cell in code(book))


def test_no_times_paths_or_addresses_in_outputs(book):
    text = json.dumps([cell["outputs"] for cell in code(book)])
    text = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", text)
    assert not re.search(r" at 0x[0-9a-f]+|/(tmp|usr|var|opt)/|np\.float64|\bCPU times\b", text)


def test_money_is_written_in_usd(book):
    """No dollar sign in what is shown: JupyterLab typesets the text between two as mathematics, and a
    backslash before them does not help."""
    shown = [cell["source"] for cell in book["cells"]]
    shown += [output.get("text", output.get("data", {})) for cell in code(book) for output in cell["outputs"]]
    assert "$" not in json.dumps(shown)


def test_cells_are_short_and_define_nothing(book):
    for cell in code(book):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 30
        assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)


def test_starts_and_ends_as_the_others(book):
    first = "".join(book["cells"][0]["source"])
    assert first.startswith("# ")
    assert "".join(code(book)[-1]["source"]).strip().endswith("run.finish()")
    assert "**Claims**" in first


def test_every_figure_file_is_made_by_a_notebook():
    """No stale figure: each name in figures/ stands in the code of a stored notebook, and the other
    way round."""
    text = "\n".join("".join(cell["source"]) for name in NAMES for cell in code(_read(name)))
    named = set(re.findall(r'run\.(?:figure\(.+?, |table\()"(\w+)"', text))
    there = {path.stem for path in PROJECT.figures.iterdir() if path.name[0] != "."}
    assert there == named
    for name in named:
        committed, for_print = ({"csv", "md"}, set()) if name[0] == "T" else ({"csv", "png"}, {"svg", "pdf"})
        forms = {path.suffix[1:] for path in PROJECT.figures.glob(f"{name}.*")}
        assert committed <= forms <= committed | for_print


def _read(name):
    return read_notebook(PROJECT.notebooks / f"{name}.ipynb")


def test_no_line_runs_off_the_screen(book):
    """JupyterLab shows about a hundred characters at a width of 1,280 pixels."""
    lines = [line for cell in code(book) for line in "".join(cell["source"]).splitlines()]
    assert not [line for line in lines if len(line) > 100]


def test_each_cell_shows_one_picture_at_most(book):
    """So that the text of a picture, in the notebook and on the site, is of one picture."""
    for cell in code(book):
        assert sum("<img " in "".join(out.get("data", {}).get("text/html", "")) for out in cell["outputs"]) <= 1
