"""A player's own execution of one disputed program: every operator's values, and the trees committed to in the game."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from math import isqrt
from typing import TYPE_CHECKING

from otr_core.lane import formats as bits
from otr_core.lane import program as pr
from otr_core.lane.program import Dims, Kind, Matrix, Operator, Table
from otr_core.lane.sampling import draw
from otr_core.lane.step import LAYER, PADDING, TEMPERATURE_FACTOR, TraceClaim, program
from otr_core.merkle import Tree
from otr_node.commitment import ModelTrees

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ProgramInputs:
    """What a program reads of the trace: int64 arrays.

    Attributes:
        stream: the residual stream that enters, (hidden,).
        keys, values: rows of earlier positions in this layer, (position, kv); none for a token's choice.
    """

    stream: np.ndarray
    keys: np.ndarray
    values: np.ndarray


Alter = Callable[[int, "np.ndarray"], "np.ndarray"]
"""Changes an operator's values as they are made: what a cheat does; later operators go on from the changed ones."""


@dataclass
class Execution:
    """The values of every operator of one program, and what is committed of them.

    Attributes:
        target, position, layer, claim: as in ``judge.Place``.
        token_step: of a token's choice: number of the answer token.
        alter: None for an honest player.
    """

    model: ModelTrees
    claim: TraceClaim
    target: int
    position: int
    layer: int
    inputs: ProgramInputs
    token_step: int = 0
    alter: Alter | None = None
    vectors: list[np.ndarray] = field(init=False)
    _tile_trees: dict[int, Tree] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.vectors = []
        run = self._layer if self.target == LAYER else self._choice
        run()

    @property
    def dims(self) -> Dims:
        return self.model.dims

    @cached_property
    def program(self) -> tuple[Operator, ...]:
        return program(self.dims, self.target, self.position, self.claim.temperature_milli)

    # --- values

    def _put(self, values: np.ndarray | Sequence[int]) -> np.ndarray:
        import numpy as np

        made = np.asarray(values, dtype=np.int64)
        if self.alter is not None:
            made = self.alter(len(self.vectors), made)
        self.vectors.append(made)
        return made

    def _dot(self, matrix: Matrix, x: np.ndarray) -> np.ndarray:
        """Exact: every partial sum is an integer below 2^52 (``integers.check_bounds``)."""
        import numpy as np

        product = self.model.matrix(matrix, self.layer).astype(np.float64) @ x.astype(np.float64)
        return product.astype(np.int64)

    def _norm(self, x: np.ndarray) -> np.ndarray:
        d = self.dims
        peak = int(self._put([abs(x).max()])[0])
        power = min(bits.NORM_INPUT - peak.bit_length(), -bits.NORM_LEAST_SCALE)
        scaled = _shift(x, -power)
        squares = int(self._put([(scaled * scaled).sum()])[0])
        epsilon = _shift(d.epsilon, -2 * power)
        factor = self._put([d.numerator // isqrt(max(4 * (squares + int(epsilon)), 1))])[0]
        return self._put(_shift(scaled * factor, d.drop))

    def _layer(self) -> None:
        import numpy as np

        d, t = self.dims, self.dims.tile
        seen, padded = self.position + 1, self.dims.padded(self.position + 1)
        stream = self._put(self.inputs.stream)
        qkv = self._put(
            _shift(self._dot(Matrix.QKV, self._norm(stream)), bits.NORMED + bits.WEIGHT - bits.HEAD)
        ).reshape(-1, t)
        query = self._put(self._rotate(qkv[: d.heads])).reshape(-1, t)
        key = self._put(self._rotate(qkv[d.heads : d.heads + d.kv_heads])).reshape(-1, t)
        keys = np.concatenate([self.inputs.keys.reshape(-1, d.kv_heads, t), key[None]])
        values = np.concatenate([self.inputs.values.reshape(-1, d.kv_heads, t), qkv[None, d.heads + d.kv_heads :]])
        share = d.heads // d.kv_heads
        scores = np.full((d.heads, padded), PADDING, dtype=np.int64)
        scores[:, :seen] = np.einsum("nht,ht->hn", keys.repeat(share, axis=1), query)
        scores = self._put(scores.ravel()).reshape(d.heads, padded)
        top = self._put(scores.max(1))
        exp2 = self.model.tables[Table.EXP2]
        index = np.clip((top[:, None] - scores) >> (2 * bits.HEAD - bits.SCORE), 0, len(exp2) - 1)
        exps = self._put(exp2[index].ravel()).reshape(d.heads, padded)
        total = self._put(exps.sum(1))
        shares = self._put((1 << (bits.EXP + bits.PROBABILITY)) // np.maximum(total, 1))
        weights = self._put((exps * shares[:, None] >> bits.EXP).ravel()).reshape(d.heads, padded)
        mixed = np.einsum("hn,nht->ht", weights[:, :seen], values.repeat(share, axis=1))
        mixed = self._put(_shift(mixed.ravel(), bits.PROBABILITY))
        out = _shift(self._dot(Matrix.OUT, mixed), bits.HEAD + bits.WEIGHT - bits.RESIDUAL)
        stream = self._put(np.clip(stream + out, -bits.INT32, bits.INT32))
        gate_up = self._dot(Matrix.GATE_UP, self._norm(stream))
        gate_up = self._put(_shift(gate_up, bits.NORMED + bits.WEIGHT - bits.GATE))
        product = self._put(self._gate(*gate_up.reshape(2, -1)))
        out = _shift(self._dot(Matrix.DOWN, product), bits.MLP + bits.WEIGHT - bits.RESIDUAL)
        self._put(np.clip(stream + out, -bits.INT32, bits.INT32))

    def _rotate(self, heads: np.ndarray) -> np.ndarray:
        import numpy as np

        t, half = self.dims.tile, self.dims.tile // 2
        turn = self.model.tables[Table.ROTARY][self.position * t : (self.position + 1) * t]
        cosine, sine = turn[:half], turn[half:]
        first, second = heads[:, :half], heads[:, half:]
        turned = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=1)
        return _shift(turned.ravel(), bits.ROTARY)

    def _gate(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        import numpy as np

        sigmoid = self.model.tables[Table.SIGMOID]
        index = _shift(gate, bits.GATE - bits.SIGMOID_INDEX) + (bits.SIGMOID_LIMIT << bits.SIGMOID_INDEX)
        silu = _shift(sigmoid[np.clip(index, 0, len(sigmoid) - 1)] * gate, bits.SIGMOID)
        bound = 1 << int(self.model.tables[Table.SATURATION][self.layer])
        product: np.ndarray = np.clip(_shift(silu * up, 2 * bits.GATE - bits.MLP), -bound, bound)
        return product

    def _choice(self) -> None:
        import numpy as np

        stream = self._put(self.inputs.stream)
        logits = self._dot(Matrix.HEAD, self._norm(stream))
        logits = self._put(_shift(logits, bits.NORMED + bits.WEIGHT - bits.LOGIT))
        if self.claim.temperature_milli == 0:
            self._put([int(logits.argmax())])
            return
        top = int(self._put([logits.max()])[0])
        scale = self.claim.temperature_milli << (20 + bits.LOGIT - bits.SCORE)
        exp2 = self.model.tables[Table.EXP2]
        weights = self._put(exp2[np.clip((top - logits) * TEMPERATURE_FACTOR // scale, 0, len(exp2) - 1)])
        total = int(self._put([weights.sum()])[0])
        target = draw(self.claim.seed, self.token_step) * total >> 53
        self._put([int(np.searchsorted(np.cumsum(weights), target, side="right"))])

    def accumulators(self, operator: int, element: int) -> list[tuple[int, int]]:
        """The accumulator after each step of an element that takes several."""
        import numpy as np

        op, t = self.program[operator], self.dims.tile
        if op.kind == Kind.DOT:
            matrix, operand = self._operands(operator)
            row = self.model.matrix(matrix, self.layer)[element].astype(np.int64)
            sums = (row * self.vectors[operand]).reshape(-1, t).sum(1).cumsum()
            return [(int(s), 0) for s in sums]
        if op.kind == Kind.MIX:
            head, seen = element // t, self.position + 1
            group = head // (self.dims.heads // self.dims.kv_heads)
            column = group * t + element % t
            own = self.vectors[pr.QKV][(self.dims.heads + self.dims.kv_heads) * t + column]
            values = np.append(self.inputs.values[:, column], own)
            weights = self.vectors[pr.WEIGHTS].reshape(self.dims.heads, -1)[head, :seen]
            return [(int(s), 0) for s in (weights * values).cumsum()]
        source: np.ndarray = self.vectors[operator - (2 if op.kind in (Kind.SQUARES, Kind.DRAW) else 1)]
        if self.target == LAYER and op.kind in (Kind.TOP, Kind.SUM):
            source = source.reshape(self.dims.heads, -1)[element]
        if op.kind == Kind.SQUARES:
            peak = int(self.vectors[operator - 1][0])
            source = _shift(source, max(peak.bit_length() - bits.NORM_INPUT, bits.NORM_LEAST_SCALE)) ** 2
        ends = [min(len(source), end) for end in range(t, len(source) + t, t)]
        if op.kind == Kind.DRAW:
            cumulative = source.cumsum()
            target = draw(self.claim.seed, self.token_step) * int(self.vectors[operator - 1][0]) >> 53
            chosen = int(np.searchsorted(cumulative, target, side="right"))
            return [(int(cumulative[end - 1]), chosen if chosen < end else -1) for end in ends]
        if op.kind == Kind.ARGMAX:
            firsts = [int(source[:end].argmax()) for end in ends]
            return [(int(source[at]), at) for at in firsts]
        if op.kind in (Kind.PEAK, Kind.TOP):
            running = np.maximum.accumulate(abs(source) if op.kind == Kind.PEAK else source)
        else:
            running = source.cumsum()
        return [(int(running[end - 1]), 0) for end in ends]

    def _operands(self, operator: int) -> tuple[Matrix, int]:
        if self.target != LAYER:
            return Matrix.HEAD, operator - 1
        return {
            pr.QKV: (Matrix.QKV, pr.QKV - 1),
            pr.RESIDUAL_SUM: (Matrix.OUT, pr.MIXED),
            pr.GATE_UP: (Matrix.GATE_UP, pr.GATE_UP - 1),
            pr.OUTPUT: (Matrix.DOWN, pr.PRODUCT),
        }[operator]

    # --- what is committed

    def tile_data(self, operator: int, tile: int) -> bytes:
        """Content of a tile's leaf."""
        values = self.vectors[operator][tile * self.dims.tile : (tile + 1) * self.dims.tile]
        return bytes(values.astype(">i8").tobytes())

    def tiles(self, operator: int) -> Tree:
        """Tree over an operator's tiles."""
        if operator not in self._tile_trees:
            count = self.dims.tiles(self.program[operator].length)
            leaves = [sha256(b"\x00" + self.tile_data(operator, i)).digest() for i in range(count)]
            self._tile_trees[operator] = Tree(leaves)
        return self._tile_trees[operator]

    @cached_property
    def operators(self) -> Tree:
        """Tree over the operators; a leaf's content is the root of its tiles."""
        contents = [self.tiles(i).root for i in range(len(self.program))]
        return Tree([sha256(b"\x00" + content).digest() for content in contents])

    def steps(self, operator: int, element: int) -> tuple[Tree, list[bytes]]:
        """Tree over an element's accumulators and its value, and the leaves' contents."""
        leaves = [struct.pack(">qq", *acc) for acc in self.accumulators(operator, element)]
        leaves.append(struct.pack(">qq", int(self.vectors[operator][element]), 0))
        return Tree([sha256(b"\x00" + leaf).digest() for leaf in leaves]), leaves


def _shift(x: np.ndarray | int, count: int) -> np.ndarray:
    """As ``judge.shift``, on arrays."""
    import numpy as np

    x = np.asarray(x, dtype=np.int64)
    return (x + (1 << (count - 1))) >> count if count > 0 else x << -count
