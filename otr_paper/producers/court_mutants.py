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
import io
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from otr_core.dispute import contracts
from otr_core.errors import ChainError
from otr_core.files import write_text
from otr_node.chain.evm import Chain, compile_source, compile_vyper
from otr_node.chain.interface import Contract
from otr_paper.producers import frame

#: In this order, until nothing is left to kill: those that are refused most come first.
CONTRACT_TESTS = ("refusals", "contract", "registry", "money", "dims", "illegal", "statement_lies", "block_judge")
PYTHON_TESTS = "otr_core/dispute"
_TRIED = 8
"""Tests that are run without a check, of those that meet it."""
GAME = ("rules", "moves_trace", "moves_operators", "moves_steps", "game")
MODULES = tuple(f"otr_core.dispute.{name}" for name in (*GAME, "judge", "registry", "accounts", "duties", "court"))
#: Mutants that change nothing, and why: (file, text of the check).
EQUIVALENT: dict[tuple[str, str], str] = {
    ("court.vy", "not b.closed"): "open: a challenge committed in a batch's window is late before the batch can close",
    ("court.vy", "draw < self.draw_count"): "a draw that never came has the time 0, which is before every batch",
    ("table.vy", "s.height == 0"): "expand_token: above the leaves none is singled out, and leaf 0 is the prompt's",
}


# --- contracts


ANY = "any"
"""Reason of a check that is given its reason as an argument."""
SENTINEL = int.from_bytes(sha256(b"number of the mutant").digest(), "big")
"""Stands for the number of a mutant in the code of all mutants of a contract."""


@dataclass
class VyperMutant:
    """A contract without one check.

    Attributes:
        name: file of the contract. number: among its mutants, from 1. line: of the check. text: the
            check, or the part of it that is missing. reason: what it says.
        killed_by: the test that saw a call go otherwise.
    """

    name: str
    number: int
    line: int
    text: str
    reason: str
    killed_by: str = ""

    @property
    def place(self) -> str:
        """Names the mutant as long as its contract stays as it is."""
        return f"{self.name}:{self.number}"


def vyper_mutants(path: Path) -> tuple[str, list[VyperMutant]]:
    """All mutants of a contract in one source, which is compiled once: an immutable number, the last
    argument of the constructor, says which check is missing."""
    mutants: list[VyperMutant] = []
    lines = path.read_text("utf-8").replace("@pure", "@view").splitlines()

    def missing(text: str, reason: str, line: int) -> str:
        mutants.append(VyperMutant(path.name, len(mutants) + 1, line, text, reason))
        return f"MUTANT == {len(mutants)}"

    for at, line in enumerate(lines):
        found = re.match(r"(\s*)assert (.*?)(?:, (\"[^\"]*\"|\w+))?(?:\s+#.*)?$", line)
        if not found:
            continue
        indent, condition, said = found.groups()
        parts, rest = split_conjunction(condition), f", {said}" if said else ""
        reason = "reverted" if not said else said[1:-1] if said[0] == '"' else ANY
        whole = missing(condition, reason, at + 1)
        if len(parts) > 1:
            condition = " and ".join(f"({missing(part, reason, at + 1)} or {part})" for part in parts)
        lines[at] = f"{indent}assert {whole} or ({condition}){rest}"
    source = "\n".join(lines) + "\n"
    source = re.sub(r"(?m)^(@deploy)$", r"MUTANT: immutable(uint256)\n\n\1", source)
    return re.sub(
        r"(def __init__\(.*?)\):\n", r"\1, mutant: uint256):\n    MUTANT = mutant\n", source, flags=re.S
    ), mutants


def split_conjunction(condition: str) -> list[str]:
    """The parts of a conjunction, outermost only."""
    depth, start, parts = 0, 0, []
    for at, letter in enumerate(condition):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and condition.startswith(" and ", at):
            parts.append(condition[start:at])
            start = at + len(" and ")
    return [*parts, condition[start:]]


