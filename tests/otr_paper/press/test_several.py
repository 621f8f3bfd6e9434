"""Several notebooks at a time, in real kernels."""

from __future__ import annotations

import nbformat
import pytest

from otr_core.errors import NotebookError
from otr_paper.press.runner import Usage
from otr_paper.press.several import MOST, NotebookRun, at_a_time, run_several

FINISH = "import os, json\nopen(os.environ['OTR_USAGE'], 'w').write(json.dumps({'cpu_s': 1.0, 'peak_mb': 2}))\nNone"
MEET = """import time
from pathlib import Path
Path({own!r}).touch()
until = time.monotonic() + 100
while not Path({other!r}).exists():
    assert time.monotonic() < until, "the other does not run meanwhile"
    time.sleep(0.05)"""


def notebook_run(folder, name, *cells) -> NotebookRun:
    book = nbformat.v4.new_notebook()
    book.cells = [nbformat.v4.new_code_cell("mode: str = 'stored'  # unused", metadata={"tags": ["parameters"]})]
    book.cells += [nbformat.v4.new_code_cell(text) for text in (*cells, FINISH)]
    nbformat.write(book, folder / f"{name}.ipynb")
    return NotebookRun(folder / f"{name}.ipynb", folder / "done" / f"{name}.ipynb", folder / name, {})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "done").mkdir()
    return tmp_path


@pytest.mark.slow
def test_they_run_at_the_same_time_and_each_ends_by_itself(folder):
    places = str(folder / "a"), str(folder / "b")
    runs = [
        notebook_run(folder, name, MEET.format(own=own, other=other))
        for name, own, other in (("00_a", *places), ("01_b", *reversed(places)))
    ]
    begun = []
    ended = dict(run_several(runs, 2, begun=begun.append, go_on=False))
    assert begun == [0, 1]
    assert all(isinstance(each, Usage) for each in ended.values()), ended
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["00_a.ipynb", "01_b.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize(("go_on", "begins"), [(False, [0]), (True, [0, 1])])
def test_after_a_failure_others_begin_only_if_asked_for(folder, go_on, begins):
    runs = [notebook_run(folder, "00_a", "raise KeyError('half way')"), notebook_run(folder, "01_b")]
    begun = []
    ended = dict(run_several(runs, 1, begun=begun.append, go_on=go_on))
    assert begun == begins == [*ended]
    assert isinstance(ended[0], NotebookError)
    assert str(ended[0]).startswith("00_a.ipynb, cell 2: KeyError")
    assert not (folder / "done" / "00_a.ipynb").exists()


def test_as_many_as_there_are_processors_and_not_too_many(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert at_a_time() == MOST
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert at_a_time() == 1
