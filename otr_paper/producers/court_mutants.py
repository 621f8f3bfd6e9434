"""Is the loss of a single check noticed? data/results/court_mutants.json. Some twenty minutes.

Contracts: each ``assert`` of each contract is deleted, and each part of a conjunction. Without a check
no call that went through goes otherwise, so that only refused calls can tell the mutant: the contract
tests run once, and each call that they see refused is made again on the mutants, from the same state.
A mutant is killed if it does not give the same reason.

Python: each check of court, game and judge is deleted. The dispute tests run once, to see which test
meets which check; then the tests that meet it are run without it, until one turns red.
"""

from __future__ import annotations

import ast
import io
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

import pytest

from otr_core.dispute import contracts
from otr_core.errors import ChainError
from otr_node.chain.evm import Chain, compile_source, compile_vyper
from otr_node.chain.interface import Contract
from otr_paper.producers import frame

CONTRACT_TESTS = ("otr_node/chain",)
PYTHON_TESTS = ("otr_core/dispute",)
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
        self._deployed: dict[tuple[int, str], tuple[str, bytes]] = {}
        self._deploy, self._transact, self._call = Chain.deploy, Chain.transact, Chain.call
        for path in sorted(folder.glob("*.vy")):
            source, mutants = vyper_mutants(path)
            if mutants:
                self.mutants += mutants
                self._all[compile_vyper(path).bytecode] = path.name, compile_source(source, str(path))
        for mutant in self.mutants:
            self.waiting[mutant.name, mutant.reason].append(mutant)

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """Remembers which test runs."""
        self.test = item.nodeid.split("/")[-1]

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
                prober._deployed[id(chain), made.address] = name, code
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
        for (own, address), (name, code) in list(self._deployed.items()):
            found = [*self.waiting[name, reason], *self.waiting[name, ANY]] if own == id(chain) else []
            for mutant in found:
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

    def _kill(self, mutant: VyperMutant) -> None:
        mutant.killed_by = self.test
        self.waiting[mutant.name, mutant.reason].remove(mutant)


def contract_rows(folder: Path, tests: list[str]) -> tuple[list[dict[str, Any]], int]:
    """All contract mutants and what became of them; how many calls were refused in the tests."""
    prober = Prober(folder)
    prober.install()
    with redirect_stdout(io.StringIO()) as said:
        result = pytest.main(["-q", "-p", "no:randomly", "-p", "no:cacheprovider", *tests], plugins=[prober])
    if result != 0:
        raise ChainError("contract tests", said.getvalue()[-2000:], "green tests without mutants")
    return [row(m.name, m.line, m.text, m.killed_by) for m in prober.mutants], prober.refused


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
        code: of the whole module without it.
    """

    module: str
    qualname: str
    line: int
    text: str
    code: CodeType


def python_mutants(name: str, module: ModuleType) -> Iterator[PythonMutant]:
    """All mutants of a module: a statement that only refuses is deleted, one after another."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text("utf-8")
    tree = ast.parse(source)
    for scope, body, at in list(refusals(tree, "")):
        found = body[at]
        text = " ".join(ast.unparse(found.test if isinstance(found, ast.If) else found).split())
        # Not run, but still read by the compiler: a function inside another keeps the names that it closes over.
        body[at] = ast.copy_location(ast.If(ast.Constant(False), [found], []), found)
        code = compile(ast.fix_missing_locations(tree), module.__file__, "exec")
        body[at] = found
        yield PythonMutant(name, scope, found.lineno, text, code)


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
                self.met[place].append((report.duration, report.nodeid))

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


def red_without(mutant: PythonMutant, tests: list[str]) -> bool:
    """Whether a test fails on the mutant, in a child process."""
    child = os.fork()
    if child == 0:
        swap(mutant)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            result = pytest.main(["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=no", *tests])
        os._exit(0 if result == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def python_rows(tests: list[str]) -> list[dict[str, Any]]:
    """All mutants in Python and what became of them."""
    loaded = [name for name in MODULES if _load(name)]
    mutants = [mutant for name in loaded for mutant in python_mutants(name, sys.modules[name])]
    meetings = Meetings()
    for name in loaded:
        meetings.watch(name)
    with redirect_stdout(io.StringIO()) as said:
        result = pytest.main(["-q", "-m", "not slow", "-p", "no:cacheprovider", *tests], plugins=[meetings])
    if result != 0:
        raise ChainError("dispute tests", said.getvalue()[-2000:], "green tests without mutants")
    rows = []
    for mutant in mutants:
        met = sorted(meetings.met.get((mutant.module, mutant.line), ()))
        killer = next((test for _, test in met[:6] if red_without(mutant, [test])), "")
        rows.append(row(mutant.module.split(".")[-1] + ".py", mutant.line, mutant.text, killer.split("/")[-1]))
        if not killer:
            frame.progress(f"survived: {mutant.module}:{mutant.line}: {mutant.text} (met by {len(met)} tests)")
    return rows


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
    root, rows, refused = frame.checkout().root / "tests", [], 0
    if "contracts" in parts:
        made, refused = contract_rows(Path(contracts.__file__).parent, [str(root / name) for name in CONTRACT_TESTS])
        rows += made
    if "python" in parts:
        rows += python_rows([str(root / name) for name in PYTHON_TESTS])
    survivors = [each for each in rows if each["state"] == "survived"]
    for each in survivors:
        print(f"survived: {each['file']}:{each['line']}: {each['check']}", flush=True)
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants killed or equivalent")
    if len(parts) == 2 and not survivors:
        payload = {"mutants": rows, "refused_calls": refused}
        frame.store("court_mutants", payload, seed=None, packages=("vyper", "py-evm", "eth-tester"), cores=1)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
