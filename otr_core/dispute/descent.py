"""Walking down an RFC 6962 tree, d levels a round: what the operator posts, and what the challenger points at.

Node (h, j) is number j of the nodes h levels above the leaves and covers leaves j·2^h up to (j+1)·2^h; an odd last node
of a level is carried up unhashed, as in ``otr_core.merkle``. Every posted node is bound by the one above it, hence by
the root: a party that committed to a root cannot answer inconsistently (a history commitment). A round shows the
nodes d = log2 k levels below, k at most; a tree of n leaves takes ⌈log_k n⌉ rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from otr_core import merkle

HASH = merkle.HASH_BYTES


def height(size: int) -> int:
    """Levels above the leaves of a tree of ``size`` leaves."""
    return (size - 1).bit_length()


def rounds(size: int, arity_bits: int) -> int:
    """Rounds that a descent to one of ``size`` leaves takes: ⌈log_k size⌉ with k = 2^arity_bits."""
    return -(-height(size) // arity_bits)


def level_size(size: int, level: int) -> int:
    """Nodes of the level ``level`` above the leaves."""
    return (size + (1 << level) - 1) >> level


def span(size: int, at: int, index: int, arity_bits: int) -> tuple[int, int, int]:
    """(level, first, count) of the nodes to be posted under node (``at``, ``index``)."""
    below = max(at - arity_bits, 0)
    first = index << (at - below)
    return below, first, min((index + 1) << (at - below), level_size(size, below)) - first


class Tree:
    """All levels of an RFC 6962 tree over leaf hashes, for whoever plays. 64 bytes per leaf."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.levels = [b"".join(hashes)]
        self.size = len(hashes)
        while len(self.levels[-1]) > HASH:
            row = self.levels[-1]
            pairs = [sha256(b"\x01" + row[i : i + 2 * HASH]).digest() for i in range(0, len(row) - HASH, 2 * HASH)]
            odd = row[len(pairs) * 2 * HASH :]
            self.levels.append(b"".join(pairs) + odd)

    @property
    def root(self) -> bytes:
        return self.levels[-1]

    def node(self, level: int, index: int) -> bytes:
        return self.levels[level][index * HASH : (index + 1) * HASH]

    def children(self, at: int, index: int, arity_bits: int) -> tuple[bytes, ...]:
        """The nodes posted in a round at node (``at``, ``index``)."""
        below, first, count = span(self.size, at, index, arity_bits)
        return tuple(self.node(below, first + i) for i in range(count))

    def path(self, index: int) -> list[bytes]:
        """Audit path of leaf ``index``."""
        result = []
        for level in self.levels[:-1]:
            sibling = index ^ 1
            if (sibling + 1) * HASH <= len(level):
                result.append(level[sibling * HASH : (sibling + 1) * HASH])
            index >>= 1
        return result
