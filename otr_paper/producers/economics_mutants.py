"""Does a wrong formula turn a test red? Nothing is stored; survivors are printed.

Each mutant changes one operator, sign, comparison or number in one module of
``otr_core.economics``; the tests of that module run on it in a child process. A mutant that
survives is a missing test, or changes nothing.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from types import CodeType, ModuleType
from typing import TypeAlias

import hypothesis
import pytest
import scipy.optimize  # noqa: F401  (loaded once here, not in every child)

from otr_paper.producers import frame

#: Module -> the tests that must turn red.
TESTS = {
    "otr_core.economics.detection": ["otr_core/economics/test_detection"],
    "otr_core.economics.deterrence": ["otr_core/economics/test_deterrence"],
    "otr_core.economics.guarantee": ["otr_core/economics/test_guarantee"],
    "otr_core.economics.honesty": ["otr_core/economics/test_honesty"],
    "otr_core.economics.game": ["otr_core/economics/test_equilibrium"],
    "otr_core.economics.rates": ["otr_core/economics/test_rates", "otr_core/economics/test_harm"],
    "otr_core.economics.harm": ["otr_core/economics/test_harm"],
    "otr_core.economics.values": ["otr_core/economics/test_harm"],
    "otr_core.economics.guidance": ["otr_core/economics/test_scenarios", "otr_core/economics/test_harm"],
    "otr_paper.studies.adversaries": ["otr_paper/studies/test_adversaries"],
    "otr_paper.studies.population": ["otr_paper/studies/test_population"],
    "otr_paper.series.economics": ["otr_core/economics/test_deterrence", "otr_paper/series/test_economics_series"],
}
Kind: TypeAlias = type[ast.AST]
OPPOSITES: tuple[tuple[Kind, Kind], ...]
OPPOSITES = (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.Gt), (ast.BitAnd, ast.BitOr)
#: What stands instead of an operator.
SWAPS: dict[Kind, Kind] = {one: other for pair in OPPOSITES for one, other in (pair, pair[::-1])}
SWAPS |= {ast.Pow: ast.Mult, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq}


def _others(node: ast.AST) -> Iterator[dict[str, object]]:
    """What may be written into the fields of ``node`` instead: one dictionary of fields per
    mutant."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        if isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node):
            return  # a type, not a formula
        yield {"op": SWAPS[type(node.op)]()}
        if isinstance(node.op, ast.Mult):  # a factor is forgotten
            yield {"left": ast.Constant(1.0)}
            yield {"right": ast.Constant(1.0)}
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield {"ops": [SWAPS[type(node.ops[0])]()]}
    elif isinstance(node, ast.Constant) and type(node.value) is float:
        yield {"value": node.value + 1.0 if node.value in (0.0, 1.0) else node.value * 2}
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield {"op": ast.UAdd()}


def _changes(tree: ast.Module) -> Iterator[str]:
    """Apply one change after another to ``tree``; each is undone before the next. Yields what was
    changed."""
    for node in ast.walk(tree):
        for fields in list(_others(node)):
            text, old = ast.unparse(node), {name: getattr(node, name) for name in fields}
            for name, value in fields.items():
                setattr(node, name, value)
            yield f"line {getattr(node, 'lineno', 0)}: {text}  ->  {ast.unparse(node)}"
            for name, value in old.items():
                setattr(node, name, value)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from given code instead of its file."""

    def __init__(self, name: str, code: CodeType) -> None:
        self.name, self.code = name, code

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


def _killed(module: str, code: CodeType) -> bool:
    """Whether the tests of ``module`` fail on the mutant."""
    child = os.fork()
    if child == 0:
        # One failing example is enough; shrinking it would cost more than all else.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutant", phases=phases, max_examples=50, database=None)
        hypothesis.settings.load_profile("mutant")
        sys.meta_path.insert(0, _Mutated(module, code))
        files = [str(frame.checkout().root / "tests" / f"{name}.py") for name in TESTS[module]]
        options = ["-x", "-q", "-m", "not slow", "-p", "no:randomly", "--tb=no", "--timeout", "30"]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            result = pytest.main([*files, *options])
        os._exit(0 if result == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("module", nargs="*", help=", ".join(TESTS))
    parser.add_argument("--most", type=int, help="mutants of each module, the first ones")
    given = parser.parse_args()
    os.environ["PYTHONHASHSEED"] = "0"
    survivors, count = 0, 0
    for module in given.module or TESTS:
        source = frame.checkout().root / (module.replace(".", "/") + ".py")
        tree = ast.parse(source.read_text())
        for change in itertools.islice(_changes(tree), given.most):
            count += 1
            if not _killed(module, compile(ast.fix_missing_locations(tree), str(source), "exec")):
                survivors += 1
                print(f"survived: {module}: {change}", flush=True)
        print(f"{module}: done, {count} mutants so far", flush=True)
    print(f"{count - survivors} of {count} mutants killed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
