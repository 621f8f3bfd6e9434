"""The process that processes are forked from: ``python -m otr_paper.devnet.stem``.

It reads orders, a JSON object a line, and says on standard output ``+`` and the number of each
process that it has started, its own first, ``-``, number and status of each that has ended, and whatever these say,
each line behind the name of who says it, with ``!`` before it if on standard error. It has one thread, and loads
without computing.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from otr_core import cli
from otr_node.chain import access, defender, fisherman, rpc
from otr_node.children import die_with_parent
from otr_node.server import operating, program
from otr_paper.devnet import parties
from otr_paper.devnet.processes import ERRORS
from otr_paper.labs.disputes.world import tiny, tiny_bench

LOADED = access, defender, fisherman, rpc, operating, program
"""What the processes need; whatever is loaded here is loaded once."""
_PROGRAMS: dict[str, Callable[[], None]] = {"otr": cli.main, "party": parties.main}
_LOOK_S = 0.02


class _Named(io.TextIOBase):
    """Standard output, or error, of one process among many: whole lines, each behind a name."""

    def __init__(self, name: str) -> None:
        self._name, self._held = name, ""

    def write(self, text: str) -> int:
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            os.write(1, f"{self._name}\t{line}\n".encode())
        return len(text)


def be_child(about: dict[str, Any]) -> None:
    """Be the process that was ordered, to its end."""
    status = 1
    try:
        die_with_parent()
        # What Python says goes the way of all lines; this file is for what libraries below it print.
        errors = os.open(about["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = _Named(about["name"]), _Named(ERRORS + about["name"])
        sys.argv = [about["program"], *about["words"]]
        if about["skew_s"]:
            right, wrong = time.time, float(about["skew_s"])
            time.time = lambda: right() + wrong
        _PROGRAMS[about["program"]]()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Take orders until standard input ends."""
    bench = tiny_bench()
    access.load_models([bench.folder], "portable")
    tiny()
    os.write(1, f"+\t{os.getpid()}\n".encode())
    held = b""
    while True:
        ready, _, _ = select.select([0], [], [], _LOOK_S)
        if ready:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, held = (held + read).split(b"\n")
            for line in lines:
                about = json.loads(line)
                pid = os.fork()
                if not pid:
                    be_child(about)
                os.write(1, f"+\t{pid}\n".encode())
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            os.write(1, f"-\t{pid} {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
