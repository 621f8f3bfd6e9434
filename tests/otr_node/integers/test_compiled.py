"""Two processes with an empty cache: each loop is compiled by one of them, and the other waits for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = """
import sys

import numpy as np
from otr_node.integers.compiled import compiled


@compiled
def inner(values):
    total = 0.0
    for value in np.sort(values):
        total += np.sqrt(value) + np.sin(value)
    return total


@compiled
def outer(values):
    return inner(values) + inner(values * 2.0)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    found = outer(np.arange(5.0))
    print(round(found, 9), *(sum(loop.stats.cache_misses.values()) for loop in (inner, outer)), flush=True)
"""


def started(file: Path, cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(file)], env=environment, text=True, **pipes)


def compiled_by_each(file: Path, cache: Path) -> list[list[int]]:
    """How often each of two processes that begin together compiles ``inner`` and ``outer``."""
    processes = [started(file, cache) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=300)[0].split() for process in processes]
    assert answers[0][0] == answers[1][0]
    return [[int(count) for count in answer[1:]] for answer in answers]


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    file = tmp_path / "loops.py"
    file.write_text(LOOPS)
    return file


def test_each_loop_is_compiled_by_one_process_alone(loops: Path, tmp_path: Path) -> None:
    found = compiled_by_each(loops, tmp_path / "cache")
    assert [sum(counts) for counts in zip(*found, strict=True)] == [1, 1]
    assert compiled_by_each(loops, tmp_path / "cache") == [[0, 0], [0, 0]]


def test_a_lock_that_cannot_be_made_stops_nobody(loops: Path, tmp_path: Path) -> None:
    """Folders stand where the locks would: each process compiles for itself at worst, and none ends in an error."""
    compiled_by_each(loops, tmp_path / "cache")
    locks = list((tmp_path / "cache").rglob("*.lock"))
    assert {lock.name for lock in locks} == {".__main__.inner.lock", ".__main__.outer.lock"}
    for lock in locks:
        lock.unlink()
        lock.mkdir()
    for machine_code in (tmp_path / "cache").rglob("*.nb[ic]"):
        machine_code.unlink()
    assert all(count <= 1 for counts in compiled_by_each(loops, tmp_path / "cache") for count in counts)
