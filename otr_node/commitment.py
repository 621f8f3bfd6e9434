"""What a contract holds of a model: the roots of two trees, over its integer weights and over the
lane's tables.

The weights' tree has one leaf per tile of a matrix row (``Dims.weight_leaf``), big-endian int32;
the tables' tree one per tile of a table. Anyone with the checkpoint computes the same roots. Below
64 leaves the weights' tree is not kept but made again when a path is asked for: it takes some 64
bytes per 64 leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from otr_core.errors import ModelError
from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.tables import exp2_entries, sigmoid_entries, turns
from otr_core.lane.tensor_program import TensorDims
from otr_core.merkle import Tree, leaf_hash
from otr_node.integers.projections import Words
from otr_node.portable import PortableModel
from otr_node.tensor_lane import TensorModel
from otr_node.tensor_values import rotary_floats, to_words

_ROWS = 4096  # of a matrix, made dense at once
_GROUP = 64  # leaves under a kept node; a power of two, so that groups are whole subtrees


class DenseRows(Protocol):
    """A matrix of integers in whatever form."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def dense(self, first: int, last: int) -> np.ndarray: ...

    def __getitem__(self, row: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class WordRows:
    """A matrix of bf16 words, each given as the fp32 word that it stands for, int32."""

    words: Words

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    def dense(self, first: int, last: int) -> np.ndarray:
        """Rows ``first`` up to ``last``."""
        return (self.words[first:last].astype(np.uint32) << 16).view(np.int32)

    def __getitem__(self, row: int, /) -> np.ndarray:
        found: np.ndarray = self.dense(row, row + 1)[0]
        return found


@dataclass
class ModelTrees:
    """A model's dimensions, and its weights and tables as committed.

    Attributes:
        matrix: gives a matrix of a layer, or of the model. stop_ids: token ids that end an answer.
    """

    dims: Dims
    matrix: Callable[[Matrix, int], DenseRows]
    tables: dict[Table, np.ndarray]
    stop_ids: tuple[int, ...] = ()
    _weights: Tree = field(init=False)
    _tables: Tree = field(init=False)

    def __post_init__(self) -> None:
        leaves = self._leaves()
        groups = iter(lambda: list(islice(leaves, _GROUP)), [])  # until nothing is left
        self._weights = Tree([Tree(group).root for group in groups])
        rows = [self._table_leaf(t, at) for t in Table for at in range(self.dims.tiles(len(self.tables[t])))]
        self._tables = Tree([leaf_hash(row) for row in rows])

    @property
    def weights_root(self) -> bytes:
        return self._weights.root

    @property
    def tables_root(self) -> bytes:
        return self._tables.root

    def weight(self, matrix: Matrix, layer: int, row: int, chunk: int) -> tuple[bytes, list[bytes]]:
        """A leaf's data and its path."""
        index = self.dims.weight_leaf(matrix, layer, row, chunk)
        first = index - index % _GROUP
        group = Tree([leaf_hash(leaf) for leaf in self._range(first, first + _GROUP)])
        return self._leaf(matrix, layer, row, chunk), group.path(index - first) + self._weights.path(index // _GROUP)

    def table(self, table: Table, entry: int) -> tuple[bytes, list[bytes]]:
        """Data and path of the leaf that holds ``entry``."""
        return self._table_leaf(table, entry // self.dims.tile), self._tables.path(self.dims.table_leaf(table, entry))

    def _matrices(self) -> Iterator[tuple[Matrix, int]]:
        yield Matrix.EMBED, 0
        yield Matrix.HEAD, 0
        for layer in range(self.dims.layers):
            for matrix in self.dims.layer_matrices:
                yield matrix, layer

    def _leaves(self) -> Iterator[bytes]:
        size = 4 * self.dims.tile
        for matrix, layer in self._matrices():
            packed = self.matrix(matrix, layer)
            across = 4 * packed.shape[1]
            for first in range(0, packed.shape[0], _ROWS):
                data = packed.dense(first, min(first + _ROWS, packed.shape[0])).astype(">i4").tobytes()
                for row in range(0, len(data), across):
                    for at in range(row, row + across, size):
                        yield leaf_hash(data[at : min(at + size, row + across)])

    def _range(self, first: int, end: int) -> Iterator[bytes]:
        """Leaf data ``first`` up to ``end``, or to the last."""
        at = 0
        for matrix, layer in self._matrices():
            rows, columns = self.dims.matrix_shape(matrix)
            chunks = self.dims.tiles(columns)
            for index in range(max(first, at), min(end, at + rows * chunks)):
                yield self._leaf(matrix, layer, *divmod(index - at, chunks))
            at += rows * chunks

    def _leaf(self, matrix: Matrix, layer: int, row: int, chunk: int) -> bytes:
        t = self.dims.tile
        values = self.matrix(matrix, layer)[row][chunk * t : (chunk + 1) * t]
        return bytes(values.astype(">i4").tobytes())

    def _table_leaf(self, table: Table, tile: int) -> bytes:
        t = self.dims.tile
        return bytes(self.tables[table][tile * t : (tile + 1) * t].astype(">i4").tobytes())


def commit_model(model: PortableModel | TensorModel) -> ModelTrees:
    """The trees of a model whose lane can be disputed (SmolLM2: 2.5 million leaves, about 5 CPU s).

    Raises:
        ModelError: of the lane h100-bf16, a width is not a multiple of the head's, so that rows do not
            divide into tiles.
    """
    a = model.architecture
    if isinstance(model, TensorModel):
        if any(width % a.head_dim for width in (a.hidden, a.intermediate)) or PIECE_VALUES % a.head_dim:
            raise ModelError(
                f"widths {a.hidden}, {a.intermediate}: expected multiples of head_dim {a.head_dim}, "
                f"and head_dim a part of {PIECE_VALUES}"
            )
        return _commit_words(model)
    sides = [np.concatenate([np.array(cosines), np.array(sines)], axis=1) for cosines, sines in turns(a, a.context)]
    tables = {
        Table.EXP2: np.array(exp2_entries()),
        Table.SIGMOID: np.array(sigmoid_entries()),
        Table.ROTARY: np.concatenate(sides).ravel().astype(np.int64),
        Table.SATURATION: np.array([bound.bit_length() - 1 for bound in model.bounds.saturation], dtype=np.int64),
    }
    return ModelTrees(model.dims, model.matrix, tables, tuple(a.stop_ids))


_NAMES = {Matrix.QKV: "qkv", Matrix.OUT: "out", Matrix.GATE_UP: "gate_up", Matrix.DOWN: "down"}
_NORMS = {Matrix.BEFORE_SCALE: "before", Matrix.AFTER_SCALE: "after"}


def _commit_words(model: TensorModel) -> ModelTrees:
    def matrix(which: Matrix, layer: int) -> WordRows:
        if which in (Matrix.EMBED, Matrix.HEAD):
            return WordRows(model.matrices["embed" if which == Matrix.EMBED else "head"])
        if which in _NAMES:
            return WordRows(model.matrices[f"{layer}.{_NAMES[which]}"])
        norm = model.norms["final" if which == Matrix.FINAL_SCALE else f"{layer}.{_NORMS[which]}"]
        return WordRows(to_words(norm)[None])

    a, none = model.architecture, np.array([], np.int64)
    sides = np.concatenate(list(rotary_floats(a, a.context)), axis=1)  # (positions, head_dim)
    turned = np.ascontiguousarray(sides).view(np.int32).reshape(-1).astype(np.int64)
    tables = {Table.EXP2: np.array(exp2_entries()), Table.SIGMOID: none, Table.ROTARY: turned, Table.SATURATION: none}
    return ModelTrees(TensorDims.of(a), matrix, tables, tuple(a.stop_ids))
