"""Does a wrong formula turn a test red? ``python -m otr_paper.producers.economics_mutants [module ...]``.

Each mutant changes one operator, sign, comparison or number in one module of ``otr_core.economics``; the tests of that
module run on it in a child process. Mutants that survive are printed: each is a missing test or changes nothing.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {
    "detection": ["otr_core/economics/test_detection"],
    "deterrence": ["otr_core/economics/test_deterrence"],
    "bursts": ["otr_core/economics/test_bursts"],
    "incentives": ["otr_core/economics/test_incentives"],
    "game": ["otr_core/economics/test_equilibrium"],
    "rates": ["otr_core/economics/test_rates"],
    "adversaries": ["otr_paper/studies/test_adversaries"],
    "population": ["otr_paper/studies/test_population"],
    "guidance": ["otr_core/economics/test_scenarios"],
    "series": ["otr_core/economics/test_deterrence", "otr_paper/series/test_economics_series"],
}
#: Modules that stand elsewhere than in ``otr_core.economics``.
PLACES = {
    "adversaries": "otr_paper.studies.adversaries",
    "population": "otr_paper.studies.population",
    "series": "otr_paper.series.economics",
}
SWAPS: dict[type, list[type]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.Lt: [ast.Gt],
    ast.Gt: [ast.Lt],
    ast.LtE: [ast.Gt],
    ast.GtE: [ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
}


def _changes(tree: ast.Module) -> Iterator[str]:
    """Apply one change after another to ``tree``; each is undone before the next. Yields what was changed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            old = node.op
            if isinstance(old, ast.BitOr) and "None" in ast.unparse(node):
                continue
            text = ast.unparse(node)
            for new in SWAPS[type(old)]:
                node.op = new()
                yield f"line {node.lineno}: {text}  ->  {ast.unparse(node)}"
            node.op = old
            if isinstance(old, ast.Mult):  # a factor is forgotten
                left, right = node.left, node.right
                for kept in ("left", "right"):
                    setattr(node, kept, ast.Constant(1.0))
                    yield f"line {node.lineno}: {text}  ->  {ast.unparse(node)}"
                    node.left, node.right = left, right
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
            old_op, text = node.ops[0], ast.unparse(node)
            node.ops[0] = SWAPS[type(old_op)][0]()
            yield f"line {node.lineno}: {text}  ->  {ast.unparse(node)}"
            node.ops[0] = old_op
        elif isinstance(node, ast.Constant) and type(node.value) is float and node.value == node.value:
            value = node.value
            node.value = value + 1.0 if value in (0.0, 1.0) else value * 2
            yield f"line {node.lineno}: {value}  ->  {node.value}"
            node.value = value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            old_unary, text = node.op, ast.unparse(node)
            node.op = ast.UAdd()
            yield f"line {node.lineno}: {text}  ->  {ast.unparse(node)}"
            node.op = old_unary


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from given code instead of its file."""

    def __init__(self, name: str, code: object) -> None:
        self.name, self.code = name, code

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == self.name else None

    def exec_module(self, module) -> None:
        exec(self.code, module.__dict__)


def killed(module: str, code: object) -> bool:
    """Whether the tests of ``module`` fail on the mutant."""
    child = os.fork()
    if child == 0:
        import pytest
        from hypothesis import Phase, settings

        # One failing example is enough; shrinking it would cost more than all else.
        settings.register_profile("mutant", phases=[Phase.explicit, Phase.generate], max_examples=50, database=None)
        settings.load_profile("mutant")
        sys.meta_path.insert(0, _Mutated(PLACES.get(module, f"otr_core.economics.{module}"), code))
        files = [str(ROOT / "tests" / f"{name}.py") for name in TESTS[module]]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            result = pytest.main(
                [*files, "-x", "-q", "-m", "not slow", "-p", "no:randomly", "--tb=no", "--timeout", "30"]
            )
        os._exit(0 if result == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main(modules: list[str]) -> int:
    os.environ["PYTHONHASHSEED"] = "0"
    import hypothesis  # noqa: F401  (imported once here, not in every child)
    import numpy  # noqa: F401
    import scipy.optimize  # noqa: F401

    survivors, count = [], 0
    for module in modules or list(TESTS):
        source = ROOT / (PLACES.get(module, f"otr_core.economics.{module}").replace(".", "/") + ".py")
        tree = ast.parse(source.read_text())
        for change in _changes(tree):
            count += 1
            code = compile(ast.fix_missing_locations(tree), str(source), "exec")
            if not killed(module, code):
                survivors.append(f"{module}: {change}")
                print("survived:", survivors[-1], flush=True)
        print(f"{module}: done, {count} mutants so far", flush=True)
    print(f"{count - len(survivors)} of {count} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
