"""The command line as a process of its own, and what an expected failure looks like."""

from __future__ import annotations

import subprocess
import sys

OTR = [sys.executable, "-m", "otr_core.cli"]


def otr(*arguments, cwd=None):
    return subprocess.run([*OTR, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)


def assert_one_line(run, status, *words):
    assert run.returncode == status, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in lines[0], lines[0]
