"""Single figures and tables of a notebook, computed without the rest of it.

A notebook is straight-line code, so what an output is made from can be read off: the names in its data, the statements
that make or change these, and so on back to the parameters. Only these statements are executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Attributes of the session that are parameters under another name.
OF_SESSION = {"mode": "mode", "smoke": "profile", "profile": "profile", "seed": "seed", "device": "device"}
#: Names whose methods change nothing that another statement reads.
UNCHANGED = {"run", "figures", "np", "pd", "print"}


def read(node: ast.AST) -> set[str]:
    """Names that a piece of code reads, the session's parameters by their own names."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "run":
            found |= {OF_SESSION[part.attr]} if part.attr in OF_SESSION else set()
    return found


def written(node: ast.AST) -> set[str]:
    """Names that a statement makes or changes: by assignment, by import, by an item, or by a method called for it."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        if isinstance(part, ast.alias):
            found.add((part.asname or part.name).split(".")[0])
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(_base(part))
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            found |= {_base(part.value.func)} - UNCHANGED
    return found - {""}


def _base(node: ast.AST) -> str:
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _replaced(node: ast.stmt) -> set[str]:
    """Names that a statement makes anew, whatever they were before."""
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Subscript | ast.Attribute):
        made = {part.id for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)}
        return made - read(node.value)
    if isinstance(node, ast.Import | ast.ImportFrom):
        return written(node)
    return set()


@dataclass
class Output:
    """A figure or table of a notebook: its name, its data as code, and the statements that the data are made by."""

    name: str
    data: ast.expr
    cell: int
    statements: list[ast.stmt]
    parameters: set[str] = field(default_factory=set)


class SlicedNotebook:
    """A stored notebook, cut into its outputs.

    Attributes:
        parameters: name -> the value that the parameters cell gives it.
        outputs: in the order of the notebook.
    """

    def __init__(self, name: str, book: Mapping[str, Any]) -> None:
        code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        (declared,) = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
        tree = ast.parse("".join(declared["source"]))
        self.name = name
        self.parameters = {node.target.id: ast.literal_eval(node.value) for node in tree.body}
        self.statements = [
            (number, node)
            for number, cell in enumerate(code)
            if cell is not declared
            for node in ast.parse("".join(cell["source"])).body
        ]
        self.outputs = list(self._outputs())

    def _outputs(self) -> Iterator[Output]:
        for at, (cell, node) in enumerate(self.statements):
            call = node.value if isinstance(node, ast.Expr) else None
            shown = isinstance(call, ast.Call) and ast.unparse(call.func) in ("run.figure", "run.table")
            if shown:
                first = 1 if ast.unparse(call.func) == "run.figure" else 0
                name, data = call.args[first].value, call.args[first + 1]
                statements, needed = self.needed_for(read(data) | {"run"}, at)
                yield Output(name, data, cell, statements, needed & self.parameters.keys())

    def needed_for(self, names: set[str], before: int) -> tuple[list[ast.stmt], set[str]]:
        """The statements before one that ``names`` are made by, and all names read on the way."""
        needed, seen, chosen = set(names), set(names), []
        for _, node in reversed(self.statements[:before]):
            if written(node) & needed:
                chosen.append(node)
                needed = (needed - _replaced(node)) | read(node)
                seen |= needed
        return chosen[::-1], seen

    def compute(self, output: Output, name: str, values: tuple[Any, ...]) -> Iterator[Any]:
        """The data of an output with each value of one parameter. Cells of which nothing depends on it are computed
        once; the others whole, for what they make may remember what was done with it."""
        tainted, dependent = {name}, set()
        cell_of = {id(node): cell for cell, node in self.statements}
        for node in output.statements:
            if read(node) & tainted:
                tainted |= written(node)
                dependent.add(cell_of[id(node)])
        first = [node for node in output.statements if _begins(node)]
        shared = [node for node in output.statements if cell_of[id(node)] not in dependent and node not in first]
        changed = [node for node in output.statements if cell_of[id(node)] in dependent and node not in first]
        if set().union(*map(written, shared)) & set().union(*map(written, changed)):
            shared, changed = [], shared + changed
            changed.sort(key=output.statements.index)
        once = dict(self.parameters)
        execute([*first, *shared], once)
        start = [node for node in first if "notebook.start" in ast.unparse(node)]
        for value in values:
            space = {**once, **self.parameters, name: value}
            # the session knows its own parameters, and refuses what is outside their ranges
            session = {**self.parameters, name: value, "notebook": once["notebook"]}
            execute(start, session)
            space["run"] = session["run"]
            execute(changed, space)
            yield eval(compile(ast.Expression(output.data), output.name, "eval"), space)

    def figures(self) -> Iterator[tuple[str, Any]]:
        """Each figure as it is drawn, with its name; nothing else of the notebook is executed."""
        drawn = [(at, cell, node) for at, (cell, node) in enumerate(self.statements) if _shows_figure(node)]
        needed: set[int] = set()
        for at, cell, node in drawn:
            own = [n for n, (number, _) in enumerate(self.statements[:at]) if number == cell]
            names = read(node.value.args[0]).union({"run"}, *(read(self.statements[n][1]) for n in own))
            chosen = {id(one) for one in self.needed_for(names, at)[0]}
            needed |= {n for n, (_, one) in enumerate(self.statements[:at]) if id(one) in chosen or n in own}
        space = dict(self.parameters)
        for at, (_, node) in enumerate(self.statements):
            if _shows_figure(node):
                call = node.value
                figure = eval(compile(ast.Expression(call.args[0]), "<figure>", "eval"), space)
                yield call.args[1].value, figure
            elif at in needed and not _is_shown(node):
                execute([node], space)


def _begins(node: ast.stmt) -> bool:
    """Whether a statement imports, or opens the session."""
    return isinstance(node, ast.Import | ast.ImportFrom) or "notebook.start(" in ast.unparse(node)


def _is_shown(node: ast.stmt) -> bool:
    """Whether a statement only shows or prints something."""
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and ast.unparse(call.func).startswith(("run.", "print"))


def _shows_figure(node: ast.stmt) -> bool:
    return _is_shown(node) and ast.unparse(node.value.func) == "run.figure"


def execute(statements: list[ast.stmt], space: dict[str, Any]) -> None:
    """Run statements in the namespace ``space``."""
    exec(compile(ast.Module(list(statements), []), "<notebook>", "exec"), space)
