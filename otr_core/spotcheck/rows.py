"""What the operator commits to once the place is drawn: the rows between the layer's input and its leaf.

One salted RFC 6962 tree over pieces of eight values, bound to trace, position and layer. Committing on demand is enough
because the leaves before and after are committed already and every operator is exact: a leaf that is not what the model
gives leaves at least one operator wrong, wherever the rows put it; and rows are fixed before the unit is drawn.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import shake_256
from typing import TYPE_CHECKING

from otr_core import merkle
from otr_core.encoding import tagged_hash
from otr_core.errors import InputError, ProofError
from otr_core.lane.formats import LIMIT
from otr_core.poea.trace import SALT_BYTES, check_seed

if TYPE_CHECKING:
    import numpy as np

PIECE = 8


@dataclass(frozen=True)
class Piece:
    """An opened piece: its number, its salt, its values as little-endian int64, its audit path."""

    index: int
    salt: bytes
    data: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class CommittedRows:
    """The rows of one layer at one position under one root; kept by the operator, who alone knows the salts."""

    root: bytes
    tree_root: bytes
    lengths: Mapping[str, int]
    pieces: tuple[bytes, ...]
    salts: tuple[bytes, ...]
    hashes: tuple[bytes, ...]

    def open(self, spans: Mapping[str, tuple[int, int]]) -> tuple[Piece, ...]:
        """The pieces that hold the given spans of rows."""
        return tuple(
            Piece(i, self.salts[i], self.pieces[i], tuple(merkle.inclusion_proof_of_hashes(self.hashes, i)))
            for i in wanted(self.lengths, spans)
        )


def bound_root(trace_root: bytes, position: int, layer: int, tree_root: bytes) -> bytes:
    """What is published: the tree's root tied to the place it is about."""
    return tagged_hash("spot-check/rows", trace_root + struct.pack("<II", position, layer) + tree_root)


def commit_rows(
    rows: Mapping[str, np.ndarray],
    lengths: Mapping[str, int],
    seed: bytes,
    trace_root: bytes,
    position: int,
    layer: int,
) -> CommittedRows:
    """Commit to the rows named in ``lengths``.

    Args:
        seed: 32 secret bytes from which the salts derive.
    """
    check_seed(seed)
    pieces: list[bytes] = []
    for name, length in lengths.items():
        if rows[name].shape != (length,):
            raise InputError(f"row {name}: found shape {rows[name].shape}, expected ({length},)")
        raw = rows[name].astype("<i8").tobytes()
        pieces += [raw[at : at + 8 * PIECE] for at in range(0, len(raw), 8 * PIECE)]
    stream = shake_256(b"otr/1/rows" + seed + struct.pack("<II", position, layer)).digest(SALT_BYTES * len(pieces))
    salts = tuple(stream[at : at + SALT_BYTES] for at in range(0, len(stream), SALT_BYTES))
    hashes = tuple(merkle.leaf_hash(salt + piece) for salt, piece in zip(salts, pieces, strict=True))
    tree_root = merkle.root_of_hashes(hashes)
    root = bound_root(trace_root, position, layer, tree_root)
    return CommittedRows(root, tree_root, dict(lengths), tuple(pieces), salts, hashes)


def wanted(lengths: Mapping[str, int], spans: Mapping[str, tuple[int, int]]) -> list[int]:
    """Numbers of the pieces that hold the spans of those rows that are in ``lengths``."""
    first, result = 0, []
    for name, length in lengths.items():
        if name in spans:
            begin, end = spans[name]
            result += list(range(first + begin // PIECE, first + -(-end // PIECE)))
        first += -(-length // PIECE)
    return result


def read_rows(
    root: bytes, lengths: Mapping[str, int], trace_root: bytes, position: int, layer: int,
    spans: Mapping[str, tuple[int, int]], tree_root: bytes, pieces: tuple[Piece, ...],
) -> dict[str, np.ndarray]:  # fmt: skip
    """The opened spans, after checking every piece against ``root``.

    Raises:
        ProofError: another place or root, or pieces that are not exactly those wanted.
    """
    import numpy as np

    if bound_root(trace_root, position, layer, tree_root) != root:
        raise ProofError("rows: the tree is not the one committed for this trace, position and layer")
    indices = wanted(lengths, spans)
    if [piece.index for piece in pieces] != indices:
        raise ProofError(f"rows: found pieces {[p.index for p in pieces][:4]}…, expected {indices[:4]}…")
    size, first, at = sum(-(-length // PIECE) for length in lengths.values()), 0, 0
    result = {}
    for name, length in lengths.items():
        if name in spans:
            begin, end = spans[name]
            low, high = begin // PIECE, -(-end // PIECE)
            data = b""
            for piece in pieces[at : at + high - low]:
                values = min(PIECE, length - (piece.index - first) * PIECE)
                if len(piece.data) != 8 * values or len(piece.salt) != SALT_BYTES:
                    raise ProofError(f"rows piece {piece.index}: found {len(piece.data)} bytes, expected {8 * values}")
                leaf = merkle.leaf_hash(piece.salt + piece.data)
                merkle.verify_inclusion(tree_root, leaf, piece.index, size, piece.proof)
                data += piece.data
            at += high - low
            row = np.frombuffer(data, "<i8")
            if abs(row).max() >= LIMIT or row.min() < -LIMIT:
                raise ProofError(f"row {name}: found a value beyond 2^52, expected what the lane can hold")
            result[name] = row[begin - low * PIECE : end - low * PIECE].astype(np.int64)
        first += -(-length // PIECE)
    return result
