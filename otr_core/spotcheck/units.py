"""Units: the pieces into which one layer at one position is cut so that each can be checked on its own.

Twelve operators lead from what earlier leaves hold (the layer's input row, keys and values) to what its own leaf holds
(key, value, output). Seven are matrices: a unit is a block of rows, proven in zero knowledge. Five have no weights:
a unit is recomputed in the open, in integers. If every unit of a layer holds, its leaf is what the model gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otr_core.errors import InconclusiveError, InputError
from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import INT32
from otr_core.lane.program import Matrix
from otr_core.spotcheck.proofs import Shape, Statement

if TYPE_CHECKING:
    import numpy as np


#: Rows committed between the two draws. What the leaves hold already (input, key, value, output) is not among them.
COMMITTED = (
    "attention.normed", "q", "k", "attention.query", "attention.mixed",
    "attention.residual", "mlp.normed", "gate", "up", "mlp.product",
)  # fmt: skip
PRODUCT_BLOCK = 8
SMALL, LARGE = 8 * 576, 64 * 576
"""Weights in one matrix unit: the size of the default run, and of the larger notebook unit."""


@dataclass(frozen=True)
class MatrixOperator:
    """A matrix operator: y = W·x rounded by ``shift`` bits.

    Attributes:
        stack: the model's matrix, and first: the first row in it. source: the row x is.
    """

    name: str
    stack: str
    first: int
    rows: int
    columns: int
    shift: int
    source: str


@dataclass(frozen=True, order=True)
class Unit:
    """One unit: where it is, which operator, which block of its outputs."""

    position: int
    layer: int
    operator: str
    block: int


@dataclass(frozen=True)
class Layout:
    """How the layers of an architecture are cut into units.

    Attributes:
        weights: most weights in one matrix unit (SMALL or LARGE).
    """

    architecture: Architecture
    weights: int = SMALL

    @property
    def matrices(self) -> dict[str, MatrixOperator]:
        a = self.architecture
        q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        qkv, gate_up = Matrix.QKV.shift, Matrix.GATE_UP.shift
        table = (
            MatrixOperator("q", "qkv", 0, q, a.hidden, qkv, "attention.normed"),
            MatrixOperator("k", "qkv", q, kv, a.hidden, qkv, "attention.normed"),
            MatrixOperator("v", "qkv", q + kv, kv, a.hidden, qkv, "attention.normed"),
            MatrixOperator("o", "o", 0, a.hidden, q, Matrix.OUT.shift, "attention.mixed"),
            MatrixOperator("gate", "gate_up", 0, a.intermediate, a.hidden, gate_up, "mlp.normed"),
            MatrixOperator("up", "gate_up", a.intermediate, a.intermediate, a.hidden, gate_up, "mlp.normed"),
            MatrixOperator("down", "down", 0, a.hidden, a.intermediate, Matrix.DOWN.shift, "mlp.product"),
        )
        return {matrix.name: matrix for matrix in table}

    @property
    def blocks(self) -> dict[str, int]:
        """How many units each operator of a layer has."""
        a = self.architecture
        opened = {"attention.norm": 1, "query": 1, "key": 1, "attention": a.heads, "mlp.norm": 1,
                  "product": -(-a.intermediate // PRODUCT_BLOCK)}  # fmt: skip
        return {m.name: m.rows // self.block_rows(m) for m in self.matrices.values()} | opened

    def block_rows(self, matrix: MatrixOperator) -> int:
        """Rows of a block: the most that divide the matrix and keep to ``weights``."""
        most = max(1, self.weights // matrix.columns)
        return next(rows for rows in range(min(most, matrix.rows), 0, -1) if matrix.rows % rows == 0)

    def shape(self, operator: str) -> Shape:
        """Circuit shape of a matrix operator's units."""
        matrix = self.matrices[operator]
        return Shape(self.block_rows(matrix), matrix.columns)

    def row_lengths(self) -> dict[str, int]:
        """Number of values in each committed row."""
        a = self.architecture
        q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
        lengths = (a.hidden, q, kv, q, q, a.hidden, a.hidden, a.intermediate, a.intermediate, a.intermediate)
        return dict(zip(COMMITTED, lengths, strict=True))

    def check(self, unit: Unit) -> Unit:
        """``unit``, if there is such a unit in a layer.

        Raises:
            InputError: there is not.
        """
        blocks = self.blocks
        if unit.operator not in blocks or not 0 <= unit.block < blocks[unit.operator]:
            raise InputError(f"unit: found {unit.operator} {unit.block}, expected one of {blocks}")
        if not 0 <= unit.layer < self.architecture.layers or unit.position < 0:
            raise InputError(f"unit: found layer {unit.layer}, expected below {self.architecture.layers}")
        return unit

    def span(self, unit: Unit) -> tuple[int, int]:
        """First and end index of a matrix unit's outputs within its operator's output."""
        rows = self.block_rows(self.matrices[unit.operator])
        return unit.block * rows, (unit.block + 1) * rows


