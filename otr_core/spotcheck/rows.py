"""The rows between a layer's input and its leaf, committed to once the place of a check is drawn.

Each row is the result of one operator. One salted RFC 6962 tree holds all of them in pieces of
eight values, and its root is bound to the trace, the position and the layer. It is enough to commit
on demand. The leaves before and after are committed already, and every operator is exact: if a leaf
is not what the model gives, at least one operator is wrong, wherever the rows put the fault. And
the rows are fixed before it is drawn which unit of them is looked at.

The operator's side of this is ``otr_node.spotchecks``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from otr_core import merkle
from otr_core.encoding import tagged_hash
from otr_core.errors import ProofError
from otr_core.lane.formats import LIMIT
from otr_core.poea.trace import SALT_BYTES

PIECE = 8
"""Values in a piece."""

Spans = Mapping[str, tuple[int, int]]
"""Row name -> first and end index of the values of interest."""


@dataclass(frozen=True)
class Piece:
    """An opened piece.

    Attributes:
        index: number of the piece in the tree, through all rows. salt: 32 bytes.
        data: its eight values (fewer at a row's end), int64 little-endian. proof: audit path.
    """

    index: int
    salt: bytes
    data: bytes
    proof: tuple[bytes, ...]


def bound_root(trace_root: bytes, position: int, layer: int, tree_root: bytes) -> bytes:
    """What is published: the tree's root tied to the place it is about."""
    return tagged_hash("spot-check/rows", trace_root + struct.pack("<II", position, layer) + tree_root)


def piece_count(length: int) -> int:
    """Pieces of a row of ``length`` values: no piece holds values of two rows."""
    return -(-length // PIECE)


def piece_numbers(lengths: Mapping[str, int], spans: Spans) -> dict[str, range]:
    """Numbers of the pieces that hold each span, by row.

    Args:
        lengths: of all committed rows, in the order of the tree. spans: rows not in ``lengths`` are
            left out.
    """
    first, result = 0, {}
    for name, length in lengths.items():
        if name in spans:
            begin, end = spans[name]
            result[name] = range(first + begin // PIECE, first + piece_count(end))
        first += piece_count(length)
    return result


def read_rows(
    tree_root: bytes, lengths: Mapping[str, int], spans: Spans, pieces: Sequence[Piece]
) -> dict[str, np.ndarray]:
    """The opened spans of the committed rows, int64, after checking every piece.

    1. The pieces are exactly those that hold the spans, in order.
    2. Each has a salt and as many values as its place in the row asks for.
    3. Each is under the root.
    4. No value is larger than the lane can hold, so that what is computed from it cannot overflow.

    Args:
        lengths, spans: as for ``piece_numbers``.

    Raises:
        ProofError: a check failed.
    """
    # 1. The pieces are exactly those that hold the spans, in order.
    numbers = piece_numbers(lengths, spans)
    expected = [number for run in numbers.values() for number in run]
    if [piece.index for piece in pieces] != expected:
        raise ProofError(f"rows: found pieces {[p.index for p in pieces][:4]}…, expected {expected[:4]}…")
    size, left = sum(map(piece_count, lengths.values())), iter(pieces)
    result = {}
    for name in numbers:
        begin, end = spans[name]
        start, data = begin // PIECE * PIECE, b""
        for at in range(start, end, PIECE):
            # 2. Each has a salt and as many values as its place in the row asks for.
            piece, values = next(left), min(PIECE, lengths[name] - at)
            if len(piece.data) != 8 * values or len(piece.salt) != SALT_BYTES:
                raise ProofError(f"rows piece {piece.index}: found {len(piece.data)} bytes, expected {8 * values}")
            # 3. Each is under the root.
            leaf = merkle.leaf_hash(piece.salt + piece.data)
            merkle.verify_inclusion(tree_root, leaf, piece.index, size, piece.proof)
            data += piece.data
        row = np.frombuffer(data, "<i8")
        # 4. No value is larger than the lane can hold. (Of the least int64, NumPy's abs is
        # negative.)
        if abs(row).max() >= LIMIT or row.min() < -LIMIT:
            raise ProofError(f"row {name}: found a value beyond 2^52, expected what the lane can hold")
        result[name] = row[begin - start : end - start].astype(np.int64)
    return result
