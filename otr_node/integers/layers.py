"""Whole layers and logits of the portable lane, in the form that runs here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.lane.dims import KEY, QUERY, Dims, Matrix
from otr_node.integers.family_loops import family_loops
from otr_node.integers.forms import EXP2, FEW, LAYER_MATRICES, SIGMOID, Form, Scratch
from otr_node.integers.packed import Packed

_SHIFTS = tuple(matrix.shift for matrix in LAYER_MATRICES)
_TILE = 32  # tokens whose attention is computed at once by products of matrices
_MANY = 16  # tokens of a sequence from which that is quicker

Int32 = NDArray[np.int32]


@dataclass(frozen=True)
class Stretch:
    """Tokens that lie together in a stream: of one sequence, or of several at the same positions.

    Attributes:
        count: tokens of each sequence, from position ``begin`` on. pads: (batch,) tokens of padding.
        turns: cosines and sines, (positions, head_dim / 2).
        keys, values: (batch, kv_heads, room, head_dim); the new ones are written.
    """

    count: int
    begin: int
    pads: NDArray[np.int64]
    turns: tuple[Int32, Int32]
    keys: Int32
    values: Int32

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        return len(self.pads) * self.count


@dataclass
class Layers:
    """Computes layers for one session: its memory is used again by the next call.

    Attributes:
        d: sizes and constants. matrix: gives a matrix of a layer. saturation: of each layer's MLP.
        mix_in_floats: whether sums of attention weight · value stay below 2^52.
        form: how operations run.
    """

    d: Dims
    matrix: Callable[[Matrix, int], Packed]
    saturation: tuple[int, ...]
    mix_in_floats: bool
    form: Form
    _scratch: Scratch = field(init=False, default_factory=Scratch)
    _parts: dict[int, tuple[tuple[Any, ...], ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # what is asked of every layer for every token is found out once
        self._in_one = self.form.compiled and self.d.plain

    def layer(
        self,
        layer: int,
        hidden: Int32,
        keys: Int32,
        values: Int32,
        begin: int,
        pads: NDArray[np.int64],
        turns: tuple[Int32, Int32],
        out: Int32,
    ) -> None:
        """One layer on tokens from position ``begin`` on.

        Args:
            hidden: (batch, count, hidden). keys, values: (batch, kv_heads, room, head_dim); the new
                ones are written. pads: (batch,) tokens of padding. turns: cosines and sines,
                (positions, head_dim / 2). out: (batch, count, hidden), written; not ``hidden``.
        """
        d, loops = self.d, self.form.loops
        batch, count, _ = hidden.shape
        tokens = batch * count
        if tokens < FEW and self._in_one:
            if layer not in self._parts:
                self._parts[layer] = tuple(self.matrix(matrix, layer).parts for matrix in LAYER_MATRICES)
            constants = (d.epsilon, d.numerator, d.drop)
            where = (begin, pads, turns, keys, values)
            tables = EXP2, SIGMOID
            loops.layer(hidden, self._parts[layer], constants, _SHIFTS, *where, tables, self.saturation[layer], out)
            return
        run = Stretch(count, begin, pads, turns, keys, values)
        self.together(layer, hidden.reshape(tokens, -1), [run], out.reshape(tokens, -1))

    def together(self, layer: int, stream: Int32, stretches: Sequence[Stretch], out: Int32) -> None:
        """One layer on the tokens of several stretches, each at its own positions.

        Args:
            stream: (tokens, hidden), one stretch after the other. out: as ``stream``, written; not ``stream``.
        """
        d, loops, take = self.d, self.form.loops, self._scratch.take
        qkv = self._entering_product(stream, Matrix.QKV, layer)
        if d.query_norm:
            self._norm_heads(qkv, layer)
        mixed = take("mixed", (len(stream), d.heads * d.tile), np.int32)
        first = 0
        for run in stretches:
            own, batch, count = slice(first, first + run.tokens), len(run.pads), run.count
            first += run.tokens
            query = take("query", (batch, d.heads, count, d.tile), np.int32)
            heads = qkv[own].reshape(batch, count, -1, d.tile)
            loops.turn(heads, run.begin, run.pads, *run.turns, query, run.keys, run.values)
            self._attend(layer, query, run, mixed[own].reshape(batch, count, d.heads, d.tile))
        self._add(stream, mixed, Matrix.OUT, layer, out)
        gate_up = self._entering_product(out, Matrix.GATE_UP, layer)
        made = take("product", (len(stream), d.intermediate), np.int32)
        gate = family_loops(self.form).gelu if d.gelu else loops.gate
        gate(gate_up, SIGMOID, self.saturation[layer], made)
        self._add(out, made, Matrix.DOWN, layer, out)

    def _attend(self, layer: int, query: Int32, run: Stretch, mixed: Int32) -> None:
        """Attention of a stretch, from turned queries (batch, heads, count, head_dim) to mixed values
        (batch, count, heads, head_dim)."""
        d = self.d
        where = query, run.keys, run.values, run.begin, run.pads
        window = d.window if d.sliding >> layer & 1 else 0
        if window or d.score_cap:
            family_loops(self.form).attend_within(*where, window, d.score_cap, EXP2, SIGMOID, mixed)
        elif run.count >= _MANY and self.mix_in_floats:
            self._attend_by_matrices(*where, mixed)
        else:
            self.form.loops.attend(*where, EXP2, mixed)

    def logits(self, hidden: Int32) -> NDArray[np.int64]:
        """Logits of (tokens, hidden): (tokens, vocab), LOGIT fraction bits; a new array."""
        logits = self._normed_product(hidden, Matrix.HEAD, 0).copy()
        if self.d.logit_cap:
            family_loops(self.form).cap(logits, self.d.logit_cap, SIGMOID, logits)
        return logits

    def _entering_product(self, stream: Int32, matrix: Matrix, layer: int) -> NDArray[np.int64]:
        """What a layer's first matrices make of the stream: normalised, followed by a one for the
        biases, or as it is."""
        d = self.d
        if not d.normed_before:
            raw = self._product(stream, matrix, layer, matrix.shift - bits.NORMED + bits.RESIDUAL)
            np.clip(raw, -bits.INT32, bits.INT32, out=raw)
            return raw
        if matrix == Matrix.QKV and d.biased:
            fed = np.zeros((len(stream), d.hidden + d.tile), np.int32)
            normed = np.empty_like(stream)
            self.form.loops.norm(stream, d.epsilon, d.numerator, d.drop, normed)
            fed[:, : d.hidden], fed[:, d.hidden] = normed, 1 << bits.NORMED
            return self._product(fed, matrix, layer, matrix.shift)
        return self._normed_product(stream, matrix, layer)

    def _norm_heads(self, qkv: NDArray[np.int64], layer: int) -> None:
        """Normalise queries and keys in place, each with its weight."""
        first = 0
        for which, matrix in ((QUERY, Matrix.QUERY_SCALE), (KEY, Matrix.KEY_SCALE)):
            norm, weights = self.d.norm(which), self.matrix(matrix, layer)[0]
            end = first + len(weights)
            rows = np.ascontiguousarray(qkv[:, first:end]).reshape(-1, norm.width)
            normed = np.empty(rows.shape, np.int32)
            self.form.loops.norm(rows, norm.epsilon, norm.numerator, norm.drop, normed)
            scaled = np.empty((len(qkv), len(weights)), np.int64)
            family_loops(self.form).weigh(normed.reshape(scaled.shape), weights, matrix.shift, scaled)
            qkv[:, first:end] = scaled
            first = end

    def _add(self, stream: Int32, x: Int32, matrix: Matrix, layer: int, result: Int32) -> None:
        """What leaves attention or the MLP, added to the stream; perhaps normalised before."""
        d, loops = self.d, self.form.loops
        left = self._product(x, matrix, layer, matrix.shift)
        if d.normed_after:
            scale = Matrix.OUT_SCALE if matrix == Matrix.OUT else Matrix.DOWN_SCALE
            normed = self._scratch.take("normed", stream.shape, np.int32)
            loops.norm(left, d.epsilon, d.numerator, d.drop, normed)
            family_loops(self.form).weigh(normed, self.matrix(scale, layer)[0], scale.shift, left)
        loops.add(stream, left, result)

    def _normed_product(self, stream: Int32, matrix: Matrix, layer: int) -> NDArray[np.int64]:
        d = self.d
        normed = self._scratch.take("normed", stream.shape, np.int32)
        self.form.loops.norm(stream, d.epsilon, d.numerator, d.drop, normed)
        return self._product(normed, matrix, layer, matrix.shift)

    def _product(self, x: Int32, matrix: Matrix, layer: int, shift: int) -> NDArray[np.int64]:
        packed = self.matrix(matrix, layer)
        out = self._scratch.take("out", (len(x), packed.shape[0]), np.int64)
        return self.form.product(x, packed, shift, self._scratch, out)

    def _attend_by_matrices(
        self, query: Int32, keys: Int32, values: Int32, begin: int, pads: NDArray[np.int64], mixed: Int32
    ) -> None:
        """Attention by float64 products, a tile of tokens at a time: their sums stay below 2^52."""
        batch, heads, count, size = query.shape
        groups, loops, take = keys.shape[1], self.form.loops, self._scratch.take
        share = heads // groups
        for row in range(batch):
            key, value = (torch.from_numpy(side[row, :, : begin + count]).double() for side in (keys, values))
            asked = torch.from_numpy(query[row]).double().reshape(groups, share, count, size)
            for first in range(0, count, _TILE):
                last = min(first + _TILE, count)
                seen, tile = begin + last, share * (last - first)
                own = asked[:, :, first:last].reshape(groups, tile, size)
                scores = torch.from_numpy(take("scores", (groups, tile, seen), np.float64))
                torch.bmm(own, key[:, :seen].transpose(1, 2), out=scores)
                by_head = scores.numpy().reshape(heads, last - first, seen)
                loops.soften(by_head, begin + first, pads[row], EXP2)
                sums = torch.bmm(scores, value[:, :seen]).numpy().reshape(heads, last - first, size)
                loops.settle(sums, mixed[row, first:last])
