"""The court in Python without one of its checks, put into the functions that are loaded; and which test
meets which check."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

ROOM = "otr_core.dispute."
"""Where the modules stand whose functions are exchanged."""


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

    @property
    def file(self) -> str:
        """Name of the module's file."""
        return self.module.split(".")[-1] + ".py"


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
        return called.lstrip("_").startswith("require") or called in ("tile_read", "_token", "reader.done", "check")
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
    # A function within another is made anew by each call of that one, or was made once and for all.
    names = (mutant.qualname, mutant.qualname.partition(".<locals>")[0])
    put({name: codes[name] for name in names}, mutant.code.co_filename)


def put(codes: dict[str, CodeType], file: str) -> None:
    """Put codes by name into the loaded functions of a file, what decorates functions elsewhere among them."""
    rooms = [name for name in sys.modules if name.startswith(ROOM)]
    for module in map(sys.modules.__getitem__, rooms):
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
