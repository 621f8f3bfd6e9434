"""The committed cells: how a witness is laid out, and the code words of its rows."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import InputError
from otr_core.merkle import Tree
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS
from otr_core.spotcheck.proof.commitment import column_leaf
from otr_core.spotcheck.proof.field import Words, powers, root_of_unity
from otr_core.spotcheck.proof.layout import TEMPER_END, Sizes
from otr_core.spotcheck.proof.lookups import entries, rest_widths, widths
from otr_node.proof import kernels
from otr_node.proof.witness import Witness

MOST_IN_MEMORY = 2**28
"""Bytes of code words; more lie in a file."""
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
            if name in ("distance", "chance_index"):
                out[:] = TEMPER_END  # a cell of no score or logit looks at the table's end
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
    """Write how often each entry of a table is looked up in each group."""
    widths_of, rests = widths(s), rest_widths(s, peak)
    rest_first = s.first_block["norm_rest"]
    for table, groups in s.lookup_groups.items():
        first, cells = s.cells_of(f"count_{table}")
        counts = flat[first : first + cells].reshape(len(groups), -1)
        for own, group in zip(counts, groups, strict=True):
            looked_up = flat[group.index : group.index + group.cells]
            if table != "range":
                _tally(looked_up.astype(np.int64), own)
                continue
            begin = group.index // s.block_cells
            for at, block in enumerate(looked_up.reshape(-1, *s.block), begin):
                rest = rest_first <= at < rest_first + len(rests)
                width = rests[at - rest_first][:, None] if rest else widths_of[at]
                keys = block.astype(np.int64)
                _tally(((1 << width) + keys)[keys < 1 << width], own)


def _tally(values: NDArray[np.int64], counts: Words) -> None:
    """Values that no entry has are passed over: then no proof comes of it."""
    k.count_values(values[(values >= 0) & (values < len(counts))], counts)


def room_for_words(shape: tuple[int, int]) -> tuple[Words, mmap.mmap | None]:
    """An array of words: in memory, or, where it is large, in a file that has no name, so that
    nothing is left of it whatever ends the program; and what maps that file.

    Raises:
        InputError: the folder for temporary files has no room.
    """
    size = 8 * shape[0] * shape[1]
    if size <= MOST_IN_MEMORY:
        return np.empty(shape, np.uint64), None
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a disk that fills later would end the program
            held = mmap.mmap(file.fileno(), size)
    except OSError as error:
        found = f"{tempfile.gettempdir()}: found no room ({error.strerror})"
        raise InputError(f"{found}, expected {size} bytes for code words; TMPDIR names another folder") from error
    return np.frombuffer(held, np.uint64).reshape(shape), held


def round_roots(size: int) -> Words:
    """Roots of unity as ``kernels.encode_rows`` takes them, for code words of ``size`` values."""
    rounds = size.bit_length() - 1
    whole = powers(root_of_unity(rounds), size // 2)
    return np.concatenate([whole[:1], *(whole[:: size >> (level + 1)] for level in range(rounds))])


def bit_reversal(size: int) -> NDArray[np.int64]:
    """Where each value of a code word of ``size`` values lies after the transform."""
    order, places = np.zeros(size, np.int64), np.arange(size)
    rounds = size.bit_length() - 1
    for bit in range(rounds):
        order |= ((places >> bit) & 1) << (rounds - 1 - bit)
    return order


class CodeWords:
    """The rows' code words and the tree over their columns."""

    def __init__(self, cells: Words) -> None:
        rows, length = cells.shape
        size = length << BLOWUP_BITS
        self.words, held = room_for_words((rows, size))
        k.encode_rows(cells, round_roots(size), bit_reversal(size), self.words)
        leaves: list[bytes] = []
        for first in range(0, size, _COLUMNS):
            columns = np.ascontiguousarray(self.words[:, first : first + _COLUMNS].T)
            leaves += [column_leaf(column) for column in columns]
        self.tree = Tree(leaves)
        if held is not None:
            held.madvise(mmap.MADV_DONTNEED)  # read again only where columns are opened
