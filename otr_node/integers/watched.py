"""One program, operator by operator: whole vectors of NumPy's integers, each noted as it is made.

This is where a player's values in a dispute come from, and what a cheat changes. Which operators
there are, and what each reads, is said by the program (``program.layer_program``); how each is
computed by the functions below, one for each primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.lane.dims import KEY, Dims, Matrix
from otr_core.lane.element import LAYER, PADDING
from otr_core.lane.program import Kind, Operator
from otr_node.integers import family_twins, twins
from otr_node.integers.forms import EXP2, SIGMOID
from otr_node.integers.packed import Packed

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Watched:
    """What one program at one position is computed from.

    Attributes:
        d: sizes and constants. loops: have ``product`` and ``gate`` (``forms.Form.loops``).
        target: ``LAYER`` or ``TOKEN``. matrix: gives a matrix of the layer. position, layer: where.
        keys, values: (kv_heads, places, head_dim) of the layer, filled up to whole tiles; this
            position's are written. turn: cosines and sines of this position, (head_dim / 2,) each.
        saturation: of the layer's MLP.
        note: (number of an operator, its values) → the values that the computation goes on with.
    """

    d: Dims
    loops: ModuleType
    target: int
    matrix: Callable[[Matrix], Packed]
    note: Callable[[int, Ints], Ints]
    position: int = 0
    layer: int = 0
    keys: NDArray[np.int32] | None = None
    values: NDArray[np.int32] | None = None
    turn: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None
    saturation: int = 0

    def run(self, operators: Sequence[Operator], given: Ints) -> dict[int, Ints]:
        """The values of ``operators``, a program up to where it chooses, by their numbers.

        Args:
            given: what enters, which is not noted where a token is chosen: it is not computed
                there.
        """
        made: dict[int, Ints] = {}
        for number, operator in enumerate(operators):
            if operator.kind == Kind.COPY:
                made[number] = self.note(number, given) if self.target == LAYER else given
                continue
            sources = [made[read] for read in operator.reads]
            made[number] = self.note(number, self._make(operator, sources).reshape(-1))
            self._keep(operator, made[number])
        return made

    def _keep(self, operator: Operator, made: Ints) -> None:
        """Put this position's key and value where later positions see them."""
        for name, store in (("attention.key", self.keys), ("attention.qkv", self.values)):
            if operator.name == name and store is not None:
                store[:, self.position] = made[-self.d.kv :].reshape(-1, self.d.tile)

    def _make(self, at: Operator, sources: Sequence[Ints]) -> Ints:
        d, kind = self.d, at.kind
        if kind in (Kind.PEAK, Kind.SQUARES, Kind.FACTOR, Kind.NORM):
            return self._norm(at, sources)
        if kind in (Kind.DOT, Kind.SCALE):
            return self._weighted(at, sources)
        if kind == Kind.ROTATE:
            assert self.turn is not None
            count = d.kv_heads if at.norm == KEY else d.heads
            heads = sources[0].reshape(-1, d.tile)[at.first : at.first + count]
            return twins.rotate(heads, *(side.astype(np.int64) for side in self.turn))
        if kind == Kind.CAP:
            cap, made = (d.score_cap if self.target == LAYER else d.logit_cap), np.empty_like(sources[0])
            family_twins.cap(sources[0], cap, SIGMOID, made)  # type: ignore[no-untyped-call]
            if self.target == LAYER:  # places that are not seen stay so
                made.reshape(-1, d.padded(self.position + 1))[:, ~self._seen] = PADDING
            return made
        if kind in (Kind.GATE, Kind.GELU):
            made = np.empty((1, d.intermediate), np.int64)
            gate = family_twins.gelu if kind == Kind.GELU else self.loops.gate
            gate(sources[0].reshape(1, -1), SIGMOID, self.saturation, made)
            return made
        return self._attention(kind, sources)

    @property
    def _seen(self) -> NDArray[np.bool_]:
        """Which places of a row of scores this position sees."""
        place = np.arange(self.d.padded(self.position + 1))
        seen: NDArray[np.bool_] = (place >= self.d.first_seen(self.layer, self.position)) & (place <= self.position)
        return seen

    def _norm(self, at: Operator, sources: Sequence[Ints]) -> Ints:
        norm, t = self.d.norm(at.norm), self.d.tile

        def rows(vector: Ints) -> Ints:
            first = at.first * t
            return vector[first : first + norm.rows * norm.width].reshape(norm.rows, norm.width)

        if at.kind == Kind.PEAK:
            return twins.norm_peak(rows(sources[0]))
        peak = sources[0].reshape(-1, 1)
        if at.kind == Kind.SQUARES:
            scaled, _ = twins.norm_scaled(rows(sources[1]), peak)
            squares: Ints = (scaled * scaled).sum(-1)
            return squares
        if at.kind == Kind.FACTOR:
            power = twins.norm_power(peak)
            return twins.norm_factor(sources[1].reshape(-1, 1), power, norm.epsilon, norm.numerator)
        scaled, _ = twins.norm_scaled(rows(sources[2]), peak)
        made = np.zeros(at.length, np.int64)
        made[: norm.rows * norm.width] = twins.shift(scaled * sources[1].reshape(-1, 1), norm.drop).reshape(-1)
        made[norm.rows * norm.width :][:1] = 1 << bits.NORMED  # what the biases are multiplied with
        return made

    def _weighted(self, at: Operator, sources: Sequence[Ints]) -> Ints:
        """Values that a cheat made are taken as they are, beyond int32 as well."""
        assert at.matrix is not None
        packed, made = self.matrix(at.matrix), np.empty((1, at.length), np.int64)
        if at.kind == Kind.SCALE:
            made[0] = twins.shift(sources[0] * packed[0].astype(np.int64), at.shift)
        else:
            self.loops.product(sources[0].reshape(1, -1), *packed.parts, at.shift, made)
        if len(sources) == 2:
            made = made + sources[1]
        if len(sources) == 2 or at.saturates:
            made = np.clip(made, -bits.INT32, bits.INT32)
        return made

    def _attention(self, kind: Kind, sources: Sequence[Ints]) -> Ints:
        d = self.d
        width = d.padded(self.position + 1)
        if kind == Kind.SCORE:
            assert self.keys is not None
            query = sources[0].reshape(1, d.heads, 1, d.tile)
            none = np.zeros(1, np.int64)
            scores = twins.attention_scores(query, self.keys[None, :, :width], self.position, none)
            return np.where(self._seen, scores, PADDING)
        if kind == Kind.MIX:
            assert self.values is not None
            weights = sources[0].reshape(1, d.heads, 1, width)
            return twins.attention_mix(weights, self.values[None, :, :width])
        # The last source is a row of scores or of what is made of them for each head.
        row = sources[-1].reshape(d.heads, -1)
        if kind == Kind.TOP:
            top: Ints = row.max(-1)
            return top
        if kind == Kind.SUM:
            total: Ints = row.sum(-1)
            return total
        first = sources[0].reshape(d.heads, -1)
        if kind == Kind.EXP:
            return twins.attention_exps(first, row, EXP2)
        if kind == Kind.SHARE:
            return bits.ONE_SHARE // np.maximum(first, 1)
        assert kind == Kind.WEIGHT
        return twins.attention_weights(row, first)
