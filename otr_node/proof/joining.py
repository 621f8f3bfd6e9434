"""The prover's side of the sum-check that joins all claims about committed cells.

It is over Σ W · cell, and W, the sum of all claims' weights, is never laid out. Along the values of a block
a claim's weights are a product, or stand at few places: while the bits of those values are bound, the lowest ones,
a claim needs no more of its cells than their sums with the weights of the other axes. One pass over the cells then
leaves a value for each row of each block, and only there W is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from otr_core.spotcheck.proof.blocks import CellLayout, Column
from otr_core.spotcheck.proof.claims import Flat, Ledger, PlaneWeights, PointWeights, PrefixWeights, RowWeights, Weights
from otr_core.spotcheck.proof.field import (
    ONE,
    Ext,
    Words,
    add,
    dot,
    eq_table,
    mul,
    outer,
    xmul,
    xtotal,
)
from otr_node.proof import kernels

k: Any = kernels  # loops without types

Written = Callable[[Words, Words], None]
"""Adds a claim's weights to W, given what is left of them along the values of a block."""


def bind_lowest(values: Words, challenge: Ext) -> Words:
    """The lowest bit of the last axis but one bound: (…, n, 2) to (…, ⌈n / 2⌉, 2)."""
    flat = values.reshape(-1, *values.shape[-2:])
    out = np.empty((len(flat), -(-flat.shape[1] // 2), 2), np.uint64)
    k.bind_pairs(flat, *challenge.words, out)
    bound: Words = out.reshape(*values.shape[:-2], -1, 2)
    return bound


class Joining:
    """The sum-check Σ W · cell.

    Args:
        bits: of the values of a block, bound first. sums, weights: for each claim two arrays (…, values, 2), whose
            products sum to the claim. fold: given the challenges of those bits and what is left of ``weights``,
            cells and W with one number for each row of each block, (n, 2) each.
    """

    def __init__(
        self,
        bits: int,
        sums: list[Words],
        weights: list[Words],
        fold: Callable[[list[Ext], list[Words]], tuple[Words, Words]],
    ) -> None:
        self._bits, self._fold = bits, fold
        self._sums, self._weights = sums, weights
        self._point: list[Ext] = []
        self._settle()

    def _settle(self) -> None:
        if len(self._point) == self._bits:
            cells, weights = self._fold(self._point, self._weights)
            self._sums, self._weights = [cells], [weights]

    def message(self) -> Words:
        """Values at 0, 1, 2."""
        pairs = zip(self._sums, self._weights, strict=True)
        return xtotal(np.stack([k.join_products(f.reshape(-1, 2), g.reshape(-1, 2)) for f, g in pairs]))

    def bind(self, challenge: Ext) -> None:
        self._sums = [bind_lowest(each, challenge) for each in self._sums]
        self._weights = [bind_lowest(each, challenge) for each in self._weights]
        self._point.append(challenge)
        self._settle()

    @property
    def last(self) -> Ext:
        """The cells' extension at the point."""
        return Ext.of(self._sums[0][0])


def fold_rows(cells: Words, point: list[Ext], out: Words) -> None:
    """The extension of each row of base field values at a point: (n, 2^bits) to (n, 2)."""
    k.fold_values(cells, eq_table(point), out)


class Cells:
    """Committed cells, row by row of their blocks, and sums of them as claims ask for them."""

    def __init__(self, sizes: CellLayout, cells: Words) -> None:
        self.sizes = sizes
        self.rows = cells.reshape(-1, sizes.block[1])

    def flat_value(self, flat: Flat) -> Ext:
        """The value of a claim over cells as they lie."""
        sums, across, _ = self._flat(flat)
        return dot(sums, across)

    def joining(self, ledger: Ledger, powers: list[Ext], dense: Words | None = None) -> Joining:
        """The sum-check of a ledger's claims; ``powers`` of the joining challenge, those of columns first.

        Args:
            dense: weights of the cells of the last rows, (rows, cells, 2).
        """
        found = [self._number(column, weights) for column, weights, _ in ledger.numbers]
        found += [self._flat(flat) for flat, _ in ledger.flat]
        sums = [own for own, *_ in found]
        weights = [xmul(own, power.words) for (_, own, _), power in zip(found, powers, strict=True)]
        written = [own for *_, own in found]
        if dense is not None:
            along = self.sizes.block[1]
            weights.append(dense.reshape(-1, along, 2))
            last = self.rows[-len(weights[-1]) :]
            sums.append(np.stack([last, np.zeros_like(last)], -1))
            written.append(self._last)

        def fold(point: list[Ext], left: list[Words]) -> tuple[Words, Words]:
            values, joined = (np.zeros((len(self.rows), 2), np.uint64) for _ in range(2))
            fold_rows(self.rows, point, values)
            for write, own in zip(written, left, strict=True):
                write(joined, own)
            return values, joined

        return Joining(self.sizes.block[1].bit_length() - 1, sums, weights, fold)

    def _last(self, out: Words, left: Words) -> None:
        own = left.reshape(-1, 2)
        out[-len(own) :] = add(out[-len(own) :], own)

    def _limbs(self, column: Column) -> list[tuple[int, int, np.uint64]]:
        """Of each limb its first row and the one after its last, and what a cell counts."""
        s = self.sizes
        count = s.limb_blocks(column) * s.block[0]
        first = s.first_block[column.name] * s.block[0]
        ups = enumerate(column.shifts)
        return [(first + limb * count, first + (limb + 1) * count, np.uint64(2**up)) for limb, up in ups]

    def _number(self, column: Column, weights: Weights) -> tuple[Words, Words, Written]:
        """Of a claim about a column: its cells' sums, its weights, and how they are written."""
        if isinstance(weights, RowWeights):
            return self._by_rows(column, weights)
        if isinstance(weights, PointWeights):
            return self._by_points(column, weights)
        if isinstance(weights, PrefixWeights):
            inside = np.arange(column.shape[2]) < weights.ends[:, None]
            plane = np.where(inside[..., None], weights.rows[:, None], np.uint64(0))
            weights = PlaneWeights(ONE.words[None], plane)
        return self._by_planes(column, weights)

    def _by_rows(self, column: Column, weights: RowWeights) -> tuple[Words, Words, Written]:
        (a, high, wide), (down, along) = self.sizes.blocks_of(column), self.sizes.block
        rows = np.zeros((a, high * down, 2), np.uint64)
        rows[:, : weights.rows.shape[1]] = weights.rows
        rows = rows.reshape(a * high, down, 2)
        across = np.zeros((wide * along, 2), np.uint64)
        across[: len(weights.across)] = weights.across
        limbs = self._limbs(column)
        sums = np.zeros((wide, along, 2), np.uint64)
        for first, end, counts in limbs:
            blocks = self.rows[first:end].reshape(a * high, wide, down, along)
            k.combine_blocks(blocks, mul(rows, counts), sums)

        def write(out: Words, left: Words) -> None:
            own = xmul(rows[:, None], left.reshape(wide, 1, 2)).reshape(-1, 2)
            for first, end, counts in limbs:
                out[first:end] = add(out[first:end], mul(own, counts))

        return sums, across.reshape(wide, along, 2), write

    def _by_planes(self, column: Column, weights: PlaneWeights) -> tuple[Words, Words, Written]:
        (a, high, wide), (down, along) = self.sizes.blocks_of(column), self.sizes.block
        plane = np.zeros((high * down, wide * along, 2), np.uint64)
        plane[: weights.plane.shape[0], : weights.plane.shape[1]] = weights.plane
        plane = plane.reshape(high, down, wide, along, 2).transpose(0, 2, 1, 3, 4)
        limbs = self._limbs(column)
        sums = np.zeros((high * wide * down * along, 2), np.uint64)
        for first, end, counts in limbs:
            k.combine_rows(self.rows[first:end].reshape(a, -1), mul(weights.first, counts), sums)

        def write(out: Words, left: Words) -> None:
            own = outer(weights.first, left.reshape(-1, 2)).reshape(-1, 2)
            for first, end, counts in limbs:
                out[first:end] = add(out[first:end], mul(own, counts))

        return sums.reshape(-1, along, 2), np.ascontiguousarray(plane).reshape(-1, along, 2), write

    def _by_points(self, column: Column, weights: PointWeights) -> tuple[Words, Words, Written]:
        (_, high, wide), (down, along) = self.sizes.blocks_of(column), self.sizes.block
        a, t, j = weights.places
        rows, own = np.unique(((a * high + t // down) * wide + j // along) * down + t % down, return_inverse=True)
        limbs = self._limbs(column)
        sums, spread = (np.zeros((len(rows), along, 2), np.uint64) for _ in range(2))
        spread[own, j % along] = weights.weights
        for first, _, counts in limbs:
            sums[..., 0] = add(sums[..., 0], mul(self.rows[first + rows], counts))

        def write(out: Words, left: Words) -> None:
            for first, _, counts in limbs:
                out[first + rows] = add(out[first + rows], mul(left.reshape(-1, 2), counts))

        return sums, spread, write

    def _flat(self, flat: Flat) -> tuple[Words, Words, Written]:
        along = self.sizes.block[1]
        bits, first, count = along.bit_length() - 1, flat.first // along, flat.cells // along
        rows = eq_table(flat.point[bits:], count)
        sums = np.zeros((along, 2), np.uint64)
        k.combine_rows(self.rows[first : first + count], rows, sums)

        def write(out: Words, left: Words) -> None:
            out[first : first + count] = add(out[first : first + count], xmul(rows, left.reshape(2)))

        return sums, eq_table(flat.point[:bits]), write
