"""Claims: what a weighted sum over a column is said to be, and how all of them become one.

A relation of the lane ends in claims Σ weight · number = value. The verifier keeps them in a
*ledger*. In the end all are joined with powers of one challenge into a single sum over all
committed cells, Σ W · cell; a sum-check leaves W at one point, which the verifier computes from the
claims' weights, and the committed cells at the same point, which the commitment opens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otr_core.spotcheck.proof.blocks import CellLayout, Column
from otr_core.spotcheck.proof.field import (
    ONE,
    ZERO,
    Ext,
    Words,
    dot,
    dot_base,
    eq_at,
    eq_table,
    later_sums,
    outer,
    residues,
    sub,
    xmul,
    xscale,
    xtotal,
)

Places3 = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class RowWeights:
    """Weights rows[a, t] · across[j].

    Attributes:
        rows: (rows, positions, 2). across: (values, 2).
    """

    rows: Words
    across: Words

    def sum(self) -> Ext:
        return Ext.of(xtotal(self.rows.reshape(-1, 2))) * Ext.of(xtotal(self.across))

    def row_sums(self, count: int) -> Words:
        """The weights' sums row by row, (count, 2)."""
        return xmul(xtotal(self.rows, 1), xtotal(self.across))

    def at(self, places: Places3) -> Words:
        """The weights at some places (k, 2)."""
        return xmul(self.rows[places[0], places[1]], self.across[places[2]])


@dataclass(frozen=True)
class PlaneWeights:
    """Weights first[a] · plane[t, j]: (rows, 2) and (positions, values, 2)."""

    first: Words
    plane: Words

    def sum(self) -> Ext:
        return Ext.of(xtotal(self.first)) * Ext.of(xtotal(self.plane.reshape(-1, 2)))

    def row_sums(self, count: int) -> Words:
        return xmul(self.first, xtotal(self.plane.reshape(-1, 2)))

    def at(self, places: Places3) -> Words:
        return xmul(self.first[places[0]], self.plane[places[1], places[2]])


@dataclass(frozen=True)
class PointWeights:
    """Weights at single places, 0 elsewhere.

    Attributes:
        places: indices along the three axes, (k,) each; no place twice. weights: (k, 2).
    """

    places: Places3
    weights: Words

    def sum(self) -> Ext:
        return Ext.of(xtotal(self.weights))

    def row_sums(self, count: int) -> Words:
        own = self.places[0][None] == np.arange(count)[:, None]
        return xtotal(np.where(own[..., None], self.weights, np.uint64(0)), 1)

    def at(self, places: Places3) -> Words:
        own = {where: i for i, where in enumerate(zip(*(axis.tolist() for axis in self.places), strict=True))}
        found = [own.get(where, -1) for where in zip(*(axis.tolist() for axis in places), strict=True)]
        weights = np.concatenate([self.weights, ZERO.words[None]])
        return weights[np.array(found, np.int64)]


@dataclass(frozen=True)
class PrefixWeights:
    """Weights of a column with one row: rows[t] at the first ends[t] values of a position, 0 after.

    Attributes:
        rows: (positions, 2). ends: int64 (positions,), 0 to the number of values.
    """

    rows: Words
    ends: NDArray[np.int64]

    def sum(self) -> Ext:
        return dot_base(self.rows, residues(self.ends))

    def row_sums(self, count: int) -> Words:
        assert count == 1
        return self.sum().words[None]

    def at(self, places: Places3) -> Words:
        return np.where((places[2] < self.ends[places[1]])[:, None], self.rows[places[1]], np.uint64(0))


Weights = RowWeights | PlaneWeights | PointWeights | PrefixWeights


@dataclass(frozen=True)
class Flat:
    """Weights of the multilinear extension at ``point`` over ``cells`` cells from cell ``first`` on."""

    point: list[Ext]
    first: int
    cells: int


