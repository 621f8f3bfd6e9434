"""Units: the parts of one layer at one position that can each be checked on its own.

Thirteen operators lead from what earlier leaves hold (the layer's input row, keys and values) to
what its own leaf holds (key, value, output). Seven are matrices: a unit is a block of rows, proven
in zero knowledge. Six have no weights: a unit is recomputed in the open, in integers. If every unit
of a layer holds, its leaf is what the model gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from otr_core.errors import InconclusiveError, InputError
from otr_core.lane.architecture import Architecture
from otr_core.lane.dims import Dims, Matrix
from otr_core.lane.formats import INT32
from otr_core.spotcheck.proofs import Shape, Statement
from otr_core.spotcheck.rows import Spans

PRODUCT_BLOCK = 8
"""Values in one unit of the gated product."""
SMALL, LARGE = 8 * 576, 64 * 576
"""Weights in one matrix unit: of the default run, and of the larger unit of notebook 04."""


@dataclass(frozen=True)
class MatrixOperator:
    """A matrix operator: y = W·x rounded by ``shift`` bits, W of shape (rows, columns).

    Attributes:
        name: of the operator. stack: the model's matrix that W is part of; first: W's first row in
            it.
        source: name of the row that x is.
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

    def __post_init__(self) -> None:
        if not Dims.of(self.architecture).plain:
            added = ", ".join(self.architecture.added)
            raise InputError(f"units of {self.architecture.family}: found {added}, expected a plain Llama's operators")

    @property
    def head_values(self) -> tuple[int, int]:
        """Values in a row of all query heads, and in one of all key or value heads."""
        a = self.architecture
        return a.heads * a.head_dim, a.kv_heads * a.head_dim

    @property
    def matrices(self) -> dict[str, MatrixOperator]:
        """The matrix operators by name, in order of computation."""
        a, (q, kv) = self.architecture, self.head_values
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
        blocks = {matrix.name: matrix.rows // self.block_rows(matrix) for matrix in self.matrices.values()}
        opened = {"attention.norm": 1, "query": 1, "key": 1, "attention": a.heads, "mlp.norm": 1}
        return blocks | opened | {"product": -(-a.intermediate // PRODUCT_BLOCK)}

    def block_rows(self, matrix: MatrixOperator) -> int:
        """Rows of a block: the most that divide the matrix and keep to ``weights``."""
        most = max(1, self.weights // matrix.columns)
        return next(rows for rows in range(min(most, matrix.rows), 0, -1) if matrix.rows % rows == 0)

    def shape(self, operator: str) -> Shape:
        """Circuit shape of a matrix operator's units."""
        matrix = self.matrices[operator]
        return Shape(self.block_rows(matrix), matrix.columns)

    def row_lengths(self) -> dict[str, int]:
        """Number of values in each row committed between the draws, in the order of their tree.

        The rows that leaves hold already (input, key, value, output) are not among them.
        """
        a, (q, kv) = self.architecture, self.head_values
        return {
            "attention.normed": a.hidden,
            "q": q,
            "k": kv,
            "attention.query": q,
            "attention.mixed": q,
            "attention.residual": a.hidden,
            "mlp.normed": a.hidden,
            "gate": a.intermediate,
            "up": a.intermediate,
            "mlp.product": a.intermediate,
        }

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

    def group(self, unit: Unit) -> tuple[int, int]:
        """First and end index, in a key or value row, of what an attention unit's head reads."""
        a = self.architecture
        first = unit.block * a.kv_heads // a.heads * a.head_dim
        return first, first + a.head_dim


def needed_rows(layout: Layout, unit: Unit) -> Spans:
    """The values that a verifier of ``unit`` must see: row name -> first and end index.

    Keys and values of earlier positions are not listed: an attention unit needs all of its head's.

    Raises:
        InputError: there is no such unit.
    """
    a, name, (q, kv) = layout.architecture, layout.check(unit).operator, layout.head_values
    if name in layout.matrices:
        matrix = layout.matrices[name]
        outputs = {"v": ("value",), "o": ("input", "attention.residual"), "down": ("attention.residual", "output")}
        return {matrix.source: (0, matrix.columns)} | dict.fromkeys(outputs.get(name, (name,)), layout.span(unit))
    head = (unit.block * a.head_dim, (unit.block + 1) * a.head_dim)
    block = (unit.block * PRODUCT_BLOCK, min((unit.block + 1) * PRODUCT_BLOCK, a.intermediate))
    rows, span = {
        "attention.norm": (("input", "attention.normed"), (0, a.hidden)),
        "query": (("q", "attention.query"), (0, q)),
        "key": (("k", "key"), (0, kv)),
        "attention": (("attention.query", "attention.mixed"), head),
        "mlp.norm": (("attention.residual", "mlp.normed"), (0, a.hidden)),
        "product": (("gate", "up", "mlp.product"), block),
    }[name]
    return dict.fromkeys(rows, span)


def unit_vectors(layout: Layout, unit: Unit, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of a matrix unit, int64: what the weights multiply, and what must come out.

    Args:
        values: the unit's ``needed_rows``, each only as long as its span.

    Raises:
        InconclusiveError: the residual stream saturates here, for which the circuit has no room. No
            real trace ever did; such a unit is drawn again (``query``).
    """
    source = layout.matrices[unit.operator].source
    if unit.operator not in ("o", "down"):
        return values[source], next(values[name] for name in values if name != source)
    # The product is added to the residual stream: what must come out is the difference.
    before, after = ("input", "attention.residual") if unit.operator == "o" else ("attention.residual", "output")
    if abs(values[after]).max() >= INT32:
        raise InconclusiveError(f"unit {unit.operator} {unit.block}: the residual stream saturates at {INT32}")
    return values[source], values[after] - values[before]


def unit_statement(layout: Layout, unit: Unit, weights: np.ndarray, values: Mapping[str, np.ndarray]) -> Statement:
    """The statement that a matrix unit's proof is about.

    Args:
        weights: the unit's block scaled to ``prover.SHIFT``: int64 (rows, columns). values: as for
            ``unit_vectors``.

    Raises:
        InconclusiveError: as ``unit_vectors``.
    """
    return Statement(weights, *unit_vectors(layout, unit, values))
