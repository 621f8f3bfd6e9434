"""Is the loss of a single check noticed? data/results/court_mutants.json. Some forty minutes.

Contracts: each ``assert`` of each contract is deleted, and each part of a conjunction. Without a check
no call that went through goes otherwise, so that only refused calls can tell the mutant: the contract
tests run once, and each call that they see refused is made again on the mutants, from the same state.
A mutant is killed if it does not give the same reason.

Python: each check of court, game and judge is deleted. The dispute tests run once, to see which test
meets which check; then the tests that meet it are run without it, until one turns red. As a control
each test that has killed is run on the unchanged code too, in a child process of the same kind.

What has been found is kept in build/court_mutants.json after every file of tests and every mutant,
and a later run goes on from there; a changed source or test is run anew.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from otr_core.dispute import contracts
from otr_core.errors import ChainError
from otr_core.files import write_text
from otr_paper.benches.contract_mutants import Prober
from otr_paper.benches.python_mutants import Meetings, PythonMutant, python_mutants, swap
from otr_paper.producers import frame

#: In this order, until nothing is left to kill: those that are refused most come first.
CONTRACT_TESTS = (
    "refusals",
    "contract",
    "registry",
    "money",
    "dims",
    "illegal",
    "tensor_refusals",
    "statement_lies",
    "family_disputes",
)
PYTHON_TESTS = "otr_core/dispute"
_TRIED = 8
"""Tests that are run without a check, of those that meet it."""
GAME = ("rules", "moves_trace", "moves_operators", "moves_steps", "game")
MODULES = tuple(
    f"otr_core.dispute.{name}" for name in (*GAME, "judge", "registry", "records", "accounts", "duties", "court")
)
#: Mutants that change nothing, and why: (file, text of the check).
EQUIVALENT: dict[tuple[str, str], str] = {
    ("court.vy", "not b.closed"): "open: a challenge committed in a batch's window is late before the batch can close",
    ("court.vy", "draw < self.draw_count"): "a draw that never came has the time 0, which is before every batch",
    ("judge.vy", "kind == TEMPER"): "every other kind that the words of a program name has returned above",
    ("table.vy", "s.height == 0"): "expand_token: above the leaves none is singled out, and leaf 0 is the prompt's",
}


def contract_rows(folder: Path, tests: list[Path], kept: Kept) -> tuple[list[dict[str, Any]], int]:
    """All contract mutants and what became of them; how many calls were refused in the tests."""
    prober, sources = Prober(folder, EQUIVALENT), content_digest(sorted(folder.glob("*.vy")))
    prober.install()
    for file in tests:
        key = f"{file.name} {content_digest([file])} {sources}"
        found = kept.get("contracts", key)
        if found is None and prober.hopeful:
            before, prober.refused = {each.place for each in prober.mutants if each.killed_by}, 0
            with redirect_stdout(io.StringIO()) as said:
                result = pytest.main(["-q", "-p", "no:cacheprovider", str(file)], plugins=[prober])
            if result != 0:
                raise ChainError("contract tests", said.getvalue()[-2000:], "green tests without mutants")
            killed = {each.place: each.killed_by for each in prober.mutants if each.killed_by}
            found = {"refused": prober.refused, "killed": {at: by for at, by in killed.items() if at not in before}}
            kept.put("contracts", key, found)
            frame.progress(f"{file.name}: {len(found['killed'])} killed, {prober.hopeful} left")
        elif found is not None:
            prober.killed_before({at: by for at, by in found["killed"].items()})
    refused = sum(found["refused"] for found in kept.all("contracts", sources))
    return [row(m.name, m.line, m.text, m.killed_by) for m in prober.mutants], refused


def content_digest(files: list[Path]) -> str:
    """Names the content of files."""
    return sha256(b"".join(each.read_bytes() for each in files)).hexdigest()[:16]


def text_of_test(tests: Path, named: str) -> str:
    """Names the text of a test, by its place below ``tests``; "" if it is gone."""
    file, _, name = named.partition("::")
    source = (tests / file).read_text("utf-8") if (tests / file).is_file() else ""
    for each in ast.parse(source).body:
        if isinstance(each, ast.FunctionDef) and each.name == name.partition("[")[0]:
            return sha256(ast.unparse(each).encode()).hexdigest()[:16]
    return ""


class Kept:
    """What was found before, in a file: entries by part and key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def get(self, part: str, key: str) -> Any:
        """An entry, or None."""
        return self._found.get(part, {}).get(key)

    def all(self, part: str, sources: str) -> list[Any]:
        """The entries of a part whose key ends with the digest of today's sources."""
        return [value for key, value in self._found.get(part, {}).items() if key.endswith(sources)]

    def put(self, part: str, key: str, value: Any) -> None:
        """Keep an entry, now."""
        self._found.setdefault(part, {})[key] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps(self._found, indent=1))


