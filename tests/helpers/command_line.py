"""The command line as a process of its own, and what an expected failure looks like.

Most of what a command takes is the import of other people's libraries: some 5 s of CPU where a model runs.
A test that asks what a command does, and not what starting it takes, has it forked by a process that has
imported these libraries and nothing of this project: every command still imports all of that itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OTR = [sys.executable, "-m", "otr_core.cli"]
RUN = "from otr_core.cli import main; main()"
LIBRARIES = (
    *("numpy", "cryptography.x509", "typer.rich_utils", "rich.markdown", "lxml.etree", "py_ecc.bls", "torch"),
    *("transformers.activations", "transformers.models.llama.modeling_llama", "tokenizers", "safetensors.torch"),
    *("numba", "numba.cpython.cmathimpl", "scipy.special", "web3", "eth_account", "starlette.routing", "uvicorn"),
    "prometheus_client",
)
#: What may differ from the environment that the libraries were imported in: none of them reads these.
OURS = ("OTR_", "PYTEST_CURRENT_TEST")
ONE_BY_ONE = threading.Lock()
PARENT = """
import atexit, gc, importlib, json, os, select, signal, sys, threading, traceback
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # the command that needs it says so
assert not any(name.startswith("otr_") for name in sys.modules)
gc.collect()
gc.freeze()  # a child that looks through all this for garbage copies it
heard, running, asked = select.poll(), {}, b""
heard.register(0, select.POLLIN)
while True:
    for ready, _ in heard.poll():
        if ready:
            heard.unregister(ready)
            os.close(ready)
            child, told = running.pop(ready)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with open(told + ".part", "w") as file:
                file.write(str(status))
            os.rename(told + ".part", told)
        else:
            more = os.read(0, 1 << 20)
            asked += more
            if not more:
                for child, _ in running.values():
                    os.kill(child, signal.SIGKILL)
                sys.exit()
    if b"\\n" in asked:
        line, asked = asked.split(b"\\n", 1)
        given = json.loads(line)
        child = os.fork()
        if child == 0:
            break
        ready = os.pidfd_open(child)
        running[ready] = child, given["told"]
        heard.register(ready, select.POLLIN)
        os.write(1, b"%d\\n" % child)
for ready in running:
    os.close(ready)
for number, name in enumerate((os.devnull, given["out"], given["err"])):
    opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, number)
    os.close(opened)
os.chdir(given["cwd"])
os.environ.clear()
os.environ.update(given["env"])
sys.argv[1:] = given["words"]
status = 0
try:
    exec(compile(given["code"], "<command>", "exec"), {"__name__": "__main__"})
except SystemExit as end:
    status = end.code or 0
except BaseException:
    traceback.print_exc()
    status = 1
if not isinstance(status, int):
    print(status, file=sys.stderr)
    status = 1
# As the interpreter ends, but without taking all libraries apart.
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""


class Forked:
    """A command under way, with what tests need of a ``Popen``."""

    def __init__(self, parent: subprocess.Popen[str], told: Path, **asked: Any) -> None:
        assert parent.stdin is not None
        assert parent.stdout is not None
        self.parent, self.told, self.returncode = parent, told, None
        with ONE_BY_ONE:
            parent.stdin.write(json.dumps({"told": str(told), **asked}) + "\n")
            parent.stdin.flush()
            self.pid = int(parent.stdout.readline())

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        if self.returncode is None and self.told.exists():
            self.returncode = int(self.told.read_text())
        assert self.returncode is not None or self.parent.poll() is None, "what forks commands has ended"
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _parent() -> tuple[subprocess.Popen[str], dict[str, str], Any]:
    """What forks this worker's commands, the environment it began in, and a folder for what they say."""
    command = [sys.executable, "-c", PARENT, json.dumps(LIBRARIES)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return started, dict(os.environ), tempfile.TemporaryDirectory(prefix="otr-commands-")


def start(
    *arguments: Any, out: Any, err: Any, code: str = RUN, cwd: Any = None, env: Mapping[str, str] | None = None
) -> Any:
    """``otr`` with these arguments, or other code, writing to two files; forked where the environment is such
    that the libraries are what a fresh process would import."""
    given, words = dict(os.environ if env is None else env), [str(word) for word in arguments]
    parent, began, folder = _parent()
    if all(name.startswith(OURS) for name, _ in given.items() ^ began.items()):
        told = Path(tempfile.mkdtemp(dir=folder.name)) / "told"
        where = {"cwd": os.path.abspath(cwd or "."), "out": str(out), "err": str(err)}
        return Forked(parent, told, words=words, code=code, env=given, **where)
    with Path(out).open("a") as shown, Path(err).open("a") as said:
        return subprocess.Popen([sys.executable, "-c", code, *words], stdout=shown, stderr=said, cwd=cwd, env=given)


def otr(*arguments: Any, cwd: Any = None, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command from its start to its end.

    Two of one worker hash strings alike: where two runs have to agree, one of them is ``fresh_otr``.
    """
    with tempfile.TemporaryDirectory(prefix="otr-command-") as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        running = start(*arguments, out=out, err=err, cwd=cwd, env=env)
        try:
            status = running.wait(300)
        except BaseException:
            running.kill()
            raise
        return subprocess.CompletedProcess([*OTR, *map(str, arguments)], status, out.read_text(), err.read_text())


def fresh_otr(*arguments: Any, cwd: Any = None, env: Mapping[str, str] | None = None) -> Any:
    """The same in a process that imports everything itself."""
    return subprocess.run(
        [*OTR, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=300
    )


def assert_one_line(run, status, *words):
    assert run.returncode == status, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in lines[0], lines[0]
