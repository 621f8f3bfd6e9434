"""Merkle trees, inclusion and consistency proofs of RFC 6962 section 2.1, with SHA-256.

Hashes are 32-byte ``bytes``, proofs lists of them. ``verify_*`` returns None or raises
``ProofError``. Proofs come from an adversary: their length is checked against the shape of the tree
before any of it is hashed.

``Tree`` keeps all levels, for whoever opens many leaves or walks down a tree, d levels a round. Its
node (h, j) is number j of the nodes h levels above the leaves, and covers leaves j·2^h up to
(j+1)·2^h. The last node of a level with an odd number of nodes is carried up unhashed. A round
shows the nodes d = log2 k levels below a node, k at most, so that a descent to one of n leaves
takes ⌈log_k n⌉ rounds. Each shown node is bound by the one above it, and so by the root: a party
that has committed to a root cannot give two answers (a history commitment).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from otr_core.errors import InputError, ProofError

HASH_BYTES = 32
_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf's content: SHA-256(0x00 ‖ data). Its prefix tells a leaf from a node."""
    return hashlib.sha256(_LEAF + data).digest()


def leaf_hasher() -> hashlib._Hash:
    """What hashes a leaf's content piece by piece: its digest is that of ``leaf_hash``."""
    return hashlib.sha256(_LEAF)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(_NODE + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash of leaf contents (RFC 6962 section 2.1); of none, SHA-256 of nothing."""
    return root_of_hashes([leaf_hash(leaf) for leaf in leaves])


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """Merkle tree hash when the leaf hashes are at hand already."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        # An odd node is carried up unhashed: this gives the RFC's left-heavy split at the largest
        # power of two.
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf ``index`` (0-based), from its sibling upwards (RFC 6962 section 2.1.1).

    Raises:
        InputError: there is no such leaf.
    """
    return inclusion_proof_of_hashes([leaf_hash(leaf) for leaf in leaves], index)


def inclusion_proof_of_hashes(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """``inclusion_proof`` when the leaf hashes are at hand already."""
    if not 0 <= index < len(hashes):
        raise InputError(f"leaf index: found {index}, expected 0 to {len(hashes) - 1}")
    return Tree(hashes).path(index)


def verify_inclusion(root: bytes, leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> None:
    """Check that a leaf's hash is that of number ``index`` (0-based) of ``size`` under ``root``.

    Raises:
        ProofError: it is not shown to be.
    """
    _check_hashes(root=[root])
    _check_root("root", root_of_inclusion(leaf_hash, index, size, proof), root)


def root_of_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to, from the hash of leaf number ``index`` of ``size``.

    Raises:
        ProofError: no such leaf, or a path of another length than such a tree has.
    """
    _check_hashes(leaf_hash=[leaf_hash], proof=proof)
    _check_length(proof, path_length(index, size))
    inner = _levels_to_border(index, size)
    found = leaf_hash
    for level, sibling in enumerate(proof[:inner]):
        found = node_hash(sibling, found) if (index >> level) & 1 else node_hash(found, sibling)
    for sibling in proof[inner:]:
        found = node_hash(sibling, found)
    return found


def path_length(index: int, size: int) -> int:
    """Hashes in the audit path of leaf ``index`` of ``size`` leaves.

    One a level, and none where an odd last node is carried up.

    Raises:
        ProofError: no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf index: found {index}, expected 0 to {size - 1}")
    inner = _levels_to_border(index, size)
    return inner + (index >> inner).bit_count()


def _levels_to_border(index: int, size: int) -> int:
    """Levels below the point where the path of leaf ``index`` joins the tree's right border."""
    return (index ^ (size - 1)).bit_length()


def consistency_proof(leaves: Sequence[bytes], size1: int) -> list[bytes]:
    """Proof that the first ``size1`` leaves are a prefix of ``leaves`` (RFC 6962 section 2.1.2).

    Raises:
        InputError: ``size1`` is 0 or more than there are leaves.
    """
    size2 = len(leaves)
    if not 0 < size1 <= size2:
        raise InputError(f"size1: found {size1}, expected 1 to {size2}")
    hashes = [leaf_hash(leaf) for leaf in leaves]
    return [] if size1 == size2 else _subproof(hashes, size1, complete=True)


def _subproof(hashes: Sequence[bytes], size1: int, *, complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2; ``complete``: the verifier knows the old root itself."""
    if size1 == len(hashes):
        return [] if complete else [root_of_hashes(hashes)]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    if size1 <= split:
        return [*_subproof(hashes[:split], size1, complete=complete), root_of_hashes(hashes[split:])]
    return [*_subproof(hashes[split:], size1 - split, complete=False), root_of_hashes(hashes[:split])]


def verify_consistency(root1: bytes, root2: bytes, size1: int, size2: int, proof: Sequence[bytes]) -> None:
    """Check that the leaves under ``root1`` are the first ``size1`` of those under ``root2``.

    Raises:
        ProofError: it is not shown to be.
    """
    _check_hashes(proof=proof)
    # Every tree extends the empty one: a proof of that would prove nothing.
    if not 0 < size1 <= size2:
        raise ProofError(f"sizes: found {size1} and {size2}, expected 0 < size1 <= size2")
    # Trees of one size are the same if their roots are. Nothing is hashed, so the roots may be of
    # any length.
    if size1 == size2:
        _check_length(proof, 0)
        return _check_root("root1", root1, root2)
    _check_hashes(root1=[root1], root2=[root2])
    # The old tree ends in a complete subtree of 2^shift leaves. Its root, the seed, is a node of
    # both trees. The proof is the seed's audit path in the new tree, after the seed itself where
    # the old tree is more than that subtree.
    shift = (size1 & -size1).bit_length() - 1
    start = (size1 - 1) >> shift
    inner = (start ^ ((size2 - 1) >> shift)).bit_length()
    border = (start >> inner).bit_count()
    whole = size1 == 1 << shift
    _check_length(proof, inner + border + (not whole))
    seed, path = (root1, list(proof)) if whole else (proof[0], list(proof[1:]))
    # Left siblings are in both trees, right ones only in the new tree.
    old = new = seed
    for level, sibling in enumerate(path[:inner]):
        if (start >> level) & 1:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    for sibling in path[inner:]:
        old, new = node_hash(sibling, old), node_hash(sibling, new)
    _check_root("root1", old, root1)
    _check_root("root2", new, root2)


def _check_hashes(**groups: Sequence[bytes]) -> None:
    for name, values in groups.items():
        for value in values:
            if not isinstance(value, bytes) or len(value) != HASH_BYTES:
                found = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
                raise ProofError(f"{name}: found {found}, expected {HASH_BYTES} bytes")


def _check_length(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise ProofError(f"proof length: found {len(proof)} hashes, expected {expected}")


def _check_root(name: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ProofError(f"{name}: computed {found.hex()}, expected {expected.hex()}")


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
    """The nodes that a round shows below node (``at``, ``index``) of a tree of ``size`` leaves.

    Returns:
        (level, first, count): the nodes are (level, first), (level, first + 1), … The last node of
        a level may have fewer below it than the others.
    """
    below = max(at - arity_bits, 0)
    first = index << (at - below)
    return below, first, min((index + 1) << (at - below), level_size(size, below)) - first


class Tree:
    """All levels of an RFC 6962 tree over leaf hashes: 64 bytes of memory per leaf.

    Attributes:
        size: number of leaves, at least 1. levels: from the leaves up, the hashes of a level in one
            piece.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.levels = [b"".join(hashes)]
        self.size = len(hashes)
        while len(self.levels[-1]) > HASH_BYTES:
            row, pair = self.levels[-1], 2 * HASH_BYTES
            pairs = range(0, len(row) - HASH_BYTES, pair)
            paired = b"".join(hashlib.sha256(_NODE + row[i : i + pair]).digest() for i in pairs)
            self.levels.append(paired + row[len(pairs) * pair :])  # an odd last node is carried up

    @property
    def root(self) -> bytes:
        """The tree's root."""
        return self.levels[-1]

    def node(self, level: int, index: int) -> bytes:
        """Hash of node (``level``, ``index``)."""
        return self.levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def children(self, at: int, index: int, arity_bits: int) -> tuple[bytes, ...]:
        """The nodes that a round shows below node (``at``, ``index``)."""
        below, first, count = span(self.size, at, index, arity_bits)
        return tuple(self.node(below, first + i) for i in range(count))

    def path(self, index: int) -> list[bytes]:
        """Audit path of leaf ``index``."""
        siblings = [self.node(level, (index >> level) ^ 1) for level in range(height(self.size))]
        return [sibling for sibling in siblings if sibling]  # a node that is carried up has none