@dataclass
class Ledger:
    """Claims that nothing has vouched for yet, in the order in which they were made.

    Attributes:
        numbers: of columns, as sums over their cells (offsets and exceptions are taken off).
        flat: of cells as they lie. sizes: where the cells of the columns lie.
    """

    sizes: CellLayout
    numbers: list[tuple[Column, Weights, Ext]] = field(default_factory=list)
    flat: list[tuple[Flat, Ext]] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many claims are open."""
        return len(self.numbers) + len(self.flat)

    def clear(self) -> None:
        """All are vouched for."""
        self.numbers.clear()
        self.flat.clear()

    def joined(self, gamma: Ext) -> tuple[Ext, list[Ext]]:
        """The joined value, and the power of the challenge that belongs to each claim: those of
        columns first."""
        powers, value, power = [], ZERO, ONE
        for said in [said for *_, said in self.numbers] + [said for _, said in self.flat]:
            powers.append(power)
            value = value + power * said
            power = power * gamma
        return value, powers

    def weight_at(self, point: list[Ext], powers: list[Ext]) -> Ext:
        """W at a point over all cells (lowest bit of a cell's number first)."""
        s = self.sizes
        down, along = s.block
        j_bits, t_bits = along.bit_length() - 1, down.bit_length() - 1
        inner = j_bits + t_bits
        e_j, e_t = eq_table(point[:j_bits]), eq_table(point[j_bits:inner])
        e_block = eq_table(point[inner:], s.blocks)
        result = ZERO
        for column in s.columns.values():
            own = [i for i, (other, *_) in enumerate(self.numbers) if other is column]
            if not own:
                continue
            shape, count = s.blocks_of(column), s.limb_blocks(column)
            first = s.first_block[column.name]
            limbs = e_block[first : first + column.limbs * count].reshape(column.limbs, count, 2)
            scales = residues(np.array([2**up for up in column.shifts], np.int64))
            blocks = xtotal(xscale(limbs, np.broadcast_to(scales[:, None], limbs.shape[:2]))).reshape(*shape, 2)
            for i in own:
                result = result + powers[i] * _contract(self.numbers[i][1], blocks, e_t, e_j)
        for (flat, _), power in zip(self.flat, powers[len(self.numbers) :], strict=True):
            result = result + power * shifted_eq(flat, point, s.block_cells, e_block)
        return result


def _contract(weights: Weights, blocks: Words, e_t: Words, e_j: Words) -> Ext:
    """Σ weight · (extension of equality) over a column's cells, from that of its blocks (rows, down,
    along, 2) and of the places in a block."""
    down, along = len(e_t), len(e_j)
    if isinstance(weights, PointWeights):
        a, t, j = weights.places
        inside = xmul(e_t[t % down], e_j[j % along])
        return dot(weights.weights, xmul(blocks[a, t // down, j // along], inside))
    if isinstance(weights, PrefixWeights):
        result = ZERO
        for row, first in zip(blocks[0], range(0, len(weights.rows), down), strict=True):
            later = later_sums(outer(row, e_j).reshape(-1, 2))
            before = sub(later[:1], np.concatenate([later, ZERO.words[None]]))  # entry i: Σ up to i
            own = weights.rows[first : first + down]
            result = result + dot(xmul(own, e_t[: len(own)]), before[weights.ends[first : first + down]])
        return result
    if isinstance(weights, RowWeights):
        rows = _pad(weights.rows, 1, down).reshape(len(weights.rows), -1, down, 2)
        across = _pad(weights.across, 0, along).reshape(-1, along, 2)
        outside = xtotal(xmul(rows, e_t), 2)  # (rows, blocks down, 2)
        inside = xtotal(xmul(across, e_j), 1)  # (blocks along, 2)
        return dot(xtotal(xmul(blocks, inside), 2), outside)
    plane = _pad(_pad(weights.plane, 0, down), 1, along)
    plane = plane.reshape(plane.shape[0] // down, down, plane.shape[1] // along, along, 2)
    plane = xtotal(xmul(xtotal(xmul(plane, e_j), 3), e_t[:, None]), 1)  # (blocks down, blocks along, 2)
    return dot(xtotal(xmul(blocks, weights.first[:, None, None]), 0), plane)


def _pad(values: Words, axis: int, unit: int) -> Words:
    """Zeros after the end of an axis, up to whole units."""
    room = [(0, 0)] * values.ndim
    room[axis] = (0, -values.shape[axis] % unit)
    return np.pad(values, room)


def shifted_eq(flat: Flat, point: list[Ext], unit: int, e_block: Words) -> Ext:
    """Σ over the cells of ``flat`` of eq(flat.point, number in it) · eq(point, number of the cell).

    ``first`` and ``cells`` are whole blocks of ``unit`` cells, of which ``e_block`` is the extension of
    equality at ``point``'s higher bits.
    """
    inner = unit.bit_length() - 1
    first, count = flat.first // unit, flat.cells // unit
    own = eq_table(flat.point[inner:], count)
    return eq_at(flat.point[:inner], point[:inner]) * dot(own, e_block[first : first + count])


def spread(tables: list[Words]) -> Words:
    """The product of weight vectors of several axes as one vector, the last axis fastest."""
    result = tables[0]
    for table in tables[1:]:
        result = outer(result, table).reshape(-1, 2)
    return result


def by_rows(weights: Words, values: NDArray[np.int64] | Words) -> Words:
    """Weights (…, 2) times integers (…)."""
    return xscale(weights, residues(values))
