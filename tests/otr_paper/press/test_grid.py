"""The grid over a notebook's parameters: what a run changed, and what a later grid need not run again."""

import json

import pytest

from otr_core.errors import NotebookError
from otr_node.project import Project
from otr_paper.press import grid
from otr_paper.press.grid import GridRun, run_grid
from otr_paper.press.runner import Usage

NAME = "05_small"


@pytest.fixture
def project(tmp_path):
    """A project of one notebook with two parameters, of which the second changes nothing."""
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "rho: float = 0.01\nseed: int = 9"}
    (tmp_path / "notebooks").mkdir()
    book = {"nbformat": 4, "cells": [cell]}
    (tmp_path / "notebooks" / f"{NAME}.ipynb").write_text(json.dumps(book))
    return Project(tmp_path)


@pytest.fixture
def runs(monkeypatch):
    """The parameters that a notebook was run with so far; the kernel's place is taken by a CSV of ``rho``."""
    seen, failing = [], []

    def run_several(runs, most, *, begun, go_on):
        assert go_on
        for number, run in enumerate(runs):
            begun(number)
            given = dict(run.parameters)
            seen.append(given)
            if given in failing:
                yield number, NotebookError("05_small, cell 2: ValueError: no")
                continue
            run.figures.mkdir()
            (run.figures / "F1_rho.csv").write_text(str(given.get("rho", 0.01)))
            (run.figures / "T1_same.csv").write_text("always")
            yield number, Usage(0.0, 0.0, 1.0)

    monkeypatch.setattr(grid, "run_several", run_several)
    return seen, failing


def test_changed_counts_what_differs_and_what_is_there_in_one_run_alone():
    first = GridRun(1.0, {"F1": "a", "F2": "b", "F3": "c"})
    assert first.changed(first) == 0
    assert GridRun(1.0, {"F1": "a", "F2": "x", "F3": "c"}).changed(first) == 1
    assert GridRun(1.0, {"F1": "a", "F4": "d", "F3": "c"}).changed(first) == 2


def test_each_value_is_one_run_and_is_compared_with_the_first(project, runs):
    found = list(run_grid(project, NAME, "inputs"))
    assert [given for given, _, _ in found] == runs[0]
    assert runs[0][:4] == [{}, {"rho": 0.0}, {"rho": 0.002}, {"rho": 1.0}]
    assert [run.changed(found[0][1]) for _, run, _ in found] == [0, 1, 1, 1, 0, 0, 0]
    assert not any(before for _, _, before in found)


def test_a_grid_goes_on_where_it_was_stopped(project, runs):
    begun = run_grid(project, NAME, "inputs")
    for _ in range(3):
        next(begun)
    begun.close()
    found = list(run_grid(project, NAME, "inputs"))
    assert [before for _, _, before in found] == [True] * 3 + [False] * 4
    assert len(runs[0]) == 7
    assert [run.changed(found[0][1]) for _, run, _ in found] == [0, 1, 1, 1, 0, 0, 0]


def test_a_run_that_failed_runs_again_and_no_other(project, runs):
    seen, failing = runs
    failing.append({"rho": 0.002})
    assert [run.failed for _, run, _ in run_grid(project, NAME, "inputs")][2].endswith("ValueError: no")
    failing.clear()
    again = list(run_grid(project, NAME, "inputs"))
    assert seen[7:] == [{"rho": 0.002}]
    assert not any(run.failed for _, run, _ in again)


@pytest.mark.parametrize("change", ["inputs", "notebook", "memory"])
def test_nothing_is_remembered_of_other_code_another_notebook_or_a_broken_memory(project, runs, change):
    list(run_grid(project, NAME, "inputs"))
    if change == "notebook":
        path = project.notebooks / f"{NAME}.ipynb"
        path.write_text(path.read_text().replace("int = 9", "int = 8"))
    if change == "memory":
        (project.state / f"grid-{NAME}.json").write_text("{")
    list(run_grid(project, NAME, "others" if change == "inputs" else "inputs"))
    assert len(runs[0]) == 14


def test_the_summary_says_each_run_in_a_line_and_ends_in_1_for_a_parameter_without_effect(
    project, runs, monkeypatch, capsys
):
    monkeypatch.setattr(grid, "find_project", lambda: project)
    monkeypatch.setattr(grid, "inputs_digest", lambda project: "inputs")
    assert grid.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:4] == [f"05_small: rho {value}: 0 s, 1 changed" for value in (0.0, 0.002, 1.0)]
    assert lines[-1] == "05_small: seed changes no figure and no table"
    assert len(lines) == 8
    grid.main(["05"])
    assert capsys.readouterr().err.splitlines()[1] == "05_small: rho 0.0: 0 s, 1 changed, as remembered"
    assert grid.main(["07"]) == 0