def needed_rows(layout: Layout, unit: Unit) -> dict[str, tuple[int, int]]:
    """The values a verifier of ``unit`` must see: row name -> first and end index. Keys and values of earlier
    positions are not listed: an attention unit needs all of them."""
    a, name = layout.architecture, layout.check(unit).operator
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    if name in layout.matrices:
        matrix = layout.matrices[name]
        outputs = {"v": ("value",), "o": ("input", "attention.residual"), "down": ("attention.residual", "output")}
        return {matrix.source: (0, matrix.columns)} | dict.fromkeys(outputs.get(name, (name,)), layout.span(unit))
    head = (unit.block * a.head_dim, (unit.block + 1) * a.head_dim)
    if name == "product":
        block = unit.block * PRODUCT_BLOCK, min((unit.block + 1) * PRODUCT_BLOCK, a.intermediate)
        return dict.fromkeys(("gate", "up", "mlp.product"), block)
    return {
        "attention.norm": {"input": (0, a.hidden), "attention.normed": (0, a.hidden)},
        "query": {"q": (0, q), "attention.query": (0, q)},
        "key": {"k": (0, kv), "key": (0, kv)},
        "attention": {"attention.query": head, "attention.mixed": head},
        "mlp.norm": {"attention.residual": (0, a.hidden), "mlp.normed": (0, a.hidden)},
    }[name]


def rows_of(layout: Layout, operators: Mapping[str, np.ndarray], input_row: np.ndarray) -> dict[str, np.ndarray]:
    """All rows of a layer at one position, by the names used here.

    Args:
        operators: as ``inference.portable.rebuild_operators`` gives them. input_row: (hidden,) what entered the layer.
    """
    a = layout.architecture
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    qkv, gate_up = operators["attention.qkv"], operators["mlp.gate_up"]
    split = {
        "q": qkv[:q], "k": qkv[q : q + kv], "value": qkv[q + kv :], "key": operators["attention.key"],
        "gate": gate_up[: a.intermediate], "up": gate_up[a.intermediate :], "input": input_row,
    }  # fmt: skip
    same = ("attention.normed", "attention.query", "attention.mixed", "attention.residual", "mlp.normed", "mlp.product")
    return split | {name: operators[name] for name in (*same, "output")}


def unit_statement(layout: Layout, unit: Unit, weights: np.ndarray, values: Mapping[str, np.ndarray]) -> Statement:
    """The statement a matrix unit's proof is about.

    Args:
        values: the unit's ``needed_rows``, each only as long as its span.

    Raises:
        InconclusiveError: the residual stream saturated here, which this circuit has no room for. Never seen in a real
            trace; such a unit is drawn again (``query``).
    """
    source = layout.matrices[unit.operator].source
    if unit.operator in ("o", "down"):
        before, after = ("input", "attention.residual") if unit.operator == "o" else ("attention.residual", "output")
        if abs(values[after]).max() >= INT32:
            raise InconclusiveError(f"unit {unit.operator} {unit.block}: the residual stream saturates at {INT32}")
        outputs = values[after] - values[before]
    else:
        outputs = next(values[name] for name in values if name != source)
    return Statement(weights, values[source], outputs)
