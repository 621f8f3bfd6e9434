"""Whole notebooks under papermill over a grid: each parameter at each of its values, the others as they stand.

``python -m otr_paper.press.grid 05`` (all notebooks without a number; ``make grid``). Of each run it says
how long it took and how many figures and tables differ from the run without a change; a run that
fails, or a parameter none of whose values changes anything, ends in exit 1.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otr_core.cli import say
from otr_core.errors import OtrError, one_line
from otr_node.project import Project, find_project
from otr_paper.press.notebook import parameter_names
from otr_paper.press.reproduce import notebook_names
from otr_paper.press.runner import read_notebook, run_notebook

#: Three values of each parameter, two where there are no more.
VALUES: Mapping[str, tuple[Any, ...]] = {
    "profile": ("paper", "smoke"),
    "seed": (1, 2, 3),
    "as_of": ("2023-01-01", "2024-06-01T00:00:00+00:00", "2027-01-01"),
    "prompt": ("Who is Ada?", "Where does Ben live, and what is his job?", "x"),
    "max_tokens": (1, 2, 3),
    "layer": (0, 17, 29),
    "rho": (0.0, 0.002, 0.3),
    "rho_ppm": (1_000, 10_000, 100_000),
    "live_units": (1, 2, 3),
    "unit_rows": (8, 64),
    "stake_usd": (1.0, 50.0, 1e6),
    "gain_usd": (0.0, 3.0, 500.0),
    "slash_fraction": (0.05, 0.5, 1.0),
    "reward_share": (0.0, 0.3, 0.9),
    "base_s": (0.1, 0.5, 2.4),
    "proof_s": (10.0, 1200.0, 90_000.0),
    "proof_usd": (0.01, 45.0, 1000.0),
    "load": (0.1, 1.0, 5.0),
    "provers": (10, 100, 1000),
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
    return [base, *tried]


def run_grid(project: Project, name: str) -> Iterator[tuple[dict[str, Any], float, int | str]]:
    """Each run of a notebook: its parameters, wall seconds, and how many outputs differ from those of the
    first run, or in what it failed."""
    first: dict[str, str] = {}
    for number, given in enumerate(points(project, name)):
        with tempfile.TemporaryDirectory(prefix="otr-grid-") as folder:
            made, started = Path(folder) / "figures", time.perf_counter()
            try:
                run_notebook(project.notebooks / f"{name}.ipynb", Path(folder) / f"{name}.ipynb", made, given)
                found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.glob("*.csv")}
                ended: int | str = len(found.items() ^ first.items()) // 2 if number else 0
                first = first if number else found
            except OtrError as error:
                ended = one_line(error)
            yield given, time.perf_counter() - started, ended


def main(numbers: list[str]) -> int:
    """Run the grid of the notebooks whose numbers are given, or of all; the exit status."""
    project, status = find_project(), 0
    for name in notebook_names(project):
        if numbers and not any(name.startswith(number) for number in numbers):
            continue
        reached: dict[str, int] = {}
        for given, took_s, ended in run_grid(project, name):
            changed = {key: value for key, value in given.items() if (key, value) != ("profile", "smoke")}
            words = ", ".join(f"{key} {value}" for key, value in changed.items()) or "as it stands"
            say(f"{name}: {words}: {took_s:.0f} s, " + (f"{ended} changed" if isinstance(ended, int) else ended))
            status |= isinstance(ended, str)
            for key in changed:
                reached[key] = reached.get(key, 0) + (ended if isinstance(ended, int) else 0)
        for key in [key for key, count in reached.items() if not count]:
            say(f"{name}: {key} changes no figure and no table")
            status = 1
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
