"""Whole notebooks under papermill over a grid: each parameter at each of its values, the others as they stand.

``python -m otr_paper.press.grid 05`` (all notebooks without a number; ``make grid``). As many run at a time as
the machine has processors. Of each run it says how long it took and how many figures and tables differ from the
run without a change; a run that fails, or a parameter none of whose values changes anything, ends in exit 1. A
grid that was stopped goes on where it was: of a notebook of which nothing has changed since, only runs that failed
or are missing run.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otr_core.cli import say
from otr_core.errors import NotebookError, one_line
from otr_core.files import sha256_file, write_text
from otr_node.project import Project, find_project
from otr_paper.press.notebook import parameter_names
from otr_paper.press.reproduce import inputs_digest, notebook_names, run_key
from otr_paper.press.runner import read_notebook
from otr_paper.press.several import NotebookRun, at_a_time, run_several

#: Three values of each parameter, two where there are no more: an end of its range where it has ends, both of a share.
VALUES: Mapping[str, tuple[Any, ...]] = {
    "profile": ("paper", "smoke"),
    "seed": (0, 2, 3),
    "as_of": ("2023-01-01", "2024-06-01T00:00:00+00:00", "2027-01-01"),
    "prompt": ("Who is Ada?", "Where does Ben live, and what is his job?", "x"),
    "max_tokens": (4, 5, 6),
    "layer": (0, 17, 29),
    "rho": (0.0, 0.002, 1.0),
    "rho_ppm": (0, 10_000, 100_000),
    "live_units": (1, 2, 3),
    "unit_rows": (8, 64),
    "stake_usd": (1e-6, 50.0, 1e6),
    "gain_usd": (0.0, 3.0, 500.0),
    "slash_fraction": (0.0, 0.5, 1.0),
    "reward_share": (0.0, 0.3, 1.0),
    "base_s": (0.0, 0.5, 2.4),
    "proof_s": (0.0, 1200.0, 604_800.0),
    "proof_usd": (0.0, 45.0, 1000.0),
    "load": (0.01, 1.0, 5.0),
    "provers": (1, 100, 1000),
}
#: What a live run of the network takes; they act together or not at all, and a run takes minutes:
#: tests/otr_paper/series/test_network_series.py plays them. ``mode`` fresh measures for hours, and
#: ``device`` is of another machine.
NOT_HERE = ("live", "attack", "seconds", "mode", "device")


def points(project: Project, name: str) -> list[dict[str, Any]]:
    """The runs of one notebook: first the one that the others are compared with."""
    declared = parameter_names(read_notebook(project.notebooks / f"{name}.ipynb"))
    base = {"profile": "smoke"} if "profile" in declared else {}
    tried = [{**base, each: value} for each in declared if each not in NOT_HERE for value in VALUES[each]]
    return [base, *(given for given in tried if given != base)]


@dataclass(frozen=True)
class GridRun:
    """One run of a notebook: wall seconds, the digest of each CSV that it made, and in what it failed or ""."""

    took_s: float
    made: Mapping[str, str]
    failed: str = ""

    def changed(self, first: GridRun) -> int:
        """How many figures and tables differ from those of ``first``."""
        return sum(self.made.get(name) != first.made.get(name) for name in {*self.made, *first.made})


def run_grid(project: Project, name: str, inputs: str) -> Iterator[tuple[dict[str, Any], GridRun, bool]]:
    """Each run of a notebook: its parameters, what came of it, and whether it is remembered from before. The run
    that the others are compared with comes first, the others as they end.

    Args:
        inputs: the digest of what notebooks depend on (``reproduce.inputs_digest``).
    """
    memory, source = project.state / f"grid-{name}.json", project.notebooks / f"{name}.ipynb"
    key = run_key(inputs, {}, source)
    known = known_runs(memory, key)
    first, *others = points(project, name)
    for some in ([first], others):
        named = {json.dumps(given, sort_keys=True): given for given in some}
        yield from ((given, known[point], True) for point, given in named.items() if point in known)
        for point, run in _run_points(source, {point: given for point, given in named.items() if point not in known}):
            if not run.failed:
                known[point] = run
                write_text(memory, json.dumps({"key": key, "runs": {each: asdict(one) for each, one in known.items()}}))
            yield named[point], run, False


def _run_points(source: Path, due: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, GridRun]]:
    """Run a notebook at some points, by their names, in folders that are gone afterwards."""
    names = [*due]
    with tempfile.TemporaryDirectory(prefix="otr-grid-") as name:
        homes = [Path(name) / str(number) for number in range(len(due))]
        runs = [
            NotebookRun(source, home / source.name, home / "figures", given)
            for home, given in zip(homes, due.values(), strict=True)
        ]
        for number, ended in run_several(runs, at_a_time(), begun=lambda number: homes[number].mkdir(), go_on=True):
            made = {path.stem: sha256_file(path) for path in (homes[number] / "figures").glob("*.csv")}
            run = GridRun(0.0, {}, one_line(ended)) if isinstance(ended, NotebookError) else GridRun(ended.wall_s, made)
            shutil.rmtree(homes[number])
            yield names[number], run


def known_runs(memory: Path, key: str) -> dict[str, GridRun]:
    """The good runs that ``memory`` holds under ``key``, by their parameters; none where they cannot be read."""
    try:
        stored = json.loads(memory.read_text())
        return {point: GridRun(**run) for point, run in stored["runs"].items()} if stored["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def main(numbers: list[str]) -> int:
    """GridRun the grid of the notebooks whose numbers are given, or of all; the exit status."""
    project, failed = find_project(), 0
    inputs = inputs_digest(project)
    for name in notebook_names(project):
        if numbers and not any(name.startswith(number) for number in numbers):
            continue
        first: GridRun | None = None
        reached: dict[str, int] = {}
        for given, run, before in run_grid(project, name, inputs):
            first = first or run
            changed = {key: value for key, value in given.items() if (key, value) != ("profile", "smoke")}
            count = 0 if run.failed else run.changed(first)
            words = ", ".join(f"{key} {value}" for key, value in changed.items()) or "as it stands"
            ended = run.failed or f"{count} changed" + (", as remembered" if before else "")
            say(f"{name}: {words}: {run.took_s:.0f} s, {ended}")
            failed += bool(run.failed)
            for key in changed:
                reached[key] = reached.get(key, 0) + count
        for key in [key for key, count in reached.items() if not count]:
            say(f"{name}: {key} changes no figure and no table")
            failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
