"""The main job on a small checkout: real model folder, real kernels, two short notebooks."""

import json

import nbformat
import pytest
from typer.testing import CliRunner

from otr_core.errors import InputError, NotebookError
from otr_node.project import Project
from otr_paper.commands import commands as app
from otr_paper.press import reproduce as job
from otr_paper.press.pages import generated
from otr_paper.press.runner import read_notebook
from otr_paper.store.results import read_result

PARAMETERS = """mode: str = "stored"  # stored or fresh
profile: str = "paper"  # paper or smoke
seed: int = 1  # unused
device: str = "cpu"  # unused"""
DRAW = """import pandas as pd
from otr_paper.press import figures, notebook
run = notebook.start({name!r}, globals())
fig, ax = figures.subplots()
run.figure(fig, "F_{name}", pd.DataFrame({{"x": [1]}}), kind="simulated", caption="A test.")
print(run.profile)"""


def write(project, name, *cells):
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    book.cells += [nbformat.v4.new_code_cell(text) for text in (DRAW.format(name=name), *cells, "run.finish()")]
    nbformat.write(book, project.notebooks / f"{name}.ipynb")


@pytest.fixture
def checkout(project, smollm2, tmp_path):
    """A checkout of its own: code and data linked, results and notebooks free to be written."""
    (tmp_path / "otr_core").symlink_to(project.root / "otr_core")
    (tmp_path / "requirements.lock").symlink_to(project.root / "requirements.lock")
    (tmp_path / "docs").mkdir()
    for page in generated(project):
        (tmp_path / page).write_text((project.root / page).read_text())
    (tmp_path / "data" / "results").mkdir(parents=True)
    for path in project.data.iterdir():
        if path.name != "results":
            (tmp_path / "data" / path.name).symlink_to(path)
    for name in (
        "reproduce_run.json",
        "dispute_gas.json",
        "pledge_gas.json",
        "answer_proofs.json",
        "proof_growth.json",
        "chaos.json",
        "serving.json",
    ):
        (tmp_path / "data" / "results" / name).write_text((project.results / name).read_text())
    (tmp_path / "notebooks").mkdir()
    small = Project(tmp_path)
    write(small, "00_one")
    write(small, "01_two")
    return small


def run(checkout, **changes):
    lines = []
    options = {"mode": "stored", "profile": "paper", "device": "cpu", "only": [], "force": False, **changes}
    return job.reproduce(checkout, report=lines.append, **options), lines


@pytest.mark.slow
@pytest.mark.model
def test_runs_once_then_only_what_changed_and_resumes(checkout):
    write(checkout, "01_two", "raise KeyError('half way')")
    with pytest.raises(NotebookError, match=r"01_two\.ipynb, cell 3: KeyError"):
        run(checkout)
    assert (checkout.figures / "F_00_one.png").is_file()

    write(checkout, "01_two")
    used, lines = run(checkout)  # goes on where it stopped
    assert list(used) == ["01_two"]
    assert any("00_one: nothing it depends on has changed, skipped" in line for line in lines)
    assert read_notebook(checkout.notebooks / "01_two.ipynb")["cells"][0]["execution_count"] == 1

    assert run(checkout)[0] == {}  # a second run does nothing
    (checkout.figures / "F_00_one.svg").unlink()
    assert list(run(checkout)[0]) == ["00_one"]  # a lost figure comes back
    assert (checkout.figures / "F_00_one.svg").is_file()
    assert list(run(checkout, only=["01"], force=True)[0]) == ["01_two"]


@pytest.mark.slow
@pytest.mark.model
def test_other_settings_never_touch_what_is_committed(checkout):
    before = (checkout.notebooks / "00_one.ipynb").read_text()
    run(checkout, profile="smoke", only=["00"])
    assert (checkout.notebooks / "00_one.ipynb").read_text() == before
    assert not checkout.figures.exists()
    home = checkout.build / "stored-smoke-cpu"
    assert (home / "figures" / "F_00_one.png").is_file()
    assert "smoke" in json.dumps(read_notebook(home / "notebooks" / "00_one.ipynb"))


@pytest.mark.slow
@pytest.mark.model
def test_recorded_usage_is_complete_and_reaches_its_page(checkout):
    used, _ = run(checkout)
    job.record_usage(checkout, used, date="2026-01-01", cores=2)
    card, result = read_result(checkout.results, job.RECORD)
    assert card.kind == "measured"
    assert [step["step"] for step in result["steps"]] == ["00_one", "01_two"]
    assert all(step["peak_mb"] > 50 and step["cpu_s"] > 0 for step in result["steps"])
    assert "| 00_one |" in (checkout.root / "docs/running.md").read_text()
    with pytest.raises(InputError, match="01_two did not run"):
        job.record_usage(checkout, {"00_one": used["00_one"]}, date="2026-01-01", cores=2)


def test_a_read_only_figures_folder_stops_the_run_before_anything(checkout, monkeypatch):
    checkout.figures.mkdir()
    checkout.figures.chmod(0o555)
    before = (checkout.notebooks / "00_one.ipynb").read_text()
    monkeypatch.chdir(checkout.root)
    result = CliRunner().invoke(app, ["reproduce"])
    checkout.figures.chmod(0o755)
    assert isinstance(result.exception, InputError)
    assert "figures: read-only" in str(result.exception)
    assert (checkout.notebooks / "00_one.ipynb").read_text() == before
    assert list(checkout.figures.iterdir()) == []


@pytest.mark.slow
@pytest.mark.model
def test_what_a_killed_run_left_half_written_goes(checkout):
    checkout.figures.mkdir()
    left = [checkout.figures / ".F_00_one.svg.x1.part", checkout.notebooks / ".00_one.ipynb.x2.part"]
    for part in left:
        part.write_text("half")
    run(checkout, only=["00"])
    assert not any(part.exists() for part in left)
    assert {path.suffix for path in checkout.figures.iterdir()} == {".png", ".svg", ".pdf", ".csv"}


def test_unknown_notebooks_are_named(checkout):
    assert job.choose_notebooks(checkout, ["01", "00_one"]) == ["00_one", "01_two"]
    assert job.choose_notebooks(checkout, []) == ["00_one", "01_two"]
    with pytest.raises(InputError, match="found '7', expected one of 00_one, 01_two"):
        job.choose_notebooks(checkout, ["7"])


def test_an_unknown_claim_is_refused_before_anything_runs():
    refused = CliRunner().invoke(app, ["reproduce", "--claim", "L99"])
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception) == "claims: found L99, expected L01 to L42"


@pytest.mark.slow
@pytest.mark.model
def test_one_claim_runs_its_notebook_and_prints_its_readings():
    ran = CliRunner().invoke(app, ["reproduce", "--claim", "L42", "--profile", "smoke"])
    assert ran.exit_code == 0, ran.output
    assert "[1/1] 00_overview" in ran.output
    assert "judged by otr_paper.claims.trilemma.L42" in ran.output
    assert "L41" not in ran.output
