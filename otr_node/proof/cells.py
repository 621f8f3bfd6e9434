"""The committed cells: how a witness is laid out, and the code words of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.merkle import Tree
from otr_core.spotcheck.proof.commitment import column_leaf
from otr_core.spotcheck.proof.field import Words, powers, root_of_unity
from otr_core.spotcheck.proof.layout import BLOWUP_BITS, Sizes
from otr_core.spotcheck.proof.lookups import entries, rest_widths
from otr_node.proof import kernels
from otr_node.proof.witness import Witness

_COLUMNS = 256  # hashed at once
k: Any = kernels  # loops without types


def lay_cells(s: Sizes, witness: Witness) -> Words:
    """All committed cells: (rows, 2^row_bits) of the base field."""
    flat = np.zeros(s.rows << s.row_bits, np.uint64)
    for name, column in s.columns.items():
        if name.startswith("count"):
            continue
        numbers = witness.numbers[name]
        if column.open and len(witness.facts.exceptions[name][0]):
            numbers = numbers.copy()
            numbers.ravel()[witness.facts.exceptions[name][0]] -= witness.facts.added(s, name)
        size = s.limb_blocks(column) * s.block_cells
        for limb in range(column.limbs):
            first = s.first_block[name] * s.block_cells + limb * size
            out = flat[first : first + size]
            if name == "distance":
                out[:] = bits.EXP2_ENTRIES - 1  # a cell of no score looks at the table's end
            if name == "sigmoid":
                out[:] = np.uint64(entries("sigmoid")[0])
            offsets = np.array(column.bounds or [column.offset] * column.shape[0], np.int64)
            # the last limb takes what is left: beyond its width no look-up finds it
            width = column.widths[limb] if limb + 1 < column.limbs and column.widths else 0
            blocks = out.reshape(*s.blocks_of(column), *s.block)
            k.cut_limb(numbers, offsets, column.shifts[limb], width, blocks)
    _count(s, flat, witness.facts.peak)
    return flat.reshape(s.rows, -1)


def _count(s: Sizes, flat: Words, peak: NDArray[np.int64]) -> None:
    """Write how often each entry of a table is looked up."""

    def region(name: str) -> Words:
        first = s.first_block[name] * s.block_cells
        column = s.columns[name]
        return flat[first : first + s.limb_blocks(column) * column.limbs * s.block_cells]

    counts = region("count_range")
    for name, column in s.columns.items():
        if not column.widths:
            continue
        cells = region(name)
        if column.per_row:
            by_position = rest_widths(s, peak).astype(np.int64)
            keys = (1 << by_position)[:, :, None] + cells.reshape(-1, *s.block).astype(np.int64)
            _tally(keys.ravel(), counts)
            continue
        limbs = np.split(cells, column.limbs)
        parts = list(zip(limbs, column.widths, strict=False))
        if column.bounds:
            parts += zip(np.split(limbs[-1], len(column.bounds)), column.last_widths, strict=True)
        for part, width in parts:
            inside = part < np.uint64(1 << width)
            _tally(part[inside].astype(np.int64), counts[1 << width : 2 << width])
    for name, index in (("count_exp", "distance"), ("count_sigmoid", "gate_index")):
        _tally(region(index).astype(np.int64), region(name))


def _tally(values: NDArray[np.int64], counts: Words) -> None:
    """Values that no entry has are passed over: then no proof comes of it."""
    k.count_values(values[(values >= 0) & (values < len(counts))], counts)


class CodeWords:
    """The rows' code words and the tree over their columns."""

    def __init__(self, cells: Words) -> None:
        rows, length = cells.shape
        size = length << BLOWUP_BITS
        rounds = size.bit_length() - 1
        whole = powers(root_of_unity(rounds), size // 2)
        roots = np.concatenate([whole[:1], *(whole[:: size >> (level + 1)] for level in range(rounds))])
        order, places = np.zeros(size, np.int64), np.arange(size)
        for bit in range(rounds):
            order |= ((places >> bit) & 1) << (rounds - 1 - bit)
        self.words = np.empty((rows, size), np.uint64)
        k.encode_rows(cells, roots, order, self.words)
        leaves: list[bytes] = []
        for first in range(0, size, _COLUMNS):
            columns = np.ascontiguousarray(self.words[:, first : first + _COLUMNS].T)
            leaves += [column_leaf(column) for column in columns]
        self.tree = Tree(leaves)
