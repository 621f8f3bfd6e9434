"""Running notebooks: the guards papermill lacks, and a stored form that never changes by itself."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest

from otr_core.errors import InputError, NotebookError
from otr_paper.press import runner
from otr_paper.press.notebook import parameter_names, start


def notebook(*cells, parameters="rho: float = 0.01  # probability"):
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    book.cells += [nbformat.v4.new_code_cell(text) for text in cells]
    return book


FINISH = "import os, json\nopen(os.environ['OTR_USAGE'], 'w').write(json.dumps({'cpu_s': 1.0, 'peak_mb': 2}))\nNone"


@pytest.fixture
def run(tmp_path):
    """``run(cell, …)``: a notebook of these cells, executed; the written document and its usage."""

    def run(*cells, parameters=None, **options):
        source, target = tmp_path / "00_x.ipynb", tmp_path / "out.ipynb"
        nbformat.write(notebook(*cells, **options), source)
        usage = runner.run_notebook(source, target, tmp_path / "figures", parameters or {})
        return json.loads(target.read_text()), usage

    return run


@pytest.mark.slow
def test_parameters_are_injected_and_the_result_is_bare(run, tmp_path):
    book, usage = run("print(rho)", FINISH, parameters={"rho": 0.5})
    assert [cell["execution_count"] for cell in book["cells"]] == [1, 2, 3, 4]
    assert book["cells"][2]["outputs"][0]["text"] == ["0.5\n"]
    text = json.dumps(book)
    assert str(tmp_path) not in text
    assert not re.search(r"\d{4}-\d\d-\d\dT|papermill\W|duration", text)
    assert (usage.cpu_s, usage.peak_mb) == (1.0, 2)
    assert usage.wall_s > 0


@pytest.mark.slow
def test_a_failing_cell_is_named_and_nothing_is_written(run, tmp_path):
    with pytest.raises(NotebookError, match=r"00_x\.ipynb, cell 2: ValueError: no"):
        run("raise ValueError('no')", FINISH)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_leaving_the_notebook_early_is_not_success(run, tmp_path):
    with pytest.raises(NotebookError, match="never ran"):
        run("import sys\nsys.exit(0)", FINISH)
    assert not (tmp_path / "out.ipynb").exists()


def test_an_unknown_parameter_fails_before_anything_runs(run, tmp_path):
    with pytest.raises(NotebookError, match="unknown parameter rhoo; it has rho"):
        run(FINISH, parameters={"rhoo": 0.5})
    assert not (tmp_path / "out.ipynb").exists()


def test_unreadable_notebooks_are_named(tmp_path):
    path = tmp_path / "broken.ipynb"
    for text in ("{", "{}", json.dumps({"nbformat": 3})):
        path.write_text(text)
        with pytest.raises(NotebookError, match="broken"):
            runner.read_notebook(path)


def test_text_is_stored_in_one_piece_however_the_kernel_cut_it():
    def book(*pieces):
        cell = nbformat.v4.new_code_cell("x")
        for name, text in pieces:
            cell.outputs.append(nbformat.v4.new_output("stream", name=name, text=text))
        return runner.normalise(json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))))

    whole = book(("stdout", "one\ntwo\nthree\n"))
    for cut in ([("stdout", "one\n"), ("stdout", "two\nthree\n")], [("stdout", "one\ntw"), ("stdout", "o\nthree\n")]):
        assert book(*cut) == whole
    mixed = book(("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n"))
    assert [out["name"] for out in mixed["cells"][0]["outputs"]] == ["stdout", "stderr", "stdout"]


def test_parameters_cell_is_required_once():
    book = notebook("x = 1")
    assert parameter_names(book) == ["rho"]
    book.cells[1].metadata["tags"] = ["parameters"]
    with pytest.raises(NotebookError, match="found 2, expected 1"):
        parameter_names(book)


def test_a_new_machine_s_font_cache_message_stays_out_of_the_outputs(tmp_path):
    """Matplotlib says on standard error that it builds its font cache, once per home folder, when
    that takes long."""
    code = (
        "from otr_paper.press import figures, notebook; notebook.quiet(); figures.use_style(); import logging;"
        "logging.getLogger('matplotlib.font_manager').warning('Matplotlib is building the font cache')"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stderr == ""


class TestStart:
    """The setup call guards a plain papermill run as well, which would only log an unknown name."""

    NAME = "02_poea_binding"

    def namespace(self, project, name=NAME, **changes):
        book = runner.read_notebook(project.notebooks / f"{name}.ipynb")
        values = {"get_ipython": None, "In": [], "_hidden": 1, "json": json}
        exec("".join(next(c for c in book["cells"] if "parameters" in c["metadata"].get("tags", []))["source"]), values)
        del values["__builtins__"]
        return {**values, **changes}

    def test_accepts_what_the_notebook_declares(self, project):
        session = start(self.NAME, self.namespace(project))
        assert (session.mode, session.profile, session.device) == ("stored", "paper", "cpu")
        assert session.folder == project.build / "interactive" / "figures"

    def test_what_a_notebook_does_not_declare_is_as_in_the_recorded_run_and_cannot_be_given(self, project):
        name = "06_poq_vs_otr"
        session = start(name, self.namespace(project, name))
        assert (session.mode, session.profile, session.seed, session.device) == ("stored", "paper", 20251223, "cpu")
        with pytest.raises(NotebookError, match="unknown parameter device; it has seed, rho"):
            start(name, self.namespace(project, name, device="cpu"))

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"roh": 0.02}, NotebookError, "unknown parameter roh"),
            ({"mode": "strored"}, InputError, "mode: found 'strored', expected one of stored, fresh"),
            ({"profile": "big"}, InputError, "profile"),
            ({"device": "tpu"}, InputError, "device"),
            ({"seed": -1}, InputError, "seed"),
            ({"seed": 1.5}, InputError, "seed"),
        ],
    )
    def test_refuses_anything_else(self, project, change, error, message):
        with pytest.raises(error, match=message):
            start(self.NAME, self.namespace(project, **change))