class Prober:
    """Makes each refused call again, on contracts that lack a check.

    A plugin of pytest that stands in for ``Chain.deploy`` and ``Chain.transact`` while the contract
    tests run.
    """

    def __init__(self, folder: Path) -> None:
        self.mutants: list[VyperMutant] = []
        self.waiting: dict[tuple[str, str], list[VyperMutant]] = defaultdict(list)
        self.refused, self.test = 0, ""
        self._all: dict[bytes, tuple[str, Contract]] = {}  # by the code of a contract: all its mutants
        self._deployed: WeakKeyDictionary[Chain, dict[str, tuple[str, bytes]]] = WeakKeyDictionary()
        self._deploy, self._transact, self._call = Chain.deploy, Chain.transact, Chain.call
        for path in sorted(folder.glob("*.vy")):
            source, mutants = vyper_mutants(path)
            if mutants:
                self.mutants += mutants
                self._all[compile_vyper(path).bytecode] = path.name, compile_source(source, str(path))
        for mutant in self.mutants:
            self.waiting[mutant.name, mutant.reason].append(mutant)

    @property
    def hopeful(self) -> int:
        """Mutants that still wait, but those of which it is known why nothing can tell them."""
        return sum(not each.killed_by and (each.name, each.text) not in EQUIVALENT for each in self.mutants)

    def killed_before(self, kept: dict[str, str]) -> None:
        """Take over by which test each mutant was killed in a run before, by its place."""
        for mutant in self.mutants:
            if mutant.place in kept:
                self._kill(mutant, kept[mutant.place])

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Remembers which test runs."""
        file, _, rest = item.nodeid.partition("::")
        self.test = f"{Path(file).name}::{rest}"

    def install(self) -> None:
        """Stand in for the chain's calls."""
        prober = self

        def deploy(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            name, others = prober._all.get(contract.bytecode, ("", contract))
            try:
                made, receipt = prober._deploy(chain, contract, *args, **more)
            except ChainError as error:
                for mutant in list(prober.waiting.get((name, error.check), ())):
                    prober._built(chain, mutant, others, error.check, args)
                raise
            if name:
                code = chain.runtime_of(others, *args, SENTINEL, address=made.address, sender=more.get("sender"))
                prober._deployed.setdefault(chain, {})[made.address] = name, code
            return made, receipt

        def transact(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            return prober._watched(prober._transact, chain, contract, args, more)

        def call(chain: Chain, contract: Contract, *args: Any, **more: Any) -> Any:
            return prober._watched(prober._call, chain, contract, args, more)

        Chain.deploy, Chain.transact, Chain.call = deploy, transact, call  # type: ignore[method-assign, assignment]

    def _watched(self, send: Any, chain: Chain, contract: Contract, args: Any, more: Any) -> Any:
        try:
            return send(chain, contract, *args, **more)
        except ChainError as error:
            if error.check not in ("abi", "arguments"):
                self.refused += 1
                self._probe(chain, contract, error.check, args, more)
            raise

    def _probe(self, chain: Chain, contract: Contract, reason: str, args: Any, more: Any) -> None:
        """Try all waiting mutants that lack a check with this reason."""
        for address, (name, code) in self._deployed.get(chain, {}).items():
            for mutant in [*self.waiting[name, reason], *self.waiting[name, ANY]]:
                one = code.replace(SENTINEL.to_bytes(32, "big"), mutant.number.to_bytes(32, "big"))
                if chain.reason_with({address: one}, contract, *args, **more) != reason:
                    self._kill(mutant)

    def _built(self, chain: Chain, mutant: VyperMutant, others: Contract, reason: str, args: Any) -> None:
        """Whether a constructor that refuses does so without its check."""
        try:
            chain.runtime_of(others, *args, mutant.number, address=chain.accounts[0])
        except ChainError as error:
            if error.check == reason:
                return
        self._kill(mutant)

    def _kill(self, mutant: VyperMutant, test: str = "") -> None:
        mutant.killed_by = test or self.test
        self.waiting[mutant.name, mutant.reason].remove(mutant)


def contract_rows(folder: Path, tests: list[Path], kept: Kept) -> tuple[list[dict[str, Any]], int]:
    """All contract mutants and what became of them; how many calls were refused in the tests."""
    prober, sources = Prober(folder), digest(sorted(folder.glob("*.vy")))
    prober.install()
    for file in tests:
        key = f"{file.name} {digest([file])} {sources}"
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


def digest(files: list[Path]) -> str:
    """Names the content of files."""
    return sha256(b"".join(each.read_bytes() for each in files)).hexdigest()[:16]


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


# --- Python


@dataclass
class PythonMutant:
    """A function of the core without one check.

    Attributes:
        module: dotted. qualname: of the function. line: of the check. text: the check.
        code: of the whole module without it. number: among those of its module.
    """

    module: str
    qualname: str
    line: int
    text: str
    code: CodeType
    number: int

    @property
    def place(self) -> str:
        """Names the mutant as long as its module stays as it is."""
        return f"{self.module}:{self.number}"

    def row(self, killer: str) -> dict[str, Any]:
        """The mutant as it is stored."""
        return row(self.module.split(".")[-1] + ".py", self.line, self.text, killer)


def python_mutants(name: str, module: ModuleType) -> Iterator[PythonMutant]:
    """All mutants of a module: a statement that only refuses is deleted, one after another."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text("utf-8")
    tree = ast.parse(source)
    for number, (scope, body, at) in enumerate(list(refusals(tree, ""))):
        found = body[at]
        text = " ".join(ast.unparse(found.test if isinstance(found, ast.If) else found).split())
        # Not run, but still read by the compiler: a function inside another keeps the names that it closes over.
        body[at] = ast.copy_location(ast.If(ast.Constant(False), [found], []), found)
        code = compile(ast.fix_missing_locations(tree), module.__file__, "exec")
        body[at] = found
        yield PythonMutant(name, scope, found.lineno, text, code, number)


def refusals(node: ast.AST, scope: str) -> Iterator[tuple[str, list[ast.stmt], int]]:
    """Statements that only refuse: (name of the function, list of statements, place in it)."""
    inner = f"{scope}.<locals>" if isinstance(node, ast.FunctionDef) else scope
    for name in ("body", "orelse", "finalbody", "handlers"):
        body: list[ast.stmt] = getattr(node, name, [])
        for at, each in enumerate(body if isinstance(body, list) else ()):
            inside = scope
            if isinstance(each, (ast.FunctionDef, ast.ClassDef)):
                inside = f"{inner}.{each.name}" if scope else each.name
            elif scope and refuses(each):
                yield scope, body, at
            yield from refusals(each, inside)


def refuses(each: ast.stmt) -> bool:
    """Whether a statement does nothing but refuse."""
    if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
        called = ast.unparse(each.value.func)
        return called.lstrip("_").startswith("require") or called in ("tile_read", "_token", "reader.done")
    if not isinstance(each, ast.If) or each.orelse or len(each.body) != 1:
        return False
    only = each.body[0]
    named = isinstance(only, ast.Return) and isinstance(only.value, ast.Constant) and type(only.value.value) is str
    return isinstance(only, ast.Raise) or named


class Meetings:
    """A plugin of pytest that notes which test has met which check, that is, was refused by it."""

    def __init__(self) -> None:
        self.met: dict[tuple[str, int], list[tuple[float, str]]] = defaultdict(list)
        self._seen: set[tuple[str, int]] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """A test begins."""
        self._seen = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what it met, and how long it took."""
        if report.when == "call":
            for place in self._seen:
                file, _, rest = report.nodeid.partition("::")
                self.met[place].append((report.duration, f"{Path(file).name}::{rest}"))

    def watch(self, name: str) -> None:
        """Put code that reports into the functions of a module."""
        module = sys.modules[name]
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text("utf-8"))
        for _, body, at in list(refusals(tree, "")):
            found = body[at]
            report = ast.parse(f"_met({found.lineno})").body[0]
            if isinstance(found, ast.If):
                found.body.insert(0, report)
            else:
                caught = ast.ExceptHandler(None, None, [report, ast.Raise()])
                body[at] = ast.Try([found], [caught], [], [])
        for each in ast.walk(tree):
            ast.fix_missing_locations(each)
        code = compile(ast.fix_missing_locations(tree), module.__file__, "exec")
        vars(module)["_met"] = lambda line: self._seen.add((name, line))
        codes = {each.co_qualname: each for each in all_codes(code)}
        put(codes, module.__file__)


def swap(mutant: PythonMutant) -> None:
    """Put a function's code without the check into the loaded function."""
    codes = {code.co_qualname: code for code in all_codes(mutant.code)}
    put({mutant.qualname: codes[mutant.qualname]}, mutant.code.co_filename)


def put(codes: dict[str, CodeType], file: str) -> None:
    """Put codes by name into the loaded functions of a file, what decorates functions elsewhere among them."""
    for module in filter(None, map(sys.modules.get, MODULES)):
        for function in functions(module):
            if function.__code__.co_filename == file and function.__code__.co_qualname in codes:
                function.__code__ = codes[function.__code__.co_qualname]


def all_codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and all inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from all_codes(const)


def functions(owner: Any) -> Iterator[FunctionType]:
    """All functions of a module and its classes; of a decorated one what it wraps as well."""
    home = owner.__module__ if isinstance(owner, type) else owner.__name__
    for value in list(vars(owner).values()):
        if isinstance(value, type) and value.__module__ == home:
            yield from functions(value)
        inner = value.fget if isinstance(value, property) else getattr(value, "func", value)
        while inner is not None:
            if isinstance(inner, FunctionType):
                yield inner
            inner = getattr(inner, "__wrapped__", None)


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
    loaded = [name for name in MODULES if _load(name)]
    mutants = [mutant for name in loaded for mutant in python_mutants(name, sys.modules[name])]
    sources = digest([Path(str(sys.modules[name].__file__)) for name in loaded])
    rows, left = [], []
    for mutant in mutants:
        found = kept.get("python", f"{mutant.place} {sources}")
        if found is not None and found["file"] == digest([tests / found["by"].partition("::")[0]]):
            rows.append(mutant.row(found["by"]))
        else:
            left.append(mutant)
    met = _meetings(loaded, tests) if left else {}
    for done, mutant in enumerate(left, 1):
        tried = [test for _, test in sorted(met.get((mutant.module, mutant.line), ()))]
        killer = next((test for test in tried[:_TRIED] if red([str(tests / test)], mutant)), "")
        if killer:
            file = digest([tests / killer.partition("::")[0]])
            kept.put("python", f"{mutant.place} {sources}", {"by": killer, "file": file})
        else:
            frame.progress(f"survived: {mutant.module}:{mutant.line}: {mutant.text} (met by {len(tried)} tests)")
        rows.append(mutant.row(killer))
        if done % 20 == 0:
            frame.progress(f"{done} of {len(left)} checks of the Python court")
    killers = sorted({each["by"] for each in rows if each["state"] == "killed"})
    if killers and red([str(tests / each) for each in killers]):
        raise ChainError("control", "a test that has killed fails on the unchanged code", "green tests")
    return sorted(rows, key=lambda each: (each["file"], each["line"], each["check"]))


def _meetings(loaded: list[str], tests: Path) -> dict[tuple[str, int], list[tuple[float, str]]]:
    """Which tests meet which check, and how long they take."""
    meetings = Meetings()
    for name in loaded:
        meetings.watch(name)
    with redirect_stdout(io.StringIO()) as said:
        result = pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", str(tests)], plugins=[meetings])
    if result != 0:
        raise ChainError("dispute tests", said.getvalue()[-2000:], "green tests without mutants")
    frame.progress("dispute tests have run")
    return meetings.met


def _load(name: str) -> bool:
    """Whether there is such a module; it is loaded then."""
    try:
        __import__(name)
    except ModuleNotFoundError:
        return False
    return True


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
