"""The committed cells: how a witness is laid out, and the code words of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from otr_core.merkle import HASH_BYTES, Tree, leaf_hasher
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS
from otr_core.spotcheck.proof.field import P, Words, powers, root_of_unity
from otr_core.spotcheck.proof.layout import TEMPER_END, Sizes
from otr_core.spotcheck.proof.lookups import entries, rest_widths, widths
from otr_node.proof import kernels
from otr_node.proof.witness import Witness

AT_ONCE = 2**24
"""About so many cells are encoded at once; no bit depends on it."""
_COLUMNS = 256  # hashed at once
_PART = 256  # values of a code word that one of few places is a sum of, after the rounds before
k: Any = kernels  # loops without types


def lay_cells(s: Sizes, witness: Witness, more: int = 0) -> Words:
    """All committed cells: (rows, 2^row_bits) of the base field; and so many rows more, of zeros."""
    flat = np.zeros((s.rows + more) << s.row_bits, np.uint64)
    for name, column in s.columns.items():
        if name.startswith("count"):
            continue
        numbers = witness.numbers[name]
        if column.open and witness.facts is not None and len(witness.facts.exceptions[name][0]):
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
    _count(s, flat, None if witness.facts is None else witness.facts.peak)
    return flat.reshape(s.rows + more, -1)


def _count(s: Sizes, flat: Words, peak: NDArray[np.int64] | None) -> None:
    """Write how often each entry of a table is looked up in each group."""
    for table, groups in s.lookup_groups.items():
        first, cells = s.cells_of(f"count_{table}")
        counts = flat[first : first + cells].reshape(len(groups), -1)
        for own, group in zip(counts, groups, strict=True):
            looked_up = flat[group.index : group.index + group.cells]
            if table != "range":
                k.count_values(looked_up, own)
                continue
            first = group.index // s.block_cells
            for begin, end, ids in range_widths(s, peak, first, first + group.cells // s.block_cells):
                blocks = looked_up[(begin - first) * s.block_cells : (end - first) * s.block_cells]
                k.count_ranges(blocks.reshape(end - begin, s.block_cells), ids, own)


def range_widths(
    s: Sizes, peak: NDArray[np.int64] | None, begin: int, end: int
) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """The widths that look-ups in the table of ranges name, block by block from ``begin`` up to ``end``: in pieces,
    each with its first block, the one after its last, and widths (blocks, 1), or (blocks, cells) of norms whose
    peaks are open."""
    start, rests = s.first_block["norm_rest"], np.empty((0, 1)) if peak is None else rest_widths(s, peak)
    low, high = np.clip([start, start + len(rests)], begin, end).tolist()
    one = np.asarray(widths(s), np.int64)[:, None]
    yield begin, low, one[begin:low]
    if low < high:
        yield low, high, np.repeat(np.asarray(rests[low - start : high - start], np.int64), s.block[1], axis=1)
    yield high, end, one[high:end]


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
    """The code words of rows of cells, made some at a time and each time they are needed: to make them takes
    about as long as to read them back.

    Args:
        chunks: gives all rows in order, some at a time: the number of the first, and the rows (count, terms), each of
            2^row_bits cells and perhaps a tail.
    """

    def __init__(self, chunks: Callable[[], Iterable[tuple[int, Words]]], row_bits: int) -> None:
        self._chunks, self._size = chunks, 1 << (row_bits + BLOWUP_BITS)

    @classmethod
    def of(cls, cells: Words) -> CodeWords:
        """Of rows that are held."""
        count = max(AT_ONCE // cells.shape[1], 1)
        starts = range(0, len(cells), count)
        return cls(lambda: ((at, cells[at : at + count]) for at in starts), cells.shape[1].bit_length() - 1)

    def parts(self) -> Iterator[tuple[int, Words]]:
        """All code words in order, as ``chunks``; what is given is overwritten when the next are asked for."""
        roots, order = round_roots(self._size), bit_reversal(self._size)
        room = np.empty((0, self._size), np.uint64)
        for first, rows in self._chunks():
            if len(rows) > len(room):
                room = np.empty((len(rows), self._size), np.uint64)
            k.encode_rows(rows, roots, order, room[: len(rows)])
            yield first, room[: len(rows)]

    def column_hashes(self, salts: Words | None = None) -> bytes:
        """The leaves of the commitment: the hash of each column (``commitment.column_leaf``), and of what is
        put behind it, (columns, words)."""
        hashers = [leaf_hasher() for _ in range(self._size)]
        for _, words in self.parts():
            for at in range(0, self._size, _COLUMNS):
                columns = np.empty((min(_COLUMNS, self._size - at), len(words)), np.uint64)
                k.columns_of(words, at, columns)
                for hasher, column in zip(hashers[at : at + _COLUMNS], columns, strict=True):
                    hasher.update(column.data)
        for hasher, salt in zip(hashers, () if salts is None else salts, strict=salts is not None):
            hasher.update(salt.tobytes())
        return b"".join(hasher.digest() for hasher in hashers)

    def columns_at(self, places: list[int]) -> Words:
        """Some columns: (places, rows). Nothing but these is worked out to the end."""
        values, found = min(_PART, self._size // 2), []
        count = self._size // values
        # place k lies in the part whose number is k modulo ``count``, its bits reversed
        firsts = bit_reversal(count)[[place % count for place in places]] * values
        root = root_of_unity(self._size.bit_length() - 1)
        weights = np.stack([powers(pow(root, count * (place // count), P), values) for place in places])
        roots = round_roots(self._size)
        for _, rows in self._chunks():
            found.append(np.empty((len(places), len(rows)), np.uint64))
            k.encode_at(rows, roots, firsts, weights, found[-1])
        return np.concatenate(found, axis=1)


def tree_over(hashes: bytes) -> Tree:
    """The tree over the columns of a commitment."""
    return Tree([hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)])


def paths_at(tree: Tree, places: list[int]) -> bytes:
    """The Merkle paths of some columns, one after the other."""
    return b"".join(b"".join(tree.path(place)) for place in places)