def row(file: str, line: int, text: str, killed_by: str) -> dict[str, Any]:
    """One mutant as it is stored."""
    why = EQUIVALENT.get((file, text), "")
    state = "killed" if killed_by else "equivalent" if why else "survived"
    return {"file": file, "line": line, "check": text, "state": state, "by": killed_by or why}


def red(tests: list[str], mutant: PythonMutant | None = None) -> bool:
    """Whether a test fails, on the mutant if there is one, in a child process."""
    child = os.fork()
    if child == 0:
        if mutant:
            swap(mutant)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            result = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *tests])
        os._exit(0 if result == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def python_rows(tests: Path, kept: Kept) -> list[dict[str, Any]]:
    """All mutants in Python and what became of them.

    Raises:
        ChainError: a test that has killed fails on the unchanged code too.
    """
    modules = {name: importlib.import_module(name) for name in MODULES}
    sources = {name: content_digest([Path(str(module.__file__))]) for name, module in modules.items()}
    mutants = [mutant for name, module in modules.items() for mutant in python_mutants(name, module)]
    rows, left = [], []
    for mutant in mutants:
        found = kept.get("python", f"{mutant.place} {sources[mutant.module]}")
        if found is not None and found["file"] == text_of_test(tests, found["by"]):
            rows.append(row(mutant.file, mutant.line, mutant.text, found["by"]))
        else:
            left.append(mutant)
    met = _meetings(tests) if left else {}
    for done, mutant in enumerate(left, 1):
        tried = [test for _, test in sorted(met.get((mutant.module, mutant.line), ()))]
        killer = next((test for test in tried[:_TRIED] if red([str(tests / test)], mutant)), "")
        if killer:
            mark = text_of_test(tests, killer)
            kept.put("python", f"{mutant.place} {sources[mutant.module]}", {"by": killer, "file": mark})
        else:
            frame.progress(f"survived: {mutant.module}:{mutant.line}: {mutant.text} (met by {len(tried)} tests)")
        rows.append(row(mutant.file, mutant.line, mutant.text, killer))
        if done % 20 == 0:
            frame.progress(f"{done} of {len(left)} checks of the Python court")
    killers = sorted({each["by"] for each in rows if each["state"] == "killed"})
    marks = [text_of_test(tests, each) for each in killers]
    key = sha256(json.dumps([killers, marks, sources]).encode()).hexdigest()[:16]
    if kept.get("control", key) is None:
        if killers and red([str(tests / each) for each in killers]):
            raise ChainError("control", "a test that has killed fails on the unchanged code", "green tests")
        kept.put("control", key, len(killers))
    return sorted(rows, key=lambda each: (each["file"], each["line"], each["check"]))


def _meetings(tests: Path) -> dict[tuple[str, int], list[tuple[float, str]]]:
    """Which tests meet which check, and how long they take."""
    meetings = Meetings()
    for name in MODULES:
        meetings.watch(name)
    with redirect_stdout(io.StringIO()) as said:
        result = pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", str(tests)], plugins=[meetings])
    if result != 0:
        raise ChainError("dispute tests", said.getvalue()[-2000:], "green tests without mutants")
    frame.progress("dispute tests have run")
    return meetings.met


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("part", nargs="*", help="contracts, python; one of them: nothing is stored")
    parts = parser.parse_args().part or ["contracts", "python"]
    project = frame.checkout()
    tests, kept, rows, refused = project.root / "tests", Kept(project.build / "court_mutants.json"), [], 0
    if "contracts" in parts:
        files = [tests / "otr_node/chain" / f"test_{name}.py" for name in CONTRACT_TESTS]
        made, refused = contract_rows(Path(contracts.__file__).parent, files, kept)
        rows += made
    if "python" in parts:
        rows += python_rows(tests / PYTHON_TESTS, kept)
    survivors = [each for each in rows if each["state"] == "survived"]
    for each in survivors:
        print(f"survived: {each['file']}:{each['line']}: {each['check']}", flush=True)
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants killed or equivalent")
    if len(parts) == 2:
        payload = {"mutants": rows, "refused_calls": refused, "survivors": len(survivors)}
        frame.store("court_mutants", payload, seed=None, packages=("vyper", "py-evm", "eth-tester"), cores=1)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
